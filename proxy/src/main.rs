//! The program `spillway`: has the command line read, and hands over.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use spillway::admin::Sockets;
use spillway::check::{Verdict, check};
use spillway::cli::{CheckArgs, Cli, Command, RunArgs, ServeArgs, VerifyArgs};
use spillway::config::{AuthMode, Configuration, LogFormat, LogLevel};
use spillway::console::ConsoleSocket;
use spillway::core_dumps;
use spillway::journal::Ledger;
use spillway::lanes;
use spillway::routes::Routes;
use spillway::run::{
    BlockedSignals, LogTarget, Plan, ReportFile, Screen, SocketDir, open_stderr, run_client,
};
use spillway::serve::{OperatorsDoors, serve};
use spillway::socket_activation::PassedSockets;
use spillway::verify::{VerifyError, read_report, shortcomings};

mod exit;
mod log;

const NO_RUNTIME: &str = "cannot start the runtime";

fn main() -> ExitCode {
    let undumped = core_dumps::forbid_unless_wanted();
    // Where stderr is the dump's file, nothing may be written there, not even why nothing was started.
    let is_run = std::env::args_os().nth(1).is_some_and(|command| command == "run");
    let log = if is_run { LogTarget::detect() } else { LogTarget::stderr() };
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) => return exit::usage(&error, &log),
    };
    if let Err(error) = undumped {
        let told = format!("cannot keep memory out of core dumps; {}=1 allows them", core_dumps::VARIABLE);
        return exit::failed(&anyhow::Error::new(error).context(told), &log);
    }
    let result = match cli.command {
        Command::Serve(args) => run_serve(*args),
        Command::Run(args) => run_command(*args, &log),
        Command::Verify(args) => verify(*args),
        Command::Check(args) => run_check(*args),
    };
    result.unwrap_or_else(|error| exit::failed(&error, &log))
}

fn run_serve(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let passed = PassedSockets::take()?;
    let configuration = Configuration::load(args.given.listening_on(passed.addresses()))?;
    if args.print_config {
        write!(std::io::stdout().lock(), "{configuration}").context("cannot print the configuration")?;
        return Ok(ExitCode::SUCCESS);
    }
    let ansi = std::io::stderr().is_terminal();
    let set_log_level =
        log::init(&configuration.log_level(), configuration.log_format(), ansi, std::io::stderr)?;
    let (metrics, web) = configuration.http();
    let http = Sockets::bind(metrics, web, configuration.web_password().cloned())?;
    let console = configuration.console().map(|(address, password)| (address.clone(), password.cloned()));
    let routes = Routes::new(configuration, set_log_level)?;
    raise_open_files();
    lanes::block_on(async {
        let listeners = routes.bind(passed).await?;
        let console = match console {
            Some((address, password)) => Some(ConsoleSocket::bind(address, password).await?),
            None => None,
        };
        serve(routes, listeners, OperatorsDoors { http, console }).await.context("cannot start serving")?;
        Ok(ExitCode::SUCCESS)
    })
    .context(NO_RUNTIME)?
}

fn verify(args: VerifyArgs) -> anyhow::Result<ExitCode> {
    let mut settings = args.settings.with_file()?;
    let ansi = std::io::stderr().is_terminal();
    let level = settings.log_level.clone().unwrap_or_else(LogLevel::warn);
    // The level stays what it is.
    let _ = log::init(&level, LogFormat::Human, ansi, std::io::stderr)?;
    settings.auth = Some(AuthMode::Stored);
    if settings.needs_credentials() {
        return Err(VerifyError::NoAccount.into());
    }
    let report = read_report(&args.report)?;
    let proxy = settings.proxy()?;
    let (mut same, mut others) = (0_u64, 0_u64);
    let told = lanes::block_on(spillway::verify::verify(&report, &proxy, |table| {
        let is_same = table.is_same();
        *(if is_same { &mut same } else { &mut others }) += 1;
        if !is_same || !args.quiet {
            tell(&table);
        }
    }));
    told.context(NO_RUNTIME)??;
    for line in shortcomings(&report) {
        others += 1;
        tell(&format_args!("UNKNOWN   {line}"));
    }
    if !args.quiet || others > 0 {
        tell(&format_args!("the same: {same} tables; not the same, or nobody can tell: {others}"));
    }
    Ok(ExitCode::from(u8::from(others > 0)))
}

/// A line on stdout, which nobody may be reading any more.
fn tell(line: &dyn std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn run_command(args: RunArgs, log: &LogTarget) -> anyhow::Result<ExitCode> {
    let options = args.options;
    let mut settings = args.settings.with_file()?;
    let level = settings.log_level.clone().unwrap_or_else(LogLevel::warn);
    // The level stays what it is.
    let _ = log::init(&level, LogFormat::Human, log.is_terminal(), log.clone())?;
    let named = settings.upstream.as_deref().and_then(<[_]>::first).cloned();
    let plan = Plan::from_command(&args.command, named)?;
    settings.upstream.get_or_insert_with(|| vec![plan.upstream().clone()]);
    if settings.needs_credentials() {
        settings.clients_own = Some(Arc::new(plan.credentials()?));
    }
    let mut proxy = plan.proxy(settings)?;
    proxy.ledger = Arc::new(Ledger::of_one_dump(options.report.is_some()));
    let proxy = Arc::new(proxy);
    let report = options.report.as_deref().map(ReportFile::create).transpose()?;
    let stderr = match &options.stderr {
        Some(path) => Some(open_stderr(path)?),
        None => log.client_stderr().context("the log file, for the client's stderr")?,
    };
    let screen = Screen { progress: log.progress().filter(|_| !options.quiet), stderr };
    let signals = BlockedSignals::block()?;
    let socket_dir = SocketDir::create()?;
    let outcome = lanes::block_on(run_client(&plan, Arc::clone(&proxy), &socket_dir, signals, screen))
        .context(NO_RUNTIME)??;
    if outcome.exit.success() {
        proxy.ledger.end_dump(|schema, table| plan.left_out().has(schema, table));
    }
    let written = report.map_or(Ok(()), |report| report.write(&outcome.report(&plan, &proxy)));
    let code = exit::of_run(&outcome, &plan, &proxy, &options, log);
    match written {
        // What is wrong with the dump goes before what is wrong with its report.
        Err(error) if code == ExitCode::SUCCESS => Err(error.into()),
        Err(error) => {
            log.tell(&error);
            Ok(code)
        }
        Ok(()) => {
            log.remove_if_empty();
            Ok(code)
        }
    }
}

fn run_check(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let settings = args.settings.with_file()?;
    // The report says what a warning would.
    let level = settings.log_level.clone().unwrap_or_else(LogLevel::error);
    let format = settings.log_format.unwrap_or_default();
    let _ = log::init(&level, format, std::io::stderr().is_terminal(), std::io::stderr)?;
    if settings.listen.is_some() {
        settings.listen_addresses()?;
    }
    let proxy = settings.unprobed_proxy()?;
    let report = lanes::block_on(check(&proxy)).context(NO_RUNTIME)?;
    let text = if args.json { report.json()? + "\n" } else { report.to_string() };
    // Whoever does not read it has the status.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    Ok(ExitCode::from(match report.verdict() {
        Verdict::Fine => 0,
        Verdict::Unreachable => exit::UNREACHABLE,
        Verdict::Unfit => exit::UNFIT,
    }))
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
