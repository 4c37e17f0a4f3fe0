//! Any bytes as a report.

use std::path::Path;

use super::{Comparison, Verdict, parse_report, shortcomings};
use crate::fuzzing::within;
use crate::journal::RowSum;

/// A report is read or refused, and what is said of it are lines without control characters.
pub(crate) fn report(input: &[u8]) {
    let path = Path::new("report.json");
    let is_line = |line: &str| assert!(!line.contains(|c: char| c.is_control()), "{line:?}");
    // A few bytes of JSON can be the whole entry of a statement, or of a list in a list.
    let report = match within(64 * (input.len() + 64), || parse_report(input, path)) {
        Ok(report) => report,
        Err(error) => return is_line(&error.to_string()),
    };
    shortcomings(&report).iter().for_each(|line| is_line(line));
    let mut reported = RowSum::default();
    for entry in &report.statements {
        reported.add(entry.sum());
        let table = format!("{}.{}", entry.schema, entry.table);
        let verdict = Verdict::Differs { reported, found: RowSum::default() };
        is_line(&Comparison { table, verdict }.to_string());
    }
    // What was read is written as the same again.
    let Ok(written) = serde_json::to_vec(&report) else { panic!("cannot be written") };
    let Ok(again) = parse_report(&written, path) else { panic!("cannot be read again") };
    assert_eq!(again.statements.len(), report.statements.len());
    let sums = |report: &super::Report| report.statements.iter().map(|entry| entry.sum()).collect::<Vec<_>>();
    assert_eq!(sums(&again), sums(&report));
}
