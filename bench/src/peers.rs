//! The proxies that Spillway is compared with, as they come from their packages and with the settings that suit them
//! best here: plain relaying, one server behind them.
//!
//! `scripts/setup --bench` gets them. A peer that is missing is an error that says so; it is never left out.

mod haproxy;
mod listening;
mod router;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use spillway_tests::Server;
use spillway_tests::leash::Leash;
use spillway_tests::log::Log;
use spillway_tests::process::{self, Running};
use spillway_tests::wait::wait_for;
use tempfile::TempDir;

/// A proxy under way before a server. Dropping it kills it.
#[derive(Debug)]
pub struct Peer {
    running: Running,
    address: SocketAddr,
    _leash: Leash,
    _dir: TempDir,
}

impl Peer {
    /// HAProxy in TCP mode, which moves the bytes within the kernel where it can.
    pub fn haproxy(server: &Server) -> Result<Self> {
        Self::start(&haproxy::HAProxy, server)
    }

    /// MySQL Router with a static route.
    pub fn router(server: &Server) -> Result<Self> {
        Self::start(&router::Router, server)
    }

    fn start(product: &dyn Product, server: &Server) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("spillway-peer-").tempdir()?;
        let leash = Leash::new(None, Some(dir.path()))?;
        for _ in 0..PORT_TRIES {
            // Free now; where another takes it first, the peer ends, and the next number is tried.
            let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
            let mut running = Running::start(&mut product.command(dir.path(), address, server.address())?)?;
            let log = Log::collect(running.child.stderr.take().context("no stderr")?);
            // Nobody reads it, but it must not fill up.
            Log::collect(running.child.stdout.take().context("no stdout")?);
            let listens = wait_for(LIMIT, &format!("{} to listen on {address}", product.name()), || {
                Ok(match running.ended()? {
                    Some(_) => Some(false),
                    None => listening::is_listening(running.pid(), address)?.then_some(true),
                })
            });
            if listens.with_context(|| log.tail())? {
                return Ok(Self { running, address, _leash: leash, _dir: dir });
            }
            let said = log.tail();
            if !product.is_port_taken(&said) {
                bail!("{} ended before it listened on {address}:\n{said}", product.name());
            }
        }
        bail!("{}: no free port in {PORT_TRIES} tries", product.name())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process number.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }
}

/// Names and versions of all peers, for the report; an error where one is not installed.
pub fn versions() -> Result<Vec<(&'static str, String)>> {
    let products: [&dyn Product; 2] = [&haproxy::HAProxy, &router::Router];
    let mut versions = Vec::new();
    for product in products {
        versions.push((product.name(), version(product.name(), &mut product.version())?));
    }
    Ok(versions)
}

/// What is special about one of them.
trait Product {
    /// For people.
    fn name(&self) -> &'static str;

    /// The program that listens on `address` and relays to `server`; `dir` is its own.
    fn command(&self, dir: &Path, address: SocketAddr, server: SocketAddr) -> Result<Command>;

    /// The program that prints its version and ends.
    fn version(&self) -> Command;

    /// Whether these last words tell that the port is another's.
    fn is_port_taken(&self, said: &str) -> bool;
}

/// What looks like a version in the first line that the program writes.
fn version(name: &str, command: &mut Command) -> Result<String> {
    let finished = process::run(command, LIMIT).and_then(process::Finished::success).with_context(|| {
        format!("{name} is not there; run scripts/setup --bench, or make bench, which does")
    })?;
    // mbuffer's goes to stderr.
    let text = finished.text() + &finished.stderr;
    let first = text.lines().next().unwrap_or_default();
    let word =
        first.split_whitespace().find(|word| word.trim_start_matches('R').starts_with(char::is_numeric));
    Ok(word.with_context(|| format!("{name}: no version in {first:?}"))?.to_owned())
}

const PORT_TRIES: usize = 20;
const LIMIT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_the_first_word_that_begins_like_a_number() {
        let mut command = Command::new("echo");
        command.arg("HAProxy version 2.6.12-1+deb12u3 2025/10/03 - https://haproxy.org/");
        assert_eq!(version("x", &mut command).unwrap(), "2.6.12-1+deb12u3");
        let missing = version("x", &mut Command::new("/nonexistent/x")).unwrap_err();
        assert!(format!("{missing:#}").contains("scripts/setup --bench"));
    }
}
