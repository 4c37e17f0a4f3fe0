//! What all sessions of a proxy have found: warnings and, where a report is wanted, an entry for each statement.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tracing::{info, warn};

use super::tables::Tables;
use super::warning::Warning;
use crate::printable::printable;
use crate::report::{Position, StatementEntry};

/// Warnings that are kept word for word; more are counted and logged.
const MAX_WARNINGS: usize = 10_000;

/// Tables that are watched in a dump of `run`, and in a session of `serve`: 150 bytes each, or so.
const MAX_TABLES: usize = 200_000;
const MAX_TABLES_OF_SESSION: usize = 2_048;

/// Bytes that the texts of a report's statements may take. What is beyond is left out, and the report says so.
const MAX_TEXT_LEN: usize = 64 << 20;

/// The results of a proxy's sessions.
#[derive(Debug)]
pub struct Ledger {
    /// Whether entries are kept, and rows summed.
    has_entries: bool,
    /// One dump may be made by several sessions, as under `run`; else each session is a dump of its own.
    tables: Option<Arc<Mutex<Tables>>>,
    book: Mutex<Book>,
}

/// What a ledger has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book {
    pub(crate) entries: Vec<StatementEntry>,
    text_len: usize,
    /// Entries that were left out.
    pub(crate) left_out: u64,
    /// Lists of settings, which entries name by their place.
    pub(crate) settings: Vec<Vec<String>>,
    pub(crate) positions: Vec<Position>,
    pub(crate) warnings: Vec<Warning>,
    pub(crate) warnings_in_all: u64,
    /// When the last table's last row came from a server, and the last byte of all else.
    pub(crate) last_table_drained: Option<Instant>,
    pub(crate) last_drained: Option<Instant>,
    /// When the last byte was given to a client.
    pub(crate) last_fed: Option<Instant>,
    /// The largest backlog of one session.
    pub(crate) backlog_peak: u64,
    pub(crate) login_attempts: u64,
    pub(crate) logins: u64,
    /// Of the server that was logged in to last.
    pub(crate) server_version: Option<String>,
}

impl Ledger {
    /// For `serve`: each session is a dump of its own, and nothing is kept of it but warnings.
    pub fn of_sessions() -> Self {
        Self { has_entries: false, tables: None, book: Mutex::default() }
    }

    /// For `run`: all sessions are one dump.
    pub fn of_one_dump(has_entries: bool) -> Self {
        let tables = Arc::new(Mutex::new(Tables::new(MAX_TABLES)));
        Self { has_entries, tables: Some(tables), book: Mutex::default() }
    }

    /// Whether all sessions are one dump.
    pub(super) fn is_one_dump(&self) -> bool {
        self.tables.is_some()
    }

    pub(crate) fn has_entries(&self) -> bool {
        self.has_entries
    }

    /// Where a new session writes what it learns of tables.
    pub(super) fn tables(&self) -> Arc<Mutex<Tables>> {
        let of_session = || Arc::new(Mutex::new(Tables::new(MAX_TABLES_OF_SESSION)));
        self.tables.clone().unwrap_or_else(of_session)
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        // Nothing that holds it leaves anything half done.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of a warning: in the log, in metrics, in the report.
    pub(crate) fn warn(&self, warning: Warning) {
        warn!(kind = warning.kind.name(), "{}", warning.message);
        metrics::counter!("spillway_warnings_total", "kind" => warning.kind.name()).increment(1);
        let mut book = self.book();
        book.warnings_in_all += 1;
        if book.warnings.len() < MAX_WARNINGS {
            book.warnings.push(warning);
        }
    }

    /// A login has succeeded, at the attempt of this number.
    pub(crate) fn on_login(&self, attempts: u32, server_version: &str) {
        let mut book = self.book();
        book.logins += 1;
        book.login_attempts += u64::from(attempts);
        book.server_version = Some(server_version.to_owned());
    }

    /// The largest backlog of a session that is over.
    pub(crate) fn on_backlog(&self, peak: u64) {
        let mut book = self.book();
        book.backlog_peak = book.backlog_peak.max(peak);
    }

    /// Warnings so far.
    pub fn warnings(&self) -> u64 {
        self.book().warnings_in_all
    }

    /// Tables that were read.
    pub(crate) fn tables_read(&self) -> usize {
        self.tables.as_ref().map_or(0, |tables| lock(tables).read())
    }

    pub(super) fn add_entry(&self, entry: StatementEntry) {
        let mut book = self.book();
        let len = entry.statement.as_ref().map_or(0, String::len) + size_of::<StatementEntry>();
        if book.text_len + len > MAX_TEXT_LEN {
            book.left_out += 1;
        } else {
            book.text_len += len;
            book.entries.push(entry);
        }
    }

    /// The place of a list of settings.
    pub(super) fn settings(&self, settings: &[String]) -> usize {
        let mut book = self.book();
        // Sessions change between a few lists; the last ones first.
        let known = book.settings.iter().rposition(|known| known == settings);
        known.unwrap_or_else(|| {
            book.settings.push(settings.to_vec());
            book.settings.len() - 1
        })
    }

    /// The dump of `run` is over: warns of tables that were listed and not read, but for those that `is_meant` knows to
    /// be left out.
    pub fn end_dump(&self, is_meant: impl Fn(&str, &str) -> bool) {
        let left_out: Vec<String> = self.tables.as_ref().map_or_else(Vec::new, |tables| {
            let tables = lock(tables);
            let left_out = tables.left_out().filter(|table| !is_meant(&table.schema, &table.table));
            left_out.map(ToString::to_string).collect()
        });
        left_out.into_iter().for_each(|table| self.warn(Warning::left_out(table)));
    }
}

/// A session of `serve` is over: its tables that were listed and not read are worth a note.
pub(super) fn note_left_out(tables: &Mutex<Tables>) {
    let tables = lock(tables);
    if tables.read() == 0 {
        return;
    }
    let mut left_out = tables.left_out();
    if let Some(first) = left_out.next() {
        let first = first.to_string();
        let first = printable(first.as_bytes());
        info!(first = %first, more = left_out.count(), "tables were listed, and their rows were not asked for");
    }
}

pub(super) fn lock(tables: &Mutex<Tables>) -> MutexGuard<'_, Tables> {
    // As above.
    tables.lock().unwrap_or_else(PoisonError::into_inner)
}
