//! A sink of 20 MB/s: when the server is done, and when the dump is.

mod course;

use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow};
use spillway_tests::{Server, client};

use self::course::Course;
use crate::case::{DATA_QUERY, Run, Subject, data_queries, total};
use crate::client::Client;
use crate::flow::Flow;
use crate::jobs::Pipe;
use crate::mbuffer::Mbuffer;
use crate::plot::TimePlot;
use crate::query_times::{QueryTimes, Statement};
use crate::sink;
use crate::stock::Stock;
use crate::target::RAW;
use crate::way::{MBUFFER, Route, Way};

pub(super) fn prepare(stock: &mut Stock) -> Result<Box<dyn Subject>> {
    let bytes = stock.size().of(240_000_000, 30_000_000);
    let database = stock.wide(bytes)?;
    let server = stock.server()?;
    let times = QueryTimes::start(Rc::clone(&server))?;
    Ok(Box::new(SlowSink { server, bytes, database, times, mbuffer: Mbuffer::new()?, courses: Vec::new() }))
}

struct SlowSink {
    server: Rc<Server>,
    bytes: u64,
    database: String,
    times: QueryTimes,
    mbuffer: Mbuffer,
    /// The warm-ups.
    courses: Vec<Course>,
}

impl SlowSink {
    /// The physical limit: the same query, read and thrown away.
    fn run_raw(&self, route: &Route) -> Result<Run> {
        let mut client = Client::login(route.address())?;
        let start = Instant::now();
        client.execute(&format!("{DATA_QUERY} * FROM {}.test", self.database))?;
        let wall = start.elapsed();
        Ok(Run { wall, server: Some(total(&data_queries(&self.times)?)), ..Run::default() })
    }

    /// A dump into the slow sink, which counts what it takes.
    fn dump_into(&self, route: &mut Route, taken: &Arc<AtomicU64>) -> Result<(Run, Vec<Statement>)> {
        let mut pipe = Pipe::start(self.stages(route))?;
        let dump = pipe.output.take().context("no output")?;
        let start = pipe.started();
        let taken = Arc::clone(taken);
        let sink = thread::spawn(move || {
            sink::take_slowly(dump, SPEED, &taken)?;
            anyhow::Ok(start.elapsed())
        });
        let ends = pipe.wait(LIMIT)?;
        let wall = sink.join().map_err(|_| anyhow!("the sink panicked"))??;
        route.settle(1)?;
        let statements = data_queries(&self.times)?;
        let run =
            Run { wall, server: Some(total(&statements)), client: ends.first().copied(), ..Run::default() };
        Ok((run, statements))
    }

    /// The same, watched.
    fn watch_dump(&mut self, route: &mut Route) -> Result<()> {
        let taken = Arc::new(AtomicU64::new(0));
        let flow = Flow::watch(&self.server, Arc::clone(&taken))?;
        let start = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        let (run, statements) = self.dump_into(route, &taken)?;
        let span = |statement: &Statement| {
            let begin = (statement.start - start).max(0.0);
            (begin, begin + statement.took.as_secs_f64())
        };
        self.courses.push(Course {
            way: route.name(),
            flow: flow.finish()?,
            server: statements.iter().map(span).collect(),
            client: run.client.unwrap_or(run.wall),
        });
        Ok(())
    }

    fn stages(&self, route: &Route) -> Vec<Command> {
        let mut dump = client::dumper("mysqldump", &route.endpoint());
        dump.arg(&self.database);
        let mut stages = vec![dump];
        if route.name() == MBUFFER {
            stages.push(self.mbuffer.command(self.bytes * 5 / 4));
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

    fn warm_up(&mut self, route: &mut Route) -> Result<()> {
        match route.name() {
            RAW => self.run_raw(route).map(drop),
            _ => self.watch_dump(route),
        }
    }

    fn run(&mut self, route: &mut Route) -> Result<Run> {
        match route.name() {
            RAW => self.run_raw(route),
            _ => Ok(self.dump_into(route, &Arc::default())?.0),
        }
    }

    fn plots(&self) -> Vec<(&'static str, TimePlot)> {
        let title = format!("mysqldump into a sink of {:.0} MB/s", SPEED / 1e6);
        vec![("course", course::plot(title, &self.courses))]
    }
}

/// Bytes a second.
const SPEED: f64 = 20e6;
const LIMIT: Duration = Duration::from_secs(300);
