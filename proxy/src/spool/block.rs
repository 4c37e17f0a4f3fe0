//! Blocks: what the spool reads into, keeps in memory, and writes to disk as it stands.

use std::mem;
use std::ops::{Deref, DerefMut, Range};
use std::sync::{Mutex, MutexGuard, PoisonError};

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

impl Drop for Buffer {
    fn drop(&mut self) {
        let memory = mem::replace(&mut self.memory, Memory::Heap(Box::default()));
        if let Memory::Mapped(mapped) = memory {
            let mut free = free();
            if bytes_of(&free) + mapped.len() <= MAX_FREE {
                free.push(mapped);
            }
        }
    }
}

/// From this length on a buffer is a mapping of its own, which goes back to the system when it is freed. From a heap that
/// several threads share, blocks of many sessions leave holes: a fifth of what they hold was seen.
const MAPPED_LEN: usize = 256 * 1024;

/// Free mappings, which sessions hand on to each other: the pages of a new one cost more than to fill it. What is in them
/// is another session's.
static FREE: Mutex<Vec<MmapMut>> = Mutex::new(Vec::new());

/// Bytes of these that are kept.
const MAX_FREE: usize = 16 * 1024 * 1024;

/// Gives free mappings back to the system.
pub(super) fn trim() {
    drop(mem::take(&mut *free()));
}

fn bytes_of(mappings: &[MmapMut]) -> usize {
    mappings.iter().map(|mapped| mapped.len()).sum()
}

fn free() -> MutexGuard<'static, Vec<MmapMut>> {
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a buffer lies. Zeroed pages come from the system untouched, so what is never filled costs nothing.
enum Memory {
    Heap(Box<[u8]>),
    Mapped(MmapMut),
}

impl Memory {
    fn new(len: usize) -> Self {
        let is_undumped = core_dumps::are_allowed();
        // What is to be left out of core dumps must be a mapping, too.
        let mapped = if is_undumped || len >= MAPPED_LEN { Self::mapped(len, is_undumped) } else { None };
        // A process may have some ten thousand mappings. Rows in a core dump are better than no session.
        mapped.unwrap_or_else(|| Self::Heap(vec![0; len].into_boxed_slice()))
    }

    fn mapped(len: usize, is_undumped: bool) -> Option<Self> {
        let mut free = free();
        if let Some(index) = free.iter().rposition(|mapped| mapped.len() == len) {
            return Some(Self::Mapped(free.swap_remove(index)));
        }
        drop(free);
        let mapped = MmapMut::map_anon(len).ok()?;
        if is_undumped {
            mapped.advise(Advice::DontDump).ok()?;
        }
        Some(Self::Mapped(mapped))
    }
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Heap(memory) => memory,
            Self::Mapped(memory) => memory,
        }
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Heap(memory) => memory,
            Self::Mapped(memory) => memory,
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
    fn free_mappings_are_kept_within_bounds() {
        let buffers: Vec<_> = (0..20).map(|_| Buffer::new(MAX_BLOCK_LEN)).collect();
        assert!(buffers.iter().all(|buffer| matches!(buffer.memory, Memory::Mapped(_))));
        drop(buffers);
        assert!(bytes_of(&free()) <= MAX_FREE);
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
