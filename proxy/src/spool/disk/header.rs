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
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::spool) struct BlockHeader {
    pub(super) nonce: u64,
    pub(super) number: u64,
    /// None: the payload stands there as it is.
    pub(super) algorithm: Option<Algorithm>,
    pub(super) payload: Checked,
    pub(super) stored: Checked,
}

/// What is known of some bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Checked {
    pub(super) len: u32,
    pub(super) crc: u32,
}

impl Checked {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self { len: bytes.len() as u32, crc: crc32c::crc32c(bytes) }
    }
}

impl BlockHeader {
    pub(in crate::spool) const LEN: usize = 40;
    const MAGIC: [u8; 4] = *b"SPWY";

    pub(super) fn encode(self) -> [u8; Self::LEN] {
        let form = match self.algorithm {
            None => *b"none",
            Some(Algorithm::Lz4) => *b"lz4 ",
            Some(Algorithm::Zstd) => *b"zstd",
        };
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(&Self::MAGIC);
        bytes[4..8].copy_from_slice(&form);
        bytes[8..16].copy_from_slice(&self.nonce.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.payload.len.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.payload.crc.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.stored.len.to_le_bytes());
        bytes[36..].copy_from_slice(&self.stored.crc.to_le_bytes());
        bytes
    }
}
