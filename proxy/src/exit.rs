//! Exit codes, and the one line that goes with each.

use std::process::ExitCode;

use spillway::config::ConfigError;
use spillway::listener::ListenError;
use spillway::run::{LogTarget, RunError};

/// The command line cannot be used.
const USAGE: u8 = 2;
/// Something failed that should not.
const INTERNAL: u8 = 70;
/// The client of `run` ended well, but its output is not complete.
pub(crate) const INCOMPLETE: u8 = 74;
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
    let config =
        error.is::<ConfigError>() || error.is::<ListenError>() || error.is::<crate::log::LevelError>();
    ExitCode::from(if config { CONFIG } else { INTERNAL })
}

/// An error and its causes, each told once: many errors say in their own line what caused them.
fn chain(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| match told.contains(&cause) {
        true => told,
        false if told.is_empty() => cause,
        false => format!("{told}: {cause}"),
    })
}
