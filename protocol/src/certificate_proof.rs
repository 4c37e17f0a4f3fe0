//! MariaDB's proof that a certificate nobody has signed is the server's: a hash over the password's own hash, the
//! scramble of the login and the certificate's fingerprint, in the OK packet that ends the login. Whoever stands between
//! the two with a certificate of his own cannot make it. Clients since MariaDB 11.4 ask for it where they know no CA.
//!
//! Source: [zero-configuration TLS](https://mariadb.com/kb/en/connection/#zero-configuration-ssl-encryption).

use std::fmt::Write as _;

use sha1::Sha1;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::handshake::fields::{Fields, put_behind_lenenc_length};
use crate::status::{OK_HEADER, split_lenenc_int};

/// First byte of an OK packet's text that is such a proof.
const PROOF: char = '\x01';

/// The payload of an OK packet with the proof as its text, for a login by `mysql_native_password` with a password that
/// is not empty. `fingerprint` is the certificate's SHA-256. None if this is no OK packet.
pub fn prove_certificate(
    ok: &[u8],
    password: &[u8],
    scramble: &[u8],
    fingerprint: &[u8; 32],
) -> Option<Vec<u8>> {
    let once = Zeroizing::new(<[u8; 20]>::from(Sha1::digest(password)));
    let hash = Sha1::digest(*once);
    let proof = Sha256::new().chain_update(hash).chain_update(scramble).chain_update(fingerprint).finalize();
    let text = proof.iter().fold(String::from(PROOF), |mut text, byte| {
        let _ = write!(text, "{byte:02X}");
        text
    });
    with_text(ok, text.as_bytes())
}

/// An OK packet with another text: header, affected rows, insert id, status (2 bytes), warnings (2 bytes), the text
/// behind its length, and session state.
fn with_text(ok: &[u8], text: &[u8]) -> Option<Vec<u8>> {
    let rest = ok.strip_prefix(&[OK_HEADER])?;
    let (_, rest) = split_lenenc_int(rest)?;
    let (_, rest) = split_lenenc_int(rest)?;
    let mut rest = Fields(rest);
    rest.take(4)?;
    let mut payload = ok[..ok.len() - rest.0.len()].to_vec();
    // Servers leave an empty text out where nothing follows.
    rest.behind_lenenc_length();
    put_behind_lenenc_length(&mut payload, text);
    payload.extend_from_slice(rest.0);
    Some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_takes_its_place() {
        let head = [0, 0, 0, 2, 0, 0, 0];
        let state = [2, 0, 1];
        for (ok, behind) in [
            (head.to_vec(), &[][..]),
            ([&head[..], &[0]].concat(), &[]),
            ([&head[..], &[2, b'h', b'i'], &state].concat(), &state),
        ] {
            assert_eq!(with_text(&ok, b"new").unwrap(), [&head[..], &[3], b"new", behind].concat());
        }
        assert_eq!(with_text(&[0xff, 1, 0], b"new"), None);
        assert_eq!(with_text(&head[..5], b"new"), None);
    }

    /// Computed with Python's hashlib.
    #[test]
    fn a_proof() {
        let ok =
            prove_certificate(&[0, 0, 0, 2, 0, 0, 0], b"secret", b"01234567890123456789", &[7; 32]).unwrap();
        assert_eq!(ok[7..9], [65, 1]);
        assert_eq!(&ok[9..], EXPECTED.as_bytes());
    }

    const EXPECTED: &str = "50A35C72EF6A380207FBBC62F4FEF4C0E490C56F9A58780BAFB297459755BF30";
}
