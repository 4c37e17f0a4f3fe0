//! What was measured, for people and for programs.

mod plots;
mod readme;
mod table;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use self::plots::RATIOS;
use self::table::Table;
use crate::machine::Machine;
use crate::measure::{Figures, Measured};
use crate::stats::Sample;
use crate::target::{self, Verdict};

/// All of a run of the bench.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where and when.
    pub machine: Machine,
    /// What was measured: name and version.
    pub versions: Vec<(String, String)>,
    /// With small data: then the targets say little.
    pub quick: bool,
    /// Rounds of each case.
    pub rounds: u32,
    /// The cases.
    pub cases: Vec<Measured>,
    /// The targets of these cases.
    pub verdicts: Vec<Verdict>,
    /// Cases that came to nothing, with the reason.
    pub failed: Vec<(&'static str, String)>,
}

impl Report {
    /// Without a case yet.
    pub fn new(machine: Machine, versions: Vec<(String, String)>, quick: bool, rounds: u32) -> Self {
        Self { machine, versions, quick, rounds, cases: Vec::new(), verdicts: Vec::new(), failed: Vec::new() }
    }

    /// Adds a case and judges it.
    pub fn add(&mut self, measured: Measured) {
        self.verdicts.extend(target::judge(&measured));
        self.cases.push(measured);
    }

    /// A case's figures and then its targets.
    pub fn case_markdown(&self, case: &Measured) -> String {
        let verdicts: Vec<&Verdict> =
            self.verdicts.iter().filter(|verdict| verdict.target.case == case.name).collect();
        let mut text = section(case);
        if !verdicts.is_empty() {
            let _ = write!(text, "\n{}", targets(&verdicts));
        }
        text
    }

    /// All of it in Markdown, whose tables read well on a terminal, too.
    pub fn markdown(&self) -> String {
        let mut text = format!("# Spillway measured beside its peers\n\n{}", self.head());
        let verdicts: Vec<&Verdict> = self.verdicts.iter().collect();
        let _ = write!(text, "\n## Targets\n\n{}", targets(&verdicts));
        for (name, reason) in &self.failed {
            let _ = write!(text, "\n**{name} failed: {reason}**\n");
        }
        if self.has_ratios() {
            let _ = write!(text, "\n![{RATIOS}]({RATIOS}.png)\n");
        }
        for case in &self.cases {
            let _ = write!(text, "\n{}", section(case));
            for plot in plots::names(case) {
                let _ = write!(text, "\n![{plot}]({plot}.png)\n");
            }
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

    fn head(&self) -> String {
        let mut text = format!(
            "{}; {}; load {:.2} before the start. {} rounds of each case, the ways by turns, after a warm-up that does \
             not count{}. Times are medians, the least and the greatest in parentheses; ratios are those of medians in \
             the same run.\n\n",
            self.machine.date,
            self.machine.text(),
            self.machine.load,
            self.rounds,
            if self.quick { "; small data, so the targets say little" } else { "" }
        );
        for (name, version) in &self.versions {
            let _ = writeln!(text, "- {name}: {version}");
        }
        text
    }
}

fn section(case: &Measured) -> String {
    format!("## {}\n\n{}\n\n{}", case.name, case.title, figures(case))
}

/// A row for each way.
fn figures(case: &Measured) -> String {
    let Some(first) = case.ways.first() else { return String::new() };
    let more: Vec<&str> = case.ways.iter().flat_map(|figures| figures.more.keys().copied()).collect();
    let mut heads =
        vec!["way".to_owned(), "wall s".to_owned(), format!("of {}", first.way), "MB/s".to_owned()];
    let has = |sample: fn(&Figures) -> &Sample| case.ways.iter().any(|figures| !sample(figures).is_empty());
    let (has_server, has_client) = (has(|figures| &figures.server), has(|figures| &figures.client));
    if has_server {
        heads.push("server s".to_owned());
    }
    if has_client {
        heads.push("client s".to_owned());
    }
    heads.extend(["CPU s", "CPU s/GB", "peak MiB"].map(str::to_owned));
    let mut names: Vec<&str> = Vec::new();
    for name in more {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    heads.extend(names.iter().map(|&name| name.to_owned()));

    let mut table = Table::new(heads);
    for way in &case.ways {
        let mut row = vec![way.way.to_owned(), spread(&way.wall, 3)];
        row.push(number(ratio(&way.wall, &first.wall), 3));
        row.push(number(megabytes_a_second(way), 0));
        if has_server {
            row.push(spread(&way.server, 3));
        }
        if has_client {
            row.push(spread(&way.client, 3));
        }
        row.push(number(way.cpu.median(), 2));
        row.push(number(way.cpu_per_gb(), 2));
        row.push(number(way.peak_mib(), 1));
        row.extend(
            names.iter().map(|&name| way.more.get(name).map_or_else(none, |sample| spread(sample, 1))),
        );
        table.push(row);
    }
    table.to_string()
}

fn targets(verdicts: &[&Verdict]) -> String {
    let mut table = Table::new(["case", "Spillway's", "target", "measured", ""].map(str::to_owned).to_vec());
    for verdict in verdicts {
        let range =
            verdict.range.map_or_else(String::new, |(least, most)| format!(" ({least:.3}-{most:.3})"));
        table.push(vec![
            verdict.target.case.to_owned(),
            verdict.target.text(),
            verdict.target.bound.text(),
            verdict.value.map_or_else(|| "not measured".to_owned(), |value| format!("{value:.3}{range}")),
            if verdict.met { "met" } else { "MISSED" }.to_owned(),
        ]);
    }
    table.to_string()
}

fn megabytes_a_second(figures: &Figures) -> Option<f64> {
    let speed = figures.bytes.median()? / 1e6 / figures.wall.median()?;
    (speed >= LEAST_SPEED).then_some(speed)
}

fn ratio(own: &Sample, other: &Sample) -> Option<f64> {
    Some(own.median()? / other.median()?)
}

/// `0.512 (0.498-0.530)`.
fn spread(sample: &Sample, digits: usize) -> String {
    match sample.median().zip(sample.range()) {
        None => none(),
        Some((median, (least, greatest))) => {
            format!("{median:.digits$} ({least:.digits$}-{greatest:.digits$})")
        }
    }
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(none, |value| format!("{value:.digits$}"))
}

fn none() -> String {
    "-".to_owned()
}

/// Where hardly anything is sent (logins, small tables), bytes are not what takes the time.
const LEAST_SPEED: f64 = 1.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Sample;

    #[test]
    fn what_is_not_there_is_a_dash() {
        assert_eq!(spread(&Sample::default(), 3), "-");
        assert_eq!(spread(&[1.0, 2.0, 4.0].into_iter().collect(), 1), "2.0 (1.0-4.0)");
        assert_eq!(number(None, 2), "-");
    }
}
