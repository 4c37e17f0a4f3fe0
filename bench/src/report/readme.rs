//! The table in the README: short, and replaced by the command that measures.

use spillway_tests::readme::wrapped;

use super::table::Table;
use super::{Report, number, ratio};
use crate::measure::Measured;
use crate::target::{RAW, Verdict};
use crate::way::{DIRECT, HAPROXY, MBUFFER, ROUTER, SPILLWAY};

impl Report {
    /// For each case the time by each way, then how long the server was busy, then the targets.
    pub fn readme(&self) -> String {
        [
            self.introduction(),
            self.times(),
            SERVER.to_owned(),
            self.server_times(),
            TARGETS.to_owned(),
            self.targets(),
        ]
        .join("\n")
    }

    fn introduction(&self) -> String {
        let versions: Vec<String> =
            self.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        let text = format!(
            "`make bench` on {}: {}; {}. Medians of {} rounds in which the ways take turns \
             (one of `backlog`){}. The seconds by a direct \
             connection; by the other ways the time as a ratio to that; and what Spillway used.",
            self.machine.date,
            self.machine.text(),
            versions.join(", "),
            self.rounds,
            if self.quick { " (small data)" } else { "" },
        );
        wrapped(&text)
    }

    fn times(&self) -> String {
        let mut heads = vec!["case", "direct"];
        heads.extend(PEERS.map(|(_, name)| name));
        heads.extend(["CPU s/GB", "peak MiB"]);
        let mut table = Table::new(heads.into_iter().map(str::to_owned).collect());
        for case in self.cases.iter().filter(|case| case.way(SPILLWAY).is_some()) {
            table.push(times_of(case));
        }
        table.to_string()
    }

    fn server_times(&self) -> String {
        let mut heads = vec!["case", "raw client", "direct"];
        heads.extend(PEERS.map(|(_, name)| name));
        let mut table = Table::new(heads.into_iter().map(str::to_owned).collect());
        for case in self.cases.iter().filter(|case| case.ways.iter().any(|way| !way.server.is_empty())) {
            let mut row = vec![format!("`{}`", case.name)];
            for way in [RAW, DIRECT].into_iter().chain(PEERS.map(|(way, _)| way)) {
                row.push(number(case.way(way).and_then(|way| way.server.median()), 2));
            }
            table.push(row);
        }
        table.to_string()
    }

    fn targets(&self) -> String {
        let mut table = Table::new(["case", "Spillway's", "target", "measured"].map(str::to_owned).to_vec());
        for verdict in &self.verdicts {
            table.push(target_row(verdict));
        }
        table.to_string()
    }
}

fn times_of(case: &Measured) -> Vec<String> {
    let direct = case.way(DIRECT);
    let mut row = vec![format!("`{}`: {}", case.name, case.title)];
    row.push(number(direct.and_then(|way| way.wall.median()), 2));
    for (way, _) in PEERS {
        let ratio = direct.zip(case.way(way)).and_then(|(direct, way)| ratio(&way.wall, &direct.wall));
        row.push(number(ratio, 2));
    }
    let spillway = case.way(SPILLWAY);
    row.push(number(spillway.and_then(|way| way.cpu_per_gb()), 2));
    row.push(number(spillway.and_then(|way| way.peak_mib()), 0));
    row
}

fn target_row(verdict: &Verdict) -> Vec<String> {
    // With as many digits as tell on which side of the target it is.
    let value = number(verdict.value, if verdict.value.is_some_and(|value| value >= 10.0) { 1 } else { 3 });
    vec![
        format!("`{}`", verdict.target.case),
        verdict.target.text(),
        verdict.target.bound.text(),
        if verdict.met { value } else { format!("**{value}**") },
    ]
}

const SERVER: &str = "For how many seconds the server was busy with the table:\n";
const TARGETS: &str = "What Spillway is to reach; what it misses stands out:\n";
const PEERS: [(&str, &str); 4] =
    [(HAPROXY, "HAProxy"), (ROUTER, "MySQL Router"), (MBUFFER, "mbuffer"), (SPILLWAY, "Spillway")];
