//! How fast rows come off the server while the client does not read.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use spillway_tests::Server;
use spillway_tests::wait::wait_for;

use crate::client::Client;
use crate::proxy::Proxy;
use crate::scenario::{Subject, Through};
use crate::sockets;

/// A SELECT that is read and thrown away directly, and drained by Spillway before a client that has stalled.
///
/// When the server is done with it is told without polling, which would take the server's CPU time: the SELECT is
/// followed by a RELEASE_LOCK in the same command, and another connection waits for that lock. The last bytes may then
/// still be in the sockets' buffers: the drain is over when Spillway has read these as well.
pub(super) struct Drain<'a> {
    server: &'a Server,
    command: String,
    /// Length of the whole answer, known after the first time.
    answer: u64,
    watcher: Client,
    /// Shows what the watcher does.
    control: Client,
}

impl<'a> Drain<'a> {
    pub(super) fn new(server: &'a Server, table: &str) -> Result<Self> {
        let command = format!("SELECT * FROM {table}; DO RELEASE_LOCK('{LOCK}')");
        let watcher = Client::login(server.address())?;
        let control = Client::login(server.address())?;
        Ok(Self { server, command, answer: 0, watcher, control })
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

    /// Reads the answer and looks at every byte; gives its length and checksum.
    fn read(&self, client: &mut Client) -> Result<(u64, u32)> {
        let mut checksum = 0;
        client.send(&self.command)?;
        let length = client.read_answer(|piece| checksum = crc32c::crc32c_append(checksum, piece))?;
        Ok((length, checksum))
    }
}

impl Subject for Drain<'_> {
    fn warm_up(&mut self, proxy: &mut Proxy) -> Result<()> {
        let direct = self.read(&mut Client::login(self.server.address())?)?;
        let through = self.read(&mut Client::login(proxy.address())?)?;
        proxy.session_end()?;
        ensure!(direct == through, "the answer through Spillway is another: {direct:?}, {through:?}");
        self.answer = direct.0;
        self.direct()?;
        self.through(proxy)?;
        Ok(())
    }

    fn direct(&mut self) -> Result<Duration> {
        let mut client = Client::login(self.server.address())?;
        self.arm(&mut client)?;
        let start = Instant::now();
        client.send(&self.command)?;
        client.discard(self.answer)?;
        let took = start.elapsed();
        self.wait_for_server()?;
        self.disarm()?;
        Ok(took)
    }

    fn through(&mut self, proxy: &mut Proxy) -> Result<Through> {
        let mut client = Client::login(proxy.address())?;
        self.arm(&mut client)?;
        let start = Instant::now();
        client.send(&self.command)?;
        client.discard(READ_BEFORE_STALL.min(self.answer))?;
        self.wait_for_server()?;
        let took = sockets::wait_until_read(self.server.port())? - start;
        drop(client);
        let session = proxy.session_end()?;
        ensure!(
            session.drained >= self.answer,
            "{} of {} bytes were drained when the server was done",
            session.drained,
            self.answer
        );
        self.disarm()?;
        Ok(Through { took, bytes: session.drained })
    }
}

const LOCK: &str = "spillway-bench";
const WAITING: &str =
    "SELECT CONCAT('wait', 'ing') FROM information_schema.processlist WHERE state = 'User lock'";
const SIGN: &[u8] = b"\x07waiting";
const READ_BEFORE_STALL: u64 = 1 << 20;
const LIMIT: Duration = Duration::from_secs(60);
