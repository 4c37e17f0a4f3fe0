//! How fast rows come off the server while the client does not read.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use spillway_tests::Server;

use super::done::Done;
use super::relay::Answer;
use crate::case::{Run, Subject};
use crate::client::Client;
use crate::sockets;
use crate::stock::Stock;
use crate::way::{Route, Way};

pub(super) fn wide(stock: &mut Stock) -> Result<Box<dyn Subject>> {
    let bytes = stock.size().of(900_000_000, 120_000_000);
    let database = stock.wide(bytes)?;
    Ok(Box::new(Drain::new(stock.server()?, &database, "wide rows", Way::all())?))
}

pub(super) fn narrow(stock: &mut Stock) -> Result<Box<dyn Subject>> {
    let rows = stock.size().of(4_000_000, 500_000);
    let database = stock.narrow(rows)?;
    Ok(Box::new(Drain::new(stock.server()?, &database, &format!("{rows} rows of 24 bytes"), Way::all())?))
}

/// A SELECT that is read and thrown away, and before Spillway one whose client stalls after 1 MiB. (By the other ways
/// a stalled client stalls the server, so they show the best that they can do.)
///
/// The drain is over when the server is done and Spillway has read what was still in the sockets' buffers then.
pub(super) struct Drain {
    server: Rc<Server>,
    title: String,
    ways: Vec<Way>,
    command: String,
    answer: Answer,
    done: Done,
}

impl Drain {
    pub(super) fn new(server: Rc<Server>, database: &str, what: &str, ways: Vec<Way>) -> Result<Self> {
        let done = Done::new(&server)?;
        Ok(Self {
            server,
            title: format!(
                "{what} come off the server; Spillway's client stalls after 1 MiB, the others read on"
            ),
            ways,
            command: Done::command(&format!("SELECT * FROM {database}.test")),
            answer: Answer::default(),
            done,
        })
    }

    fn read_on(&mut self, client: &mut Client) -> Result<Duration> {
        let start = Instant::now();
        client.send(&self.command)?;
        client.discard(self.answer.length())?;
        let took = start.elapsed();
        self.done.wait()?;
        Ok(took)
    }

    fn stall(&mut self, client: &mut Client) -> Result<Duration> {
        let start = Instant::now();
        client.send(&self.command)?;
        client.discard(READ_BEFORE_STALL.min(self.answer.length()))?;
        self.done.wait()?;
        Ok(sockets::wait_until_read(self.server.port())? - start)
    }
}

impl Subject for Drain {
    fn title(&self) -> String {
        self.title.clone()
    }

    fn server(&self) -> Rc<Server> {
        Rc::clone(&self.server)
    }

    fn ways(&self) -> Vec<Way> {
        self.ways.clone()
    }

    fn warm_up(&mut self, route: &mut Route) -> Result<()> {
        self.answer.check(&self.command, route)?;
        self.run(route).map(drop)
    }

    fn run(&mut self, route: &mut Route) -> Result<Run> {
        let mut client = Client::login(route.address())?;
        self.done.arm(&mut client)?;
        let took = if route.is_spillway() { self.stall(&mut client)? } else { self.read_on(&mut client)? };
        drop(client);
        let mut run = Run::took(took);
        if let Some(session) = route.settle(1)? {
            ensure!(
                session.drained >= self.answer.length(),
                "{} of {} bytes were drained when the server was done",
                session.drained,
                self.answer.length()
            );
            run.figures.push(("MB on disk", session.on_disk_peak as f64 / 1e6));
        }
        self.done.disarm()?;
        Ok(run)
    }
}

const READ_BEFORE_STALL: u64 = 1 << 20;
