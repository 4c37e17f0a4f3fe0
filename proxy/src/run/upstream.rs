//! Works out which server the client would reach by itself.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::builtin_socket;
use super::error::RunError;
use super::mydumper;
use super::options::{Flavour, OptionTable};
use super::program::{Family, Program};
use super::scan::{Given, Origin};
use crate::endpoint::Endpoint;

/// All that decides which server the client would reach.
pub(crate) struct Connection<'a> {
    /// The client.
    pub(crate) program: &'a Program,
    /// What it knows.
    pub(crate) table: &'a OptionTable,
    /// What it is given: the option files' first, as the last one wins.
    pub(crate) given: &'a [Given],
    /// Its environment.
    pub(crate) env: &'a dyn Fn(&str) -> Option<OsString>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Tcp,
    Socket,
    /// Named pipes and shared memory, on Windows only.
    Pipe,
}

impl Connection<'_> {
    /// The server that the client would reach.
    ///
    /// The libraries' rule on Unix: the Unix socket is for the host `localhost` (spelled so) or none, unless the
    /// protocol is TCP; any other host is reached by TCP.
    pub(crate) fn upstream(&self) -> Result<Endpoint, RunError> {
        self.check_overridable()?;
        let host = self.host()?;
        let protocol = self.protocol()?;
        match (host.as_deref(), protocol) {
            (_, Some(Protocol::Pipe)) => {
                Err(bad("protocol", OsStr::new("pipe"), "cannot be used on this system: use tcp or socket"))
            }
            (None | Some(LOCAL_HOST), Some(Protocol::Socket) | None) => self.socket().map(Endpoint::Unix),
            (None | Some(LOCAL_HOST), Some(Protocol::Tcp)) => {
                Ok(Endpoint::Tcp { host: LOOPBACK.to_owned(), port: self.port()? })
            }
            // MariaDB's clients take the host for more important, MySQL's give up with error 2047.
            (Some(host), Some(Protocol::Socket)) if self.table.flavour == Flavour::Plain => Err(bad(
                "host",
                OsStr::new(host),
                "cannot be reached with protocol `socket`: drop one of the two",
            )),
            (Some(host), _) => Ok(Endpoint::Tcp { host: host.to_owned(), port: self.port()? }),
        }
    }

    /// Refuses what the options that we add would not override.
    pub(crate) fn check_overridable(&self) -> Result<(), RunError> {
        match self.last("dns-srv-name") {
            Some(name) => Err(bad(
                "dns-srv-name",
                name,
                "cannot be followed: drop it (command line and option files) and name the server with --upstream",
            )),
            None => Ok(()),
        }
    }

    fn host(&self) -> Result<Option<String>, RunError> {
        let from_options = self.last_given("host").map(|given| given.value.clone().unwrap_or_default());
        let Some(host) = from_options.or_else(|| self.host_from_environment()) else {
            return Ok(self.table.defaults.get("host").cloned());
        };
        let Some(text) = host.to_str() else {
            return Err(bad("host", &host, "is not UTF-8: name the server with --upstream"));
        };
        if text.contains(',') {
            // Connector/C tries one after the other.
            return Err(bad("host", &host, "names several servers: choose one with --upstream"));
        }
        Ok(Some(text.to_owned()).filter(|host| !host.is_empty()))
    }

    fn host_from_environment(&self) -> Option<OsString> {
        let variable = |name: &str, used: bool| if used { (self.env)(name) } else { None };
        let mysql_host = match self.program.family {
            Family::MyGetopt => self.program.is_command_line(),
            Family::GOption => mydumper::is_newer(self.table),
        };
        variable("MARIADB_HOST", self.table.uses_mariadb_host).or_else(|| variable("MYSQL_HOST", mysql_host))
    }

    /// The protocol that is asked for, by `--protocol` or, with MariaDB's clients since 10.6, by `--port` or
    /// `--socket` on the command line: the last one of the three counts (tried with all clients of 10.11).
    fn protocol(&self) -> Result<Option<Protocol>, RunError> {
        let mut protocol = None;
        for given in self.given {
            let chooses = self.table.flavour == Flavour::MariaDb && given.origin == Origin::CommandLine;
            match given.name.as_str() {
                "protocol" => protocol = Some(parse_protocol(given.value.as_deref().unwrap_or_default())?),
                "port" if chooses => protocol = Some(Protocol::Tcp),
                "socket" if chooses && protocol != Some(Protocol::Pipe) => protocol = Some(Protocol::Socket),
                _ => {}
            }
        }
        Ok(protocol)
    }

    fn port(&self) -> Result<u16, RunError> {
        let given = match self.last("port") {
            Some(port) => parse_port(port)?,
            None => 0,
        };
        let fallbacks = || {
            let built_in = self.table.defaults.get("port").and_then(|port| port.parse().ok());
            let variable = || (self.env)("MYSQL_TCP_PORT")?.to_str()?.trim().parse().ok();
            built_in.filter(|&port| port != 0).or_else(variable).filter(|&port| port != 0)
        };
        Ok(Some(given).filter(|&port| port != 0).or_else(fallbacks).unwrap_or(DEFAULT_PORT))
    }

    fn socket(&self) -> Result<PathBuf, RunError> {
        if let Some(given) = self.last_given("socket") {
            return match given.text() {
                Some(path) => Ok(path.into()),
                None => Err(bad("socket", OsStr::new(""), "is empty: give the path of the server's socket")),
            };
        }
        let built_in = || builtin_socket::find(&self.program.command, (self.env)("PATH").as_deref());
        Ok(self
            .table
            .defaults
            .get("socket")
            .map(PathBuf::from)
            .or_else(|| (self.env)("MYSQL_UNIX_PORT").filter(|path| !path.is_empty()).map(PathBuf::from))
            .or_else(built_in)
            .unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET)))
    }

    fn last_given(&self, name: &str) -> Option<&Given> {
        self.given.iter().rfind(|given| given.name == name)
    }

    fn last(&self, name: &str) -> Option<&OsStr> {
        self.last_given(name)?.text()
    }
}

fn bad(option: &'static str, value: &OsStr, problem: &'static str) -> RunError {
    RunError::BadValue { option: option.to_owned(), value: value.to_string_lossy().into_owned(), problem }
}

/// The clients take any beginning of a name, in any case.
fn parse_protocol(value: &OsStr) -> Result<Protocol, RunError> {
    let name = value.to_string_lossy().to_ascii_uppercase();
    let known = [
        ("TCP", Protocol::Tcp),
        ("SOCKET", Protocol::Socket),
        ("PIPE", Protocol::Pipe),
        ("MEMORY", Protocol::Pipe),
    ];
    known
        .into_iter()
        .find(|(known, _)| !name.is_empty() && known.starts_with(&name))
        .map(|(_, protocol)| protocol)
        .ok_or_else(|| bad("protocol", value, "is no protocol: use tcp or socket"))
}

fn parse_port(value: &OsStr) -> Result<u16, RunError> {
    value
        .to_str()
        .and_then(|port| port.trim().parse().ok())
        .ok_or_else(|| bad("port", value, "is no port: give a number from 1 to 65535, or 0 for the default"))
}

const LOCAL_HOST: &str = "localhost";
/// What the clients reach by TCP when they are given no host.
const LOOPBACK: &str = "127.0.0.1";
const DEFAULT_PORT: u16 = 3306;
/// Debian's, for MySQL and MariaDB.
const DEFAULT_SOCKET: &str = "/run/mysqld/mysqld.sock";

#[cfg(test)]
mod tests;
