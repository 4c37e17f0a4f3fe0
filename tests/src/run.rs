//! `spillway run` as a command.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::binary::spillway_bin;
use crate::client::{self, Endpoint};
use crate::process::{self, Finished};

/// `spillway run OPTIONS -- ARGUMENTS`, to its end.
pub fn to_end(options: &[&str], arguments: &[String]) -> Result<Finished> {
    let spool = tempfile::tempdir()?;
    process::run(command(spool.path(), options).args(arguments), LIMIT)
}

/// The same command line without Spillway.
pub fn direct(arguments: &[String]) -> Result<Finished> {
    process::run(client::clean(&arguments[0]).args(&arguments[1..]), LIMIT)
}

/// `spillway run OPTIONS --`, to which the caller adds the client's command; it spools into `spool`.
pub fn command(spool: &Path, options: &[&str]) -> Command {
    // Tests that run in the background may have been started with SIGINT ignored, which `run` would respect.
    let mut command = client::clean("env");
    command.arg("--default-signal=INT,QUIT,HUP,TERM").arg(spillway_bin());
    command.arg("run").arg("--spool-dir").arg(spool).args(["--spool-min-free", "0"]).args(options).arg("--");
    command
}

/// A client's command line: the program, its options for the endpoint and the tests' account, and more.
pub fn arguments(program: &str, endpoint: &Endpoint, more: &[&str]) -> Vec<String> {
    let command = client::dumper(program, endpoint);
    [command.get_program()]
        .into_iter()
        .chain(command.get_args())
        .map(|argument| argument.to_string_lossy().into_owned())
        .chain(more.iter().map(|&argument| argument.to_owned()))
        .collect()
}

/// A command line as it is.
pub fn words(line: &[&str]) -> Vec<String> {
    line.iter().map(|&word| word.to_owned()).collect()
}

const LIMIT: Duration = Duration::from_secs(60);
