//! `spillway serve` as it is measured.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use spillway_tests::log::{self, Log};
use spillway_tests::process::Running;
use spillway_tests::wait::wait_for;
use spillway_tests::{Endpoint, Server, client};

/// A proxy. (The tests' own is not used because it would build the program, and knows no `SPILLWAY_BIN`.) Dropping it
/// kills it.
#[derive(Debug)]
pub struct Proxy {
    running: Running,
    log: Log,
    output: Log,
    address: SocketAddr,
    sessions: usize,
}

/// What a session's last log line tells.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// Bytes taken off the server.
    pub drained: u64,
    /// The most that waited for the client.
    pub backlog_peak: u64,
    /// The most of it on disk.
    pub spooled_peak: u64,
    /// What that took there, compressed or not.
    pub on_disk_peak: u64,
}

impl Session {
    /// From the line `session ended …`.
    pub fn parse(line: &str) -> Result<Self> {
        Ok(Self {
            drained: log::field(line, "drained")?,
            backlog_peak: log::field(line, "backlog_peak")?,
            spooled_peak: log::field(line, "spooled_peak")?,
            on_disk_peak: log::field(line, "spooled_on_disk_peak")?,
        })
    }
}

impl Proxy {
    /// Starts `program` before `server`, with these options beside the addresses, and waits until it listens.
    pub fn start(program: &Path, server: &Server, options: &[String]) -> Result<Self> {
        let mut command = client::clean(program);
        command.args(["serve", "--listen", "127.0.0.1:0", "--upstream"]).arg(server.address().to_string());
        command.args(options);
        let mut running = Running::start(&mut command)?;
        let log = Log::collect(running.child.stderr.take().context("no stderr")?);
        let output = Log::collect(running.child.stdout.take().context("no stdout")?);
        let line = wait_for(LIMIT, "the line `listening on …`", || {
            match (output.lines().first(), running.ended()?) {
                (Some(line), _) => Ok(Some(line.clone())),
                (None, Some(status)) => bail!("spillway ended with {status}"),
                (None, None) => Ok(None),
            }
        })
        .with_context(|| log.tail())?;
        let place = line.strip_prefix("listening on ").with_context(|| line.clone())?;
        let address = place.parse().with_context(|| line.clone())?;
        Ok(Self { running, log, output, address, sessions: 0 })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it says of itself on stdout, behind these words at the beginning of a line.
    pub fn told(&self, words: &str) -> Result<String> {
        let line = self.output.wait_for(words, LIMIT)?;
        Ok(line.strip_prefix(words).with_context(|| line.clone())?.to_owned())
    }

    /// As clients take it.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Tcp(self.address)
    }

    /// The process number.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Waits for the ends of so many sessions more, and with them of all work that they left; gives the last.
    pub fn sessions_end(&mut self, count: usize) -> Result<Session> {
        self.sessions += count;
        Session::parse(&self.log.wait_for_nth("session ended", self.sessions, LIMIT)?)
    }
}

const LIMIT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_read_off_its_last_line() {
        let line = "INFO session ended reason=\"the client left\" drained=9 fed=9 backlog_peak=7 spooled_peak=5 \
             spooled_on_disk_peak=3";
        let session = Session::parse(line).unwrap();
        assert_eq!((session.drained, session.backlog_peak, session.spooled_peak), (9, 7, 5));
        assert_eq!(session.on_disk_peak, 3);
    }
}
