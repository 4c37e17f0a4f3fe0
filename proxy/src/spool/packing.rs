//! Compression of blocks on their way to the disk and back (`--spool-compress`).
//!
//! The blocks of all sessions share a few packers; where all are in use, one is waited for. So what compression takes
//! of memory is bounded by their number, whatever the number of sessions.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into};
use zstd::zstd_safe::{CCtx, CParameter, DCtx};

use super::block::{ALIGNMENT, Buffer, MAX_BLOCK_LEN};
use super::disk::BlockHeader;

/// How blocks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// LZ4's block format.
    Lz4,
    /// A zstd frame of level 1. The negative levels take up to a sixth less time, and a fifth more space (measured).
    Zstd,
}

/// The packers that all sessions share.
pub struct Packing {
    algorithm: Option<Algorithm>,
    idle: Mutex<Vec<Packer>>,
    returned: Condvar,
}

impl Packing {
    /// Blocks are compressed in this way, or not at all. There is a packer for each core, but eight at most.
    pub fn new(algorithm: Option<Algorithm>) -> Arc<Self> {
        // Two at least: while the block of one is being written, the other one compresses.
        let count = available_parallelism().map_or(2, usize::from).clamp(2, MAX_PACKERS);
        let idle = algorithm.map(|algorithm| (0..count).map(|_| Packer::new(algorithm)).collect());
        Arc::new(Self { algorithm, idle: Mutex::new(idle.unwrap_or_default()), returned: Condvar::new() })
    }

    /// A packer, until it is dropped. Blocks the thread while all are in use: who has one waits for nothing but the
    /// disk. None if blocks are not compressed.
    pub(super) fn packer(&self) -> Option<Lent<'_>> {
        self.algorithm?;
        let mut idle = self.idle();
        loop {
            // The one used last: its memory is touched already, and perhaps in the processor's cache.
            if let Some(packer) = idle.pop() {
                return Some(Lent { packing: self, packer: Some(packer) });
            }
            idle = self.returned.wait(idle).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A packer with the block compressed in it; none if blocks are not compressed, or this one does not shrink.
    pub(super) fn pack(&self, plain: &[u8]) -> Option<Lent<'_>> {
        let mut packer = self.packer()?;
        packer.pack(plain).then_some(packer)
    }

    /// Nothing panics while the lock is held, so the list is whole.
    fn idle(&self) -> MutexGuard<'_, Vec<Packer>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Packing({:?})", self.algorithm)
    }
}

/// A packer in use. It goes back on drop, also if its job panics.
pub(super) struct Lent<'a> {
    packing: &'a Packing,
    packer: Option<Packer>,
}

impl Deref for Lent<'_> {
    type Target = Packer;

    #[expect(clippy::expect_used, reason = "there is one until the drop")]
    fn deref(&self) -> &Packer {
        self.packer.as_ref().expect("a packer")
    }
}

impl DerefMut for Lent<'_> {
    #[expect(clippy::expect_used, reason = "there is one until the drop")]
    fn deref_mut(&mut self) -> &mut Packer {
        self.packer.as_mut().expect("a packer")
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.packing.idle().extend(self.packer.take());
        self.packing.returned.notify_one();
    }
}

/// Compresses and decompresses, one block at a time.
///
/// Its memory: 1.1 MiB for the packed block, of which is touched what blocks compress to, and the algorithm's own: 16
/// KiB for lz4, 0.65 MiB for zstd (measured).
pub(super) struct Packer {
    codec: Codec,
    /// The packed block.
    pub(super) packed: Buffer,
}

enum Codec {
    Lz4(CompressTable),
    Zstd { compressor: CCtx<'static>, decompressor: DCtx<'static> },
}

impl Packer {
    fn new(algorithm: Algorithm) -> Self {
        let codec = match algorithm {
            Algorithm::Lz4 => Codec::Lz4(CompressTable::large()),
            Algorithm::Zstd => {
                let mut compressor = CCtx::create();
                let level = compressor.set_parameter(CParameter::CompressionLevel(ZSTD_LEVEL));
                debug_assert!(level.is_ok());
                Codec::Zstd { compressor, decompressor: DCtx::create() }
            }
        };
        Self { codec, packed: Buffer::new(PACKED_LEN) }
    }

    /// How its packed blocks were made.
    pub(super) fn algorithm(&self) -> Algorithm {
        match self.codec {
            Codec::Lz4(_) => Algorithm::Lz4,
            Codec::Zstd { .. } => Algorithm::Zstd,
        }
    }

    /// Compresses `plain` into `packed`. False if that would not save an eighth of its sectors: then reading back would
    /// cost more than the disk gains.
    pub(super) fn pack(&mut self, plain: &[u8]) -> bool {
        self.packed.clear();
        let sectors = (BlockHeader::LEN + plain.len()).div_ceil(ALIGNMENT);
        let limit = ((sectors - sectors.div_ceil(8)) * ALIGNMENT).saturating_sub(BlockHeader::LEN);
        let room = self.packed.room();
        let len = match &mut self.codec {
            // It wants room for the worst case, and gives up early by itself.
            Codec::Lz4(table) => compress_into_with_table(plain, room, table).ok(),
            Codec::Zstd { compressor, .. } => compressor.compress2(&mut room[..limit], plain).ok(),
        };
        let len = len.filter(|&len| len <= limit);
        self.packed.fill(len.unwrap_or(0));
        len.is_some()
    }

    /// Decompresses `packed`, which must fill `plain` exactly. False if it does not.
    pub(super) fn unpack(&mut self, plain: &mut [u8]) -> bool {
        let packed = self.packed.payload();
        let len = match &mut self.codec {
            Codec::Lz4(_) => decompress_into(packed, plain).ok(),
            Codec::Zstd { decompressor, .. } => decompressor.decompress(plain, packed).ok(),
        };
        len == Some(plain.len())
    }
}

/// Cores beyond these compress no more blocks at a time: four sessions of one would keep them busy, and the memory of
/// all packers stays below 16 MiB.
const MAX_PACKERS: usize = 8;
const ZSTD_LEVEL: i32 = 1;
/// Room for a block that grows: lz4 must have a tenth more than it is given.
const PACKED_LEN: usize = MAX_BLOCK_LEN + MAX_BLOCK_LEN / 8;

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Algorithm; 2] = [Algorithm::Lz4, Algorithm::Zstd];

    fn repeated(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i / 100) as u8).collect()
    }

    fn noise(len: usize) -> Vec<u8> {
        (0..len).map(|_| rand::random()).collect()
    }

    #[test]
    fn what_shrinks_is_packed_and_comes_back() {
        for algorithm in BOTH {
            let packing = Packing::new(Some(algorithm));
            for len in [5_000, 16_000, MAX_BLOCK_LEN - BlockHeader::LEN] {
                let (plain, mut back) = (repeated(len), vec![0; len]);
                let mut packer = packing.packer().unwrap();
                assert!(packer.pack(&plain), "{algorithm:?} {len}");
                assert!(packer.packed.payload().len() < len / 4);
                assert!(packer.unpack(&mut back));
                assert!(plain == back, "{algorithm:?} {len}");
            }
        }
    }

    #[test]
    fn what_does_not_save_an_eighth_is_not() {
        for algorithm in BOTH {
            let packing = Packing::new(Some(algorithm));
            let mut packer = packing.packer().unwrap();
            // One sector stays one sector, and in the last one a thirteenth of the bytes would shrink.
            let barely = [noise(60_000), repeated(5_000)].concat();
            for plain in [vec![], repeated(4_000), noise(MAX_BLOCK_LEN - BlockHeader::LEN), barely] {
                assert!(!packer.pack(&plain), "{algorithm:?} {}", plain.len());
            }
            assert!(packer.pack(&repeated(100_000)), "{algorithm:?}: after what would not fit");
        }
    }

    #[test]
    fn another_length_or_a_torn_block_is_noticed() {
        for algorithm in BOTH {
            let packing = Packing::new(Some(algorithm));
            let mut packer = packing.packer().unwrap();
            assert!(packer.pack(&repeated(100_000)));
            for len in [0, 99_999, 100_001] {
                assert!(!packer.unpack(&mut vec![0; len]), "{algorithm:?} {len}");
            }
            let torn = packer.packed.payload()[..packer.packed.payload().len() - 1].to_vec();
            packer.packed.clear();
            packer.packed.room()[..torn.len()].copy_from_slice(&torn);
            packer.packed.fill(torn.len());
            assert!(!packer.unpack(&mut vec![0; 100_000]), "{algorithm:?}: torn");
        }
    }

    #[test]
    fn packers_are_shared_and_come_back_from_a_panic() {
        let packing = Packing::new(Some(Algorithm::Lz4));
        let count = packing.idle().len();
        let all: Vec<_> = (0..count).map(|_| packing.packer().unwrap()).collect();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| packing.packer().map(|_| ()));
            drop(all);
            assert_eq!(waiting.join().unwrap(), Some(()));
        });
        let shared = Arc::clone(&packing);
        let panicked = std::thread::spawn(move || {
            let _packer = shared.packer();
            panic!("of the test");
        });
        assert!(panicked.join().is_err());
        assert_eq!(packing.idle().len(), count);
    }
}
