//! `mysqldump` to /dev/null: a sink that takes everything.

use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use spillway_tests::{Server, client};

use crate::case::{Run, Subject};
use crate::jobs;
use crate::stock::Stock;
use crate::way::Route;

pub(super) fn wide(stock: &mut Stock) -> Result<Box<dyn Subject>> {
    let bytes = stock.size().of(900_000_000, 120_000_000);
    let database = stock.wide(bytes)?;
    Ok(Box::new(Dump::new(stock.server()?, "mysqldump of wide rows", vec![database])))
}

pub(super) fn narrow(stock: &mut Stock) -> Result<Box<dyn Subject>> {
    let rows = stock.size().of(4_000_000, 500_000);
    let database = stock.narrow(rows)?;
    Ok(Box::new(Dump::new(stock.server()?, &format!("mysqldump of {rows} rows of 24 bytes"), vec![database])))
}

/// One dump.
pub(super) struct Dump {
    server: Rc<Server>,
    title: String,
    arguments: Vec<String>,
}

impl Dump {
    pub(super) fn new(server: Rc<Server>, title: &str, arguments: Vec<String>) -> Self {
        Self { server, title: format!("{title} > /dev/null"), arguments }
    }
}

impl Subject for Dump {
    fn title(&self) -> String {
        self.title.clone()
    }

    fn server(&self) -> Rc<Server> {
        Rc::clone(&self.server)
    }

    fn run(&mut self, route: &mut Route) -> Result<Run> {
        let mut dump = client::dumper("mysqldump", &route.endpoint());
        dump.args(&self.arguments);
        let took = jobs::time_all(vec![dump], LIMIT)?;
        route.settle(1)?;
        Ok(Run::took(took))
    }
}

const LIMIT: Duration = Duration::from_secs(300);
