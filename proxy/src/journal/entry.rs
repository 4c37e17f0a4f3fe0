//! One statement, from its beginning until the client has its answer.

use std::time::Instant;

use spillway_protocol::{ResponseEnd, RowSink, Subject};

use super::rows::{Reading, Row, Summing};
use super::tables::Table;
use crate::spool::ResponseId;

/// Takes a row of a response that tells about tables.
pub(super) type OnRow = Box<dyn FnMut(&Row<'_>) + Send>;

/// One statement whose response is not fed to its end.
pub(super) struct Entry {
    pub(super) id: ResponseId,
    pub(super) subject: Subject,
    /// Whose rows these are.
    pub(super) table: Option<Table>,
    pub(super) statement: Option<String>,
    pub(super) began: Instant,
    pub(super) drained: Option<Instant>,
    /// Of the session, before this one's.
    pub(super) rows_before: u64,
    pub(super) rows: u64,
    pub(super) in_snapshot: bool,
    /// Where in the ledger the settings are that it runs under.
    pub(super) settings: Option<usize>,
    pub(super) end: Option<ResponseEnd>,
    pub(super) summing: Option<Summing>,
    pub(super) reading: Option<Reading<OnRow>>,
}

impl RowSink for Entry {
    fn on_payload(&mut self, piece: &[u8]) {
        if let Some(summing) = &mut self.summing {
            summing.on_payload(piece);
        }
        if let Some(reading) = &mut self.reading {
            reading.on_payload(piece);
        }
    }

    fn on_end(&mut self, is_row: bool) {
        if let Some(summing) = &mut self.summing {
            summing.on_end(is_row);
        }
        if let Some(reading) = &mut self.reading {
            reading.on_end(is_row);
        }
    }

    fn on_row(&mut self, payload: &[u8]) {
        if let Some(summing) = &mut self.summing {
            summing.on_row(payload);
        }
        if let Some(reading) = &mut self.reading {
            reading.on_row(payload);
        }
    }
}
