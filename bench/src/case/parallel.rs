//! Many dumps at once: both cores are busy with the clients and the server alone.

use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use spillway_tests::{Server, client};

use crate::case::{Run, Subject};
use crate::jobs;
use crate::stock::Stock;
use crate::way::Route;

pub(super) fn prepare(stock: &mut Stock) -> Result<Box<dyn Subject>> {
    let bytes = stock.size().of(32_000_000, 4_000_000);
    let database = stock.wide(bytes)?;
    Ok(Box::new(Parallel { server: stock.server()?, bytes, database }))
}

struct Parallel {
    server: Rc<Server>,
    bytes: u64,
    database: String,
}

impl Subject for Parallel {
    fn title(&self) -> String {
        format!(
            "{DUMPS} times mysqldump of {} MB of wide rows > /dev/null, all at once",
            self.bytes / 1_000_000
        )
    }

    fn server(&self) -> Rc<Server> {
        Rc::clone(&self.server)
    }

    fn run(&mut self, route: &mut Route) -> Result<Run> {
        let dump = || {
            let mut dump = client::dumper("mysqldump", &route.endpoint());
            // Locks of 32 sessions on one table would have nothing to do with the way.
            dump.args(["--skip-lock-tables", &self.database]);
            dump
        };
        let took = jobs::time_all((0..DUMPS).map(|_| dump()).collect(), LIMIT)?;
        route.settle(DUMPS)?;
        Ok(Run::took(took))
    }
}

const DUMPS: usize = 32;
const LIMIT: Duration = Duration::from_secs(300);
