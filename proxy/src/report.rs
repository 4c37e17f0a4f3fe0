//! The report of `run`: a JSON file that tells what a dump read, by which `spillway verify` compares another server.
//!
//! Version 1. Times are in seconds, sizes in bytes. Fields may be added within a version; readers pass over those that
//! they do not know.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::journal::{RowSum, Warning};

/// What `format` says.
pub const FORMAT: &str = "spillway-report";

/// The version that is written here.
pub const VERSION: u32 = 1;

/// A whole report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// Of Spillway.
    pub spillway: String,
    /// When the client was started, in UTC.
    pub began: String,
    /// The client: `mysqldump`.
    pub client: String,
    /// Its exit status.
    pub exit_status: u8,
    /// The server.
    pub upstream: String,
    /// Its version; none if nobody was logged in.
    pub server_version: Option<String>,
    /// The figures of the summary.
    pub summary: Summary,
    /// Where the server stood, as the client was told: one for each row.
    pub positions: Vec<Position>,
    /// SET statements: each list was in force for some of the statements.
    pub settings: Vec<Vec<String>>,
    /// Statements that read a table, in the order in which they ended.
    pub statements: Vec<StatementEntry>,
    /// Statements that found no place above.
    pub statements_left_out: u64,
    /// What may be wrong with the dump.
    pub warnings: Vec<Warning>,
}

/// A dump in figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// From the client's start to its end.
    pub seconds: f64,
    /// From the client's start until the server had given all rows of all tables.
    pub server_released_seconds: Option<f64>,
    /// From the client's start until the client had taken everything.
    pub client_done_seconds: Option<f64>,
    /// The largest backlog of a session.
    pub backlog_peak: u64,
    /// Attempts to log in to the server, those that succeeded included.
    pub login_attempts: u64,
    /// Logins.
    pub logins: u64,
    /// Tables whose rows were read.
    pub tables: u64,
    /// Rows of all statements.
    pub rows: u64,
    /// Bytes that the client was given.
    pub bytes: u64,
}

/// A row of the answer to SHOW MASTER STATUS and the like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// By column.
    pub values: BTreeMap<String, Option<String>>,
}

/// One statement that read a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatementEntry {
    /// The session, counted from 1.
    pub session: u64,
    /// The table's schema.
    pub schema: String,
    /// The table.
    pub table: String,
    /// The statement; none if it was too long to be kept, or no UTF-8.
    pub statement: Option<String>,
    /// Which of the report's lists of settings was in force.
    pub settings: usize,
    /// The id of the character set and collation that the client logged in with.
    pub character_set: u16,
    /// Rows.
    pub rows: u64,
    /// Payload bytes of the rows.
    pub row_bytes: u64,
    /// The sum, modulo 2^64, of each row's XXH3 over its payload; in hexadecimal digits.
    #[serde(serialize_with = "to_hex", deserialize_with = "from_hex")]
    pub checksum: u64,
    /// When it was sent, from the session's login on.
    pub began_seconds: f64,
    /// From then until the server had answered it.
    pub server_seconds: Option<f64>,
    /// From then until the client had taken the answer.
    pub client_seconds: Option<f64>,
    /// The server's error.
    pub error: Option<u16>,
    /// The client got all of the answer, and it was no error.
    pub is_complete: bool,
}

impl StatementEntry {
    /// Its rows.
    pub fn sum(&self) -> RowSum {
        RowSum { rows: self.rows, bytes: self.row_bytes, checksum: self.checksum }
    }
}

/// As hexadecimal digits: many readers of JSON have no integers of 64 bits.
fn to_hex<S: Serializer>(checksum: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{checksum:016x}"))
}

fn from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let digits = String::deserialize(deserializer)?;
    u64::from_str_radix(&digits, 16).map_err(serde::de::Error::custom)
}
