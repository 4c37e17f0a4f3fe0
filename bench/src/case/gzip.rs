//! `mysqldump | gzip`: the sink that most dumps have.

use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use spillway_tests::{Server, client};

use crate::case::{Run, Subject, data_queries, total};
use crate::jobs;
use crate::mbuffer::Mbuffer;
use crate::query_times::QueryTimes;
use crate::stock::Stock;
use crate::way::{MBUFFER, Route, Way};

pub(super) fn prepare(stock: &mut Stock) -> Result<Box<dyn Subject>> {
    let bytes = stock.size().of(120_000_000, 15_000_000);
    let database = stock.text(bytes)?;
    let server = stock.server()?;
    let times = QueryTimes::start(Rc::clone(&server))?;
    Ok(Box::new(Gzip { server, bytes, database, times, mbuffer: Mbuffer::new()? }))
}

struct Gzip {
    server: Rc<Server>,
    bytes: u64,
    database: String,
    times: QueryTimes,
    mbuffer: Mbuffer,
}

impl Gzip {
    fn stages(&self, route: &Route) -> Vec<Command> {
        let mut dump = client::dumper("mysqldump", &route.endpoint());
        dump.arg(&self.database);
        let mut stages = vec![dump];
        if route.name() == MBUFFER {
            stages.push(self.mbuffer.command(self.bytes * 5 / 4));
        }
        stages.push(client::clean("gzip"));
        stages
    }
}

impl Subject for Gzip {
    fn title(&self) -> String {
        format!("mysqldump of {} MB of text | gzip > /dev/null", self.bytes / 1_000_000)
    }

    fn server(&self) -> Rc<Server> {
        Rc::clone(&self.server)
    }

    fn ways(&self) -> Vec<Way> {
        Way::all_and_mbuffer()
    }

    fn run(&mut self, route: &mut Route) -> Result<Run> {
        let ends = jobs::time_pipe(self.stages(route), LIMIT)?;
        route.settle(1)?;
        let server = Some(total(&data_queries(&self.times)?));
        let wall = ends.iter().copied().max().context("no program")?;
        Ok(Run { wall, server, client: ends.first().copied(), ..Run::default() })
    }
}

const LIMIT: Duration = Duration::from_secs(300);
