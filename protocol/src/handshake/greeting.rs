//! The server's greeting.

use super::HandshakeError;
use super::fields::{put_nul_terminated, until_nul};
use crate::capabilities::Capabilities;

/// The only version of the greeting that servers since MySQL 3.21 send.
const PROTOCOL_VERSION: u8 = 10;

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

    /// The scramble that an auth response answers: 20 bytes from every server of today.
    pub fn scramble(&self) -> Vec<u8> {
        let second = &self.payload[self.version_end + 1 + FIXED_LEN..];
        // Its length with the NUL behind it, but 13 at least; a plugin name follows.
        let total = usize::from(self.fixed::<1>(SCRAMBLE_LEN)[0]);
        let len = total.saturating_sub(FIRST_SCRAMBLE_LEN).max(13).min(second.len());
        let second = second[..len].strip_suffix(&[0]).unwrap_or(&second[..len]);
        [&self.fixed::<FIRST_SCRAMBLE_LEN>(FIRST_SCRAMBLE), second].concat()
    }

    /// The authentication plugin that the server would like best; empty where it names none.
    pub fn plugin(&self) -> &[u8] {
        if !self.capabilities().contains(Capabilities::PLUGIN_AUTH) {
            return &[];
        }
        let second = &self.payload[self.version_end + 1 + FIXED_LEN..];
        let total = usize::from(self.fixed::<1>(SCRAMBLE_LEN)[0]);
        let name = second.get(total.saturating_sub(FIRST_SCRAMBLE_LEN).max(13)..).unwrap_or_default();
        &name[..until_nul(name).unwrap_or(name.len())]
    }

    /// Whether a client that was greeted by one of the two servers finds nothing different at the other, in what it may
    /// be told.
    pub fn is_like(&self, other: &Self) -> bool {
        let understood = |greeting: &Self| greeting.capabilities() & Capabilities::UNDERSTOOD;
        self.server_version() == other.server_version() && understood(self) == understood(other)
    }

    /// A greeting of one's own in this server's name: the payload with exactly these capabilities, for another
    /// connection and plugin.
    pub fn renewed(
        &self,
        capabilities: Capabilities,
        connection_id: u32,
        scramble: &[u8; 20],
        plugin: &[u8],
    ) -> Vec<u8> {
        let mut payload = self.offering(capabilities);
        let fixed_at = self.version_end + 1;
        payload.truncate(fixed_at + FIXED_LEN);
        let fixed = &mut payload[fixed_at..];
        let (first, second) = scramble.split_at(FIRST_SCRAMBLE_LEN);
        fixed[..FIRST_SCRAMBLE].copy_from_slice(&connection_id.to_le_bytes());
        fixed[FIRST_SCRAMBLE..][..FIRST_SCRAMBLE_LEN].copy_from_slice(first);
        fixed[SCRAMBLE_LEN] = scramble.len() as u8 + 1;
        put_nul_terminated(&mut payload, second);
        put_nul_terminated(&mut payload, plugin);
        payload
    }

    /// The payload with exactly these capabilities, otherwise unchanged.
    pub fn offering(&self, capabilities: Capabilities) -> Vec<u8> {
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
const FIRST_SCRAMBLE: usize = 4;
const FIRST_SCRAMBLE_LEN: usize = 8;
const CAPABILITIES_LOWER: usize = 13;
const CAPABILITIES_UPPER: usize = 18;
const SCRAMBLE_LEN: usize = 20;
const CAPABILITIES_EXTENDED: usize = 27;
/// Bytes behind the server version's NUL up to the second part of the scramble.
const FIXED_LEN: usize = 31;
