//! The answers of MariaDB's plugins that sign the scramble: `client_ed25519` and `parsec`.

use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

use super::{AUTH_MORE_DATA, LONG_SCRAMBLE_LEN};

/// First byte of parsec's parameters: the key is derived by PBKDF2.
const PBKDF2: u8 = b'P';
/// Rounds of PBKDF2 for a factor of 0; each more doubles them.
const LEAST_ROUNDS: u32 = 1024;
/// The largest factor that is followed: some ten seconds of work, about what MariaDB's client takes by default
/// (CONC-838, `get_max_iter_factor`). Servers of today have 0.
const MAX_FACTOR: u8 = 13;
/// The longest salt that is taken; servers send 18 bytes.
const MAX_SALT_LEN: usize = 64;

/// The answer of `client_ed25519`: a signature with a key that is expanded from the password itself, where standard
/// Ed25519 has a seed of 32 bytes.
pub(super) fn ed25519_answer(password: &[u8], scramble: &[u8]) -> Vec<u8> {
    let hash = Zeroizing::new(<[u8; 64]>::from(Sha512::digest(password)));
    let key = ExpandedSecretKey::from_bytes(&hash);
    raw_sign::<Sha512>(&key, scramble, &VerifyingKey::from(&key)).to_bytes().to_vec()
}

/// How the key of `parsec` comes from the password: by PBKDF2 with HMAC-SHA512, [`rounds`](Self::rounds) times, to 32
/// bytes. The server calls it the ext-salt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsecSalt {
    /// Rounds of PBKDF2: from 1024 to 8 million.
    pub rounds: u32,
    /// The salt.
    pub salt: Vec<u8>,
}

impl ParsecSalt {
    /// Reads the payload by which a server answers the empty packet: `P`, the binary logarithm of rounds / 1024, the
    /// salt. None for another function, or for more rounds than anybody would wait for.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let [PBKDF2, factor, salt @ ..] = payload.strip_prefix(&[AUTH_MORE_DATA]).unwrap_or(payload) else {
            return None;
        };
        let fits = *factor <= MAX_FACTOR && !salt.is_empty() && salt.len() <= MAX_SALT_LEN;
        fits.then(|| Self { rounds: LEAST_ROUNDS << factor, salt: salt.to_vec() })
    }
}

/// The answer of `parsec`: a scramble of the client's, and the signature of both scrambles by the key that
/// [`ParsecSalt`] gives.
pub fn parsec_answer(
    key: &[u8; 32],
    server_scramble: &[u8],
    client_scramble: &[u8; LONG_SCRAMBLE_LEN],
) -> Vec<u8> {
    let signed = [server_scramble, client_scramble].concat();
    let signature = SigningKey::from_bytes(key).sign(&signed);
    [&client_scramble[..], &signature.to_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::AuthPlugin;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn counted(from: u8) -> [u8; 32] {
        std::array::from_fn(|index| from + index as u8)
    }

    /// Expected value computed by RFC 8032's formulas in Python, with SHA512(password) in place of SHA512(seed); the
    /// public key of the same code is the one that a MariaDB 10.11 stores for this password.
    #[test]
    fn client_ed25519() {
        let answer = AuthPlugin::Ed25519.answer(b"secret", &counted(0)).unwrap();
        assert_eq!(
            hex(&answer),
            "546c3e9311d19ee389d1ae5d945821bfe459423910136f16b3bd2ae89fd7d63b\
             449e689f4be812891a85b8f999076446d92adb83d0707215aaa60b5a23220907"
        );
    }

    /// Key (PBKDF2 of `secret` with the salt 0, 1 … 17 and 1024 rounds) and signature computed with Python's hashlib and
    /// cryptography.
    #[test]
    fn parsec() {
        let key = [
            0x08, 0xcc, 0x70, 0xb0, 0xfe, 0x8e, 0x4e, 0x8c, 0x58, 0x14, 0xc9, 0x87, 0xaa, 0xf5, 0x76, 0x2f,
            0x12, 0xd5, 0x59, 0x08, 0x83, 0xf9, 0x56, 0xb0, 0xb0, 0xeb, 0x2a, 0xd7, 0x1b, 0xcf, 0x64, 0x5f,
        ];
        let answer = parsec_answer(&key, &counted(0), &counted(100));
        assert_eq!(answer[..32], counted(100));
        assert_eq!(
            hex(&answer[32..]),
            "e2e1811f6fe792cebf63d6754f6fb7200ef089ccd4350848da4c0d5955c5cad8\
             1ddc495512dcef558b5f847dc463f43f597201ee4b8bc593505b903b34be710e"
        );
    }

    #[test]
    fn parsec_salts() {
        let salt = ParsecSalt { rounds: 2048, salt: b"salt".to_vec() };
        assert_eq!(ParsecSalt::parse(b"P\x01salt"), Some(salt.clone()));
        assert_eq!(ParsecSalt::parse(b"\x01P\x01salt"), Some(salt));
        let long = [&b"P\0"[..], &[7; MAX_SALT_LEN + 1]].concat();
        for other in [&b""[..], b"P", b"P\0", b"Q\0salt", b"P\x0esalt", b"P\xffsalt", &long] {
            assert_eq!(ParsecSalt::parse(other), None, "{other:?}");
        }
    }
}
