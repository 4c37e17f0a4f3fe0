//! Unmodified client programs, called as a person calls them, without the machine's own option files.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use crate::server::{PASSWORD, USER};

/// Where a client connects to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Endpoint {
    /// The options that lead a client there; `mydumper` 0.10 has no `--protocol`.
    pub fn options(&self, program: &str) -> Vec<OsString> {
        let mut options: Vec<OsString> = match self {
            Self::Tcp(address) => {
                vec![format!("--host={}", address.ip()).into(), format!("--port={}", address.port()).into()]
            }
            Self::Unix(path) => {
                let mut option = OsString::from("--socket=");
                option.push(path);
                vec![option]
            }
        };
        if !program.ends_with("mydumper") {
            options.push(
                match self {
                    Self::Tcp(_) => "--protocol=tcp",
                    Self::Unix(_) => "--protocol=socket",
                }
                .into(),
            );
        }
        options
    }
}

impl fmt::Display for Endpoint {
    /// As `--upstream` and `--listen` take it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A program with an environment in which no option file and no variable of the machine changes what it does.
pub fn clean(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for name in ["MYSQL_HOST", "MYSQL_TCP_PORT", "MYSQL_UNIX_PORT", "MYSQL_PWD", "MYSQL_HOME", "MARIADB_HOME"]
    {
        command.env_remove(name);
    }
    command.env("HOME", "/nonexistent").env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
    command
}

/// As [`clean`], with the words before the program that make it run elsewhere ([`Dns::prefix`](crate::Dns::prefix),
/// [`Netns::prefix`](crate::Netns::prefix)).
pub fn wrapped(prefix: &[OsString], program: impl AsRef<std::ffi::OsStr>) -> Command {
    let Some((first, rest)) = prefix.split_first() else { return clean(program) };
    let mut command = clean(first);
    command.args(rest).arg(program);
    command
}

/// `command`, not started yet, run by way of such words.
pub fn wrap(prefix: &[OsString], command: &Command) -> Command {
    let mut wrapped = wrapped(prefix, command.get_program());
    wrapped.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    wrapped
}

/// `program` bound for `endpoint`, without an account.
pub fn command(program: &str, endpoint: &Endpoint) -> Command {
    let mut command = clean(program);
    if !program.ends_with("mydumper") {
        command.arg("--no-defaults");
    }
    command.args(endpoint.options(program));
    command
}

/// `program` bound for `endpoint` with the account of the tests.
pub fn dumper(program: &str, endpoint: &Endpoint) -> Command {
    let mut command = command(program, endpoint);
    command.args(account());
    command
}

/// The options of the tests' account; every program knows this spelling.
pub fn account() -> [String; 2] {
    [format!("--user={USER}"), format!("--password={PASSWORD}")]
}

/// A dump without the lines that differ from one run or server to the next: when it ended, and where it came from.
pub fn normalised(dump: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(dump.len());
    for line in dump.split_inclusive(|byte| *byte == b'\n') {
        if !VARIABLE.iter().any(|start| line.starts_with(start)) {
            kept.extend_from_slice(line);
        }
    }
    kept
}

/// Tells where two dumps differ, in a message short enough to read; nothing where they are equal.
pub fn difference(expected: &[u8], got: &[u8]) -> Option<String> {
    if expected == got {
        return None;
    }
    let at =
        expected.iter().zip(got).position(|(a, b)| a != b).unwrap_or_else(|| expected.len().min(got.len()));
    let around = |dump: &[u8]| {
        let from = at.saturating_sub(60).min(dump.len());
        dump[from..(at + 60).min(dump.len())].escape_ascii().to_string()
    };
    Some(format!(
        "{} bytes expected, {} got; the first that differs is number {at}:\nexpected …{}…\n     got …{}…",
        expected.len(),
        got.len(),
        around(expected),
        around(got)
    ))
}

const VARIABLE: [&[u8]; 2] = [b"-- Dump completed on", b"-- Host: "];
