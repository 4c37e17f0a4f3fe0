//! A client that reads as fast as the rows come and throws them away: what plain relaying costs.

use std::rc::Rc;
use std::time::Instant;

use anyhow::{Result, ensure};
use spillway_tests::Server;

use crate::case::{Run, Subject};
use crate::client::Client;
use crate::stock::Stock;
use crate::way::Route;

pub(super) fn wide(stock: &mut Stock) -> Result<Box<dyn Subject>> {
    let bytes = stock.size().of(900_000_000, 120_000_000);
    let database = stock.wide(bytes)?;
    Ok(Box::new(Relay::new(stock.server()?, &database, "wide rows")))
}

pub(super) fn narrow(stock: &mut Stock) -> Result<Box<dyn Subject>> {
    let rows = stock.size().of(4_000_000, 500_000);
    let database = stock.narrow(rows)?;
    Ok(Box::new(Relay::new(stock.server()?, &database, &format!("{rows} rows of 24 bytes"))))
}

struct Relay {
    server: Rc<Server>,
    title: String,
    statement: String,
    answer: Answer,
}

impl Relay {
    fn new(server: Rc<Server>, database: &str, what: &str) -> Self {
        Self {
            server,
            title: format!("{what}, read and thrown away by a raw client"),
            statement: format!("SELECT * FROM {database}.test"),
            answer: Answer::default(),
        }
    }
}

impl Subject for Relay {
    fn title(&self) -> String {
        self.title.clone()
    }

    fn server(&self) -> Rc<Server> {
        Rc::clone(&self.server)
    }

    fn warm_up(&mut self, route: &mut Route) -> Result<()> {
        self.answer.check(&self.statement, route)?;
        self.run(route).map(drop)
    }

    fn run(&mut self, route: &mut Route) -> Result<Run> {
        let mut client = Client::login(route.address())?;
        let start = Instant::now();
        client.send(&self.statement)?;
        client.discard(self.answer.length())?;
        let took = start.elapsed();
        drop(client);
        route.settle(1)?;
        Ok(Run::took(took))
    }
}

/// The answer to a statement, which has to be the same by every way.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// Length and checksum.
    known: Option<(u64, u32)>,
}

impl Answer {
    /// Reads it and looks at every byte.
    pub(super) fn check(&mut self, statement: &str, route: &mut Route) -> Result<()> {
        let mut client = Client::login(route.address())?;
        self.check_of(&mut client, statement)?;
        drop(client);
        route.settle(1).map(drop)
    }

    /// The same by a client that is logged in.
    pub(super) fn check_of(&mut self, client: &mut Client, statement: &str) -> Result<()> {
        let mut checksum = 0;
        client.send(statement)?;
        let length = client.read_answer(|piece| checksum = crc32c::crc32c_append(checksum, piece))?;
        self.compare(length, checksum)
    }

    /// Of an answer that was read elsewhere.
    pub(super) fn compare(&mut self, length: u64, checksum: u32) -> Result<()> {
        let known = *self.known.get_or_insert((length, checksum));
        ensure!(
            known == (length, checksum),
            "the answer is another than by the first way: length and checksum {:?}, not {known:?}",
            (length, checksum)
        );
        Ok(())
    }

    /// Its length in bytes; 0 before it was checked.
    pub(super) fn length(&self) -> u64 {
        self.known.map_or(0, |(length, _)| length)
    }
}
