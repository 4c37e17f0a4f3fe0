//! RSA as `caching_sha2_password` and `sha256_password` use it where a password goes over an open connection: OAEP with
//! SHA-1, of the password with its NUL, XORed with the scramble so that an encrypted password is of no use twice.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

use std::fmt;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey,
    PublicEncryptingKey,
};
use pem::{EncodeConfig, LineEnding, Pem};
use spillway_protocol::SCRAMBLE_LEN;
use zeroize::Zeroizing;

/// The longest key that is read, in PEM: several times what one of 8192 bits takes.
pub(crate) const MAX_PEM_LEN: usize = 8 * 1024;

/// What a PEM file calls a SubjectPublicKeyInfo.
const PUBLIC_KEY: &str = "PUBLIC KEY";

/// The scramble of an exchange, by which an encrypted password counts only once.
pub(crate) type Scramble = [u8; SCRAMBLE_LEN];

/// Why a key or an encrypted password is of no use. Never tells a password.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RsaError {
    #[error("it is of {0} bytes, and no key has more than {MAX_PEM_LEN}")]
    TooLong(usize),
    #[error("it is no public key in PEM (-----BEGIN PUBLIC KEY-----)")]
    NotPem,
    #[error("it is no RSA key of 2048 to 8192 bits")]
    NotRsa,
    #[error("the password is too long for an RSA key of {0} bits")]
    PasswordTooLong(usize),
    #[error("it was not encrypted with the key that spillway gives out")]
    OtherKey,
    #[error("RSA failed on this machine")]
    Failed,
}

/// A server's key.
#[derive(Debug)]
pub(crate) struct PublicKey(OaepPublicEncryptingKey);

impl PublicKey {
    /// Reads a key in PEM, from a file or a peer.
    pub(crate) fn from_pem(pem: &[u8]) -> Result<Self, RsaError> {
        if pem.len() > MAX_PEM_LEN {
            return Err(RsaError::TooLong(pem.len()));
        }
        let pem = pem::parse(pem).ok().filter(|pem| pem.tag() == PUBLIC_KEY).ok_or(RsaError::NotPem)?;
        let key = PublicEncryptingKey::from_der(pem.contents()).map_err(|_| RsaError::NotRsa)?;
        OaepPublicEncryptingKey::new(key).map(Self).map_err(|_| RsaError::NotRsa)
    }

    /// The packet that hands over a password, which has no NUL behind it here.
    pub(crate) fn encrypt(&self, password: &[u8], scramble: &Scramble) -> Result<Vec<u8>, RsaError> {
        let Self(key) = self;
        let mut plain = Zeroizing::new([password, &[0]].concat());
        if plain.len() > key.max_plaintext_size(&OAEP_SHA1_MGF1SHA1) {
            return Err(RsaError::PasswordTooLong(key.key_size_bits()));
        }
        mask(&mut plain, scramble);
        let mut cipher = vec![0; key.ciphertext_size()];
        let len =
            key.encrypt(&OAEP_SHA1_MGF1SHA1, &plain, &mut cipher, None).map_err(|_| RsaError::Failed)?.len();
        cipher.truncate(len);
        Ok(cipher)
    }
}

/// The key that Spillway gives to clients.
pub(crate) struct OwnKey {
    key: OaepPrivateDecryptingKey,
    pem: String,
}

impl OwnKey {
    /// Makes a new one. Takes a tenth of a second or several, so not on the runtime's own threads.
    pub(crate) fn generate() -> Result<Self, RsaError> {
        let failed = |_| RsaError::Failed;
        let key = PrivateDecryptingKey::generate(KeySize::Rsa2048).map_err(failed)?;
        let public: PublicKeyX509Der<'_> = key.public_key().as_der().map_err(failed)?;
        let pem = pem::encode_config(
            &Pem::new(PUBLIC_KEY, public.as_ref()),
            EncodeConfig::new().set_line_ending(LineEnding::LF),
        );
        Ok(Self { key: OaepPrivateDecryptingKey::new(key).map_err(failed)?, pem })
    }

    /// The public half, in PEM.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// The password that a client has encrypted for one of these scrambles, with its NUL. What goes wrong is told in one
    /// way only: who sends many packets must not learn from the answers what is in another's.
    pub(crate) fn decrypt<'a>(
        &self,
        cipher: &[u8],
        scrambles: impl IntoIterator<Item = &'a Scramble>,
    ) -> Result<Zeroizing<Vec<u8>>, RsaError> {
        let mut plain = Zeroizing::new(vec![0; self.key.min_output_size()]);
        let decrypted = self.key.decrypt(&OAEP_SHA1_MGF1SHA1, cipher, &mut plain, None);
        let len = decrypted.map_err(|_| RsaError::OtherKey)?.len();
        plain.truncate(len);
        for scramble in scrambles {
            let mut password = plain.clone();
            mask(&mut password, scramble);
            if is_terminated(&password) {
                return Ok(password);
            }
        }
        Err(RsaError::OtherKey)
    }
}

impl fmt::Debug for OwnKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnKey").finish_non_exhaustive()
    }
}

/// Whether these bytes can be a password as it is sent: with a NUL at the end, and none before.
pub(crate) fn is_terminated(bytes: &[u8]) -> bool {
    bytes.iter().position(|&byte| byte == 0).is_some_and(|nul| nul + 1 == bytes.len())
}

fn mask(bytes: &mut [u8], scramble: &Scramble) {
    for (byte, mask) in bytes.iter_mut().zip(scramble.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRAMBLE: &Scramble = b"01234567890123456789";
    const OTHER: &Scramble = b"abcdefghijklmnopqrst";

    #[test]
    fn a_password_goes_there_and_back() {
        let own = OwnKey::generate().unwrap();
        let public = PublicKey::from_pem(own.pem().as_bytes()).unwrap();
        for password in [&b""[..], b"secret", "größer als zwanzig Bytes".as_bytes(), &[b'x'; 213]] {
            let cipher = public.encrypt(password, SCRAMBLE).unwrap();
            assert_eq!(cipher.len(), 256);
            let plain = own.decrypt(&cipher, [OTHER, SCRAMBLE]).unwrap();
            assert_eq!(*plain, [password, b"\0"].concat());
        }
        assert_eq!(public.encrypt(&[b'x'; 214], SCRAMBLE).err(), Some(RsaError::PasswordTooLong(2048)));
    }

    #[test]
    fn what_is_not_for_this_key_and_scramble_is_refused() {
        let own = OwnKey::generate().unwrap();
        let public = PublicKey::from_pem(own.pem().as_bytes()).unwrap();
        let foreign = PublicKey::from_pem(OwnKey::generate().unwrap().pem().as_bytes()).unwrap();
        // No NUL at the end by any other mask than the right one: the two differ in every byte.
        let good = public.encrypt(b"secret", SCRAMBLE).unwrap();
        for cipher in [
            foreign.encrypt(b"secret", SCRAMBLE).unwrap(),
            Vec::new(),
            vec![0; 256],
            vec![0xff; 256],
            good[1..].to_vec(),
            [&good[..], b"x"].concat(),
        ] {
            assert_eq!(own.decrypt(&cipher, [SCRAMBLE]).err(), Some(RsaError::OtherKey));
        }
        assert_eq!(own.decrypt(&good, [OTHER]).err(), Some(RsaError::OtherKey));
        assert_eq!(own.decrypt(&good, []).err(), Some(RsaError::OtherKey));
    }

    #[test]
    fn keys_of_peers_are_not_trusted_to_be_any() {
        let pem = OwnKey::generate().unwrap().pem().to_owned();
        let endless = format!("-----BEGIN PUBLIC KEY-----\n{}", "QUJD\n".repeat(4000));
        for (text, error) in [
            ("", RsaError::NotPem),
            ("-----BEGIN PUBLIC KEY-----", RsaError::NotPem),
            (&pem[..pem.len() / 2], RsaError::NotPem),
            (&endless, RsaError::TooLong(endless.len())),
            (&pem.replace("PUBLIC", "RSA PRIVATE"), RsaError::NotPem),
            ("-----BEGIN PUBLIC KEY-----\nQUJD\n-----END PUBLIC KEY-----\n", RsaError::NotRsa),
            (P256, RsaError::NotRsa),
            (RSA_1024, RsaError::NotRsa),
        ] {
            assert_eq!(PublicKey::from_pem(text.as_bytes()).err(), Some(error), "{text}");
        }
    }

    /// Made with OpenSSL.
    const P256: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEfXy/zNWm4U0R1U3apOWNnWr9jf7D
WEk20zRzZDQAaQHAUmgaWTUofqbny1HFsN578EfVDPFC5Y0p0dFO2MKtaA==
-----END PUBLIC KEY-----
";
    const RSA_1024: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDX3fBMPnk1SsfFly9RWxZaobTf
Z63tnH+3/YRn5YArjM135IF/ZCOyvZIuI6Fsrgre/4mNKuxY5riQ+71H1aY81+xF
bLNIudppWpP9LeryF9qJHaaabwopnVIeJrieZ2wiBWFW2s+CjHftS4d+ZFEV1Z0Z
BQpzGBgKf1BwDPqUrQIDAQAB
-----END PUBLIC KEY-----
";

    #[test]
    fn a_ciphertext_of_another_library() {
        // What a MySQL 9.7 server takes is shown by the tests with real ones; here only that the masks agree.
        let mut bytes = *b"secret\0";
        mask(&mut bytes, SCRAMBLE);
        assert_eq!(bytes, [0x43, 0x54, 0x51, 0x41, 0x51, 0x41, 0x36]);
        assert!(is_terminated(b"secret\0") && is_terminated(b"\0"));
        assert!(!is_terminated(b"") && !is_terminated(b"secret") && !is_terminated(b"a\0b\0"));
    }
}
