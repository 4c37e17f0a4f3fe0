//! How blocks move between memory and disk.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tracing::{info, warn};

use super::block;
use super::block::MAX_BLOCK_LEN;
use super::disk::{self, ReadBackError, WriteError};
use super::response::Feedable;
use super::{Block, BlockState, Spool};

/// Blocks being written at a time. Two keep a disk busy; the others bridge its hiccups.
pub(super) const MAX_WRITES: usize = 8;
/// Blocks read ahead of the feed.
const READ_AHEAD: usize = 4;
/// How long a spool that could not write stays off the disk before it tries again.
const PAUSE: Duration = Duration::from_secs(1);
/// How many blocks or chunks are looked at in one search.
const SCAN: usize = 64;

impl Spool {
    /// Moves blocks to and from the disk as far as it is time. True if that may have made room for the drain or bytes
    /// for the feed. Wakes the task when a job is done, and while the drain is denied room, to try again.
    ///
    /// # Errors
    /// [`ReadBackError`] if a block is lost: every response that is not in memory whole ends as lost there.
    pub(crate) fn poll_disk(&mut self, cx: &mut Context<'_>) -> Result<bool, ReadBackError> {
        let mut progress = false;
        loop {
            for timer in [&mut self.paused, &mut self.retry] {
                if timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready()) {
                    *timer = None;
                    progress = true;
                }
            }
            self.yield_spares();
            self.read_ahead();
            self.spill();
            let wrote = self.poll_writes(cx)?;
            let read = self.poll_reads(cx)?;
            if !wrote && !read {
                return Ok(progress);
            }
            progress = true;
        }
    }

    /// Waits for the jobs under way and gives memory and disk space back.
    pub(crate) async fn close(mut self) {
        let mut extents = Vec::new();
        for block in self.blocks.drain(..) {
            match block.state {
                BlockState::Writing(job) => {
                    extents.extend(job.await.ok().and_then(|(_, written)| written.ok()));
                }
                BlockState::Reading(job) => drop(job.await),
                BlockState::OnDisk(extent) => extents.push(extent),
                BlockState::Loaded(_) | BlockState::Gone => {}
            }
        }
        self.spares.clear();
        block::trim();
        let disk = self.disk;
        if extents.is_empty() && disk.is_unused() {
            return;
        }
        // The last extent of a segment closes its file, which can take a while if it is long.
        let closed = tokio::task::spawn_blocking(move || drop((extents, disk))).await;
        debug_assert!(closed.is_ok());
    }

    /// Begins to read the blocks that the feed needs next: the one that it stands still without in any case, others
    /// as long as that leaves room to drain and to spill.
    fn read_ahead(&mut self) {
        if self.stats.spooled == 0 {
            return;
        }
        let front = self.responses.front().map(|front| front.feedable(|number| self.is_loaded(number)));
        if let Some(Feedable { len: 0, waits_for: Some(number) }) = front {
            self.begin_read(number, true);
        }
        for number in self.next_on_disk() {
            if !self.begin_read(number, false) {
                break;
            }
        }
    }

    /// The blocks on disk that the feed comes to next, in its order.
    fn next_on_disk(&self) -> Vec<u64> {
        let chunks = self.responses.iter().flat_map(|response| &response.chunks);
        let mut blocks: Vec<u64> = chunks.map(|chunk| chunk.block).take(SCAN).collect();
        blocks.dedup();
        blocks.truncate(READ_AHEAD);
        let state = |number: u64| &self.blocks[(number - self.first_block) as usize].state;
        blocks.retain(|&number| matches!(state(number), BlockState::OnDisk(_)));
        blocks
    }

    /// Begins to read one block. Denied if memory is short, unless it is urgent: the feed stands still without it.
    fn begin_read(&mut self, number: u64, urgent: bool) -> bool {
        let index = (number - self.first_block) as usize;
        let BlockState::OnDisk(extent) = &self.blocks[index].state else {
            return false;
        };
        let (len, disk_len) = (extent.memory_len(), extent.disk_len());
        // One block to fill and one to write must still fit.
        let kept_free = (2 * self.next_block_len) as u64;
        let spacious = self.in_use() + len as u64 + kept_free <= self.memory.allowance();
        if !urgent && !spacious {
            return false;
        }
        let buffer = match self.take_buffer(len) {
            Some(buffer) => buffer,
            None if urgent => self.force_buffer(len),
            None => return false,
        };
        if let BlockState::OnDisk(extent) = std::mem::replace(&mut self.blocks[index].state, BlockState::Gone)
        {
            self.blocks[index].state = BlockState::Reading(disk::read(extent, buffer));
            self.stats.on_disk -= disk_len;
            self.reads.push(number);
        }
        true
    }

    fn poll_reads(&mut self, cx: &mut Context<'_>) -> Result<bool, ReadBackError> {
        let mut finished = false;
        let mut lost = Ok(());
        for number in std::mem::take(&mut self.reads) {
            let block = &mut self.blocks[(number - self.first_block) as usize];
            let BlockState::Reading(job) = &mut block.state else {
                continue;
            };
            let Poll::Ready(read) = Pin::new(job).poll(cx) else {
                self.reads.push(number);
                continue;
            };
            finished = true;
            let error = match read {
                Ok((buffer, Ok(()))) => {
                    self.stats.spooled -= buffer.payload().len() as u64;
                    block.state = BlockState::Loaded(buffer);
                    block.returned = true;
                    continue;
                }
                Ok((buffer, Err(error))) => {
                    block.state = BlockState::Gone;
                    self.recycle(buffer);
                    error
                }
                Err(panic) => {
                    block.state = BlockState::Gone;
                    ReadBackError::Job { number, source: panic }
                }
            };
            self.lose_block(number);
            lost = lost.and(Err(error));
        }
        lost.map(|()| finished)
    }

    /// Moves sealed blocks to disk, the newest first, while the session uses more than half of what it may: the other
    /// half is for blocks on their way to and from the disk.
    fn spill(&mut self) {
        while self.writes.len() < MAX_WRITES
            && self.paused.is_none()
            && self.in_use() > self.memory.allowance() / 2
        {
            let Some(number) = self.newest_spillable() else {
                return;
            };
            let index = (number - self.first_block) as usize;
            let BlockState::Loaded(buffer) =
                std::mem::replace(&mut self.blocks[index].state, BlockState::Gone)
            else {
                return;
            };
            let len = buffer.payload().len() as u64;
            match self.disk.write(number, buffer) {
                Ok(job) => {
                    self.blocks[index].state = BlockState::Writing(job);
                    self.writes.push(number);
                    self.stats.spooled += len;
                    self.stats.spooled_peak = self.stats.spooled_peak.max(self.stats.spooled);
                }
                Err(buffer) => {
                    self.blocks[index].state = BlockState::Loaded(buffer);
                    return;
                }
            }
        }
    }

    /// Whether the disk has room and stands still, because the feed needs at once whatever is in memory.
    pub(super) fn disk_needs_more(&self) -> bool {
        self.paused.is_none()
            && self.writes.is_empty()
            && self.disk.has_room(MAX_BLOCK_LEN)
            && self.newest_spillable().is_none()
    }

    /// The newest sealed block in memory that the feed does not need at once.
    fn newest_spillable(&self) -> Option<u64> {
        let front = self.responses.iter().find_map(|response| response.chunks.front())?.block;
        let sealed = self.blocks.len() - usize::from(self.filling);
        let oldest = sealed.saturating_sub(SCAN).max((front + 2 - self.first_block) as usize);
        let spillable = |block: &Block| matches!(block.state, BlockState::Loaded(_)) && !block.returned;
        let index = (oldest..sealed).rev().find(|&index| spillable(&self.blocks[index]))?;
        Some(self.first_block + index as u64)
    }

    fn poll_writes(&mut self, cx: &mut Context<'_>) -> Result<bool, ReadBackError> {
        let mut finished = false;
        let mut lost = Ok(());
        for number in std::mem::take(&mut self.writes) {
            let index = (number - self.first_block) as usize;
            let BlockState::Writing(job) = &mut self.blocks[index].state else {
                continue;
            };
            let Poll::Ready(written) = Pin::new(job).poll(cx) else {
                self.writes.push(number);
                continue;
            };
            finished = true;
            match written {
                Ok((buffer, Ok(extent))) => {
                    metrics::counter!("spillway_spooled_bytes_total")
                        .increment(buffer.payload().len() as u64);
                    metrics::counter!("spillway_spooled_disk_bytes_total").increment(extent.disk_len());
                    self.stats.on_disk += extent.disk_len();
                    self.stats.on_disk_peak = self.stats.on_disk_peak.max(self.stats.on_disk);
                    self.blocks[index].state = BlockState::OnDisk(extent);
                    self.recycle(buffer);
                    self.note_spooling();
                }
                Ok((buffer, Err(WriteError::Io(error)))) => {
                    self.stats.spooled -= buffer.payload().len() as u64;
                    self.blocks[index].state = BlockState::Loaded(buffer);
                    self.pause(&error);
                }
                Ok((buffer, Err(WriteError::Lost(error)))) => {
                    self.blocks[index].state = BlockState::Gone;
                    self.recycle(buffer);
                    self.lose_block(number);
                    lost = lost.and(Err(error));
                }
                Err(panic) => {
                    self.blocks[index].state = BlockState::Gone;
                    self.lose_block(number);
                    lost = lost.and(Err(ReadBackError::Job { number, source: panic }));
                }
            }
        }
        lost.map(|()| finished)
    }

    /// A block cannot be read back: what stood in it and behind it is lost.
    fn lose_block(&mut self, number: u64) {
        for response in &mut self.responses {
            if let Some(at) = response.chunks.iter().position(|chunk| chunk.block == number) {
                response.chunks.truncate(at);
                response.lose();
            }
        }
    }

    fn pause(&mut self, error: &io::Error) {
        self.disk.abandon_segment();
        self.paused = Some(Box::pin(tokio::time::sleep(PAUSE)));
        if !std::mem::replace(&mut self.held_back, true) {
            let dir = self.disk.dir().display();
            warn!(%error, %dir, "cannot spool: from here the server waits for the client; make room there");
        }
    }

    /// The server has to wait. That is told where it is the disk's limit and not a moment's.
    pub(super) fn note_held_back(&mut self) {
        let limit = self.paused.is_none() && self.writes.is_empty() && !self.disk.has_room(MAX_BLOCK_LEN);
        if limit && !std::mem::replace(&mut self.held_back, true) {
            warn!("--spool-max is reached: from here the server waits for the client");
        }
    }

    fn note_spooling(&mut self) {
        if std::mem::take(&mut self.held_back) {
            info!("spooling again");
        }
    }
}
