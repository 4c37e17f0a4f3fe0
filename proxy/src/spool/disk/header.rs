//! What stands before a block on disk.

use super::super::packing::Algorithm;

/// What stands before a block on disk, and what is expected to stand there.
///
/// ```text
/// 4  magic   4  form   8  session nonce   8  block number
/// 4  payload length    4  crc32c of the payload
/// 4  stored length     4  crc32c of the stored bytes
/// ```
///
/// The stored bytes are those behind the header: the payload, or what it was compressed to. Their checksum tells what
/// the disk did, before anything is decompressed; the payload's tells what compression and memory did.
///
/// Where they are encrypted, the seal has the place of their checksum. Then both checksums are zero on disk: one of plain
/// bytes would tell something of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::spool) struct BlockHeader {
    pub(super) nonce: u64,
    pub(super) number: u64,
    /// None: the payload stands there as it is.
    pub(super) algorithm: Option<Algorithm>,
    /// The stored bytes are encrypted.
    pub(super) is_sealed: bool,
    pub(super) payload: Checked,
    pub(super) stored: Checked,
}

/// What is known of some bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Checked {
    pub(super) len: u32,
    /// None where a seal stands for it.
    pub(super) crc: Option<u32>,
}

impl Checked {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self { len: bytes.len() as u32, crc: Some(crc32c::crc32c(bytes)) }
    }

    /// Of bytes that a seal keeps from being others.
    pub(super) fn by_seal(bytes: &[u8]) -> Self {
        Self { len: bytes.len() as u32, crc: None }
    }

    /// Whether these are the bytes, as far as can be told here.
    pub(super) fn fits(self, bytes: &[u8]) -> bool {
        self.len as usize == bytes.len() && self.crc.is_none_or(|crc| crc == crc32c::crc32c(bytes))
    }
}

impl BlockHeader {
    pub(in crate::spool) const LEN: usize = 40;
    const MAGIC: [u8; 4] = *b"SPWY";
    const MAGIC_SEALED: [u8; 4] = *b"SPWS";

    pub(super) fn encode(self) -> [u8; Self::LEN] {
        let form = match self.algorithm {
            None => *b"none",
            Some(Algorithm::Lz4) => *b"lz4 ",
            Some(Algorithm::Zstd) => *b"zstd",
        };
        let magic = if self.is_sealed { Self::MAGIC_SEALED } else { Self::MAGIC };
        let crc = |checked: Checked| checked.crc.filter(|_| !self.is_sealed).unwrap_or(0);
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(&magic);
        bytes[4..8].copy_from_slice(&form);
        bytes[8..16].copy_from_slice(&self.nonce.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.payload.len.to_le_bytes());
        bytes[28..32].copy_from_slice(&crc(self.payload).to_le_bytes());
        bytes[32..36].copy_from_slice(&self.stored.len.to_le_bytes());
        bytes[36..].copy_from_slice(&crc(self.stored).to_le_bytes());
        bytes
    }
}
