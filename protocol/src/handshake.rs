//! The greeting and the client's answer, kept as they came but for the capabilities.
//!
//! Both are changed in place, or piece by piece, instead of being decoded and built anew: what is not understood
//! (order of connection attributes, unknown bits of the status, filler bytes) must reach the other side unchanged.
//!
//! Sources:
//! [HandshakeV10](https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_packets_protocol_handshake_v10.html),
//! [HandshakeResponse41](https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_packets_protocol_handshake_response.html),
//! [MariaDB's extension of both](https://mariadb.com/kb/en/connection/#initial-handshake-packet).

use std::ops::Range;

use crate::capabilities::Capabilities;
use crate::status::split_lenenc_int;

/// The only version of the greeting that servers since MySQL 3.21 send.
const PROTOCOL_VERSION: u8 = 10;

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

/// The server's greeting: HandshakeV10.
///
/// ```text
/// 1  protocol version (10)      2  capabilities, lower half     1  length of scramble
/// n  server version, NUL        1  character set                6  filler
/// 4  connection id              2  status                       4  MariaDB's extended capabilities
/// 8  scramble, first part       2  capabilities, upper half     n  scramble, second part; plugin name, NUL
/// 1  filler
/// ```
#[derive(Clone)]
pub struct Greeting {
    payload: Vec<u8>,
    version_end: usize,
}

impl Greeting {
    /// Reads a greeting's payload.
    ///
    /// # Errors
    /// [`HandshakeError`] if it is not a HandshakeV10 of the 4.1 protocol.
    pub fn parse(payload: Vec<u8>) -> Result<Self, HandshakeError> {
        let cut = |field| HandshakeError::CutShort { packet: "greeting", field };
        match payload.first() {
            None => return Err(cut("protocol version")),
            Some(&PROTOCOL_VERSION) => {}
            Some(&other) => return Err(HandshakeError::ProtocolVersion(other)),
        }
        let version_end = 1 + until_nul(&payload[1..]).ok_or_else(|| cut("server version"))?;
        if payload.len() < version_end + 1 + FIXED_LEN {
            return Err(cut("capabilities"));
        }
        let greeting = Self { payload, version_end };
        if !greeting.capabilities().contains(Capabilities::PROTOCOL_41) {
            return Err(HandshakeError::OldProtocol("greeting"));
        }
        Ok(greeting)
    }

    /// The server's version string, as it calls itself (`5.5.5-10.11.6-MariaDB`, `9.7.0`).
    pub fn server_version(&self) -> &[u8] {
        &self.payload[1..self.version_end]
    }

    /// Whether the server is a MariaDB, by its version string.
    pub fn is_mariadb(&self) -> bool {
        self.server_version().windows(7).any(|window| window.eq_ignore_ascii_case(b"mariadb"))
    }

    /// The connection id, as SHOW PROCESSLIST of this server shows it.
    pub fn connection_id(&self) -> u32 {
        u32::from_le_bytes(self.fixed(0))
    }

    /// All that the server offers.
    pub fn capabilities(&self) -> Capabilities {
        let [a, b]: [u8; 2] = self.fixed(CAPABILITIES_LOWER);
        let [c, d]: [u8; 2] = self.fixed(CAPABILITIES_UPPER);
        Capabilities::from_halves(
            u32::from_le_bytes([a, b, c, d]),
            u32::from_le_bytes(self.fixed(CAPABILITIES_EXTENDED)),
        )
    }

    /// The payload with no more capabilities than `mask` has, otherwise unchanged.
    pub fn masked(&self, mask: Capabilities) -> Vec<u8> {
        let capabilities = self.capabilities() & mask;
        let mut payload = self.payload.clone();
        let fixed = &mut payload[self.version_end + 1..];
        let lower = capabilities.lower().to_le_bytes();
        fixed[CAPABILITIES_LOWER..][..2].copy_from_slice(&lower[..2]);
        fixed[CAPABILITIES_UPPER..][..2].copy_from_slice(&lower[2..]);
        if !self.capabilities().contains(Capabilities::LONG_PASSWORD) {
            fixed[CAPABILITIES_EXTENDED..][..4].copy_from_slice(&capabilities.extended().to_le_bytes());
        }
        payload
    }

    /// `N` bytes at `offset` behind the server version's NUL.
    fn fixed<const N: usize>(&self, offset: usize) -> [u8; N] {
        let at = self.version_end + 1 + offset;
        let mut bytes = [0; N];
        // `parse` has checked that FIXED_LEN bytes are there.
        bytes.copy_from_slice(&self.payload[at..at + N]);
        bytes
    }
}

/// Offsets behind the server version's NUL.
const CAPABILITIES_LOWER: usize = 13;
const CAPABILITIES_UPPER: usize = 18;
const CAPABILITIES_EXTENDED: usize = 27;
/// Bytes behind the server version's NUL up to the second part of the scramble.
const FIXED_LEN: usize = 31;

/// The client's answer to the greeting: HandshakeResponse41.
///
/// ```text
/// 4  capabilities       4   MariaDB's extended capabilities     n  database, NUL  (CLIENT_CONNECT_WITH_DB)
/// 4  max packet size    n   user, NUL                           n  plugin name, NUL  (CLIENT_PLUGIN_AUTH)
/// 1  character set      n   auth response; its length is        n  attributes behind their length
/// 19 filler                 length-encoded, one byte or NUL        (CLIENT_CONNECT_ATTRS)
/// ```
///
/// Has no `Debug`: it carries the answer to the scramble.
#[derive(Clone)]
pub struct HandshakeResponse {
    payload: Vec<u8>,
    user: Range<usize>,
    auth_response: Range<usize>,
    database: Range<usize>,
    plugin: Range<usize>,
    attributes: Range<usize>,
}

/// Bytes before the user name: also the length of an SSLRequest.
const RESPONSE_FIXED_LEN: usize = 32;
const RESPONSE_EXTENDED: usize = 28;

impl HandshakeResponse {
    /// Reads a response's payload, by the capabilities that it sets itself.
    ///
    /// # Errors
    /// [`HandshakeError`] if it is cut short, of an older protocol, or an SSLRequest.
    pub fn parse(payload: Vec<u8>) -> Result<Self, HandshakeError> {
        let cut = |field| HandshakeError::CutShort { packet: "handshake response", field };
        if payload.len() < RESPONSE_FIXED_LEN {
            return Err(cut("capabilities"));
        }
        let capabilities = response_capabilities(&payload);
        if !capabilities.contains(Capabilities::PROTOCOL_41) {
            return Err(HandshakeError::OldProtocol("handshake response"));
        }
        if payload.len() == RESPONSE_FIXED_LEN && capabilities.contains(Capabilities::SSL) {
            return Err(HandshakeError::TlsNotOffered);
        }
        let mut fields = Fields { payload: &payload, at: RESPONSE_FIXED_LEN };
        let has = |flag| capabilities.contains(flag);
        let user = fields.until_nul().ok_or_else(|| cut("user"))?;
        let auth_response = if has(Capabilities::PLUGIN_AUTH_LENENC_CLIENT_DATA) {
            fields.behind_lenenc_length()
        } else if has(Capabilities::SECURE_CONNECTION) {
            fields.behind_length_byte()
        } else {
            fields.until_nul()
        }
        .ok_or_else(|| cut("auth response"))?;
        let database = if has(Capabilities::CONNECT_WITH_DB) { fields.until_nul_or_end() } else { 0..0 };
        let plugin = if has(Capabilities::PLUGIN_AUTH) { fields.until_nul_or_end() } else { 0..0 };
        let attributes = if has(Capabilities::CONNECT_ATTRS) && fields.at < payload.len() {
            fields.behind_lenenc_length().ok_or_else(|| cut("connection attributes"))?
        } else {
            0..0
        };
        Ok(Self { payload, user, auth_response, database, plugin, attributes })
    }

    /// All that the client claims.
    pub fn capabilities(&self) -> Capabilities {
        response_capabilities(&self.payload)
    }

    /// The user name.
    pub fn user(&self) -> &[u8] {
        &self.payload[self.user.clone()]
    }

    /// The authentication plugin that the client has answered with, if it names one.
    pub fn plugin(&self) -> &[u8] {
        &self.payload[self.plugin.clone()]
    }

    /// The value of a connection attribute (`_client_name`, `program_name`, …).
    pub fn attribute(&self, key: &[u8]) -> Option<&[u8]> {
        let mut rest = &self.payload[self.attributes.clone()];
        loop {
            let (name, behind) = split_lenenc_string(rest)?;
            let (value, behind) = split_lenenc_string(behind)?;
            if name == key {
                return Some(value);
            }
            rest = behind;
        }
    }

    /// The payload with no more capabilities than `mask` has, and without the fields that belong to the others.
    pub fn masked(&self, mask: Capabilities) -> Vec<u8> {
        let field = |range: &Range<usize>| &self.payload[range.clone()];
        let capabilities = self.capabilities() & mask;
        let has = |flag| capabilities.contains(flag);
        let mut payload = self.payload[..RESPONSE_FIXED_LEN].to_vec();
        payload[..4].copy_from_slice(&capabilities.lower().to_le_bytes());
        if !self.capabilities().contains(Capabilities::LONG_PASSWORD) {
            payload[RESPONSE_EXTENDED..].copy_from_slice(&capabilities.extended().to_le_bytes());
        }
        put_nul_terminated(&mut payload, field(&self.user));
        let auth_response = field(&self.auth_response);
        if has(Capabilities::PLUGIN_AUTH_LENENC_CLIENT_DATA) {
            put_behind_lenenc_length(&mut payload, auth_response);
        } else if has(Capabilities::SECURE_CONNECTION) && auth_response.len() <= usize::from(u8::MAX) {
            payload.push(auth_response.len() as u8);
            payload.extend_from_slice(auth_response);
        } else {
            put_nul_terminated(&mut payload, auth_response);
        }
        if has(Capabilities::CONNECT_WITH_DB) {
            put_nul_terminated(&mut payload, field(&self.database));
        }
        if has(Capabilities::PLUGIN_AUTH) {
            put_nul_terminated(&mut payload, field(&self.plugin));
        }
        if has(Capabilities::CONNECT_ATTRS) {
            put_behind_lenenc_length(&mut payload, field(&self.attributes));
        }
        payload
    }
}

/// The capabilities of a handshake response, of which `RESPONSE_FIXED_LEN` bytes must be there.
fn response_capabilities(payload: &[u8]) -> Capabilities {
    let word =
        |at: usize| u32::from_le_bytes([payload[at], payload[at + 1], payload[at + 2], payload[at + 3]]);
    Capabilities::from_halves(word(0), word(RESPONSE_EXTENDED))
}

/// Reads fields one after the other and tells where each stands.
struct Fields<'a> {
    payload: &'a [u8],
    at: usize,
}

impl Fields<'_> {
    fn until_nul(&mut self) -> Option<Range<usize>> {
        let len = until_nul(&self.payload[self.at..])?;
        let field = self.at..self.at + len;
        self.at = field.end + 1;
        Some(field)
    }

    /// Some clients leave out the NUL, or the whole field, at the end of the packet.
    fn until_nul_or_end(&mut self) -> Range<usize> {
        self.until_nul().unwrap_or_else(|| {
            let field = self.at..self.payload.len();
            self.at = field.end;
            field
        })
    }

    fn behind_length_byte(&mut self) -> Option<Range<usize>> {
        let len = usize::from(*self.payload.get(self.at)?);
        self.at += 1;
        self.take(len)
    }

    fn behind_lenenc_length(&mut self) -> Option<Range<usize>> {
        let (len, rest) = split_lenenc_int(&self.payload[self.at..])?;
        self.at = self.payload.len() - rest.len();
        self.take(usize::try_from(len).ok()?)
    }

    fn take(&mut self, len: usize) -> Option<Range<usize>> {
        let end = self.at.checked_add(len).filter(|&end| end <= self.payload.len())?;
        let field = self.at..end;
        self.at = end;
        Some(field)
    }
}

fn split_lenenc_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = split_lenenc_int(bytes)?;
    rest.split_at_checked(usize::try_from(len).ok()?)
}

fn until_nul(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|&byte| byte == 0)
}

fn put_nul_terminated(payload: &mut Vec<u8>, field: &[u8]) {
    payload.extend_from_slice(field);
    payload.push(0);
}

/// The fields of a handshake response are shorter than 2^24 bytes, as the packet is.
fn put_behind_lenenc_length(payload: &mut Vec<u8>, field: &[u8]) {
    let [a, b, c, ..] = field.len().to_le_bytes();
    match field.len() {
        0..=0xfa => payload.push(a),
        0xfb..=0xffff => payload.extend_from_slice(&[0xfc, a, b]),
        _ => payload.extend_from_slice(&[0xfd, a, b, c]),
    }
    payload.extend_from_slice(field);
}

#[cfg(test)]
mod tests;
