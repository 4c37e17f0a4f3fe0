//! Authentication by plugins: the packets of an exchange, and the answers that need nothing but the password and what
//! the server sends.
//!
//! ```text
//! mysql_native_password   a hash
//! client_ed25519          a signature
//! parsec                  a signature, by a key of which the server tells the salt
//! caching_sha2_password   a hash; then perhaps the password itself
//! sha256_password         the password itself
//! mysql_clear_password    the password itself, in clear
//! ```
//!
//! The two with SHA-2 send the password itself in clear over a connection that is safe, and otherwise encrypted by the
//! server's RSA key, which the client may ask for. Encrypting is not done here.
//!
//! Sources: [AuthSwitchRequest](https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_packets_protocol_auth_switch_request.html),
//! [mysql_native_password](https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_authentication_methods_native_password_authentication.html),
//! [caching_sha2_password](https://dev.mysql.com/doc/dev/mysql-server/latest/page_caching_sha2_authentication_exchanges.html),
//! [sha256_password](https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_authentication_methods_sha256_password_authentication.html),
//! [client_ed25519](https://mariadb.com/kb/en/connection/#client_ed25519-plugin),
//! [parsec](https://mariadb.com/kb/en/authentication-plugin-parsec).

mod signatures;

use sha1::Sha1;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::handshake::fields::{Fields, put_nul_terminated};
use crate::status::EOF_HEADER;
pub use signatures::{ParsecSalt, parsec_answer};

/// Length of the scramble of MySQL's plugins.
pub const SCRAMBLE_LEN: usize = 20;
/// Length of the scramble of MariaDB's plugins that sign.
pub(crate) const LONG_SCRAMBLE_LEN: usize = 32;

/// First payload byte of an AuthMoreData packet.
pub const AUTH_MORE_DATA: u8 = 0x01;
/// First payload byte of an AuthNextFactor packet (MySQL 8.0.27): the account wants another proof.
pub const AUTH_NEXT_FACTOR: u8 = 0x02;
/// AuthMoreData of caching_sha2_password: the answer was right; OK follows.
pub const FAST_AUTH_SUCCESS: [u8; 2] = [AUTH_MORE_DATA, 0x03];
/// AuthMoreData of caching_sha2_password: the server does not remember the password and wants all of it.
pub const PERFORM_FULL_AUTHENTICATION: [u8; 2] = [AUTH_MORE_DATA, 0x04];

/// An authentication plugin, as far as a proxy tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthPlugin {
    /// `mysql_native_password`
    Native,
    /// `caching_sha2_password`
    CachingSha2,
    /// `sha256_password`
    Sha256,
    /// `client_ed25519` (MariaDB)
    Ed25519,
    /// `parsec` (MariaDB)
    Parsec,
    /// `mysql_clear_password`
    Clear,
    /// Any other.
    Other,
}

impl AuthPlugin {
    /// The plugin of this name.
    pub fn named(name: &[u8]) -> Self {
        match name {
            b"mysql_native_password" => Self::Native,
            b"caching_sha2_password" => Self::CachingSha2,
            b"sha256_password" => Self::Sha256,
            b"client_ed25519" => Self::Ed25519,
            b"parsec" => Self::Parsec,
            b"mysql_clear_password" => Self::Clear,
            _ => Self::Other,
        }
    }

    /// Its name on the wire; empty for [`Other`](Self::Other).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "mysql_native_password",
            Self::CachingSha2 => "caching_sha2_password",
            Self::Sha256 => "sha256_password",
            Self::Ed25519 => "client_ed25519",
            Self::Parsec => "parsec",
            Self::Clear => "mysql_clear_password",
            Self::Other => "",
        }
    }

    /// Whether its exchange can be run again by a new scramble, without asking a person or using a secret up.
    pub const fn is_repeatable(self) -> bool {
        !matches!(self, Self::Clear | Self::Other)
    }

    /// The client's packet that asks for the server's RSA key. None for plugins without one.
    pub const fn key_request(self) -> Option<u8> {
        match self {
            Self::Sha256 => Some(0x01),
            Self::CachingSha2 => Some(0x02),
            _ => None,
        }
    }

    /// The answer to a scramble: a hash, which is nothing where the password is empty, or a signature. None for plugins
    /// whose answer takes more.
    pub fn answer(self, password: &[u8], scramble: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Native | Self::CachingSha2 if password.is_empty() => Some(Vec::new()),
            Self::Native => Some(native_password(password, scramble)),
            Self::CachingSha2 => Some(caching_sha2_password(password, scramble)),
            Self::Ed25519 => Some(signatures::ed25519_answer(password, scramble)),
            _ => None,
        }
    }
}

/// A server's AuthSwitchRequest: 0xFE, the plugin's name with its NUL, what the plugin says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthSwitchRequest<'a> {
    /// The plugin's name.
    pub plugin: &'a [u8],
    /// The first packet of the plugin, most often a scramble.
    pub data: &'a [u8],
}

impl<'a> AuthSwitchRequest<'a> {
    /// Reads a payload. None if it is something else, or the old form without a name, which only servers of before
    /// 4.1 mean.
    pub fn parse(payload: &'a [u8]) -> Option<Self> {
        Self::parse_behind(EOF_HEADER, payload)
    }

    /// Reads the payload of an AuthNextFactor packet, which is made in the same way. Only servers with
    /// [`MULTI_FACTOR_AUTHENTICATION`](crate::Capabilities::MULTI_FACTOR_AUTHENTICATION) send it: others may mean
    /// something else by this byte.
    pub fn parse_next_factor(payload: &'a [u8]) -> Option<Self> {
        Self::parse_behind(AUTH_NEXT_FACTOR, payload)
    }

    fn parse_behind(header: u8, payload: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(payload.strip_prefix(&[header])?);
        let plugin = fields.until_nul().filter(|name| !name.is_empty())?;
        Some(Self { plugin, data: fields.0 })
    }

    /// The scramble, without the NUL that MySQL's plugins have behind it.
    pub fn scramble(&self) -> &'a [u8] {
        match AuthPlugin::named(self.plugin) {
            AuthPlugin::Ed25519 | AuthPlugin::Parsec => &self.data[..self.data.len().min(LONG_SCRAMBLE_LEN)],
            _ => self.data.strip_suffix(&[0]).unwrap_or(self.data),
        }
    }

    /// The payload of a request with a scramble, for one of MySQL's plugins.
    pub fn encode(plugin: &[u8], scramble: &[u8; SCRAMBLE_LEN]) -> Vec<u8> {
        let mut payload = vec![EOF_HEADER];
        put_nul_terminated(&mut payload, plugin);
        put_nul_terminated(&mut payload, scramble);
        payload
    }
}

/// SHA1(password) XOR SHA1(scramble + SHA1(SHA1(password)))
fn native_password(password: &[u8], scramble: &[u8]) -> Vec<u8> {
    // As good as the password for who has what the server stores.
    let once = Zeroizing::new(<[u8; 20]>::from(Sha1::digest(password)));
    let twice = Sha1::digest(*once);
    let mask = Sha1::new().chain_update(scramble).chain_update(twice).finalize();
    once.iter().zip(mask).map(|(a, b)| a ^ b).collect()
}

/// SHA256(password) XOR SHA256(SHA256(SHA256(password)) + scramble)
fn caching_sha2_password(password: &[u8], scramble: &[u8]) -> Vec<u8> {
    let once = Zeroizing::new(<[u8; 32]>::from(Sha256::digest(password)));
    let twice = Sha256::digest(*once);
    let mask = Sha256::new().chain_update(twice).chain_update(scramble).finalize();
    once.iter().zip(mask).map(|(a, b)| a ^ b).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Expected values computed with Python's hashlib from the formulas of the documentation.
    #[test]
    fn answers_to_a_scramble() {
        let scramble = b"01234567890123456789";
        let answer = |plugin: AuthPlugin| hex(&plugin.answer(b"secret", scramble).unwrap());
        assert_eq!(answer(AuthPlugin::Native), "7abe1a8776b59e931059451f81e596a60dbbf7a8");
        assert_eq!(
            answer(AuthPlugin::CachingSha2),
            "1a2da2573c2faa367e2afddb54cdfd11a95ed22eef0167151196a6fc8e3d3813"
        );
        assert_eq!(AuthPlugin::Native.answer(b"", scramble), Some(Vec::new()));
        assert_eq!(AuthPlugin::Sha256.answer(b"secret", scramble), None);
    }

    #[test]
    fn switch_requests() {
        let payload = b"\xfemysql_native_password\x0001234567890123456789\x00";
        let request = AuthSwitchRequest::parse(payload).unwrap();
        assert_eq!(AuthPlugin::named(request.plugin), AuthPlugin::Native);
        assert_eq!(request.scramble(), b"01234567890123456789");
        assert_eq!(AuthSwitchRequest::encode(request.plugin, b"01234567890123456789"), payload);
        for other in [&b""[..], b"\xfe", b"\xfe\0", b"\xfename without end", b"\x00\0\0"] {
            assert_eq!(AuthSwitchRequest::parse(other), None, "{other:?}");
        }
        let factor = AuthSwitchRequest::parse_next_factor(b"\x02dialog\0\x02Password: ").unwrap();
        assert_eq!((factor.plugin, factor.data), (&b"dialog"[..], &b"\x02Password: "[..]));
        assert_eq!(AuthSwitchRequest::parse_next_factor(payload), None);
    }

    /// Its bytes are any, the last one too.
    #[test]
    fn a_long_scramble_keeps_its_last_byte() {
        for (plugin, tail) in [("client_ed25519", &b"\0"[..]), ("parsec", b"")] {
            let payload = [&b"\xfe"[..], plugin.as_bytes(), b"\0", &[0; LONG_SCRAMBLE_LEN], tail].concat();
            assert_eq!(AuthSwitchRequest::parse(&payload).unwrap().scramble(), [0; LONG_SCRAMBLE_LEN]);
        }
    }

    #[test]
    fn names_are_those_of_the_wire() {
        for plugin in [
            AuthPlugin::Native,
            AuthPlugin::CachingSha2,
            AuthPlugin::Sha256,
            AuthPlugin::Ed25519,
            AuthPlugin::Parsec,
            AuthPlugin::Clear,
        ] {
            assert_eq!(AuthPlugin::named(plugin.name().as_bytes()), plugin);
            assert_eq!(plugin.is_repeatable(), plugin != AuthPlugin::Clear);
        }
        assert!(!AuthPlugin::named(b"dialog").is_repeatable());
    }
}
