//! Any bytes as a server's RSA key.

use super::{MAX_PEM_LEN, PublicKey, RsaError};
use crate::fuzzing::within;

/// A key is read or refused; one that was read encrypts a password.
pub(crate) fn public_key(input: &[u8]) {
    let key = match within(8 * MAX_PEM_LEN, || PublicKey::from_pem(input)) {
        Ok(key) => key,
        Err(error) => {
            assert!(matches!(error, RsaError::TooLong(_) | RsaError::NotPem | RsaError::NotRsa), "{error}");
            return;
        }
    };
    let Ok(packet) = key.encrypt(b"secret", b"01234567890123456789") else { panic!("does not encrypt") };
    assert!((256..=1024).contains(&packet.len()), "{} bytes", packet.len());
}
