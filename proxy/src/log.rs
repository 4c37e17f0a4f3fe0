//! The log: one line an event, for people.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// `--log-level` is no level.
#[derive(Debug, thiserror::Error)]
#[error("--log-level {level}: {source}; give error, warn, info, debug or trace, or module=level pairs")]
pub(crate) struct LevelError {
    level: String,
    source: tracing_subscriber::filter::ParseError,
}

/// Starts logging to `writer`, in colour if `ansi`.
///
/// # Errors
/// [`LevelError`] if `level` is none.
pub(crate) fn init<W>(level: &str, ansi: bool, writer: W) -> Result<(), LevelError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter =
        EnvFilter::try_new(level).map_err(|source| LevelError { level: level.to_owned(), source })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(ansi)
        .with_target(false)
        .init();
    Ok(())
}
