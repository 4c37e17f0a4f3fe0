//! The spool: everything a session has drained and not yet fed.
//!
//! ```text
//!  backend ─► room ─► block (filling) ─► sealed ──► memory ───────────────► feedable ─► client
//!                                           └────► disk ─► read ahead ──────┘
//! ```
//!
//! The backend's bytes are read straight into blocks, written to disk from there and fed from there: they are copied
//! nowhere, unless they are compressed for the disk; where they are encrypted for it, that is done in place. A response
//! is a list of ranges in blocks. One task owns a session's spool; nothing here is locked.

#[doc(hidden)]
pub mod bench;
pub(crate) mod block;
mod blocks;
pub mod budget;
pub(crate) mod disk;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub(crate) mod measure;
pub mod packing;
mod response;
mod sealing;
mod tiers;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use block::{Buffer, MIN_BLOCK_LEN};
use budget::{DiskBudget, MemoryShare};
use disk::{DiskTier, Extent, ReadJob, WriteJob};
use packing::Packing;
#[cfg(test)]
pub(crate) use response::HOLD_BACK;
pub(crate) use response::ResponseId;
use response::{End, Response};

/// How long a drain that is denied room waits before it asks again, if nothing else happens.
const RETRY: Duration = Duration::from_millis(250);

/// What the client half is to do next.
pub(crate) enum Feed<'a> {
    /// These bytes are the next ones; tell [`Spool::consume`] how many were taken.
    Data(&'a [u8]),
    /// Nothing yet.
    Wait,
    /// These packets are the whole response; they are given once. [`Spool::finish_front`] goes on to the next one, or
    /// there is to be no next one.
    Answer { packets: Vec<u8>, is_last: bool },
    /// The response is fed to its end. [`Spool::finish_front`] goes on to the next one.
    Complete,
    /// The rest of the response is lost. An ERR packet with this sequence id may follow; none may inside a packet.
    Lost { err_sequence_id: Option<u8> },
    /// No response is under way.
    Idle,
}

/// Sizes of a spool, for logs and metrics.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SpoolStats {
    /// Bytes appended to responses.
    pub(crate) drained: u64,
    /// Bytes fed.
    pub(crate) fed: u64,
    /// The largest difference of the two.
    pub(crate) backlog_peak: u64,
    /// Bytes on disk or on their way there.
    pub(crate) spooled: u64,
    /// The largest such value.
    pub(crate) spooled_peak: u64,
    /// What blocks take on disk, compressed or not, from the end of their writing to the beginning of their reading.
    pub(crate) on_disk: u64,
    /// The largest such value.
    pub(crate) on_disk_peak: u64,
    /// For how long the server was held back at a limit.
    pub(crate) held_back: Duration,
}

struct Block {
    state: BlockState,
    /// Payload bytes that belong to responses and are not fed yet.
    unread: usize,
    /// It was on disk; it stays in memory until it is fed.
    returned: bool,
}

enum BlockState {
    Loaded(Buffer),
    Writing(WriteJob),
    OnDisk(Extent),
    Reading(ReadJob),
    /// Fed, or unreadable.
    Gone,
}

/// One session's spool.
pub(crate) struct Spool {
    memory: MemoryShare,
    disk: DiskTier,
    blocks: VecDeque<Block>,
    /// Number of the first block in `blocks`.
    first_block: u64,
    /// Bytes of the last block that are not appended or skipped yet.
    unparsed: usize,
    /// Whether the last block is still being filled.
    filling: bool,
    next_block_len: usize,
    /// Blocks to be filled again, all of them of `next_block_len`: a new one costs the kernel a page at a time.
    spares: Vec<Buffer>,
    writes: Vec<u64>,
    reads: Vec<u64>,
    responses: VecDeque<Response>,
    /// Id of the first of `responses`.
    first_response: u64,
    /// Set while the disk is left alone after a failed write.
    paused: Option<Pin<Box<Sleep>>>,
    /// Set while the drain is denied room, which may come back by what other sessions give back.
    retry: Option<Pin<Box<Sleep>>>,
    /// Whether the log was told that the server is held back.
    held_back: bool,
    /// Since when the drain is denied room.
    denied: Option<Instant>,
    stats: SpoolStats,
}

impl Spool {
    /// An empty spool that uses `memory` and files in `disk`'s directory, compressed by `packing`, and encrypted or not.
    pub(crate) fn new(
        memory: MemoryShare,
        disk: Arc<DiskBudget>,
        packing: Arc<Packing>,
        encrypts: bool,
    ) -> Self {
        Self {
            memory,
            disk: DiskTier::new(disk, packing, encrypts),
            blocks: VecDeque::new(),
            first_block: 0,
            unparsed: 0,
            filling: false,
            next_block_len: MIN_BLOCK_LEN,
            spares: Vec::new(),
            writes: Vec::new(),
            reads: Vec::new(),
            responses: VecDeque::new(),
            first_response: 0,
            paused: None,
            retry: None,
            held_back: false,
            denied: None,
            stats: SpoolStats::default(),
        }
    }

    pub(crate) fn stats(&self) -> SpoolStats {
        let denied = self.denied.map_or(Duration::ZERO, |since| since.elapsed());
        SpoolStats { held_back: self.stats.held_back + denied, ..self.stats }
    }

    /// Bytes drained and not yet fed.
    pub(crate) fn backlog(&self) -> u64 {
        self.stats.drained - self.stats.fed
    }

    /// The response that is fed now.
    pub(crate) fn front(&self) -> Option<ResponseId> {
        (!self.responses.is_empty()).then_some(ResponseId(self.first_response))
    }

    /// Responses that are not fed to their end.
    pub(crate) fn pending(&self) -> usize {
        self.responses.len()
    }

    // ---- the drain's side ----

    /// Where the backend's next bytes go. None at the limits: then the server has to wait, unless the bytes are
    /// `needed`: those of an answer to the proxy itself, without which the session could not go on.
    pub(crate) fn room(&mut self, needed: bool) -> Option<&mut [u8]> {
        // A read into the last few bytes of a block would not be worth its system call.
        if self.fill_block().is_some_and(|buffer| buffer.room().len() < buffer.len() / 16) {
            self.seal();
        }
        if !self.filling && !self.begin_block(needed || self.feed_needs_more() || self.disk_needs_more()) {
            self.note_held_back();
            self.denied.get_or_insert_with(Instant::now);
            self.retry.get_or_insert_with(|| Box::pin(tokio::time::sleep(RETRY)));
            return None;
        }
        if let Some(since) = self.denied.take() {
            self.stats.held_back += since.elapsed();
        }
        self.fill_block().map(Buffer::room)
    }

    /// `len` bytes of the room were filled.
    pub(crate) fn filled(&mut self, len: usize) {
        if let Some(buffer) = self.fill_block() {
            buffer.fill(len);
            self.unparsed += len;
        }
    }

    /// Bytes that were filled and neither appended nor skipped.
    pub(crate) fn unparsed(&self) -> &[u8] {
        match self.blocks.back() {
            Some(Block { state: BlockState::Loaded(buffer), .. }) => {
                let payload = buffer.payload();
                &payload[payload.len() - self.unparsed..]
            }
            _ => &[],
        }
    }

    /// The same, to be changed: not in length.
    pub(crate) fn unparsed_mut(&mut self) -> &mut [u8] {
        match self.blocks.back_mut() {
            Some(Block { state: BlockState::Loaded(buffer), .. }) => {
                let payload = buffer.payload_mut();
                let at = payload.len() - self.unparsed;
                &mut payload[at..]
            }
            _ => &mut [],
        }
    }

    /// Opens a response behind those that are open, in the client's order. Its first packet has this sequence id.
    pub(crate) fn open(&mut self, first_sequence_id: u8) -> ResponseId {
        self.responses.push_back(Response::new(first_sequence_id));
        ResponseId(self.first_response + self.responses.len() as u64 - 1)
    }

    /// Opens a response that is complete already: whole packets of the proxy's own, with which the session ends or
    /// not.
    pub(crate) fn answer(&mut self, packets: Vec<u8>, is_last: bool) {
        let mut response = Response::new(0);
        response.end = End::Answered { packets, is_last };
        self.responses.push_back(response);
    }

    /// These packets are all of a response that was kept aside until it was complete.
    pub(crate) fn fill(&mut self, id: ResponseId, packets: Vec<u8>) {
        if let Some(response) = self.response(id) {
            response.end = End::Answered { packets, is_last: false };
        }
    }

    /// The command of `id` is complete: now it is known with which sequence id its response begins.
    pub(crate) fn set_first_sequence_id(&mut self, id: ResponseId, sequence_id: u8) {
        if let Some(response) = self.response(id) {
            response.set_first_sequence_id(sequence_id);
        }
    }

    /// The client had its turn in the middle of the response: the server's next packet has this sequence id.
    pub(crate) fn set_next_sequence_id(&mut self, id: ResponseId, sequence_id: u8) {
        if let Some(response) = self.response(id) {
            response.set_next_sequence_id(sequence_id);
        }
    }

    /// The next `len` unparsed bytes belong to `id`. The response's last `unfinished` bytes are of a packet that goes
    /// on; the packet before has the id `last_sequence_id`.
    pub(crate) fn append(&mut self, id: ResponseId, len: usize, unfinished: u64, last_sequence_id: u8) {
        let unparsed = self.unparsed;
        let Some(start) = self.fill_block().map(|buffer| buffer.payload().len() - unparsed) else {
            return;
        };
        let number = self.first_block + self.blocks.len() as u64 - 1;
        let index = id.0.checked_sub(self.first_response).map_or(usize::MAX, |index| index as usize);
        let (Some(response), Some(block)) = (self.responses.get_mut(index), self.blocks.back_mut()) else {
            return;
        };
        response.append(number, start, len, unfinished, last_sequence_id);
        block.unread += len;
        self.unparsed -= len;
        self.stats.drained += len as u64;
        self.stats.backlog_peak = self.stats.backlog_peak.max(self.backlog());
    }

    /// The next `len` unparsed bytes are not for the client.
    pub(crate) fn skip(&mut self, len: usize) {
        self.unparsed -= len;
        self.reuse_fill_block();
    }

    /// All of the response was appended.
    pub(crate) fn complete(&mut self, id: ResponseId) {
        if let Some(response) = self.response(id) {
            response.end = End::Complete;
        }
    }

    /// Nothing more will be appended to any response that is not complete.
    pub(crate) fn lose_open(&mut self) {
        for response in &mut self.responses {
            if matches!(response.end, End::Open) {
                response.lose();
            }
        }
    }

    /// Nothing more will be fed but what is needed to say so: the first response ends as lost where its feed stands.
    pub(crate) fn abandon(&mut self) {
        self.lose_open();
        self.responses.truncate(1);
        let Some(front) = self.responses.front_mut() else { return };
        let whole = matches!(front.end, End::Complete) && front.chunks.is_empty();
        if !whole && !matches!(front.end, End::Answered { .. }) {
            front.chunks.clear();
            front.end = End::Lost;
        }
    }

    fn response(&mut self, id: ResponseId) -> Option<&mut Response> {
        let index = id.0.checked_sub(self.first_response)?;
        self.responses.get_mut(index as usize)
    }

    // ---- the feed's side ----

    /// What to do with the client next.
    pub(crate) fn feed(&mut self) -> Feed<'_> {
        let Some(response) = self.responses.front() else {
            return Feed::Idle;
        };
        let feedable = response.feedable(|number| self.is_loaded(number));
        if feedable.len > 0 {
            return self.front_bytes(feedable.len).map_or(Feed::Wait, Feed::Data);
        }
        let Some(response) = self.responses.front_mut() else {
            return Feed::Idle;
        };
        match &mut response.end {
            End::Answered { packets, is_last } => {
                Feed::Answer { packets: std::mem::take(packets), is_last: *is_last }
            }
            End::Complete if response.chunks.is_empty() => Feed::Complete,
            End::Lost if feedable.waits_for.is_none() => Feed::Lost { err_sequence_id: response.boundary() },
            _ => Feed::Wait,
        }
    }

    /// The client took `len` bytes of what [`feed`](Self::feed) gave.
    pub(crate) fn consume(&mut self, len: usize) {
        let Some(number) = self.responses.front_mut().and_then(|response| response.consume(len)) else {
            return;
        };
        self.stats.fed += len as u64;
        let index = (number - self.first_block) as usize;
        self.blocks[index].unread -= len;
        if self.blocks[index].unread > 0 {
            return;
        }
        if self.filling && index + 1 == self.blocks.len() {
            self.reuse_fill_block();
        } else {
            self.free_block(index);
        }
    }

    /// Leaves the first response behind, fed or not.
    pub(crate) fn finish_front(&mut self) {
        if let Some(response) = self.responses.pop_front() {
            debug_assert!(response.chunks.is_empty() || matches!(response.end, End::Lost));
            self.first_response += 1;
        }
        if self.responses.is_empty() && self.backlog() == 0 {
            self.shrink();
        }
    }

    // ---- blocks ----

    fn is_loaded(&self, number: u64) -> bool {
        matches!(self.blocks[(number - self.first_block) as usize].state, BlockState::Loaded(_))
    }

    /// The first `len` bytes of the first response's first chunk.
    fn front_bytes(&self, len: usize) -> Option<&[u8]> {
        let chunk = self.responses.front()?.chunks.front()?;
        match &self.blocks[(chunk.block - self.first_block) as usize].state {
            BlockState::Loaded(buffer) => Some(&buffer.payload()[chunk.start..chunk.start + len]),
            _ => None,
        }
    }

    /// Whether the feed can go on only with bytes that are not drained yet: the end of a packet that it holds back.
    fn feed_needs_more(&self) -> bool {
        self.responses.front().is_some_and(|front| {
            let feedable = front.feedable(|number| self.is_loaded(number));
            matches!(front.end, End::Open) && feedable.len == 0 && feedable.waits_for.is_none()
        })
    }
}

#[cfg(test)]
mod tests;
