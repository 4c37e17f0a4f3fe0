//! Authentication by scramble: the packets of an exchange, and the answers of the two plugins that need nothing but a
//! password and a hash.
//!
//! Sources: [AuthSwitchRequest](https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_packets_protocol_auth_switch_request.html),
//! [mysql_native_password](https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_authentication_methods_native_password_authentication.html),
//! [caching_sha2_password](https://dev.mysql.com/doc/dev/mysql-server/latest/page_caching_sha2_authentication_exchanges.html).

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::handshake::fields::{Fields, put_nul_terminated};
use crate::status::EOF_HEADER;

/// Length of the scramble that every plugin with a scramble uses.
pub const SCRAMBLE_LEN: usize = 20;

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
            Self::Other => "",
        }
    }

    /// Whether its exchange can be run again by a new scramble, without asking a person or using a secret up.
    pub const fn is_repeatable(self) -> bool {
        !matches!(self, Self::Other)
    }

    /// The answer to a scramble, which is nothing where the password is empty. None for plugins whose answer is no
    /// plain hash.
    pub fn answer(self, password: &[u8], scramble: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Native | Self::CachingSha2 if password.is_empty() => Some(Vec::new()),
            Self::Native => Some(native_password(password, scramble)),
            Self::CachingSha2 => Some(caching_sha2_password(password, scramble)),
            _ => None,
        }
    }
}

/// A server's AuthSwitchRequest: 0xFE, the plugin's name with its NUL, the scramble with a NUL behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthSwitchRequest<'a> {
    /// The plugin's name.
    pub plugin: &'a [u8],
    /// What the plugin needs, most often a scramble; without its NUL.
    pub data: &'a [u8],
}

impl<'a> AuthSwitchRequest<'a> {
    /// Reads a payload. None if it is something else, or the old form without a name, which only servers of before
    /// 4.1 mean.
    pub fn parse(payload: &'a [u8]) -> Option<Self> {
        let (&EOF_HEADER, rest) = payload.split_first()? else { return None };
        let mut fields = Fields(rest);
        let plugin = fields.until_nul().filter(|name| !name.is_empty())?;
        Some(Self { plugin, data: fields.0.strip_suffix(&[0]).unwrap_or(fields.0) })
    }

    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = vec![EOF_HEADER];
        put_nul_terminated(&mut payload, self.plugin);
        put_nul_terminated(&mut payload, self.data);
        payload
    }
}

/// SHA1(password) XOR SHA1(scramble + SHA1(SHA1(password)))
fn native_password(password: &[u8], scramble: &[u8]) -> Vec<u8> {
    let once = Sha1::digest(password);
    let twice = Sha1::digest(once);
    let mask = Sha1::new().chain_update(scramble).chain_update(twice).finalize();
    once.iter().zip(mask).map(|(a, b)| a ^ b).collect()
}

/// SHA256(password) XOR SHA256(SHA256(SHA256(password)) + scramble)
fn caching_sha2_password(password: &[u8], scramble: &[u8]) -> Vec<u8> {
    let once = Sha256::digest(password);
    let twice = Sha256::digest(once);
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
        assert_eq!(AuthPlugin::Ed25519.answer(b"secret", scramble), None);
    }

    #[test]
    fn switch_requests() {
        let payload = b"\xfemysql_native_password\x0001234567890123456789\x00";
        let request = AuthSwitchRequest::parse(payload).unwrap();
        assert_eq!(AuthPlugin::named(request.plugin), AuthPlugin::Native);
        assert_eq!(request.data.len(), SCRAMBLE_LEN);
        assert_eq!(request.encode(), payload);
        for other in [&b""[..], b"\xfe", b"\xfe\0", b"\xfename without end", b"\x00\0\0"] {
            assert_eq!(AuthSwitchRequest::parse(other), None, "{other:?}");
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
        ] {
            assert_eq!(AuthPlugin::named(plugin.name().as_bytes()), plugin);
            assert!(plugin.is_repeatable());
        }
        assert!(!AuthPlugin::named(b"dialog").is_repeatable());
    }
}
