//! One response: a FIFO of chunks, each a part of a block, with the packet boundaries that an ERR may follow.

use std::collections::VecDeque;

/// How many bytes of an unfinished packet the feed holds back, so that a boundary is left where an ERR packet can
/// stand if the rest never comes. Ordinary rows are shorter; of longer ones a part is fed, and the end of such a
/// packet's connection is the only way to tell the client.
pub(crate) const HOLD_BACK: u64 = 64 * 1024;

/// Names a response within its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ResponseId(pub(super) u64);

/// Bytes of one response that lie together in one block.
pub(super) struct Chunk {
    pub(super) block: u64,
    /// Offset in the block's payload of the next byte to feed.
    pub(super) start: usize,
    pub(super) len: usize,
    /// How far it is from `start` to the last end of a logical packet in this chunk, and that packet's sequence id.
    boundary: Option<(usize, u8)>,
}

/// How a response's bytes end, or that they do not yet.
#[derive(Debug)]
pub(super) enum End {
    Open,
    /// All of it was drained.
    Complete,
    /// These packets are all of it, and perhaps the last that the client gets.
    Answered {
        packets: Vec<u8>,
        is_last: bool,
    },
    /// The rest will never come.
    Lost,
}

/// How much of a response can be fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Feedable {
    /// Bytes of the first chunk.
    pub(super) len: usize,
    /// The block that is not in memory and without which no more can be.
    pub(super) waits_for: Option<u64>,
}

/// One response.
pub(super) struct Response {
    pub(super) chunks: VecDeque<Chunk>,
    pub(super) end: End,
    /// Sequence id of the packet that would follow what was fed.
    next_sequence_id: u8,
    /// Whether anything was fed.
    fed: bool,
    /// Bytes fed since the last packet boundary.
    fed_since_boundary: u64,
}

impl Response {
    /// A response whose first packet has this sequence id.
    pub(super) fn new(first_sequence_id: u8) -> Self {
        Self {
            chunks: VecDeque::new(),
            end: End::Open,
            next_sequence_id: first_sequence_id,
            fed: false,
            fed_since_boundary: 0,
        }
    }

    /// Sets the sequence id of the first packet, unless some of the response was fed already.
    pub(super) fn set_first_sequence_id(&mut self, sequence_id: u8) {
        if !self.fed {
            self.next_sequence_id = sequence_id;
        }
    }

    /// The client had its turn in the middle of the response: the server's next packet has this sequence id.
    pub(super) fn set_next_sequence_id(&mut self, sequence_id: u8) {
        if self.fed_since_boundary == 0 {
            self.next_sequence_id = sequence_id;
        }
    }

    /// The rest will never come: what is left ends with the last whole packet.
    pub(super) fn lose(&mut self) {
        self.end = End::Lost;
        while let Some(chunk) = self.chunks.back_mut() {
            if let Some((to_boundary, _)) = chunk.boundary {
                chunk.len = to_boundary;
                return;
            }
            self.chunks.pop_back();
        }
    }

    /// Adds `len` bytes that lie at `start` of `block`; the last `unfinished` of the response belong to a logical
    /// packet that goes on, the packet before it has the id `last_sequence_id`.
    pub(super) fn append(
        &mut self,
        block: u64,
        start: usize,
        len: usize,
        unfinished: u64,
        last_sequence_id: u8,
    ) {
        let extends = |chunk: &&mut Chunk| chunk.block == block && chunk.start + chunk.len == start;
        let chunk = match self.chunks.back_mut().filter(extends) {
            Some(chunk) => {
                chunk.len += len;
                chunk
            }
            None => {
                grow_by_an_eighth(&mut self.chunks);
                self.chunks.push_back(Chunk { block, start, len, boundary: None });
                let last = self.chunks.len() - 1;
                &mut self.chunks[last]
            }
        };
        if unfinished < len as u64 {
            chunk.boundary = Some((chunk.len - unfinished as usize, last_sequence_id));
        }
    }

    /// How much of the first chunk may be fed, given which blocks are in memory.
    ///
    /// Up to the last packet boundary that is followed without a gap; beyond it if the response is complete, or if the
    /// packet is too long to be held back.
    pub(super) fn feedable(&self, is_loaded: impl Fn(u64) -> bool) -> Feedable {
        let Some(first) = self.chunks.front() else {
            return Feedable { len: 0, waits_for: None };
        };
        let (mut loaded, mut limit) = (0, 0);
        let lost = matches!(self.end, End::Lost);
        for chunk in &self.chunks {
            if !is_loaded(chunk.block) {
                return Feedable { len: limit, waits_for: Some(chunk.block) };
            }
            if let Some((to_boundary, _)) = chunk.boundary {
                limit = loaded + to_boundary;
            }
            loaded += chunk.len;
            if limit >= first.len {
                return Feedable { len: first.len, waits_for: None };
            }
            let before = if limit == 0 { self.fed_since_boundary } else { 0 };
            let unfinished = before + (loaded - limit) as u64;
            if !lost && unfinished >= HOLD_BACK {
                return Feedable { len: loaded.min(first.len), waits_for: None };
            }
        }
        let len = if matches!(self.end, End::Complete) { first.len } else { limit };
        Feedable { len, waits_for: None }
    }

    /// `len` bytes of the first chunk were fed. Returns its block.
    pub(super) fn consume(&mut self, len: usize) -> Option<u64> {
        let chunk = self.chunks.front_mut()?;
        let block = chunk.block;
        chunk.start += len;
        chunk.len -= len;
        self.fed = true;
        self.fed_since_boundary += len as u64;
        if let Some((to_boundary, sequence_id)) = chunk.boundary {
            if to_boundary <= len {
                self.next_sequence_id = sequence_id.wrapping_add(1);
                self.fed_since_boundary = (len - to_boundary) as u64;
                chunk.boundary = None;
            } else {
                chunk.boundary = Some((to_boundary - len, sequence_id));
            }
        }
        if chunk.len == 0 {
            self.chunks.pop_front();
        }
        Some(block)
    }

    /// Where an ERR packet may follow what was fed: its sequence id. None inside a packet.
    pub(super) fn boundary(&self) -> Option<u8> {
        (self.fed_since_boundary == 0).then_some(self.next_sequence_id)
    }
}

/// Makes room for the next entry of a long list in steps of an eighth. A list that doubles holds three times its entries
/// for a moment: of a backlog of 100 GB that would be tens of megabytes.
pub(super) fn grow_by_an_eighth<T>(list: &mut VecDeque<T>) {
    if list.len() == list.capacity() && list.len() >= 1024 {
        list.reserve_exact(list.len() / 8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOADED: fn(u64) -> bool = |_| true;

    #[test]
    fn the_tail_of_an_unfinished_packet_is_held_back_while_it_is_small() {
        let mut response = Response::new(1);
        response.append(0, 0, 100, 30, 1);
        assert_eq!(response.feedable(LOADED).len, 70);
        assert_eq!(response.consume(70), Some(0));
        assert_eq!((response.feedable(LOADED).len, response.boundary()), (0, Some(2)));
        response.append(0, 100, HOLD_BACK as usize - 31, HOLD_BACK - 1, 1);
        assert_eq!(response.feedable(LOADED).len, 0);
        response.append(0, 99 + HOLD_BACK as usize - 30, 1, HOLD_BACK, 1);
        assert_eq!(response.feedable(LOADED).len, HOLD_BACK as usize);
        response.consume(10);
        assert_eq!(response.boundary(), None);
    }

    #[test]
    fn a_packet_across_blocks_waits_for_the_next_block() {
        let mut response = Response::new(1);
        response.append(0, 0, 100, 30, 1);
        response.append(1, 0, 100, 10, 2);
        assert_eq!(response.feedable(|block| block == 0).len, 70);
        assert_eq!(response.feedable(LOADED).len, 100);
    }

    #[test]
    fn a_complete_response_is_fed_to_its_last_byte_and_a_lost_one_to_its_last_packet() {
        let mut response = Response::new(1);
        response.append(0, 0, 100, 30, 4);
        response.end = End::Lost;
        assert_eq!(response.feedable(LOADED).len, 70);
        response.consume(70);
        assert_eq!((response.feedable(LOADED).len, response.boundary()), (0, Some(5)));
        response.end = End::Complete;
        assert_eq!(response.feedable(LOADED).len, 30);
    }

    #[test]
    fn a_short_write_does_not_let_the_tail_through() {
        let mut response = Response::new(1);
        response.append(0, 0, 1_000_000, 10_000, 1);
        assert_eq!(response.feedable(LOADED).len, 990_000);
        response.consume(200_000);
        assert_eq!(response.feedable(LOADED).len, 790_000);
        response.consume(790_000);
        assert_eq!((response.feedable(LOADED).len, response.boundary()), (0, Some(2)));
    }

    #[test]
    fn a_lost_response_waits_for_no_block_of_its_unfinished_packet() {
        let mut response = Response::new(1);
        response.append(0, 0, 1000, 400, 1);
        for block in 1..9 {
            response.append(block, 0, 1_000_000, 400 + block * 1_000_000, 1);
        }
        response.lose();
        assert_eq!(response.feedable(|block| block == 0), Feedable { len: 600, waits_for: None });
        response.consume(600);
        assert_eq!((response.feedable(LOADED).len, response.boundary()), (0, Some(2)));
    }

    #[test]
    fn before_anything_is_fed_an_err_takes_the_first_sequence_id() {
        assert_eq!(Response::new(3).boundary(), Some(3));
    }
}
