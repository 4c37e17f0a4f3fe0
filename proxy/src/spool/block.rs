//! Blocks: what the spool reads into, keeps in memory, and writes to disk as it stands.

use std::ops::{Deref, DerefMut, Range};

use memmap2::{Advice, MmapMut};

use super::disk::BlockHeader;
use crate::core_dumps;

/// The smallest block: enough for a session of small responses, and what is left to a session when memory is short.
pub(crate) const MIN_BLOCK_LEN: usize = 16 * 1024;

/// The largest block: beyond 1 MiB neither the socket nor the disk gets faster.
pub(crate) const MAX_BLOCK_LEN: usize = 1024 * 1024;

/// Address and length of direct I/O must be multiples of the device's sector, which is at most this.
pub(super) const ALIGNMENT: usize = 4096;

/// Aligned memory of one block: a header's room, then payload.
///
/// ```text
/// ├─ header, 40 bytes ─┼─ payload (filled) ─┼─ room ─┤
/// └ multiple of 4096                        multiple of 4096 ┘
/// ```
pub(super) struct Buffer {
    memory: Memory,
    aligned: Range<usize>,
    filled: usize,
}

impl Buffer {
    /// A buffer of `len` bytes, header included; `len` must be a multiple of [`ALIGNMENT`].
    pub(super) fn new(len: usize) -> Self {
        debug_assert!(len.is_multiple_of(ALIGNMENT) && len > 0);
        let memory = Memory::new(len + ALIGNMENT);
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        Self { memory, aligned: start..start + len, filled: 0 }
    }

    /// Its length, header included: what it is charged with.
    pub(super) fn len(&self) -> usize {
        self.aligned.len()
    }

    /// The payload so far.
    pub(super) fn payload(&self) -> &[u8] {
        let start = self.aligned.start + BlockHeader::LEN;
        &self.memory[start..start + self.filled]
    }

    /// The payload so far, to be changed.
    pub(super) fn payload_mut(&mut self) -> &mut [u8] {
        let start = self.aligned.start + BlockHeader::LEN;
        &mut self.memory[start..start + self.filled]
    }

    /// What is left to fill.
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.memory[self.aligned.start + BlockHeader::LEN + self.filled..self.aligned.end]
    }

    /// `len` more bytes of the room are payload now.
    pub(super) fn fill(&mut self, len: usize) {
        self.filled += len;
        debug_assert!(BlockHeader::LEN + self.filled <= self.len());
    }

    /// Forgets the payload.
    pub(super) fn clear(&mut self) {
        self.filled = 0;
    }

    /// Clears what lies behind the payload in its last sector: it may be another block's, from before the buffer was
    /// used again.
    pub(super) fn clear_behind(&mut self) {
        let end = (BlockHeader::LEN + self.filled).next_multiple_of(ALIGNMENT);
        self.memory[self.aligned.start + BlockHeader::LEN + self.filled..self.aligned.start + end].fill(0);
    }

    /// The whole sectors that hold header and payload; what lies behind the payload is zero or of no meaning.
    pub(super) fn sectors(&mut self) -> &mut [u8] {
        let len = (BlockHeader::LEN + self.filled).next_multiple_of(ALIGNMENT);
        &mut self.memory[self.aligned.start..self.aligned.start + len]
    }
}

/// Where a buffer lies. Zeroed pages come from the system untouched, so what is never filled costs nothing.
enum Memory {
    Heap(Box<[u8]>),
    /// Left out of core dumps, for which it must be a mapping of its own.
    Undumped(MmapMut),
}

impl Memory {
    fn new(len: usize) -> Self {
        let undumped = || {
            let mapped = MmapMut::map_anon(len).ok()?;
            mapped.advise(Advice::DontDump).ok().map(|()| Self::Undumped(mapped))
        };
        // A process may have some thousand mappings. Rows in a core dump are better than no session.
        let undumped = if core_dumps::are_allowed() { undumped() } else { None };
        undumped.unwrap_or_else(|| Self::Heap(vec![0; len].into_boxed_slice()))
    }
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Heap(memory) => memory,
            Self::Undumped(memory) => memory,
        }
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Heap(memory) => memory,
            Self::Undumped(memory) => memory,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_keep_header_and_payload_apart() {
        let mut buffer = Buffer::new(2 * ALIGNMENT);
        assert_eq!(buffer.room().len(), 2 * ALIGNMENT - BlockHeader::LEN);
        buffer.room()[..3].copy_from_slice(b"abc");
        buffer.fill(3);
        assert_eq!(buffer.payload(), b"abc");
        assert_eq!(buffer.sectors().len(), ALIGNMENT);
        assert_eq!(buffer.sectors().as_ptr().align_offset(ALIGNMENT), 0);
        let rest = buffer.room().len();
        buffer.fill(rest);
        assert_eq!(buffer.sectors().len(), 2 * ALIGNMENT);
    }

    #[test]
    fn nothing_stays_behind_the_payload() {
        let mut buffer = Buffer::new(2 * ALIGNMENT);
        buffer.room().fill(7);
        buffer.fill(100);
        buffer.clear_behind();
        assert!(buffer.payload() == [7; 100]);
        assert!(buffer.sectors()[BlockHeader::LEN + 100..].iter().all(|byte| *byte == 0));
        let rest = buffer.room().len();
        buffer.fill(rest);
        buffer.clear_behind();
        assert_eq!(buffer.payload().last(), Some(&7));
    }
}
