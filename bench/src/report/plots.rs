//! The report's plots: bars for the ratios, and what cases show over time.

use std::path::Path;

use anyhow::Result;

use super::{Report, ratio};
use crate::measure::{Figures, Measured};
use crate::plot::{BarPlot, Group};
use crate::way::{DIRECT, HAPROXY, MBUFFER, ROUTER, SPILLWAY};

impl Report {
    /// Draws all of them into `dir`: one of all cases, and those that each has of its own.
    pub fn draw(&self, dir: &Path) -> Result<()> {
        if self.has_ratios() {
            usual(&self.cases).write(&dir.join(RATIOS))?;
        }
        for case in &self.cases {
            if has_ways_of_its_own(case) {
                own(case).write(&dir.join(own_name(case)))?;
            }
            for (name, plot) in &case.plots {
                plot.write(&dir.join(time_name(case, name)))?;
            }
        }
        Ok(())
    }

    /// Whether there is something to compare in all cases.
    pub(super) fn has_ratios(&self) -> bool {
        self.cases.iter().any(has_the_usual_ways)
    }
}

/// A case's plots.
pub(super) fn names(case: &Measured) -> Vec<String> {
    let own = has_ways_of_its_own(case).then(|| own_name(case));
    own.into_iter().chain(case.plots.iter().map(|(name, _)| time_name(case, name))).collect()
}

fn own_name(case: &Measured) -> String {
    format!("{}-ratios", case.name)
}

fn time_name(case: &Measured, name: &str) -> String {
    format!("{}-{name}", case.name)
}

/// Whether it compares Spillway with a direct connection, whatever else.
fn has_the_usual_ways(case: &Measured) -> bool {
    case.way(DIRECT).is_some() && case.way(SPILLWAY).is_some()
}

/// Whether there is more to compare than in most cases.
fn has_ways_of_its_own(case: &Measured) -> bool {
    case.ways.iter().any(|figures| figures.way != DIRECT && !USUAL.contains(&figures.way))
}

/// Time of the ways that most cases have, in all of them.
fn usual(cases: &[Measured]) -> BarPlot {
    let group = |case: &Measured| Group {
        name: case.name.to_owned(),
        values: USUAL.iter().map(|way| ratio(&case.way(way)?.wall, &case.way(DIRECT)?.wall)).collect(),
    };
    BarPlot {
        title: "Time by each way, beside a direct connection in the same run".to_owned(),
        label: format!("wall time as a ratio to {DIRECT} (medians; shorter is better)"),
        names: USUAL.map(str::to_owned).to_vec(),
        groups: cases.iter().filter(|case| has_the_usual_ways(case)).map(group).collect(),
    }
}

/// Time of all ways of one case.
fn own(case: &Measured) -> BarPlot {
    let first = &case.ways[0];
    let group =
        |way: &Figures| Group { name: way.way.to_owned(), values: vec![ratio(&way.wall, &first.wall)] };
    BarPlot {
        title: format!("{}: {}", case.name, case.title),
        label: format!("wall time as a ratio to {} (medians; shorter is better)", first.way),
        names: Vec::new(),
        groups: case.ways.iter().map(group).collect(),
    }
}

/// The plot of all cases.
pub(super) const RATIOS: &str = "ratios";
const USUAL: [&str; 4] = [HAPROXY, ROUTER, MBUFFER, SPILLWAY];
