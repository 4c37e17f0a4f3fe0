//! Why a session cannot go on, and what its client is told.

use std::io;

use spillway_protocol::{ResponseError, encode_err};

use crate::spool::disk::ReadBackError;

/// Lost connection to server during query.
const CR_SERVER_LOST: u16 = 2013;
/// Server shutdown in progress.
const ER_SERVER_SHUTDOWN: u16 = 1053;
/// Got packets out of order.
const ER_NET_PACKETS_OUT_OF_ORDER: u16 = 1156;

/// What ended a session before its client did.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Loss {
    #[error("the server closed the connection")]
    ServerClosed,
    #[error("the connection to the server failed: {0}")]
    Server(#[source] io::Error),
    #[error("the server broke the protocol: {0}")]
    Protocol(#[from] ResponseError),
    #[error("the spool failed: {0}")]
    Spool(#[from] ReadBackError),
    #[error("spillway was told to stop")]
    Shutdown,
    #[error("the client broke the protocol: {0}")]
    Client(&'static str),
}

impl Loss {
    /// The ERR packet for the client: what was lost, where, after how much, and what to do.
    pub(crate) fn err_packet(&self, sequence_id: u8, upstream: &str, drained: u64) -> Vec<u8> {
        let (code, sqlstate) = match self {
            Self::Shutdown => (ER_SERVER_SHUTDOWN, b"08S01"),
            Self::Client(_) => (ER_NET_PACKETS_OUT_OF_ORDER, b"08S01"),
            _ => (CR_SERVER_LOST, b"HY000"),
        };
        let advice = match self {
            Self::Spool(_) => "check the disk under --spool-dir and run the dump again",
            Self::Shutdown => "run the dump again when it is back",
            Self::Client(_) => "this client cannot be used with spillway in this way",
            _ => "see the server's error log and run the dump again",
        };
        let message = format!(
            "spillway: lost connection to {upstream} after {drained} bytes of this session: {self}; {advice}"
        );
        encode_err(sequence_id, code, Some(sqlstate), &message)
    }

    /// What a command gets that comes when the server is gone already.
    pub(crate) fn err_packet_for_next(&self, sequence_id: u8, upstream: &str) -> Vec<u8> {
        let message = format!(
            "spillway: lost connection to {upstream} while the session was idle: {self}; see the server's error log \
             and run the dump again"
        );
        encode_err(sequence_id, CR_SERVER_LOST, Some(b"HY000"), &message)
    }
}

#[cfg(test)]
mod tests {
    use spillway_protocol::{HEADER_LEN, err_code, err_message};

    use super::*;

    #[test]
    fn messages_begin_with_our_name_and_say_what_to_do() {
        let packet = Loss::ServerClosed.err_packet(7, "db1:3306", 42);
        assert_eq!(packet[3], 7);
        assert_eq!(err_code(&packet[HEADER_LEN..]), Some(2013));
        let message = String::from_utf8_lossy(err_message(&packet[HEADER_LEN..])).into_owned();
        assert!(
            message.starts_with("spillway: lost connection to db1:3306 after 42 bytes"),
            "{message}"
        );
        assert!(message.contains("run the dump again"), "{message}");
    }
}
