//! The greeting and the client's answer, kept as they came but for the capabilities.
//!
//! Both are changed in place, or field by field, instead of being decoded and built anew: what is not understood
//! (order of connection attributes, unknown bits of the status, filler bytes) must reach the other side unchanged.
//!
//! Sources:
//! [HandshakeV10](https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_packets_protocol_handshake_v10.html),
//! [HandshakeResponse41](https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_packets_protocol_handshake_response.html),
//! [MariaDB's extension of both](https://mariadb.com/kb/en/connection/#initial-handshake-packet).

pub(crate) mod fields;
mod greeting;
pub(crate) mod response;

pub use greeting::Greeting;
pub use response::{HandshakeResponse, is_ssl_request};

/// A handshake packet that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The packet ends inside a field.
    #[error("the {packet} ends inside its {field}")]
    CutShort {
        /// Which packet.
        packet: &'static str,
        /// Which field.
        field: &'static str,
    },
    /// Not version 10.
    #[error("the greeting is of protocol version {0}, and only version 10 is known")]
    ProtocolVersion(u8),
    /// CLIENT_PROTOCOL_41 is not set.
    #[error("the {0} lacks CLIENT_PROTOCOL_41: older protocols are not spoken here")]
    OldProtocol(&'static str),
    /// The client asks for TLS, which the greeting did not offer.
    #[error("the client asks for TLS, which was not offered")]
    TlsNotOffered,
}

#[cfg(test)]
mod tests;
