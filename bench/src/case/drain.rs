//! How fast rows come off the server while the client does not read.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use spillway_tests::Server;
use spillway_tests::wait::wait_for;

use super::relay::Answer;
use crate::case::{Run, Subject};
use crate::client::Client;
use crate::sockets;
use crate::stock::Stock;
use crate::way::Route;

pub(super) fn wide(stock: &mut Stock) -> Result<Box<dyn Subject>> {
    let bytes = stock.size().of(900_000_000, 120_000_000);
    let database = stock.wide(bytes)?;
    Ok(Box::new(Drain::new(stock.server()?, &database, "wide rows")?))
}

pub(super) fn narrow(stock: &mut Stock) -> Result<Box<dyn Subject>> {
    let rows = stock.size().of(4_000_000, 500_000);
    let database = stock.narrow(rows)?;
    Ok(Box::new(Drain::new(stock.server()?, &database, &format!("{rows} rows of 24 bytes"))?))
}

/// A SELECT that is read and thrown away, and before Spillway one whose client stalls after 1 MiB. (By the other ways
/// a stalled client stalls the server, so they show the best that they can do.)
///
/// When the server is done with it is told without polling, which would take the server's CPU time: the SELECT is
/// followed by a RELEASE_LOCK in the same command, and another connection waits for that lock. The last bytes may then
/// still be in the sockets' buffers: the drain is over when Spillway has read these as well.
struct Drain {
    server: Rc<Server>,
    title: String,
    command: String,
    answer: Answer,
    watcher: Client,
    /// Shows what the watcher does.
    control: Client,
}

impl Drain {
    fn new(server: Rc<Server>, database: &str, what: &str) -> Result<Self> {
        let watcher = Client::login(server.address())?;
        let control = Client::login(server.address())?;
        Ok(Self {
            server,
            title: format!(
                "{what} come off the server; Spillway's client stalls after 1 MiB, the others read on"
            ),
            command: format!("SELECT * FROM {database}.test; DO RELEASE_LOCK('{LOCK}')"),
            answer: Answer::default(),
            watcher,
            control,
        })
    }

    /// Lets the watcher wait for the lock that `client` gets.
    fn arm(&mut self, client: &mut Client) -> Result<()> {
        client.execute(&format!("DO GET_LOCK('{LOCK}', 0)"))?;
        self.watcher.send(&format!("DO GET_LOCK('{LOCK}', 600)"))?;
        wait_for(LIMIT, "the watcher to wait for the lock", || {
            let mut answer = Vec::new();
            self.control.send(WAITING)?;
            self.control.read_answer(|piece| answer.extend_from_slice(piece))?;
            Ok(answer.windows(SIGN.len()).any(|window| window == SIGN).then_some(()))
        })
    }

    /// Waits until the server is done.
    fn wait_for_server(&mut self) -> Result<()> {
        self.watcher.read_answer(|_| ())?;
        Ok(())
    }

    fn disarm(&mut self) -> Result<()> {
        self.watcher.execute(&format!("DO RELEASE_LOCK('{LOCK}')"))
    }

    fn read_on(&mut self, client: &mut Client) -> Result<Duration> {
        let start = Instant::now();
        client.send(&self.command)?;
        client.discard(self.answer.length())?;
        let took = start.elapsed();
        self.wait_for_server()?;
        Ok(took)
    }

    fn stall(&mut self, client: &mut Client) -> Result<Duration> {
        let start = Instant::now();
        client.send(&self.command)?;
        client.discard(READ_BEFORE_STALL.min(self.answer.length()))?;
        self.wait_for_server()?;
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

    fn warm_up(&mut self, route: &mut Route) -> Result<()> {
        self.answer.check(&self.command, route)?;
        self.run(route).map(drop)
    }

    fn run(&mut self, route: &mut Route) -> Result<Run> {
        let mut client = Client::login(route.address())?;
        self.arm(&mut client)?;
        let took = if route.is_spillway() { self.stall(&mut client)? } else { self.read_on(&mut client)? };
        drop(client);
        if let Some(session) = route.settle(1)? {
            ensure!(
                session.drained >= self.answer.length(),
                "{} of {} bytes were drained when the server was done",
                session.drained,
                self.answer.length()
            );
        }
        self.disarm()?;
        Ok(Run::took(took))
    }
}

const LOCK: &str = "spillway-bench";
const WAITING: &str =
    "SELECT CONCAT('wait', 'ing') FROM information_schema.processlist WHERE state = 'User lock'";
const SIGN: &[u8] = b"\x07waiting";
const READ_BEFORE_STALL: u64 = 1 << 20;
const LIMIT: Duration = Duration::from_secs(60);
