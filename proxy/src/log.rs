//! The log: one line an event, for people or for programs.

use spillway::config::{LevelError, LogFormat, LogLevel};
use spillway::routes::SetLogLevel;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, fmt, registry, reload};

/// Starts logging to `writer`; for people in colour if `ansi`. Gives what changes the level.
///
/// # Errors
/// [`LevelError`] if `level` is none.
pub(crate) fn init<W>(
    level: &LogLevel,
    format: LogFormat,
    ansi: bool,
    writer: W,
) -> Result<SetLogLevel, LevelError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(level.filter()?);
    let lines = fmt::layer().with_writer(writer).with_ansi(ansi);
    let lines = match format {
        LogFormat::Human => lines.with_target(false).boxed(),
        // The session's fields stand in `span`; there is no other span around it.
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
    };
    registry().with(filter).with(lines).init();
    Ok(Box::new(move |level| {
        if let Ok(filter) = level.filter()
            && let Err(error) = handle.reload(filter)
        {
            tracing::warn!(%error, "cannot change the level of the log");
        }
    }))
}
