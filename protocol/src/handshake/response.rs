//! The client's answer to the greeting.

use zeroize::Zeroizing;

use super::HandshakeError;
use super::fields::{Fields, put_behind_lenenc_length, put_nul_terminated};
use crate::capabilities::Capabilities;
use crate::compression::DEFAULT_ZSTD_LEVEL;

/// The client's answer to the greeting: HandshakeResponse41.
///
/// ```text
/// 4  capabilities       4   MariaDB's extended capabilities     n  database, NUL  (CLIENT_CONNECT_WITH_DB)
/// 4  max packet size    n   user, NUL                           n  plugin name, NUL  (CLIENT_PLUGIN_AUTH)
/// 1  character set      n   auth response; its length is        n  attributes behind their length
/// 19 filler                 length-encoded, one byte or NUL        (CLIENT_CONNECT_ATTRS)
///                                                               1  level
///                                                                  (CLIENT_ZSTD_COMPRESSION_ALGORITHM)
/// ```
///
/// Has no `Debug`: it carries the answer to the scramble.
#[derive(Clone)]
pub struct HandshakeResponse {
    fixed: [u8; FIXED_LEN],
    user: Vec<u8>,
    auth_response: Zeroizing<Vec<u8>>,
    database: Vec<u8>,
    plugin: Vec<u8>,
    attributes: Vec<u8>,
    zstd_level: Option<u8>,
}

/// Whether a payload is an SSLRequest: a [`HandshakeResponse`] that ends before the user, with CLIENT_SSL. What follows
/// is TLS. Source:
/// [SSLRequest](https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_packets_protocol_ssl_request.html).
pub fn is_ssl_request(payload: &[u8]) -> bool {
    payload.try_into().is_ok_and(|fixed| capabilities_of(fixed).contains(Capabilities::SSL))
}

/// Bytes before the user name: also the length of an SSLRequest.
const FIXED_LEN: usize = 32;
/// Bytes between the fields behind it, at most: two lengths, three NULs and the level of zstd.
const LENGTHS_AND_NULS: usize = 2 * 4 + 3 + 1;
const CHARACTER_SET: usize = 8;
const EXTENDED: usize = 28;

impl HandshakeResponse {
    /// Reads a response's payload, by the capabilities that it sets itself.
    ///
    /// # Errors
    /// [`HandshakeError`] if it is cut short, of an older protocol, or an SSLRequest.
    pub fn parse(payload: &[u8]) -> Result<Self, HandshakeError> {
        let cut = |field| HandshakeError::CutShort { packet: "handshake response", field };
        let (&fixed, rest) = payload.split_first_chunk().ok_or_else(|| cut("capabilities"))?;
        let capabilities = capabilities_of(&fixed);
        let has = |flag| capabilities.contains(flag);
        if !has(Capabilities::PROTOCOL_41) {
            return Err(HandshakeError::OldProtocol("handshake response"));
        }
        if is_ssl_request(payload) {
            return Err(HandshakeError::TlsNotOffered);
        }
        let mut fields = Fields(rest);
        let user = fields.until_nul().ok_or_else(|| cut("user"))?;
        let auth_response = if has(Capabilities::PLUGIN_AUTH_LENENC_CLIENT_DATA) {
            fields.behind_lenenc_length()
        } else if has(Capabilities::SECURE_CONNECTION) {
            fields.behind_length_byte()
        } else {
            fields.until_nul()
        }
        .ok_or_else(|| cut("auth response"))?;
        let database = if has(Capabilities::CONNECT_WITH_DB) { fields.until_nul_or_end() } else { &[] };
        let plugin = if has(Capabilities::PLUGIN_AUTH) { fields.until_nul_or_end() } else { &[] };
        let attributes = if has(Capabilities::CONNECT_ATTRS) && !fields.0.is_empty() {
            fields.behind_lenenc_length().ok_or_else(|| cut("connection attributes"))?
        } else {
            &[]
        };
        let zstd_level = fields.0.first().filter(|_| has(Capabilities::ZSTD_COMPRESSION_ALGORITHM)).copied();
        Ok(Self {
            fixed,
            user: user.to_vec(),
            auth_response: Zeroizing::new(auth_response.to_vec()),
            database: database.to_vec(),
            plugin: plugin.to_vec(),
            attributes: attributes.to_vec(),
            zstd_level,
        })
    }

    /// The response of a client of one's own: no database, no attributes, the server's default character set.
    pub fn new(capabilities: Capabilities, user: &[u8]) -> Self {
        let mut fixed = [0; FIXED_LEN];
        // The largest packet that clients claim by default, and no character set: the server's own.
        fixed[4..8].copy_from_slice(&(16_u32 << 20).to_le_bytes());
        set_capabilities(&mut fixed, capabilities);
        Self {
            fixed,
            user: user.to_vec(),
            auth_response: Zeroizing::default(),
            database: Vec::new(),
            plugin: Vec::new(),
            attributes: Vec::new(),
            zstd_level: None,
        }
    }

    /// All that the client claims.
    pub fn capabilities(&self) -> Capabilities {
        capabilities_of(&self.fixed)
    }

    /// The user name.
    pub fn user(&self) -> &[u8] {
        &self.user
    }

    /// The default database; empty for none.
    pub fn database(&self) -> &[u8] {
        &self.database
    }

    /// The id of the character set and collation; 0 for the server's own.
    pub fn character_set(&self) -> u8 {
        self.fixed[CHARACTER_SET]
    }

    /// The authentication plugin that the client has answered with, if it names one.
    pub fn plugin(&self) -> &[u8] {
        &self.plugin
    }

    /// The client's answer to the scramble, by [`plugin`](Self::plugin).
    pub fn auth_response(&self) -> &[u8] {
        &self.auth_response
    }

    /// The value of a connection attribute (`_client_name`, `program_name`, …).
    pub fn attribute(&self, key: &[u8]) -> Option<&[u8]> {
        let mut rest = Fields(&self.attributes);
        loop {
            let name = rest.behind_lenenc_length()?;
            let value = rest.behind_lenenc_length()?;
            if name == key {
                return Some(value);
            }
        }
    }

    /// The payload with no more capabilities than `mask` has, and without the fields that belong to the others.
    pub fn masked(&self, mask: Capabilities) -> Zeroizing<Vec<u8>> {
        self.answering(self.capabilities() & mask, &self.plugin, &self.auth_response)
    }

    /// The payload with exactly these capabilities, otherwise unchanged.
    pub fn with_capabilities(&self, capabilities: Capabilities) -> Zeroizing<Vec<u8>> {
        self.answering(capabilities, &self.plugin, &self.auth_response)
    }

    /// The level of zstd that the client asks for, as it came.
    pub const fn zstd_level(&self) -> Option<u8> {
        self.zstd_level
    }

    /// The payload with these capabilities and another answer to the scramble, otherwise unchanged, but for the level of
    /// zstd: that is the sender's own affair, and its default. An answer for which these capabilities have no form is
    /// left out, so that the server asks for another or refuses: it would read the rest of it as other fields.
    pub fn answering(
        &self,
        capabilities: Capabilities,
        plugin: &[u8],
        auth_response: &[u8],
    ) -> Zeroizing<Vec<u8>> {
        let has = |flag| capabilities.contains(flag);
        let mut fixed = self.fixed;
        set_capabilities(&mut fixed, capabilities);
        // Room for all, as a vector that grows leaves what it held behind.
        let fields = [&self.user, &self.database, &self.attributes].map(Vec::len).iter().sum::<usize>();
        let len = FIXED_LEN + fields + auth_response.len() + plugin.len() + LENGTHS_AND_NULS;
        let mut payload = Zeroizing::new(Vec::with_capacity(len));
        payload.extend_from_slice(&fixed);
        put_nul_terminated(&mut payload, &self.user);
        if has(Capabilities::PLUGIN_AUTH_LENENC_CLIENT_DATA) {
            put_behind_lenenc_length(&mut payload, auth_response);
        } else if has(Capabilities::SECURE_CONNECTION) {
            let fits = auth_response.len() <= usize::from(u8::MAX);
            let auth_response = if fits { auth_response } else { &[] };
            payload.push(auth_response.len() as u8);
            payload.extend_from_slice(auth_response);
        } else {
            let fits = !auth_response.contains(&0);
            put_nul_terminated(&mut payload, if fits { auth_response } else { &[] });
        }
        if has(Capabilities::CONNECT_WITH_DB) {
            put_nul_terminated(&mut payload, &self.database);
        }
        if has(Capabilities::PLUGIN_AUTH) {
            put_nul_terminated(&mut payload, plugin);
        }
        if has(Capabilities::CONNECT_ATTRS) {
            put_behind_lenenc_length(&mut payload, &self.attributes);
        }
        if has(Capabilities::ZSTD_COMPRESSION_ALGORITHM) {
            payload.push(DEFAULT_ZSTD_LEVEL);
        }
        payload
    }

    /// The payload that asks the server for TLS, before the response itself; with CLIENT_SSL among `capabilities`.
    pub fn ssl_request(&self, capabilities: Capabilities) -> Vec<u8> {
        let mut fixed = self.fixed;
        set_capabilities(&mut fixed, capabilities);
        fixed.to_vec()
    }

    /// The payload that has the server ask, by an AuthSwitchRequest, for an answer by the account's own plugin and to
    /// a scramble of this connection: it names a plugin that no account has, and answers nothing. Needs
    /// CLIENT_PLUGIN_AUTH among `capabilities`.
    pub fn asking_for_switch(&self, capabilities: Capabilities) -> Zeroizing<Vec<u8>> {
        self.answering(capabilities, NO_PLUGIN, &[])
    }

    /// The same without the answer to the scramble, which may be a password.
    #[must_use]
    pub fn without_answer(mut self) -> Self {
        self.auth_response = Zeroizing::default();
        self
    }

    /// As if the client had logged in with this default database and character set: what COM_CHANGE_USER changes.
    pub fn set_defaults(&mut self, database: &[u8], character_set: Option<u8>) {
        let capabilities = self.capabilities();
        let with_database = Capabilities::CONNECT_WITH_DB;
        let capabilities = match database {
            [] => Capabilities(capabilities.0 & !with_database.0),
            _ => capabilities | with_database,
        };
        set_capabilities(&mut self.fixed, capabilities);
        self.database = database.to_vec();
        if let Some(character_set) = character_set {
            self.fixed[CHARACTER_SET] = character_set;
        }
    }
}

/// The name of a plugin that no server and no client has.
pub(crate) const NO_PLUGIN: &[u8] = b"spillway_asks_which";

fn capabilities_of(fixed: &[u8; FIXED_LEN]) -> Capabilities {
    let word = |at: usize| u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
    Capabilities::from_halves(word(0), word(EXTENDED))
}

fn set_capabilities(fixed: &mut [u8; FIXED_LEN], capabilities: Capabilities) {
    fixed[..4].copy_from_slice(&capabilities.lower().to_le_bytes());
    if !capabilities.contains(Capabilities::LONG_PASSWORD) {
        fixed[EXTENDED..].copy_from_slice(&capabilities.extended().to_le_bytes());
    }
}
