//! The log: one line an event, for people.

use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

/// `--log-level` is no level.
#[derive(Debug, thiserror::Error)]
#[error(
    "--log-level {0}: give off, error, warn, info, debug or trace, or module=level pairs, separated by commas"
)]
pub(crate) struct LevelError(String);

/// Starts logging to `writer`, in colour if `ansi`.
///
/// # Errors
/// [`LevelError`] if `level` is none.
pub(crate) fn init<W>(level: &str, ansi: bool, writer: W) -> Result<(), LevelError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = parse(level).ok_or_else(|| LevelError(level.to_owned()))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(ansi)
        .with_target(false)
        .init();
    Ok(())
}

/// Stricter than the filter's own parser, which takes an unknown level for a module and logs nothing at all.
fn parse(level: &str) -> Option<EnvFilter> {
    let is_level = |text: &str| LevelFilter::from_str(text).is_ok() && !text.is_empty();
    let mut levels = level.split(',').map(|part| part.split_once('=').map_or(part, |(_, level)| level));
    levels.all(is_level).then(|| EnvFilter::try_new(level).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels() {
        for good in ["info", "off", "spillway=debug", "warn,spillway::spool=trace"] {
            assert!(parse(good).is_some(), "{good}");
        }
        for bad in ["", "shouting", "spillway=loud", "info,"] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
