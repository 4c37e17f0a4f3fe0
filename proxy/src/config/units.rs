//! Sizes and times as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;

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
        for bad in ["", "30", "-3s", "soon", "500000000000y"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }
}
