//! The log: one line an event, for people.

use spillway::config::{LevelError, LogLevel};
use spillway::routes::SetLogLevel;
use tracing_subscriber::fmt::MakeWriter;

/// Starts logging to `writer`, in colour if `ansi`. Gives what changes the level.
///
/// # Errors
/// [`LevelError`] if `level` is none.
pub(crate) fn init<W>(level: &LogLevel, ansi: bool, writer: W) -> Result<SetLogLevel, LevelError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(level.filter()?)
        .with_writer(writer)
        .with_ansi(ansi)
        .with_target(false)
        .with_filter_reloading();
    let handle = subscriber.reload_handle();
    subscriber.init();
    Ok(Box::new(move |level| {
        if let Ok(filter) = level.filter()
            && let Err(error) = handle.reload(filter)
        {
            tracing::warn!(%error, "cannot change the level of the log");
        }
    }))
}
