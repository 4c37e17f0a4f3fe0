//! What was measured, for people and for programs.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::stats::Sample;

/// All of a run of the bench.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The server's version.
    pub server: String,
    /// Cores that the run could use.
    pub cores: usize,
    /// The kernel's 1-minute load average before the start: over 0.5 or so, others were at work.
    pub load: f64,
    /// With small data: then the targets say little.
    pub quick: bool,
    /// Rounds of each scenario.
    pub rounds: u32,
    /// The scenarios.
    pub scenarios: Vec<Measured>,
}

/// What one scenario gave.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// As on the command line.
    pub name: &'static str,
    /// For people.
    pub title: String,
    /// Taken off the server in one run.
    pub bytes: u64,
    /// Direct runs.
    pub direct: Sample,
    /// Runs through Spillway.
    pub through: Sample,
    /// Of the medians, in the sense of the target.
    pub ratio: f64,
    /// The least and the greatest ratio of one round.
    pub ratio_range: (f64, f64),
    /// What it is to be.
    pub target: Target,
    /// Whether it is.
    pub met: bool,
    /// CPU time of the proxy for one run.
    pub cpu_seconds: f64,
    /// CPU time of the proxy for 10^9 bytes.
    pub cpu_seconds_per_gb: f64,
    /// The most memory of the proxy that was resident.
    pub peak_memory: u64,
}

/// What a ratio to direct is to be.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Speed through Spillway over speed directly.
    SpeedAtLeast(f64),
    /// Time through Spillway over time directly.
    TimeAtMost(f64),
}

impl Target {
    /// The ratio of two times in this target's sense.
    pub fn ratio(self, direct: f64, through: f64) -> f64 {
        match self {
            Self::SpeedAtLeast(_) => direct / through,
            Self::TimeAtMost(_) => through / direct,
        }
    }

    /// Whether such a ratio is good enough.
    pub fn is_met(self, ratio: f64) -> bool {
        match self {
            Self::SpeedAtLeast(least) => ratio >= least,
            Self::TimeAtMost(most) => ratio <= most,
        }
    }

    fn text(self) -> String {
        match self {
            Self::SpeedAtLeast(least) => format!("speed >= {least:.2}"),
            Self::TimeAtMost(most) => format!("time <= {most:.2}"),
        }
    }
}

impl Report {
    /// A table in Markdown, which reads well on a terminal, too.
    pub fn markdown(&self) -> String {
        let mut rows = vec![HEADS.map(str::to_owned).to_vec()];
        rows.extend(self.scenarios.iter().map(Measured::cells));
        let widths: Vec<usize> = (0..HEADS.len())
            .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default())
            .collect();
        let mut text = format!(
            "MariaDB {}, {} cores, load {:.2} before, {} rounds{}; medians, least and greatest in parentheses.\n\n",
            self.server,
            self.cores,
            self.load,
            self.rounds,
            if self.quick { ", small data: the targets say little" } else { "" }
        );
        for (number, row) in rows.iter().enumerate() {
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(text, "| {cell:width$} ");
            }
            text.push_str("|\n");
            if number == 0 {
                for width in &widths {
                    let _ = write!(text, "|{}", "-".repeat(width + 2));
                }
                text.push_str("|\n");
            }
        }
        text.push('\n');
        for measured in &self.scenarios {
            let _ = writeln!(text, "- {}: {}", measured.name, measured.title);
        }
        text
    }

    /// Writes `report.json` and `report.md` into `dir`.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let write = || {
            fs::create_dir_all(dir)?;
            fs::write(dir.join("report.json"), serde_json::to_vec_pretty(self)?)?;
            fs::write(dir.join("report.md"), self.markdown())?;
            anyhow::Ok(())
        };
        write().with_context(|| format!("writing the report into {}", dir.display()))
    }
}

impl Measured {
    fn cells(&self) -> Vec<String> {
        let seconds = |sample: &Sample| {
            let (least, greatest) = sample.range();
            format!("{:.3} ({least:.3}-{greatest:.3})", sample.median())
        };
        let (least, greatest) = self.ratio_range;
        vec![
            self.name.to_owned(),
            format!("{:.1}", self.bytes as f64 / 1e6),
            seconds(&self.direct),
            seconds(&self.through),
            format!("{:.3} ({least:.3}-{greatest:.3})", self.ratio),
            self.target.text(),
            if self.met { "met" } else { "MISSED" }.to_owned(),
            format!("{:.2}", self.cpu_seconds),
            // Of a few bytes it says nothing.
            if self.bytes < 10_000_000 { "-".to_owned() } else { format!("{:.2}", self.cpu_seconds_per_gb) },
            format!("{:.1}", self.peak_memory as f64 / f64::from(1 << 20)),
        ]
    }
}

const HEADS: [&str; 10] =
    ["scenario", "MB", "direct s", "Spillway s", "ratio", "target", "", "CPU s", "CPU s/GB", "peak MiB"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_in_the_targets_sense() {
        let speed = Target::SpeedAtLeast(0.8);
        assert!(speed.is_met(speed.ratio(0.9, 1.0)) && !speed.is_met(speed.ratio(0.7, 1.0)));
        let time = Target::TimeAtMost(1.1);
        assert!(time.is_met(time.ratio(1.0, 1.05)) && !time.is_met(time.ratio(1.0, 1.2)));
    }
}
