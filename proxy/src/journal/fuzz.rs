//! Any bytes as a text result of which rows are read.

use std::cell::RefCell;
use std::collections::BTreeMap;

use spillway_protocol::{Capabilities, ResponseForm, ResponseTracker, subject};

use super::rows::{MAX_COLUMNS, MAX_ROW_LEN, Reading, Row, Summing};
use super::tables::Tables;
use crate::fuzzing::{pieces, within};
use crate::session::{numbers_of_row, row_values};

/// Statements whose rows tell something.
const STATEMENTS: [&[u8]; 5] = [
    b"SHOW FULL TABLES",
    b"SHOW TABLE STATUS FROM shop",
    b"SHOW CREATE TABLE shop.orders",
    b"SHOW MASTER STATUS",
    b"SELECT * FROM information_schema.TABLES",
];

/// ```text
/// 1  the statement, and 8 under CLIENT_DEPRECATE_EOF    1  where it is cut    n  what the server sends
/// ```
///
/// However it is cut, the rows have the same sums and values, and their columns and values no more memory than their
/// bounds.
pub(crate) fn rows(input: &[u8]) {
    let [form, plan, stream @ ..] = input else { return };
    let (about, is_new) = (STATEMENTS[usize::from(form & 7) % STATEMENTS.len()], form & 8 != 0);
    let mut capabilities = Capabilities::PROTOCOL_41;
    if is_new {
        capabilities = capabilities | Capabilities::DEPRECATE_EOF;
    }
    // Names and values as text, which is up to three times as long, and where each value stands.
    let most = 8 * stream.len() + 64 * 1024 + 2 * MAX_COLUMNS * size_of::<Option<&[u8]>>();
    let whole = within(most, || read(about, capabilities, &[stream]));
    let cut = read(about, capabilities, &pieces(stream, *plan));
    assert_eq!(whole, cut);
    // No more values than columns that have come.
    within(16 * stream.len() + 64 * 1024, || {
        assert!(numbers_of_row(stream, capabilities).len() <= row_values(stream, capabilities).len());
    });
}

/// What is learned: sums, the last row by its columns, tables left out.
#[derive(Debug, Default, PartialEq)]
struct Learned {
    sums: (u64, u64, u64),
    last: BTreeMap<String, Option<String>>,
    tables: Vec<String>,
}

fn read(about: &[u8], capabilities: Capabilities, pieces: &[&[u8]]) -> Learned {
    let subject = subject(about);
    let learned = RefCell::new((Learned::default(), Tables::new(20)));
    let mut reading = Reading::new(|row: &Row<'_>| {
        let mut learned = learned.borrow_mut();
        let (learned, tables) = &mut *learned;
        learned.last = row.pairs().collect();
        assert!(learned.last.values().flatten().all(|value| value.len() <= 3 * MAX_ROW_LEN));
        let _ = tables.on_row(&subject, Some("shop"), row);
    });
    let mut summing = Summing::default();
    let mut trackers = [ResponseTracker::new(capabilities), ResponseTracker::new(capabilities)];
    trackers.iter_mut().for_each(|tracker| tracker.expect(ResponseForm::Query));
    'stream: for mut piece in pieces.iter().copied() {
        while !piece.is_empty() {
            let step = trackers[0].advance_with(piece, &mut reading);
            let sums = trackers[1].advance_with(piece, &mut summing);
            assert_eq!(step, sums);
            match step {
                Ok(step) if step.event.is_none() => piece = &piece[step.consumed..],
                _ => break 'stream,
            }
        }
    }
    drop(reading);
    let (mut learned, tables) = learned.into_inner();
    let sum = summing.sum();
    learned.sums = (sum.rows, sum.bytes, sum.checksum);
    learned.tables = tables.left_out().map(ToString::to_string).collect();
    learned
}
