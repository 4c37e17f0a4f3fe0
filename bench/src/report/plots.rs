//! The report's plots: bars for the ratios, and what cases show over time.

use std::path::Path;

use anyhow::Result;

use super::{Report, ratio};
use crate::measure::{Figures, Measured};
use crate::plot::{BarPlot, Group};
use crate::way::{DIRECT, HAPROXY, MBUFFER, ROUTER, SPILLWAY};

impl Report {
    /// Draws all of them into `dir`.
    pub(super) fn draw(&self, dir: &Path) -> Result<()> {
        let compared: Vec<&Measured> = self.cases.iter().filter(|case| has_the_usual_ways(case)).collect();
        if !compared.is_empty() {
            usual(&compared).write(&dir.join("ratios"))?;
        }
        for case in &self.cases {
            if has_ways_of_its_own(case) {
                own(case).write(&dir.join(format!("{}-ratios", case.name)))?;
            }
            for (name, plot) in &case.plots {
                plot.write(&dir.join(format!("{}-{name}", case.name)))?;
            }
        }
        Ok(())
    }
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
fn usual(cases: &[&Measured]) -> BarPlot {
    let group = |case: &&Measured| Group {
        name: case.name.to_owned(),
        values: USUAL.iter().map(|way| ratio(&case.way(way)?.wall, &case.way(DIRECT)?.wall)).collect(),
    };
    BarPlot {
        title: "Time by each way, beside a direct connection in the same run".to_owned(),
        label: format!("wall time as a ratio to {DIRECT} (medians; shorter is better)"),
        names: USUAL.map(str::to_owned).to_vec(),
        groups: cases.iter().map(group).collect(),
    }
}

/// Time of all ways of one case.
fn own(case: &Measured) -> BarPlot {
    let first = &case.ways[0];
    let group =
        |way: &Figures| Group { name: way.way.to_owned(), values: vec![ratio(&way.wall, &first.wall)] };
    BarPlot {
        title: case.title.clone(),
        label: format!("wall time as a ratio to {} (medians; shorter is better)", first.way),
        names: vec![case.name.to_owned()],
        groups: case.ways.iter().map(group).collect(),
    }
}

const USUAL: [&str; 4] = [HAPROXY, ROUTER, MBUFFER, SPILLWAY];
