//! Why a session cannot go on, and what its client is told.

use std::io;

use spillway_protocol::{CompressionError, ResponseError, encode_err};

use super::error_kind::ErrorKind;
use crate::spool::disk::ReadBackError;

/// Lost connection to server during query.
const CR_SERVER_LOST: u16 = 2013;
/// Got an error reading communication packets.
const ER_NET_READ_ERROR: u16 = 1158;
/// Server shutdown in progress.
const ER_SERVER_SHUTDOWN: u16 = 1053;
/// Got packets out of order.
const ER_NET_PACKETS_OUT_OF_ORDER: u16 = 1156;
/// Couldn't uncompress communication packet.
const ER_NET_UNCOMPRESS_ERROR: u16 = 1157;

/// Who is told of a loss, and of whose.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// The server, by the name that messages give it.
    pub(crate) upstream: String,
    /// The client is of MariaDB's library, which takes no error codes of its own (2001 to 2061, 5001 to 5026) from a
    /// server any more: of such an ERR packet it shows nothing but "Received malformed packet" (tried: 10.11.19).
    pub(crate) by_libmariadb: bool,
}

/// What ended a session before its client did.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Loss {
    #[error("the server closed the connection")]
    ServerClosed,
    #[error("the connection to the server failed: {0}")]
    Server(#[source] io::Error),
    #[error("the server broke the protocol: {0}")]
    Protocol(#[from] ResponseError),
    #[error("the server broke the compressed protocol: {0}")]
    Decompression(#[source] CompressionError),
    #[error("the spool failed: {0}")]
    Spool(#[from] ReadBackError),
    /// The session held nothing but settings, and yet it could not go on elsewhere.
    #[error("no new one could take its place: {0}")]
    NotReplaced(String),
    #[error("spillway was told to stop")]
    Shutdown,
    #[error("the client broke the protocol: {0}")]
    Client(&'static str),
    #[error("the client broke the compressed protocol: {0}")]
    ClientDecompression(#[source] CompressionError),
}

impl Loss {
    /// For metrics.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::ServerClosed | Self::Server(_) => ErrorKind::ServerLost,
            Self::Protocol(_) | Self::Decompression(_) => ErrorKind::ServerProtocol,
            Self::Spool(_) => ErrorKind::Spool,
            Self::NotReplaced(_) => ErrorKind::NotReplaced,
            Self::Shutdown => ErrorKind::Shutdown,
            Self::Client(_) | Self::ClientDecompression(_) => ErrorKind::ClientProtocol,
        }
    }

    /// The ERR packet that ends a response: what was lost, where, after how much, and what to do.
    pub(crate) fn err_packet(&self, sequence_id: u8, told: &Told, drained: u64) -> Vec<u8> {
        let what = match self {
            Self::Shutdown | Self::Client(_) | Self::ClientDecompression(_) => "session with",
            _ => "connection to",
        };
        let text = format!("{what} {} lost during query, after {drained} bytes in all", told.upstream);
        self.encode(sequence_id, told, &text)
    }

    /// What a command gets that comes when the server is gone already.
    pub(crate) fn err_packet_for_next(&self, sequence_id: u8, told: &Told) -> Vec<u8> {
        self.encode(
            sequence_id,
            told,
            &format!("connection to {} lost while the session was idle", told.upstream),
        )
    }

    fn encode(&self, sequence_id: u8, told: &Told, text: &str) -> Vec<u8> {
        let (code, sqlstate) = match self {
            Self::Shutdown => (ER_SERVER_SHUTDOWN, b"08S01"),
            Self::Client(_) | Self::ClientDecompression(CompressionError::SequenceGap { .. }) => {
                (ER_NET_PACKETS_OUT_OF_ORDER, b"08S01")
            }
            Self::ClientDecompression(_) => (ER_NET_UNCOMPRESS_ERROR, b"08S01"),
            _ if told.by_libmariadb => (ER_NET_READ_ERROR, b"08S01"),
            _ => (CR_SERVER_LOST, b"HY000"),
        };
        let known_as = if code == ER_NET_READ_ERROR { " (error 2013)" } else { "" };
        let advice = match self {
            Self::Spool(_) => "check the disk under --spool-dir and run the dump again",
            Self::Shutdown => "run the dump again when spillway is back",
            Self::Client(_) | Self::ClientDecompression(_) => {
                "this client cannot be used with spillway in this way"
            }
            _ => "see the server's error log and run the dump again",
        };
        let message = format!("spillway: {text}{known_as}: {self}; {advice}");
        encode_err(sequence_id, code, Some(sqlstate), &message)
    }
}

#[cfg(test)]
mod tests {
    use spillway_protocol::{HEADER_LEN, err_code, err_message};

    use super::*;

    fn told(loss: &Loss, by_libmariadb: bool) -> (u16, String) {
        let told = Told { upstream: "db1:3306".to_owned(), by_libmariadb };
        let packet = loss.err_packet(7, &told, 42);
        assert_eq!(packet[3], 7);
        let payload = &packet[HEADER_LEN..];
        (err_code(payload).unwrap(), String::from_utf8_lossy(err_message(payload)).into_owned())
    }

    #[test]
    fn messages_begin_with_our_name_and_say_what_to_do() {
        let (code, message) = told(&Loss::ServerClosed, false);
        assert_eq!(code, 2013);
        assert!(
            message.starts_with("spillway: connection to db1:3306 lost during query, after 42 bytes"),
            "{message}"
        );
        assert!(message.contains("run the dump again"), "{message}");
    }

    #[test]
    fn mariadbs_library_gets_a_code_that_it_shows() {
        let (code, message) = told(&Loss::ServerClosed, true);
        assert_eq!(code, 1158);
        assert!(message.contains("(error 2013)"), "{message}");
        assert_eq!(told(&Loss::Shutdown, true).0, 1053);
    }
}
