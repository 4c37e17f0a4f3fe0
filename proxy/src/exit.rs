//! Exit codes, and the one line that goes with each.

use std::process::ExitCode;

use spillway::admin::AdminError;
use spillway::config::{ConfigError, LevelError};
use spillway::console::ConsoleError;
use spillway::run::{LogTarget, Outcome, Plan, RunError, RunOptions, SummaryMode};
use spillway::session::Proxy;
use spillway::socket_activation::ActivationError;
use spillway::verify::VerifyError;

/// The command line cannot be used.
const USAGE: u8 = 2;
/// `check` has found something that would go wrong, other than what has a status of its own.
pub(crate) const UNFIT: u8 = 1;
/// A server cannot be reached, or does not let Spillway in.
pub(crate) const UNREACHABLE: u8 = 69;
/// Something failed that should not.
const INTERNAL: u8 = 70;
/// The client of `run` ended well, but its output is not complete.
const INCOMPLETE: u8 = 74;
/// `run --strict`: the dump went through with warnings.
const WARNED: u8 = 75;
/// A setting cannot be used.
const CONFIG: u8 = 78;

/// Prints what clap has to say: help and version as they are, a mistake as one line.
pub(crate) fn usage(error: &clap::Error, log: &LogTarget) -> ExitCode {
    if !error.use_stderr() || error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    {
        let _ = error.print();
        return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
    }
    let text = error.render().to_string();
    let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    let choices = text.lines().map(str::trim).find(|line| line.starts_with("[possible values: "));
    log.tell(&format!("{line} {}", choices.unwrap_or("(see spillway --help)")));
    ExitCode::from(USAGE)
}

/// Prints why nothing was started, or why it ended.
pub(crate) fn failed(error: &anyhow::Error, log: &LogTarget) -> ExitCode {
    log.tell(&chain(error));
    if let Some(error) = error.downcast_ref::<RunError>() {
        return ExitCode::from(error.exit_code());
    }
    if let Some(error) = error.downcast_ref::<VerifyError>() {
        return ExitCode::from(match error {
            VerifyError::Login(_) | VerifyError::Lost(_) => UNREACHABLE,
            _ => CONFIG,
        });
    }
    let config = error.is::<ConfigError>()
        || error.is::<AdminError>()
        || error.is::<ConsoleError>()
        || error.is::<ActivationError>()
        || error.is::<LevelError>();
    ExitCode::from(if config { CONFIG } else { INTERNAL })
}

/// Tells how a dump of `run` went, and with which code `run` ends: the client's own, unless the client took a dump for
/// good that is not.
pub(crate) fn of_run(
    outcome: &Outcome,
    plan: &Plan,
    proxy: &Proxy,
    options: &RunOptions,
    log: &LogTarget,
) -> ExitCode {
    let wanted = match options.summary {
        _ if options.quiet => false,
        Some(SummaryMode::Always) => true,
        Some(SummaryMode::Tty) => log.is_terminal(),
        Some(SummaryMode::Never) => false,
        None => !log.is_file(),
    };
    if wanted {
        log.tell(&outcome.line(plan, proxy));
    }
    if options.stderr.is_none() && log.has_lines() {
        log.tell(&format!(
            "stderr is the dump's own file, so what {} and spillway had to say is here",
            plan.client()
        ));
    }
    let (client, errors, warnings) = (plan.client(), proxy.told_errors(), proxy.ledger.warnings());
    if outcome.exit.success() && errors > 0 {
        log.tell(&format!(
            "{client} ended with status 0, but {errors} of its responses ended with an error of spillway's: the output is \
             not complete"
        ));
        return ExitCode::from(INCOMPLETE);
    }
    if outcome.exit.success() && options.strict && warnings > 0 {
        log.tell(&format!("--strict: {client} ended with status 0, but there are {warnings} warnings"));
        return ExitCode::from(WARNED);
    }
    ExitCode::from(outcome.exit.code())
}

/// An error and its causes, each told once: many errors say in their own line what caused them.
fn chain(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| match told.contains(&cause) {
        true => told,
        false if told.is_empty() => cause,
        false => format!("{told}: {cause}"),
    })
}
