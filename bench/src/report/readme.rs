//! The table in the README: short, and replaced by the command that measures.

use anyhow::{Context as _, Result};

use super::table::Table;
use super::{Report, number, ratio};
use crate::measure::Measured;
use crate::target::Verdict;
use crate::way::{DIRECT, HAPROXY, ROUTER, SPILLWAY};

/// The text with `table` between the lines that mark its place.
pub fn splice(text: &str, table: &str) -> Result<String> {
    let (before, rest) = text.split_once(BEGIN).with_context(|| format!("no line {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("no line {END} behind {BEGIN}"))?;
    Ok(format!("{before}{BEGIN}\n{}\n{END}{after}", table.trim()))
}

impl Report {
    /// For each case what its direct way takes, what the others take of that, and the targets.
    pub fn readme(&self) -> String {
        let heads = ["case", "direct", "HAProxy", "MySQL Router", "Spillway", "CPU s/GB", "peak MiB"];
        let mut table = Table::new(heads.map(str::to_owned).to_vec());
        for case in self.cases.iter().filter(|case| case.way(SPILLWAY).is_some()) {
            table.push(row(case));
        }
        let mut targets =
            Table::new(["case", "Spillway's", "target", "measured"].map(str::to_owned).to_vec());
        for verdict in &self.verdicts {
            targets.push(target_row(verdict));
        }
        format!(
            "Measured by `make bench` on {}: {}; {}. Medians of {} rounds in which the ways take turns{}. First the seconds \
             of a direct connection, then the time by each way as a ratio to that, and what Spillway used.\n\n{table}\n{targets}",
            self.machine.date,
            self.machine.text(),
            self.versions_text(),
            self.rounds,
            if self.quick { " (small data)" } else { "" },
        )
    }

    fn versions_text(&self) -> String {
        self.versions.iter().map(|(name, version)| format!("{name} {version}")).collect::<Vec<_>>().join(", ")
    }
}

fn row(case: &Measured) -> Vec<String> {
    let direct = case.way(DIRECT);
    let mut row = vec![format!("`{}`: {}", case.name, case.title)];
    row.push(number(direct.and_then(|way| way.wall.median()), 2));
    for way in [HAPROXY, ROUTER, SPILLWAY] {
        let ratio = direct.zip(case.way(way)).and_then(|(direct, way)| ratio(&way.wall, &direct.wall));
        row.push(number(ratio, 2));
    }
    let spillway = case.way(SPILLWAY);
    row.push(number(spillway.and_then(|way| way.cpu_per_gb()), 2));
    row.push(number(spillway.and_then(|way| way.peak_mib()), 0));
    row
}

fn target_row(verdict: &Verdict) -> Vec<String> {
    let value = number(verdict.value, 2);
    vec![
        format!("`{}`", verdict.target.case),
        verdict.target.text(),
        verdict.target.bound.text(),
        if verdict.met { value } else { format!("**{value}**") },
    ]
}

const BEGIN: &str = "<!-- bench:begin -->";
const END: &str = "<!-- bench:end -->";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_changes() -> Result<()> {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let once = splice(&text, "new\n")?;
        assert_eq!(once, format!("before\n{BEGIN}\nnew\n{END}\nafter\n"));
        assert_eq!(splice(&once, "new\n")?, once);
        assert!(splice("nothing", "new").is_err());
        Ok(())
    }
}
