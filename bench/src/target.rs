//! What the figures have to reach: the table of issue 5, row by row.

use serde::Serialize;

use crate::case::looked_at::{SEEN, UNSEEN};
use crate::measure::{Figures, Measured};
use crate::stats::Sample;
use crate::way::{DIRECT, HAPROXY, ROUTER, SPILLWAY};

/// One bound on one figure.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Target {
    /// The case in which it is measured.
    pub case: &'static str,
    /// Of which way.
    pub way: &'static str,
    /// Which figure.
    pub what: What,
    /// What it has to be.
    pub bound: Bound,
}

/// A figure of a way.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Its speed over another way's.
    SpeedOf(&'static str),
    /// Its wall time over another way's.
    TimeOf(&'static str),
    /// The time for which the server was busy over that of another way.
    ServerTimeOf(&'static str),
    /// CPU seconds of the proxy for 10^9 bytes.
    CpuPerGb,
    /// The proxy's peak of resident memory in MiB.
    PeakMib,
}

/// A limit.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

/// A target and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// What was wanted.
    pub target: Target,
    /// What it is: a ratio of medians, or one figure for all rounds. Nothing where it was not measured, which is as bad
    /// as missed.
    pub value: Option<f64>,
    /// The least and the greatest ratio of one round, where it is a ratio.
    pub range: Option<(f64, f64)>,
    /// Whether it is good enough.
    pub met: bool,
}

/// The targets of a case, with what came of them.
pub fn judge(measured: &Measured) -> Vec<Verdict> {
    TARGETS
        .iter()
        .filter(|target| target.case == measured.name)
        .map(|target| target.judge(measured))
        .collect()
}

impl Target {
    fn judge(self, measured: &Measured) -> Verdict {
        let (value, range) =
            self.measured(measured).map_or((None, None), |(value, range)| (Some(value), range));
        Verdict { target: self, value, range, met: value.is_some_and(|value| self.bound.holds(value)) }
    }

    /// The value, and the range of the rounds where it is a ratio; nothing where a way or a figure is missing.
    fn measured(self, measured: &Measured) -> Option<(f64, Option<(f64, f64)>)> {
        let own = measured.way(self.way)?;
        match self.what {
            What::SpeedOf(other) => ratio(&measured.way(other)?.wall, &own.wall),
            What::TimeOf(other) => ratio(&own.wall, &measured.way(other)?.wall),
            What::ServerTimeOf(other) => ratio(&own.server, &measured.way(other)?.server),
            What::CpuPerGb => Some((own.cpu_per_gb()?, None)),
            What::PeakMib => Some((own.peak_mib()?, None)),
        }
    }

    /// What is wanted, in words.
    pub fn text(&self) -> String {
        let what = match self.what {
            What::SpeedOf(other) => format!("speed, of {other}"),
            What::TimeOf(other) => format!("time, of {other}"),
            What::ServerTimeOf(other) => format!("server's time, of {other}"),
            What::CpuPerGb => "CPU s/GB".to_owned(),
            What::PeakMib => "peak MiB".to_owned(),
        };
        match self.way {
            SPILLWAY => what,
            way => format!("{way}: {what}"),
        }
    }
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }

    /// As `>= 0.9`.
    pub fn text(self) -> String {
        match self {
            Self::AtLeast(least) => format!(">= {least}"),
            Self::AtMost(most) => format!("<= {most}"),
        }
    }
}

/// One sample over another: of the medians, and the range of the rounds.
fn ratio(own: &Sample, other: &Sample) -> Option<(f64, Option<(f64, f64)>)> {
    Some((own.median()? / other.median()?, own.over(other).range()))
}

impl Figures {
    /// The proxy's peak of resident memory in MiB.
    pub fn peak_mib(&self) -> Option<f64> {
        self.peak_memory.map(|bytes| bytes as f64 / f64::from(1 << 20))
    }
}

const fn target(case: &'static str, what: What, bound: Bound) -> Target {
    Target { case, way: SPILLWAY, what, bound }
}

/// `--memory`, 256 MiB by default, and 64 MiB.
const MEMORY_AND_64: f64 = 256.0 + 64.0;

/// All of them. (The one of the backlog's memory: whatever the backlog.)
const TARGETS: [Target; 18] = [
    target("drain-wide", What::SpeedOf(DIRECT), Bound::AtLeast(0.90)),
    target("drain-wide", What::SpeedOf(ROUTER), Bound::AtLeast(1.0)),
    target("drain-wide", What::CpuPerGb, Bound::AtMost(0.45)),
    target("drain-narrow", What::SpeedOf(DIRECT), Bound::AtLeast(0.95)),
    target("relay-wide", What::CpuPerGb, Bound::AtMost(0.25)),
    target("dump-wide", What::TimeOf(DIRECT), Bound::AtMost(1.03)),
    target("dump-narrow", What::TimeOf(DIRECT), Bound::AtMost(1.03)),
    target("slow-sink", What::ServerTimeOf(RAW), Bound::AtMost(1.15)),
    target("dump-tables", What::TimeOf(DIRECT), Bound::AtMost(1.20)),
    target("dump-tables", What::TimeOf(HAPROXY), Bound::AtMost(1.0)),
    target("parallel", What::TimeOf(DIRECT), Bound::AtMost(1.15)),
    target("parallel", What::PeakMib, Bound::AtMost(MEMORY_AND_64)),
    Target { case: "looked-at", way: SEEN, what: What::TimeOf(UNSEEN), bound: Bound::AtMost(1.05) },
    target("connect", What::SpeedOf(DIRECT), Bound::AtLeast(0.4)),
    target("connect", What::SpeedOf(HAPROXY), Bound::AtLeast(0.7)),
    target("connect-8", What::SpeedOf(DIRECT), Bound::AtLeast(0.4)),
    target("connect-8", What::SpeedOf(HAPROXY), Bound::AtLeast(0.7)),
    target("backlog", What::PeakMib, Bound::AtMost(64.0)),
];

/// The way of a raw client in the case `slow-sink`.
pub const RAW: &str = "raw client";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case;

    #[test]
    fn a_bound_includes_its_number() {
        assert!(Bound::AtLeast(0.8).holds(0.8) && !Bound::AtLeast(0.8).holds(0.79));
        assert!(Bound::AtMost(1.1).holds(1.1) && !Bound::AtMost(1.1).holds(1.11));
    }

    #[test]
    fn every_target_is_one_of_a_case() {
        for target in &TARGETS {
            assert!(case::ALL.iter().any(|case| case.name == target.case), "{}", target.case);
        }
    }

    #[test]
    fn a_ratio_is_one_of_medians() {
        let sample = |values: [f64; 3]| values.into_iter().collect::<Sample>();
        let (value, range) = ratio(&sample([2.0, 1.0, 9.0]), &sample([4.0, 2.0, 3.0])).unwrap();
        assert_eq!((value, range), (2.0 / 3.0, Some((0.5, 3.0))));
    }
}
