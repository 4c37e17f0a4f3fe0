//! A sink of 20 MB/s: when the server is done, and when the dump is.

use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use spillway_tests::{Server, client};

use crate::case::{DATA_QUERY, Run, Subject, server_seconds};
use crate::client::Client;
use crate::jobs::Pipe;
use crate::mbuffer::Mbuffer;
use crate::query_times::QueryTimes;
use crate::sink;
use crate::stock::Stock;
use crate::target::RAW;
use crate::way::{MBUFFER, Route, Way};

pub(super) fn prepare(stock: &mut Stock) -> Result<Box<dyn Subject>> {
    let bytes = stock.size().of(240_000_000, 30_000_000);
    let database = stock.wide(bytes)?;
    let server = stock.server()?;
    let times = QueryTimes::start(Rc::clone(&server))?;
    Ok(Box::new(SlowSink { server, bytes, database, times, mbuffer: Mbuffer::new()? }))
}

struct SlowSink {
    server: Rc<Server>,
    bytes: u64,
    database: String,
    times: QueryTimes,
    mbuffer: Mbuffer,
}

impl SlowSink {
    /// The physical limit: the same query, read and thrown away.
    fn run_raw(&self, route: &Route) -> Result<Run> {
        let mut client = Client::login(route.address())?;
        let start = Instant::now();
        client.execute(&format!("{DATA_QUERY} * FROM {}.test", self.database))?;
        let wall = start.elapsed();
        Ok(Run { wall, server: Some(server_seconds(&self.times)?), ..Run::default() })
    }

    fn run_dump(&self, route: &mut Route) -> Result<Run> {
        let mut pipe = Pipe::start(self.stages(route))?;
        let dump = pipe.output.take().context("no output")?;
        let start = pipe.started();
        let taken = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&taken);
        let sink = thread::spawn(move || {
            sink::take_slowly(dump, SPEED, &counter)?;
            anyhow::Ok(start.elapsed())
        });
        let ends = pipe.wait(LIMIT)?;
        let wall = sink.join().map_err(|_| anyhow!("the sink panicked"))??;
        route.settle(1)?;
        let server = Some(server_seconds(&self.times)?);
        Ok(Run { wall, server, client: ends.first().copied(), ..Run::default() })
    }

    fn stages(&self, route: &Route) -> Vec<Command> {
        let mut dump = client::dumper("mysqldump", &route.endpoint());
        dump.arg(&self.database);
        let mut stages = vec![dump];
        if route.name() == MBUFFER {
            stages.push(self.mbuffer.command(2 * self.bytes));
        }
        stages
    }
}

impl Subject for SlowSink {
    fn title(&self) -> String {
        format!(
            "mysqldump of {} MB of wide rows | a sink of {:.0} MB/s; a raw client without a sink for comparison",
            self.bytes / 1_000_000,
            SPEED / 1e6
        )
    }

    fn server(&self) -> Rc<Server> {
        Rc::clone(&self.server)
    }

    fn ways(&self) -> Vec<Way> {
        let mut ways = Way::all_and_mbuffer();
        ways.push(Way::direct().named(RAW));
        ways
    }

    fn run(&mut self, route: &mut Route) -> Result<Run> {
        if route.name() == RAW { self.run_raw(route) } else { self.run_dump(route) }
    }
}

/// Bytes a second.
const SPEED: f64 = 20e6;
const LIMIT: Duration = Duration::from_secs(300);
