//! Sessions with stored credentials over a network that breaks.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::NamedTempFile;

use crate::fault::Action;
use crate::server::{PASSWORD, USER};
use crate::wire::ErrPacket;
use crate::{Fault, Raw, Spillway};

/// What the log says of a session whose connection was replaced.
pub const HEALED: &str = "the session goes on with a new connection";

/// A proxy with stored credentials, behind it a faulty network.
#[derive(Debug)]
pub struct Stored {
    /// The network.
    pub fault: Fault,
    /// The proxy.
    pub spillway: Spillway,
    _credentials: NamedTempFile,
}

/// An option file with the account of the tests, which nobody else can read.
pub fn credentials() -> Result<NamedTempFile> {
    let file = NamedTempFile::new()?;
    std::fs::write(&file, format!("[client]\nuser={USER}\npassword=\"{PASSWORD}\"\n"))?;
    Ok(file)
}

impl Stored {
    /// A proxy with `options` added.
    pub fn start(upstream: SocketAddr, options: &[&str]) -> Result<Self> {
        let fault = Fault::start(upstream)?;
        let credentials = credentials()?;
        let path = credentials.path().display().to_string();
        let spillway = Spillway::to(&fault.address())
            .options(&["--auth=stored", "--credentials", &path])
            .options(options)
            .start()?;
        Ok(Self { fault, spillway, _credentials: credentials })
    }

    /// A client that is logged in.
    pub fn login(&self) -> Result<Raw> {
        Raw::login(self.spillway.address()?)
    }

    /// Does `action` to the connection that was made last, and shows that it was open.
    pub fn lose(&self, action: Action) -> Result<()> {
        let last = self.fault.connections().checked_sub(1).context("no connection")?;
        ensure!(self.fault.closed_by_proxy(last).is_none(), "the connection is closed already");
        self.fault.strike(action);
        ensure!(self.fault.suffered(last) == Some(action), "the connection was not hit");
        Ok(())
    }

    /// As [`Stored::lose`], and shows that `raw` goes on: its next command, which changes nothing, makes a new
    /// connection. Gives the line of the log that says so.
    pub fn heal(&self, raw: &mut Raw, action: Action) -> Result<String> {
        let (healed, parked) = (self.healed(), self.spillway.log().matching(PARKED).len());
        self.lose(action)?;
        self.spillway.log().wait_for_nth(PARKED, parked + 1, LIMIT)?;
        ensure!(self.healed() == healed, "a connection that nobody needs");
        raw.value("SELECT @@version_comment LIMIT 1")?;
        self.wait_healed(healed + 1)
    }

    /// Waits until so many connections were replaced; gives the line of the log that says so.
    pub fn wait_healed(&self, count: usize) -> Result<String> {
        self.spillway.log().wait_for_nth(HEALED, count, LIMIT)
    }

    /// How many connections were replaced so far.
    pub fn healed(&self) -> usize {
        self.spillway.log().matching(HEALED).len()
    }

    /// As [`Stored::lose`]; waits until the proxy has given the session up.
    pub fn lose_for_good(&self, action: Action) -> Result<()> {
        let before = self.spillway.log().matching(GIVEN_UP).len();
        self.lose(action)?;
        self.spillway.log().wait_for_nth(GIVEN_UP, before + 1, LIMIT)?;
        Ok(())
    }
}

/// Asserts that this is Spillway's own error 2013.
pub fn assert_2013(error: &ErrPacket) -> Result<()> {
    let right = error.code == 2013 && error.state == "HY000" && error.message.starts_with("spillway:");
    ensure!(right, "{error:?}");
    Ok(())
}

/// Asserts that the next command is answered by error 2013, and that the client's connection is closed then.
/// Gives the error's text.
pub fn assert_lost(raw: &mut Raw, statement: &str) -> Result<String> {
    raw.send(crate::wire::command::QUERY, statement.as_bytes())?;
    assert_answer_lost(raw).with_context(|| statement.to_owned())
}

/// As [`assert_lost`], where the command is sent already.
pub fn assert_answer_lost(raw: &mut Raw) -> Result<String> {
    let error = ErrPacket::parse(&raw.packet()?)?;
    assert_2013(&error)?;
    raw.expect_closed(LIMIT)?;
    Ok(error.message)
}

/// The line that says that a session can go on.
const PARKED: &str = "the session holds only settings and can go on";
/// The line that says that a session cannot go on, and not the one that says that it will.
const GIVEN_UP: &str = "lost the server error=";
const LIMIT: Duration = Duration::from_secs(60);
