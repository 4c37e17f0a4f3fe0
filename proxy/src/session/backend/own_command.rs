//! Commands of the proxy's own.

use spillway_protocol::{Command, encode_packet};

/// A command of the proxy's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OwnCommand {
    /// A session-init statement.
    SessionInit(String),
    /// Asks for the server's idle timeouts. The last of those that begin a session.
    IdleTimeouts(&'static str),
    /// Asks which server this is.
    Identity(&'static str),
    /// COM_STATISTICS, for the server's uptime.
    Uptime,
    /// A setting of the client's, made again on a new connection: the payload.
    Replay(Vec<u8>),
    /// COM_STATISTICS. Not COM_PING, whose OK sets ROW_COUNT() to 0; this leaves ROW_COUNT(), warnings and
    /// FOUND_ROWS() alone.
    Keepalive,
}

impl OwnCommand {
    /// The packet, and what kind of command it is.
    pub(super) fn packet(&self, query_attributes: bool) -> (Command, Vec<u8>) {
        let head: &[u8] = if query_attributes { &[Command::QUERY.0, 0, 1] } else { &[Command::QUERY.0] };
        let query = |sql: &str| (Command::QUERY, [head, sql.as_bytes()].concat());
        let (command, payload) = match self {
            Self::SessionInit(sql) => query(sql),
            Self::IdleTimeouts(sql) | Self::Identity(sql) => query(sql),
            Self::Keepalive | Self::Uptime => (Command::STATISTICS, vec![Command::STATISTICS.0]),
            Self::Replay(payload) => (Command(payload.first().copied().unwrap_or_default()), payload.clone()),
        };
        (command, encode_packet(0, &payload))
    }
}
