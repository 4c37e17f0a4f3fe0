//! What a session's statements were, and what they gave: read off as it passes, for the report of `run`, for warnings
//! and for those who look at running sessions. It asks nothing of the server and changes nothing.
//!
//! ```text
//!  command ──► begin ──► entry ──► drained (server's end) ──► fed (client's end) ──► Ledger
//!                          ▲ rows, as they are drained: checksum, facts about tables
//! ```

mod entry;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod ledger;
mod rows;
mod tables;
mod warning;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use spillway_protocol::{
    Command, ResponseEnd, RowSink, StatementKind, StatusFlags, Subject, TableName, classify, subject,
};

use entry::{Entry, OnRow};
pub use ledger::Ledger;
use ledger::{lock, note_left_out};
use rows::Reading;
pub use rows::RowSum;
pub(crate) use rows::Summing;
use tables::{Table, Tables};
pub use warning::{Warning, WarningKind};

use crate::report::{Position, StatementEntry};
use crate::sessions::Session;
use crate::spool::ResponseId;

/// The longest statement that is looked at.
const MAX_STATEMENT_LEN: usize = 256 * 1024;

/// Settings in force that are kept in mind, and what each may have: more than any dump makes.
const MAX_SETTINGS: usize = 64;
const MAX_SETTING_LEN: usize = 1024;

/// Rows of a binary log position that are kept: of a replica of many sources.
const MAX_POSITIONS: usize = 64;

/// One session's statements.
pub(crate) struct Journal {
    ledger: Arc<Ledger>,
    session: Arc<Session>,
    tables: Arc<Mutex<Tables>>,
    began: Instant,
    character_set: u16,
    /// The default one.
    schema: Option<String>,
    has_snapshot: bool,
    /// Settings in force, each with the name that it sets.
    settings: Vec<(String, String)>,
    /// Those whose responses are not fed, in the client's order.
    open: VecDeque<Entry>,
    /// A command that is too long to come as a whole, as far as it has come, packet header included.
    partial: Option<(ResponseId, Vec<u8>)>,
}

impl Journal {
    pub(crate) fn new(ledger: Arc<Ledger>, session: Arc<Session>, schema: &[u8], character_set: u16) -> Self {
        Self {
            tables: ledger.tables(),
            ledger,
            session,
            began: Instant::now(),
            character_set,
            schema: text_of(schema),
            has_snapshot: false,
            settings: Vec::new(),
            open: VecDeque::new(),
            partial: None,
        }
    }

    /// The session has another default schema, by a change of user.
    pub(crate) fn set_schema(&mut self, schema: &[u8]) {
        self.schema = text_of(schema);
        self.on_reset();
    }

    /// The session is as after a login, but for its default schema.
    pub(crate) fn on_reset(&mut self) {
        self.has_snapshot = false;
        self.settings.clear();
    }

    /// The session's entry among those that run.
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// A command begins, answered by the response `id`. Its `payload` is none where it is too long to be here yet:
    /// then [`on_bytes`](Self::on_bytes) brings it.
    pub(crate) fn begin(
        &mut self,
        id: ResponseId,
        command: Command,
        payload: Option<&[u8]>,
        has_attributes: bool,
        rows: u64,
    ) {
        let text = payload.and_then(|payload| text_of_query(payload, has_attributes));
        let about = match (command, text) {
            (Command::QUERY, Some(text)) => subject(text),
            (Command::INIT_DB, _) => {
                Subject::Use(payload.unwrap_or_default().get(1..).unwrap_or_default().to_vec())
            }
            _ => Subject::Other(command.to_string()),
        };
        if command == Command::QUERY && payload.is_none() {
            self.partial = Some((id, Vec::new()));
        }
        if let Some(text) = text {
            self.note_setting(text);
        }
        self.open.push_back(Entry {
            id,
            subject: Subject::Other(String::new()),
            table: None,
            statement: None,
            began: Instant::now(),
            drained: None,
            rows_before: rows,
            rows: 0,
            in_snapshot: self.has_snapshot,
            settings: None,
            end: None,
            summing: None,
            reading: None,
        });
        self.set_subject(id, about, text);
    }

    /// Whether the command under way is wanted by [`on_bytes`](Self::on_bytes).
    pub(crate) fn wants_bytes(&self) -> bool {
        self.partial.is_some()
    }

    /// The next bytes of a command that was too long to come as a whole: its packets, headers included.
    pub(crate) fn on_bytes(&mut self, bytes: &[u8]) {
        if let Some((_, partial)) = &mut self.partial {
            let room = MAX_STATEMENT_LEN.saturating_sub(partial.len());
            partial.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }

    /// The command is complete.
    pub(crate) fn end_command(&mut self, has_attributes: bool) {
        let Some((id, packet)) = self.partial.take() else { return };
        let payload = packet.get(spillway_protocol::HEADER_LEN..).unwrap_or_default();
        if let Some(text) = text_of_query(payload, has_attributes) {
            let is_whole = packet.len() < MAX_STATEMENT_LEN;
            self.set_subject(id, subject(text), Some(text).filter(|_| is_whole));
        }
    }

    fn set_subject(&mut self, id: ResponseId, about: Subject, text: Option<&[u8]>) {
        let shown = self.shown(&about);
        self.session.set_statement(shown.into());
        let reading = self.reading(&about);
        let table = match &about {
            Subject::Rows(name) => self.table(name).filter(Table::has_data),
            _ => None,
        };
        let has_entries = self.ledger.has_entries() && table.is_some();
        let settings = has_entries.then(|| {
            let settings: Vec<String> = self.settings.iter().map(|(_, text)| text.clone()).collect();
            self.ledger.settings(&settings)
        });
        if let Some(entry) = entry_of(&mut self.open, id) {
            entry.subject = about;
            entry.statement = text.filter(|_| has_entries).and_then(text_of);
            entry.summing = has_entries.then(Summing::default);
            (entry.table, entry.reading, entry.settings) = (table, reading, settings);
        }
    }

    /// For those who look on.
    fn shown(&self, about: &Subject) -> String {
        let named =
            |schema: &Option<Vec<u8>>| schema.as_deref().and_then(text_of).or_else(|| self.schema.clone());
        match about {
            Subject::Rows(name) => {
                self.table(name).map_or_else(|| "SELECT".to_owned(), |table| table.to_string())
            }
            Subject::CreateTable(name) => {
                format!("SHOW CREATE TABLE {}", String::from_utf8_lossy(&name.table))
            }
            Subject::Tables(schema) | Subject::TableStatus(schema) => {
                format!("SHOW TABLES of {}", named(schema).unwrap_or_default())
            }
            Subject::BinlogPosition => "binary log position".to_owned(),
            Subject::Use(schema) => format!("USE {}", String::from_utf8_lossy(schema)),
            Subject::Snapshot => "START TRANSACTION".to_owned(),
            Subject::Other(word) => word.clone(),
        }
    }

    fn table(&self, name: &TableName) -> Option<Table> {
        let schema = name.schema.as_deref().and_then(text_of).or_else(|| self.schema.clone());
        Some(Table { schema: schema.unwrap_or_default(), table: text_of(&name.table)? })
    }

    /// What is to be done with the rows of a statement that tells about tables.
    fn reading(&self, about: &Subject) -> Option<Reading<OnRow>> {
        let on_row: OnRow = match about {
            Subject::BinlogPosition if self.ledger.has_entries() => {
                let ledger = Arc::clone(&self.ledger);
                Box::new(move |row| {
                    let mut book = ledger.book();
                    if book.positions.len() < MAX_POSITIONS {
                        book.positions.push(Position { values: row.pairs().collect() });
                    }
                })
            }
            Subject::Tables(_) | Subject::TableStatus(_) | Subject::CreateTable(_) => {
                self.on_table_row(about)
            }
            Subject::Rows(name) if is_information_schema_tables(name) => self.on_table_row(about),
            _ => return None,
        };
        Some(Reading::new(on_row))
    }

    fn on_table_row(&self, about: &Subject) -> OnRow {
        let (ledger, tables) = (Arc::clone(&self.ledger), Arc::clone(&self.tables));
        let (about, schema) = (about.clone(), self.schema.clone());
        Box::new(move |row| {
            let warning = lock(&tables).on_row(&about, schema.as_deref(), row);
            if let Some(warning) = warning {
                ledger.warn(warning);
            }
        })
    }

    /// The statement is a setting of the session: it is in force for those that follow.
    fn note_setting(&mut self, text: &[u8]) {
        if !self.ledger.has_entries() || classify(text) != StatementKind::Setting {
            return;
        }
        let Some(text) = text_of(text).filter(|text| text.len() <= MAX_SETTING_LEN) else { return };
        // A setting replaces an earlier one of the same names.
        let names: String = text.split('=').next().unwrap_or_default().to_ascii_lowercase();
        self.settings.retain(|(known, _)| text.contains(',') || *known != names);
        self.settings.retain(|(_, known)| *known != text);
        if self.settings.len() < MAX_SETTINGS {
            self.settings.push((names, text));
        }
    }

    /// Where the rows of the response `id` are to be shown; none if nobody wants to see them.
    pub(crate) fn sink(&mut self, id: ResponseId) -> Option<&mut impl RowSink> {
        let entry = entry_of(&mut self.open, id)?;
        (entry.summing.is_some() || entry.reading.is_some()).then_some(entry)
    }

    /// The response `id` is drained. The session has drained so many rows in all.
    pub(crate) fn on_drained(&mut self, id: ResponseId, end: ResponseEnd, rows: u64) {
        if let ResponseEnd::Status(Some(status)) = end {
            self.has_snapshot &= status.contains(StatusFlags::IN_TRANS);
        }
        let Some(entry) = entry_of(&mut self.open, id) else { return };
        entry.drained = Some(Instant::now());
        entry.rows = rows - entry.rows_before;
        entry.end = Some(end);
        entry.reading = None;
        let in_snapshot = entry.in_snapshot;
        match (end, &entry.subject) {
            (ResponseEnd::Status(_), Subject::Snapshot) => self.has_snapshot = true,
            (ResponseEnd::Status(_), Subject::Use(schema)) => self.schema = text_of(schema),
            _ => {}
        }
        let Some(table) = entry.table.clone() else { return };
        let warning = match end {
            ResponseEnd::Status(_) => lock(&self.tables).on_read(&table, in_snapshot),
            ResponseEnd::Error(code) => {
                lock(&self.tables).on_failed(&table);
                Some(Warning::not_read(table.to_string(), code))
            }
        };
        if let Some(warning) = warning {
            self.ledger.warn(warning);
        }
    }

    /// The response `id` is fed to its end.
    pub(crate) fn on_fed(&mut self, id: ResponseId) {
        while self.open.front().is_some_and(|entry| entry.id <= id) {
            let Some(entry) = self.open.pop_front() else { return };
            let now = Instant::now();
            if let Some(drained) = entry.drained.filter(|_| entry.rows > 0) {
                self.session.figures.set_lead(now - drained);
            }
            self.file(entry, Some(now));
        }
    }

    /// The session is over. Statements that are not fed to their end are not in the dump.
    pub(crate) fn end(&mut self, client_is_gone: bool) {
        for entry in std::mem::take(&mut self.open) {
            if let Some(table) = &entry.table {
                lock(&self.tables).on_failed(table);
                let warning = match client_is_gone {
                    true => Warning::client_gone(table.to_string()),
                    false => Warning::not_read(table.to_string(), 0),
                };
                self.ledger.warn(warning);
            }
            self.file(entry, None);
        }
        if !self.ledger.is_one_dump() {
            note_left_out(&self.tables);
        }
    }

    fn file(&self, entry: Entry, fed: Option<Instant>) {
        let mut book = self.ledger.book();
        let last = if entry.table.is_some() { &mut book.last_table_drained } else { &mut book.last_drained };
        *last = (*last).max(entry.drained);
        book.last_fed = book.last_fed.max(fed);
        drop(book);
        let (Some(summing), Some(table)) = (entry.summing, entry.table) else { return };
        let sum = summing.sum();
        let since = |then: Instant| (then - entry.began).as_secs_f64();
        self.ledger.add_entry(StatementEntry {
            session: self.session.id,
            schema: table.schema,
            table: table.table,
            statement: entry.statement,
            settings: entry.settings.unwrap_or_default(),
            character_set: self.character_set,
            rows: sum.rows,
            row_bytes: sum.bytes,
            checksum: sum.checksum,
            began_seconds: (entry.began - self.began).as_secs_f64(),
            server_seconds: entry.drained.map(since),
            client_seconds: fed.map(since),
            error: match entry.end {
                Some(ResponseEnd::Error(code)) => Some(code),
                _ => None,
            },
            is_complete: fed.is_some() && matches!(entry.end, Some(ResponseEnd::Status(_))),
        });
    }
}

/// The entry of a response; a driver may have thousands open.
fn entry_of(open: &mut VecDeque<Entry>, id: ResponseId) -> Option<&mut Entry> {
    let place = open.binary_search_by_key(&id, |entry| entry.id).ok()?;
    open.get_mut(place)
}

/// The text of a COM_QUERY, if no attributes stand before it.
fn text_of_query(payload: &[u8], has_attributes: bool) -> Option<&[u8]> {
    let text = payload.strip_prefix(&[Command::QUERY.0])?;
    // No attributes, in one set.
    if has_attributes { text.strip_prefix(&[0, 1]) } else { Some(text) }
}

/// What is no UTF-8 has no place in a report, whose statements are to be sent again.
fn text_of(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok().filter(|text| !text.is_empty())
}

fn is_information_schema_tables(name: &TableName) -> bool {
    name.schema.as_ref().is_some_and(|schema| schema.eq_ignore_ascii_case(b"information_schema"))
        && name.table.eq_ignore_ascii_case(b"tables")
}
