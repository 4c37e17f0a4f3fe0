//! How one attempt at a server fails, and whether another may end otherwise.

use std::fmt;
use std::io;
use std::time::Duration;

use spillway_protocol::{HandshakeError, err_code, err_message};

use super::Server;
use crate::packet_stream::PacketIoError;
use crate::printable::printable;
use crate::tls::TlsFailure;

/// Errors by which a server says that it cannot serve now and may soon: worth another attempt. All others are the
/// client's business, above all those that more attempts make worse (1129 host blocked, 1226 resource limits).
const PASSING: [u16; 9] = [
    1040, // ER_CON_COUNT_ERROR: too many connections
    1041, // ER_OUT_OF_RESOURCES
    1053, // ER_SERVER_SHUTDOWN
    1135, // ER_CANT_CREATE_THREAD
    1158, // ER_NET_READ_ERROR: what the client sent got lost
    1159, // ER_NET_READ_INTERRUPTED: it did not come in time
    1160, // ER_NET_ERROR_ON_WRITE
    1161, // ER_NET_WRITE_INTERRUPTED
    1927, // ER_CONNECTION_KILLED: MariaDB's word for a login that a shutdown ends
];

/// Whether the error of this ERR packet's payload passes.
pub(crate) fn passes(payload: &[u8]) -> bool {
    err_code(payload).is_some_and(|code| PASSING.contains(&code))
}

/// Where an attempt stood when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Resolve,
    Connect,
    Greeting,
    Tls,
    Auth,
    /// Giving a new connection what a lost one had.
    SetUp,
}

impl Phase {
    /// For metrics.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Greeting => "greeting",
            Self::Tls => "tls",
            Self::Auth => "auth",
            Self::SetUp => "setup",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "resolving the name of",
            Self::Connect => "connecting to",
            Self::Greeting => "waiting for the greeting of",
            Self::Tls => "beginning TLS with",
            Self::Auth => "logging in to",
            Self::SetUp => "setting up a new session with",
        })
    }
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Lost(#[source] PacketIoError),
    #[error("no answer within {:.1} s", .0.as_secs_f32())]
    TimedOut(Duration),
    #[error("the server says {code}: {message}")]
    Told { code: u16, message: String },
    #[error("{0}")]
    Tls(#[from] TlsFailure),
    #[error("{0}")]
    Unfit(&'static str),
    #[error("what the server sent is not understood: {0}")]
    Nonsense(HandshakeError),
    #[error("what the server sent is not understood in a login")]
    Unexpected,
}

/// With TLS 1.3 a server looks at a client's certificate when TLS has begun for the client already: its word against it
/// comes in place of a packet.
impl From<PacketIoError> for Cause {
    fn from(error: PacketIoError) -> Self {
        match error {
            PacketIoError::Io(error) => {
                TlsFailure::of(error).map_or_else(|error| Self::Lost(error.into()), Self::Tls)
            }
            error => Self::Lost(error),
        }
    }
}

impl Cause {
    /// What an ERR packet says.
    pub(crate) fn told(payload: &[u8]) -> Self {
        Self::Told { code: err_code(payload).unwrap_or_default(), message: printable(err_message(payload)) }
    }

    /// Whether the server has decided, so that no other attempt may end otherwise.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Told { code, .. } if !PASSING.contains(code))
    }

    /// Whether another attempt may end otherwise.
    pub(crate) fn passes(&self) -> bool {
        match self {
            // An answer of the system's own about this host's rights.
            Self::Io(error) => error.kind() != io::ErrorKind::PermissionDenied,
            Self::Lost(error) => !error.is_nonsense(),
            Self::Tls(_) | Self::Nonsense(_) | Self::Unexpected => false,
            Self::TimedOut(_) | Self::Told { .. } | Self::Unfit(_) => true,
        }
    }

    /// For metrics: few values.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Io(error) | Self::Lost(PacketIoError::Io(error)) => match error.kind() {
                io::ErrorKind::ConnectionRefused => "refused",
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "reset",
                io::ErrorKind::TimedOut => "timeout",
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "unreachable",
                _ => "io",
            },
            Self::Lost(PacketIoError::Closed { .. }) => "closed",
            Self::TimedOut(_) => "timeout",
            Self::Told { .. } => "error_packet",
            Self::Tls(_) => "tls",
            Self::Unfit(_) => "unfit",
            Self::Lost(PacketIoError::TooLong { .. } | PacketIoError::Compression(_))
            | Self::Nonsense(_)
            | Self::Unexpected => "protocol",
        }
    }
}

/// One failed attempt.
#[derive(Debug, thiserror::Error)]
#[error("{phase} {server}: {cause}")]
pub(crate) struct AttemptError {
    pub(crate) phase: Phase,
    pub(crate) server: Server,
    pub(crate) cause: Cause,
}

#[cfg(test)]
mod tests {
    use spillway_protocol::encode_err;

    use super::*;

    #[test]
    fn passing_errors_are_those_that_are_listed() {
        for (code, passing) in
            [(1040, true), (1053, true), (1045, false), (1129, false), (1130, false), (1226, false)]
        {
            assert_eq!(passes(&encode_err(0, code, None, "x")[4..]), passing, "{code}");
        }
    }
}
