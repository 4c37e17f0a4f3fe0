//! The program `spillway`: reads the command line and hands over.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use spillway::config::Settings;
use spillway::lanes;
use spillway::listener::Listener;
use spillway::run::{BlockedSignals, LogTarget, Plan, SocketDir, run_client};
use spillway::serve::serve;

mod exit;
mod log;

/// A MySQL/MariaDB proxy for backups: lets an unmodified dump client and an unmodified server survive slow sinks.
#[derive(Parser)]
#[command(version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a proxy until a signal ends it
    Serve(Box<Settings>),
    /// Run a dump command through a private proxy, and exit with its status
    Run(Box<RunArgs>),
}

#[derive(Args)]
struct RunArgs {
    #[command(flatten)]
    settings: Settings,

    /// The command and its arguments: mysqldump, mariadb-dump, mydumper, mysql, mysqlbinlog …; the server is taken from
    /// its own options and option files unless --upstream is given
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Settings that have no meaning for the private proxy of `run`.
const SERVE_ONLY: [&str; 10] = [
    "listen",
    "shutdown_grace",
    "allow_socket_upstream",
    "proxy_protocol_networks",
    "tls",
    "tls_cert",
    "tls_key",
    "tls_self_signed",
    "tls_client_ca",
    "tls_client_cert",
];

const NO_RUNTIME: &str = "cannot start the runtime";

fn parse() -> Result<Cli, clap::Error> {
    let hide = |arg: clap::Arg| arg.hide(true);
    let command = Cli::command()
        .mut_subcommand("run", |run| SERVE_ONLY.iter().fold(run, |run, id| run.mut_arg(id, hide)));
    let matches = command.try_get_matches()?;
    if let Some(("run", run)) = matches.subcommand()
        && let Some(id) = SERVE_ONLY.iter().find(|id| run.value_source(id) == Some(ValueSource::CommandLine))
    {
        let message = format!("--{} has no meaning for run, whose proxy is private", id.replace('_', "-"));
        return Err(clap::Error::raw(ErrorKind::ArgumentConflict, message));
    }
    Cli::from_arg_matches(&matches)
}

fn main() -> ExitCode {
    // Where stderr is the dump's file, nothing may be written there, not even why nothing was started.
    let is_run = std::env::args_os().nth(1).is_some_and(|command| command == "run");
    let log = if is_run { LogTarget::detect() } else { LogTarget::stderr() };
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => return exit::usage(&error, &log),
    };
    let result = match cli.command {
        Command::Serve(settings) => run_serve(*settings),
        Command::Run(args) => run_command(*args, &log),
    };
    result.unwrap_or_else(|error| exit::failed(&error, &log))
}

fn run_serve(settings: Settings) -> anyhow::Result<ExitCode> {
    let settings = settings.with_file()?;
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    log::init(settings.log_level.as_deref().unwrap_or("info"), ansi, std::io::stderr)?;
    let listen = settings.listen_addresses()?;
    let proxy = Arc::new(settings.proxy()?);
    let networks = settings.proxy_protocol_networks();
    raise_open_files();
    lanes::block_on(async {
        let mut listeners = Vec::new();
        for address in &listen {
            listeners.push(Listener::bind(address).await?.with_proxy_headers(Arc::clone(&networks)));
        }
        serve(proxy, listeners, settings.shutdown_grace()).await.context("cannot start serving")?;
        Ok(ExitCode::SUCCESS)
    })
    .context(NO_RUNTIME)?
}

fn run_command(args: RunArgs, log: &LogTarget) -> anyhow::Result<ExitCode> {
    let mut settings = args.settings.with_file()?;
    log::init(settings.log_level.as_deref().unwrap_or("warn"), log.is_terminal(), log.clone())?;
    let named = settings.upstream.as_deref().and_then(<[_]>::first).cloned();
    let plan = Plan::from_command(&args.command, named)?;
    settings.upstream.get_or_insert_with(|| vec![plan.upstream().clone()]);
    if settings.needs_credentials() {
        settings.clients_own = Some(Arc::new(plan.credentials()?));
    }
    let proxy = Arc::new(plan.proxy(settings)?);
    let signals = BlockedSignals::block()?;
    let socket_dir = SocketDir::create()?;
    let code = lanes::block_on(run_client(&plan, Arc::clone(&proxy), &socket_dir, signals))
        .context(NO_RUNTIME)??;
    if code.success() && proxy.told_errors() > 0 {
        log.tell(&format!(
            "{} ended with status 0, but {} of its responses ended with an error of spillway's: the output is not complete",
            plan.client(),
            proxy.told_errors()
        ));
        return Ok(ExitCode::from(exit::INCOMPLETE));
    }
    Ok(ExitCode::from(code.code()))
}

/// A session needs two sockets and a file or more: the soft limit of 1024, kept low for programs that use select(2),
/// would end at a few hundred.
fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::debug!(%error, "cannot raise the limit of open files");
    }
}
