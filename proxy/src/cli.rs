//! The command line: what the program reads, and what man pages, completions and the configuration reference are made
//! from.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::{Given, Settings};
use crate::run::RunOptions;

/// A MySQL/MariaDB proxy for backups: lets an unmodified dump client and an unmodified server survive slow sinks.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a proxy until a signal ends it
    Serve(Box<ServeArgs>),
    /// Run a dump command through a private proxy, and exit with its status
    Run(Box<RunArgs>),
    /// Compare the tables of another server with those in a report of run: the restored copy, a replica
    Verify(Box<VerifyArgs>),
    /// Tell whether a dump through this host would work, and why not
    ///
    /// Goes the way of a session once for each address of each server (name, connection, greeting, and with
    /// --auth stored TLS, login and the server's settings), writes to the spool directory and reads back, and says in
    /// plain words what would go wrong. It takes the settings of serve, so its command line or configuration file can be
    /// given as it is.
    #[command(after_help = CHECK_STATUS)]
    Check(Box<CheckArgs>),
}

const CHECK_STATUS: &str = "Exit status: 0 if nothing would go wrong, 69 if a server cannot be reached or refuses the \
                            login, 1 if something else would go wrong, 78 if a setting cannot be used.";

/// The arguments of `check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// Those of the proxy that there would be.
    #[command(flatten)]
    pub settings: Settings,

    /// Print one JSON object, for programs
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `serve`.
#[derive(Args, Debug)]
pub struct ServeArgs {
    /// Settings, and where each comes from.
    #[command(flatten)]
    pub given: Given,

    /// Print the configuration in force as a configuration file, with where each value comes from, and start nothing
    #[arg(long)]
    pub print_config: bool,
}

/// The arguments of `run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Those of the private proxy.
    #[command(flatten)]
    pub settings: Settings,

    /// Those of the dump.
    #[command(flatten, next_help_heading = "Options of run alone")]
    pub options: RunOptions,

    /// The command and its arguments: mysqldump, mariadb-dump, mydumper, mysql, mysqlbinlog …; the server is taken from
    /// its own options and option files unless --upstream is given
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// The arguments of `verify`.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// The report, as run --report has written it
    #[arg(value_name = "REPORT")]
    pub report: PathBuf,

    /// Tell only of tables that are not the same
    #[arg(long, short)]
    pub quiet: bool,

    /// Those of the way to the server.
    #[command(flatten)]
    pub settings: Settings,
}

impl Cli {
    /// All commands with their options. What has no meaning for a command is hidden there.
    pub fn definition() -> clap::Command {
        let hide = |arg: clap::Arg| arg.hide(true);
        let without =
            |command: clap::Command, ids: &[&str]| ids.iter().fold(command, |it, id| it.mut_arg(id, hide));
        Self::command()
            .mut_subcommand("run", |run| without(run, &SERVE_ONLY))
            .mut_subcommand("verify", |verify| without(without(verify, &SERVE_ONLY), &DUMP_ONLY))
            .mut_subcommand("check", |check| without(without(check, &SERVE_ONLY), &NOT_CHECKED))
    }

    /// Reads this process's command line.
    ///
    /// # Errors
    /// What is wrong with it; also help and version, where it asks for these.
    pub fn read() -> Result<Self, clap::Error> {
        let matches = Self::definition().try_get_matches()?;
        let given = |matches: &clap::ArgMatches, ids: &[&'static str]| {
            ids.iter().copied().find(|id| matches.value_source(id) == Some(ValueSource::CommandLine))
        };
        let (id, why) = match matches.subcommand() {
            Some(("run", run)) => (given(run, &SERVE_ONLY), "run, whose proxy is private"),
            Some(("verify", verify)) => {
                let id = given(verify, &SERVE_ONLY).or_else(|| given(verify, &DUMP_ONLY));
                (id, "verify, which serves nobody")
            }
            _ => (None, ""),
        };
        if let Some(id) = id {
            let message = format!("--{} has no meaning for {why}", id.replace('_', "-"));
            return Err(clap::Error::raw(ErrorKind::ArgumentConflict, message));
        }
        Self::from_arg_matches(&matches)
    }
}

/// Settings that have no meaning for the private proxy of `run`.
const SERVE_ONLY: [&str; 16] = [
    "listen",
    "allow",
    "max_sessions",
    "shutdown_grace",
    "allow_socket_upstream",
    "proxy_protocol_networks",
    "tls",
    "tls_cert",
    "tls_key",
    "tls_self_signed",
    "tls_client_ca",
    "tls_client_cert",
    "log_format",
    "metrics",
    "web",
    "console",
];

/// Settings that change nothing for `check`: looked at, as far as they could keep `serve` from starting, but not shown in
/// its help.
const NOT_CHECKED: [&str; 7] = [
    "busy_poll",
    "keepalive_for",
    "login_timeout",
    "spool_compress",
    "spool_encrypt",
    "drain_limit",
    "drain_limit_total",
];

/// Settings of a dump's way through Spillway.
const DUMP_ONLY: [&str; 12] = [
    "login_timeout",
    "spool_max",
    "spool_min_free",
    "spool_compress",
    "spool_encrypt",
    "drain_limit",
    "drain_limit_total",
    "memory_per_session",
    "memory",
    "busy_poll",
    "keepalive",
    "keepalive_for",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::definition().debug_assert();
    }
}
