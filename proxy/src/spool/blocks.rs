//! Blocks in memory: begun, filled, sealed, given back. They grow with the traffic and shrink when it ends.

use super::block::{self, Buffer, MAX_BLOCK_LEN, MIN_BLOCK_LEN};
use super::response::grow_by_an_eighth;
use super::tiers::MAX_WRITES;
use super::{Block, BlockState, Spool};

/// Blocks kept to be filled again: as many as come back from the disk at a time.
const MAX_SPARES: usize = MAX_WRITES;

impl Spool {
    pub(super) fn fill_block(&mut self) -> Option<&mut Buffer> {
        match self.blocks.back_mut() {
            Some(Block { state: BlockState::Loaded(buffer), .. }) if self.filling => Some(buffer),
            _ => None,
        }
    }

    /// Begins a block to be filled; a small one beyond what the session may hold if `needed`.
    pub(super) fn begin_block(&mut self, needed: bool) -> bool {
        // An eighth of what the session may hold: some to read into, some being written, some read ahead.
        let fair = (self.memory.allowance() / 8) as usize;
        let mut len = self.next_block_len;
        while len > MIN_BLOCK_LEN && len > fair {
            len /= 4;
        }
        let buffer = match self.take_buffer(len) {
            Some(buffer) => buffer,
            None if needed => self.force_buffer(MIN_BLOCK_LEN),
            None => return false,
        };
        grow_by_an_eighth(&mut self.blocks);
        self.blocks.push_back(Block { state: BlockState::Loaded(buffer), unread: 0, returned: false });
        self.filling = true;
        true
    }

    /// Ends the filling of the last block. The next one is larger: this one did not hold what came.
    pub(super) fn seal(&mut self) {
        debug_assert_eq!(self.unparsed, 0);
        if std::mem::take(&mut self.filling) {
            let longer = (4 * self.next_block_len).min(MAX_BLOCK_LEN);
            if longer != self.next_block_len {
                self.drop_spares();
                self.next_block_len = longer;
            }
            let last = self.blocks.len() - 1;
            if self.blocks[last].unread == 0 {
                self.free_block(last);
            }
        }
    }

    /// Starts over in a last block of which everything was fed.
    pub(super) fn reuse_fill_block(&mut self) {
        let idle = self.unparsed == 0 && self.blocks.back().is_some_and(|block| block.unread == 0);
        if let Some(buffer) = self.fill_block().filter(|_| idle) {
            buffer.clear();
        }
    }

    pub(super) fn free_block(&mut self, index: usize) {
        if let BlockState::Loaded(buffer) = std::mem::replace(&mut self.blocks[index].state, BlockState::Gone)
        {
            self.recycle(buffer);
        }
        while matches!(self.blocks.front(), Some(Block { state: BlockState::Gone, .. })) {
            self.blocks.pop_front();
            self.first_block += 1;
        }
    }

    pub(super) fn take_buffer(&mut self, len: usize) -> Option<Buffer> {
        if let Some(mut spare) = self.spares.pop_if(|spare| spare.len() >= len) {
            spare.clear();
            return Some(spare);
        }
        // One that is too short goes for it.
        while !self.memory.try_grow(len as u64) {
            let spare = self.spares.pop()?;
            self.memory.shrink(spare.len() as u64);
        }
        Some(Buffer::new(len))
    }

    /// Gives spares back as long as the session holds more than it may, because others need it.
    pub(super) fn yield_spares(&mut self) {
        while self.memory.blocks() > self.memory.allowance()
            && let Some(spare) = self.spares.pop()
        {
            self.memory.shrink(spare.len() as u64);
        }
    }

    /// Bytes of blocks with something in them.
    pub(super) fn in_use(&self) -> u64 {
        self.memory.blocks() - self.spares.iter().map(|spare| spare.len() as u64).sum::<u64>()
    }

    fn drop_spares(&mut self) {
        for spare in self.spares.drain(..) {
            self.memory.shrink(spare.len() as u64);
        }
    }

    /// A buffer beyond what the session may hold: the one without which it could not go on.
    pub(super) fn force_buffer(&mut self, len: usize) -> Buffer {
        self.memory.force_grow(len as u64);
        Buffer::new(len)
    }

    pub(super) fn recycle(&mut self, buffer: Buffer) {
        // A block that was forced beyond the allowance must not stay as one to be filled.
        let within = self.memory.blocks() <= self.memory.allowance();
        if self.spares.len() < MAX_SPARES && within && buffer.len() == self.next_block_len {
            self.spares.push(buffer);
        } else {
            self.memory.shrink(buffer.len() as u64);
        }
    }

    /// Gives back what a drain that stands still does not need.
    pub(crate) fn rest(&mut self) {
        self.drop_spares();
        block::trim();
    }

    /// Gives back what an idle session does not need.
    pub(super) fn shrink(&mut self) {
        self.drop_spares();
        self.next_block_len = MIN_BLOCK_LEN;
        let large = self.fill_block().is_some_and(|buffer| buffer.len() > MIN_BLOCK_LEN);
        if large && self.unparsed == 0 {
            self.filling = false;
            let last = self.blocks.len() - 1;
            self.free_block(last);
        }
    }
}
