//! `spillway verify`: reads the tables of a report again, from another server, and compares.
//!
//! Each statement of the report is sent again, on a connection that is logged in and set up as the dump's was, and its
//! rows are summed in the same way. Several statements of one table are summed together, as a dump program that reads
//! tables in pieces makes them.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount};
use spillway_protocol::{
    Capabilities, Command, HandshakeResponse, ResponseEnd, ResponseEvent, ResponseForm, ResponseTracker,
    RowSink, err_message,
};
use tokio::time::timeout;

use crate::backend::login::{LoginError, OWN_LOGIN, log_in};
use crate::backend::{ReachError, Reached};
use crate::credentials::{Auth, Credentials};
use crate::journal::{RowSum, Summing, WarningKind};
use crate::printable::printable;
use crate::report::{FORMAT, Report, StatementEntry, VERSION};
use crate::session::Proxy;

/// How long a server may be silent in the middle of an answer: a query that sorts a large table says nothing for long.
const SILENCE: Duration = Duration::from_secs(3600);

/// Bytes read at a time.
const ROOM: usize = 256 * 1024;

/// What keeps tables from being compared.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The report cannot be read.
    #[error("{}: {source}; name a report that spillway run --report has written", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is something else.
    #[error("{}: {problem}; name a report that spillway run --report has written", .path.display())]
    NoReport {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Spillway has no account.
    #[error(
        "verify logs in by itself: give an account by --credentials FILE, or by --user and SPILLWAY_PASSWORD"
    )]
    NoAccount,
    /// The server cannot be reached, or refuses the account.
    #[error("cannot log in to the server: {0}")]
    Login(String),
    /// The connection was lost between two statements.
    #[error("lost the connection to the server: {0}")]
    Lost(String),
}

/// A table, compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// With its schema.
    pub table: String,
    /// How it compares.
    pub verdict: Verdict,
}

/// How a table compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its rows are the same.
    Same {
        /// How many.
        rows: u64,
        /// Their payload bytes.
        bytes: u64,
    },
    /// They are not.
    Differs {
        /// In the report.
        reported: RowSum,
        /// On this server.
        found: RowSum,
    },
    /// The report does not have all of it, or not the statement.
    NotReported(&'static str),
    /// The server refused the statement.
    Refused(String),
}

impl Comparison {
    /// Whether the table is as reported.
    pub fn is_same(&self) -> bool {
        matches!(self.verdict, Verdict::Same { .. })
    }
}

impl std::fmt::Display for Comparison {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let table = printable(self.table.as_bytes());
        match &self.verdict {
            Verdict::Same { rows, bytes } => {
                write!(f, "same      {table}: {} rows, {}", HumanCount(*rows), HumanBytes(*bytes))
            }
            Verdict::Differs { reported, found } if reported.rows != found.rows => {
                let (was, is) = (HumanCount(reported.rows), HumanCount(found.rows));
                write!(f, "DIFFERENT {table}: {was} rows in the report, {is} here")
            }
            Verdict::Differs { reported, found } => {
                let rows = HumanCount(found.rows);
                let (was, is) = (reported.bytes, found.bytes);
                write!(f, "DIFFERENT {table}: {rows} rows in both, of other contents ({was} and {is} bytes)")
            }
            Verdict::NotReported(why) => write!(f, "UNKNOWN   {table}: {why}"),
            Verdict::Refused(error) => write!(f, "UNKNOWN   {table}: {}", printable(error.as_bytes())),
        }
    }
}

/// Reads a report.
///
/// # Errors
/// [`VerifyError::Unreadable`] and [`VerifyError::NoReport`].
pub fn read_report(path: &Path) -> Result<Report, VerifyError> {
    let text =
        std::fs::read(path).map_err(|source| VerifyError::Unreadable { path: path.to_owned(), source })?;
    parse_report(&text, path)
}

/// Reads the text of the report at `path`.
fn parse_report(text: &[u8], path: &Path) -> Result<Report, VerifyError> {
    let no_report = |problem| VerifyError::NoReport { path: path.to_owned(), problem };
    let no_json = |error: serde_json::Error| no_report(printable(error.to_string().as_bytes()));
    let report: Report = serde_json::from_slice(text).map_err(no_json)?;
    match (report.format.as_str(), report.version) {
        (FORMAT, VERSION) => Ok(report),
        (FORMAT, version) => {
            Err(no_report(format!("a report of version {version}, which is not known here")))
        }
        _ => Err(no_report("no report".to_owned())),
    }
}

/// What nobody can tell of the dump by comparing its tables, one line each: then it is not shown to be whole.
pub fn shortcomings(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    if report.exit_status != 0 {
        lines.push(format!("the dump itself ended with status {}", report.exit_status));
    }
    if report.statements_left_out > 0 {
        lines.push(format!("{} statements found no place in the report", report.statements_left_out));
    }
    let left_out = report.warnings.iter().filter(|warning| warning.kind == WarningKind::TableLeftOut);
    lines.extend(left_out.map(|warning| printable(warning.message.as_bytes())));
    if report.statements.is_empty() {
        lines.push("the dump has read no table".to_owned());
    }
    lines
}

/// Compares the tables of `report` with those of the server that `proxy` reaches, and gives each to `tell`, in the
/// order of their names.
///
/// # Errors
/// [`VerifyError`] if the server cannot be asked (any more).
pub async fn verify(
    report: &Report,
    proxy: &Proxy,
    mut tell: impl FnMut(&Comparison),
) -> Result<(), VerifyError> {
    let Auth::Stored(credentials) = &proxy.auth else { return Err(VerifyError::NoAccount) };
    let mut tables: BTreeMap<(&str, &str), Vec<&StatementEntry>> = BTreeMap::new();
    for entry in &report.statements {
        tables.entry((&entry.schema, &entry.table)).or_default().push(entry);
    }
    let mut connection = None;
    for ((schema, table), entries) in tables {
        let verdict = compare(report, &entries, proxy, credentials, &mut connection).await?;
        tell(&Comparison { table: format!("{schema}.{table}"), verdict });
    }
    if let Some(Connection { mut reached, .. }) = connection {
        // The server ends the session in any case.
        let _ = reached.stream.write_numbered(0, &[Command::QUIT.0]).await;
    }
    Ok(())
}

async fn compare(
    report: &Report,
    entries: &[&StatementEntry],
    proxy: &Proxy,
    credentials: &Credentials,
    connection: &mut Option<Connection>,
) -> Result<Verdict, VerifyError> {
    let (mut reported, mut found) = (RowSum::default(), RowSum::default());
    for entry in entries {
        if !entry.is_complete {
            return Ok(Verdict::NotReported("the dump does not have all of it"));
        }
        let Some(statement) = &entry.statement else {
            return Ok(Verdict::NotReported("the report does not have the statement that read it"));
        };
        let Some(settings) = report.settings.get(entry.settings) else {
            return Ok(Verdict::NotReported("the report does not have its settings"));
        };
        reported.add(entry.sum());
        if !connection.as_ref().is_some_and(|connection| connection.is_for(settings, entry.character_set)) {
            *connection = Some(Connection::open(proxy, credentials, settings, entry.character_set).await?);
        }
        let Some(connection) = connection else { continue };
        let sum = match connection.read(&entry.schema, statement).await? {
            Ok(sum) => sum,
            Err(refused) => return Ok(Verdict::Refused(refused)),
        };
        found.add(sum);
    }
    Ok(if reported == found {
        Verdict::Same { rows: found.rows, bytes: found.bytes }
    } else {
        Verdict::Differs { reported, found }
    })
}

/// A connection, set up as one of the dump's was.
struct Connection {
    reached: Reached,
    tracker: ResponseTracker,
    settings: Vec<String>,
    character_set: u16,
    schema: String,
}

impl Connection {
    fn is_for(&self, settings: &[String], character_set: u16) -> bool {
        self.settings == settings && self.character_set == character_set
    }

    async fn open(
        proxy: &Proxy,
        credentials: &Credentials,
        settings: &[String],
        character_set: u16,
    ) -> Result<Self, VerifyError> {
        let mut response = HandshakeResponse::new(OWN_LOGIN, credentials.user());
        response.set_defaults(b"", u8::try_from(character_set).ok().filter(|id| *id != 0));
        let upstreams = &proxy.upstreams;
        let mut attempts = upstreams.attempts(None);
        let login = |error: &dyn std::error::Error| VerifyError::Login(error.to_string());
        let reached = loop {
            let reached = upstreams.reach(&mut attempts, None, std::future::pending()).await;
            let reached = reached.map_err(|error: ReachError| login(&error))?;
            match log_in(upstreams, reached, &response, OWN_LOGIN, credentials, &attempts).await {
                Ok((reached, _)) => break reached,
                Err(LoginError::Lost(error)) => {
                    attempts.failed(error).await.map_err(|error| login(&error))?;
                }
                Err(LoginError::Refused(refused)) => return Err(login(&refused)),
            }
        };
        let tracker = ResponseTracker::new(Capabilities(OWN_LOGIN.0));
        let tracker =
            if reached.stream.compression.is_some() { tracker.without_sequence_ids() } else { tracker };
        let (settings, schema) = (settings.to_vec(), String::new());
        let mut connection = Self { reached, tracker, settings, character_set, schema };
        for init in proxy.session_init.iter().chain(&connection.settings.clone()) {
            // One that this server does not know was of no consequence for the rows, or shows in them.
            let _ = connection.ask(Command::QUERY, init.as_bytes()).await?;
        }
        Ok(connection)
    }

    /// Reads the rows of a statement in this default schema; what the server says where it refuses it.
    async fn read(&mut self, schema: &str, statement: &str) -> Result<Result<RowSum, String>, VerifyError> {
        if self.schema != schema {
            if let Err(refused) = self.ask(Command::INIT_DB, schema.as_bytes()).await? {
                return Ok(Err(refused));
            }
            schema.clone_into(&mut self.schema);
        }
        self.ask(Command::QUERY, statement.as_bytes()).await
    }

    async fn ask(&mut self, command: Command, text: &[u8]) -> Result<Result<RowSum, String>, VerifyError> {
        let lost = |error: &dyn std::fmt::Display| VerifyError::Lost(error.to_string());
        let payload = [&[command.0], text].concat();
        self.tracker.expect(command.response_form().unwrap_or(ResponseForm::Query));
        let stream = &mut self.reached.stream;
        stream.write_numbered(0, &payload).await.map_err(|error| lost(&error))?;
        let mut answer = Answer::default();
        let mut room = vec![0; ROOM];
        loop {
            let read = timeout(SILENCE, stream.read_some(&mut room)).await;
            let len = match read {
                Ok(Ok(0)) => return Err(lost(&"the server closed it")),
                Ok(Ok(len)) => len,
                Ok(Err(error)) => return Err(lost(&error)),
                Err(elapsed) => return Err(lost(&elapsed)),
            };
            let step = self.tracker.advance_with(&room[..len], &mut answer).map_err(|error| lost(&error))?;
            match step.event {
                None => {}
                Some(ResponseEvent::End(ResponseEnd::Status(_))) => return Ok(Ok(answer.summing.sum())),
                Some(ResponseEvent::End(ResponseEnd::Error(code))) => {
                    let message = printable(err_message(&answer.packet));
                    return Ok(Err(format!("error {code}: {message}")));
                }
                Some(_) => return Err(lost(&"an answer that nobody asked for")),
            }
        }
    }
}

/// The rows of an answer, summed, and the beginning of its last other packet: what an ERR says.
#[derive(Default)]
struct Answer {
    summing: Summing,
    packet: Vec<u8>,
    /// Another packet follows.
    is_over: bool,
}

/// Bytes of an ERR packet that are kept.
const MAX_ERR_LEN: usize = 512;

impl RowSink for Answer {
    fn on_payload(&mut self, piece: &[u8]) {
        self.summing.on_payload(piece);
        if std::mem::take(&mut self.is_over) {
            self.packet.clear();
        }
        let room = MAX_ERR_LEN.saturating_sub(self.packet.len());
        self.packet.extend_from_slice(&piece[..piece.len().min(room)]);
    }

    fn on_end(&mut self, is_row: bool) {
        self.summing.on_end(is_row);
        self.is_over = true;
    }

    fn on_row(&mut self, payload: &[u8]) {
        self.summing.on_row(payload);
    }
}
