//! Encryption of blocks on their way to the disk and back (`--spool-encrypt`): AES-256-GCM, in place.
//!
//! Each session has a key of its own, made when it first writes. The key is nowhere but in memory and gone with the
//! session, so what is left on the disk then can be read by nobody any more, Spillway included. It is not the
//! process's, because a session's blocks must be of no use in the place of another's, and because nonces can then be
//! counted without asking anybody.
//!
//! A nonce must never be used twice with one key, as that would give away what the two blocks differ in, and the means
//! to forge others. So each is the number of a write: not the number of the block, because a block whose write has
//! failed is written again, and may be compressed to other bytes then. A [`Sealer`] belongs to one session and counts
//! under `&mut`; what it gives out is no copy of anything and is used up by sealing; and 2^64 writes take centuries.

use std::io;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

/// Length of the key in bytes.
const KEY_LEN: usize = 32;

/// What one session's blocks are sealed by.
#[derive(Default)]
pub(super) struct Sealer {
    /// None before the first write: most sessions never get there.
    key: Option<Arc<LessSafeKey>>,
    /// Writes that have their nonce.
    writes: u64,
}

/// The key with a nonce, for one block.
pub(super) struct OneUse {
    key: Arc<LessSafeKey>,
    nonce: u64,
}

/// What a sealed block must fit to be opened. It stays in memory, like all that is known of blocks on disk, so no other
/// block of the same session fits, nor an older writing of the same one.
pub(super) struct Seal {
    key: Arc<LessSafeKey>,
    nonce: u64,
    tag: [u8; MAX_TAG_LEN],
}

/// AES-GCM does not work on this machine.
#[derive(Debug, thiserror::Error)]
#[error("encryption failed on this machine")]
pub(super) struct SealError;

impl Sealer {
    /// The key with a nonce that no other write has.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub(super) fn for_next_write(&mut self) -> io::Result<OneUse> {
        let key = match &self.key {
            Some(key) => key,
            None => self.key.insert(Arc::new(new_key()?)),
        };
        let one_use = OneUse { key: Arc::clone(key), nonce: self.writes };
        self.writes += 1;
        Ok(one_use)
    }
}

/// The library zeroizes its own copy when it is freed.
fn new_key() -> io::Result<LessSafeKey> {
    let failed = |_| io::Error::other("no key to encrypt the spool with: the system gives no random numbers");
    let mut bytes = Zeroizing::new([0; KEY_LEN]);
    aws_lc_rs::rand::fill(&mut *bytes).map_err(failed)?;
    UnboundKey::new(&AES_256_GCM, &*bytes).map(LessSafeKey::new).map_err(failed)
}

impl OneUse {
    /// Encrypts `bytes`, bound to `header`, which is not encrypted.
    ///
    /// # Errors
    /// If that fails; `bytes` are lost then.
    pub(super) fn seal(self, header: &[u8], bytes: &mut [u8]) -> Result<Seal, SealError> {
        let Self { key, nonce } = self;
        let sealed = key.seal_in_place_separate_tag(encode(nonce), Aad::from(header), bytes);
        let tag = sealed.ok().and_then(|tag| tag.as_ref().try_into().ok()).ok_or(SealError)?;
        Ok(Seal { key, nonce, tag })
    }
}

impl Seal {
    /// Decrypts `bytes`. False if they, or the `header`, are not those that were sealed; `bytes` are of no meaning then.
    pub(super) fn open(&self, header: &[u8], bytes: &mut [u8]) -> bool {
        let Self { key, nonce, tag } = self;
        key.open_in_place_separate_tag(encode(*nonce), Aad::from(header), tag, bytes).is_ok()
    }
}

fn encode(nonce: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[..8].copy_from_slice(&nonce.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const HEADER: &[u8] = b"block 7";
    const PLAIN: &[u8] = b"a row that nobody else is to read";

    fn sealed(sealer: &mut Sealer) -> (Seal, Vec<u8>) {
        let mut bytes = PLAIN.to_vec();
        let seal = sealer.for_next_write().unwrap().seal(HEADER, &mut bytes).unwrap();
        (seal, bytes)
    }

    #[test]
    fn what_was_sealed_is_opened() {
        let (seal, mut bytes) = sealed(&mut Sealer::default());
        assert_ne!(bytes, PLAIN);
        assert!(seal.open(HEADER, &mut bytes));
        assert_eq!(bytes, PLAIN);
        let mut nothing = [0_u8; 0];
        let seal = Sealer::default().for_next_write().unwrap().seal(HEADER, &mut nothing).unwrap();
        assert!(seal.open(HEADER, &mut nothing) && !seal.open(b"another", &mut nothing));
    }

    #[test]
    fn nothing_else_is_opened() {
        let opens = |seal: &Seal, header: &[u8], bytes: &[u8]| seal.open(header, &mut bytes.to_vec());
        let mut sealer = Sealer::default();
        let ((seal, bytes), (other, others)) = (sealed(&mut sealer), sealed(&mut sealer));
        assert!(opens(&seal, HEADER, &bytes) && opens(&other, HEADER, &others));
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!opens(&seal, HEADER, &flipped), "bit {bit}");
        }
        assert!(!opens(&seal, b"block 8", &bytes) && !opens(&seal, HEADER, &bytes[1..]));
        // Of the same plain bytes, and the same session.
        assert!(!opens(&seal, HEADER, &others) && !opens(&other, HEADER, &bytes));
        let (_, of_another_session) = sealed(&mut Sealer::default());
        assert!(!opens(&seal, HEADER, &of_another_session));
    }

    #[test]
    fn no_two_writes_look_alike() {
        let mut sealers = [Sealer::default(), Sealer::default()];
        let all: HashSet<Vec<u8>> = (0..1000).map(|write| sealed(&mut sealers[write % 2]).1).collect();
        assert_eq!(all.len(), 1000);
        assert_eq!(sealers[0].for_next_write().unwrap().nonce, 500);
    }
}
