//! What a DBA must know of a dump that went through, although client and server are content with it.

use serde::{Deserialize, Serialize};

use crate::printable::printable;

/// What may be wrong with a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WarningKind {
    /// A table without transactions was read inside a consistent snapshot.
    NonTransactional,
    /// A table could not be read to its end.
    TableNotRead,
    /// A table was listed, and nobody asked for its rows.
    TableLeftOut,
    /// The client went away in the middle of a table.
    ClientGone,
}

impl WarningKind {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::NonTransactional, Self::TableNotRead, Self::TableLeftOut, Self::ClientGone];

    /// For metrics and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::NonTransactional => "non-transactional",
            Self::TableNotRead => "table-not-read",
            Self::TableLeftOut => "table-left-out",
            Self::ClientGone => "client-gone",
        }
    }
}

/// One thing that may be wrong with a dump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// What may be wrong.
    pub kind: WarningKind,
    /// The table that it is about, with its schema.
    pub table: String,
    /// In words, with what to do.
    pub message: String,
}

impl Warning {
    pub(super) fn non_transactional(table: String, engine: &str) -> Self {
        let shown = printable(table.as_bytes());
        let message = format!(
            "{shown} is of {engine}, which has no transactions: its rows were not read as of the snapshot, and do not \
             belong to the dump's binlog position; convert it to InnoDB, or dump it under a lock"
        );
        Self { kind: WarningKind::NonTransactional, table, message }
    }

    pub(super) fn not_read(table: String, code: u16) -> Self {
        let reason = match code {
            1412 => "its definition was changed after the snapshot was taken (error 1412)".to_owned(),
            0 => "the session ended before".to_owned(),
            _ => format!("error {code}"),
        };
        let shown = printable(table.as_bytes());
        let message =
            format!("{shown} was not read to its end: {reason}; the dump lacks its data, make it again");
        Self { kind: WarningKind::TableNotRead, table, message }
    }

    pub(super) fn left_out(table: String) -> Self {
        let shown = printable(table.as_bytes());
        let message = format!(
            "{shown} was listed, but its rows were never asked for: the dump lacks its data; if that is meant, leave it \
             out by an option of the client's"
        );
        Self { kind: WarningKind::TableLeftOut, table, message }
    }

    pub(super) fn client_gone(table: String) -> Self {
        let shown = printable(table.as_bytes());
        let message = format!("the client went away while it read {shown}: its dump ends there");
        Self { kind: WarningKind::ClientGone, table, message }
    }
}
