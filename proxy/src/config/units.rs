//! Sizes, times and levels of the log as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// A number of bytes: `64MiB`, `1.5GB`, `4096`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match ByteSize::from_str(text) {
            Ok(size) if !text.trim_start().starts_with('-') => Ok(Self(size.as_u64())),
            _ => Err(format!("{text:?} is no size: write it like 64MiB, 1.5GB or 4096")),
        }
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 1 << 30 && bytes.is_multiple_of(1 << 30) => write!(f, "{}GiB", bytes >> 30),
            bytes if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => write!(f, "{}MiB", bytes >> 20),
            bytes if bytes >= 1 << 10 && bytes.is_multiple_of(1 << 10) => write!(f, "{}KiB", bytes >> 10),
            bytes => write!(f, "{bytes}"),
        }
    }
}

/// Clocks can add this to any time of theirs.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// A time: `30s`, `12h`, `1m 30s`. A bare number has no unit and is refused, but for 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match humantime::parse_duration(text) {
            Ok(time) if time <= LONGEST => Ok(Self(time)),
            Ok(_) => Err(format!("{text:?} is longer than ten years")),
            Err(_) => Err(format!("{text:?} is no time: write it like 30s, 5m or 12h")),
        }
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// What is logged: a level for all, or levels by module.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct LogLevel(String);

/// `--log-level` is no level.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is no level: give off, error, warn, info, debug or trace, or module=level pairs, separated by commas"
)]
pub struct LevelError(String);

impl LogLevel {
    /// `warn`, as `run` has it.
    pub fn warn() -> Self {
        Self("warn".to_owned())
    }

    /// `error`, as `check` has it.
    pub fn error() -> Self {
        Self("error".to_owned())
    }

    /// What lets through what is to be logged.
    ///
    /// # Errors
    /// [`LevelError`], for no level that was parsed.
    pub fn filter(&self) -> Result<EnvFilter, LevelError> {
        EnvFilter::try_new(&self.0).map_err(|_| LevelError(self.0.clone()))
    }
}

/// `info`, as `serve` has it.
impl Default for LogLevel {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

/// Stricter than the filter's own parser, which takes an unknown level for a module and logs nothing at all.
impl FromStr for LogLevel {
    type Err = LevelError;

    fn from_str(text: &str) -> Result<Self, LevelError> {
        let is_level = |text: &str| LevelFilter::from_str(text).is_ok() && !text.is_empty();
        let mut levels = text.split(',').map(|part| part.split_once('=').map_or(part, |(_, level)| level));
        let level = Self(text.to_owned());
        if !levels.all(is_level) {
            return Err(LevelError(level.0));
        }
        level.filter().map(|_| level)
    }
}

impl TryFrom<String> for LogLevel {
    type Error = LevelError;

    fn try_from(text: String) -> Result<Self, LevelError> {
        text.parse()
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!("64MiB".parse(), Ok(Size(64 << 20)));
        assert_eq!("1GB".parse(), Ok(Size(1_000_000_000)));
        assert_eq!("4096".parse(), Ok(Size(4096)));
        assert_eq!(Size(64 << 20).to_string(), "64MiB");
        for bad in ["", "64XB", "-1", "many", "1e3000"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }

    #[test]
    fn times() {
        assert_eq!("30s".parse(), Ok(Span(Duration::from_secs(30))));
        assert_eq!("1m 30s".parse(), Ok(Span(Duration::from_secs(90))));
        for text in ["0s", "200us", "1m 30s", "12h"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        for bad in ["", "30", "-3s", "soon", "500000000000y"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    #[test]
    fn levels() {
        for good in ["info", "off", "spillway=debug", "warn,spillway::spool=trace"] {
            assert!(good.parse::<LogLevel>().is_ok(), "{good}");
        }
        for bad in ["", "shouting", "spillway=loud", "info,"] {
            assert!(bad.parse::<LogLevel>().is_err(), "{bad}");
        }
    }
}
