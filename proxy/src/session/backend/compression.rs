//! The compressed protocol towards a server: commands are compressed, responses inflated and numbered as a server
//! without compression would.

use std::collections::VecDeque;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use spillway_protocol::{CompressionError, PacketNumberer};

use super::super::loss::Loss;
use crate::compressed::Compressed;
use crate::stream::Stream;

/// Bytes that are inflated in one step.
const STEP: usize = 64 * 1024;

pub(super) struct BackendCompression {
    pub(super) link: Box<Compressed>,
    /// Bytes of commands that are not compressed yet: what comes together is.
    staged: Vec<u8>,
    /// Compressed packets of the command under way, or the last one.
    sent: u32,
    /// It has a response, the last of `starts`.
    is_answered: bool,
    /// With which numbers the responses to come begin, the one under way first.
    starts: VecDeque<Start>,
    /// The numbers of the first of them are set.
    is_begun: bool,
    numberer: PacketNumberer,
}

struct Start {
    /// Of the compressed packet.
    compressed: u8,
    /// Of the first packet, as the client expects it.
    packet: u8,
}

impl BackendCompression {
    pub(super) fn new(link: Box<Compressed>) -> Self {
        Self {
            link,
            staged: Vec::new(),
            sent: 0,
            is_answered: false,
            starts: VecDeque::new(),
            is_begun: false,
            numberer: PacketNumberer::default(),
        }
    }

    /// A command begins: its compressed packets have numbers of their own, and hold nothing else.
    pub(super) fn begin_command(&mut self, is_answered: bool, outbox: &mut BytesMut) {
        self.flush(outbox);
        self.link.set_next_id(0);
        self.sent = 0;
        self.is_answered = is_answered;
        if is_answered {
            self.starts.push_back(Start { compressed: 1, packet: 1 });
        }
    }

    /// The command is complete, and its response begins with this number.
    pub(super) fn end_command(&mut self, next_sequence_id: u8) {
        if let Some(last) = self.starts.back_mut().filter(|_| self.is_answered) {
            last.packet = next_sequence_id;
        }
    }

    /// The client has its turn in the middle of a response.
    pub(super) fn begin_turn(&mut self) {
        self.link.set_next_id(self.link.answer_id());
        self.sent = 0;
        self.is_answered = false;
    }

    /// It has had its turn: the server's next packet has this number.
    pub(super) fn end_turn(&mut self, next_sequence_id: u8) {
        self.numberer.set_next(next_sequence_id);
    }

    /// The first response is complete.
    pub(super) fn end_response(&mut self) {
        self.starts.pop_front();
        self.is_begun = false;
    }

    pub(super) fn stage(&mut self, bytes: &[u8]) {
        self.staged.extend_from_slice(bytes);
    }

    pub(super) fn staged(&self) -> usize {
        self.staged.len()
    }

    pub(super) fn clear(&mut self) {
        self.staged.clear();
    }

    /// Compresses what is staged.
    pub(super) fn flush(&mut self, outbox: &mut BytesMut) {
        if self.staged.is_empty() {
            return;
        }
        let before = self.link.next_id();
        self.link.encode_into(&self.staged, outbox);
        self.staged.clear();
        self.sent += u32::from(self.link.next_id().wrapping_sub(before));
        if let Some(last) = self.starts.back_mut().filter(|_| self.is_answered) {
            last.compressed = self.link.next_id();
        }
    }

    /// Reads and inflates until there is something in `room`: the bytes. 0 means that the server has closed the
    /// connection.
    pub(super) fn poll_read(
        &mut self,
        stream: &mut Stream,
        cx: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<Result<usize, Loss>> {
        loop {
            match self.inflate(room) {
                Ok(0) => {}
                inflated => return Poll::Ready(inflated.map_err(Loss::Decompression)),
            }
            if ready!(self.link.poll_read(stream, cx)).map_err(Loss::Server)? == 0 {
                return Poll::Ready(Ok(0));
            }
        }
    }

    /// Inflates some of what was read: the bytes, none if more must be read first.
    fn inflate(&mut self, room: &mut [u8]) -> Result<usize, CompressionError> {
        let len = room.len().min(STEP);
        let Self { link, starts, sent, .. } = self;
        let (next_id, sent) = (link.next_id(), *sent);
        // A server that refuses a command before it has read all of it answers what it has read.
        let is_due = |id: u8| {
            u32::from(next_id.wrapping_sub(id)) < sent || starts.iter().any(|start| start.compressed == id)
        };
        loop {
            let inflated = link.inflate(&mut room[..len], is_due)?;
            if inflated.produced > 0 || inflated.consumed == 0 {
                return Ok(inflated.produced);
            }
        }
    }

    /// Numbers bytes of the response under way; gives the number of its last packet that is complete.
    pub(super) fn number(&mut self, bytes: &mut [u8]) -> u8 {
        if !self.is_begun
            && let Some(start) = self.starts.front()
        {
            self.numberer.set_next(start.packet);
            self.is_begun = true;
        }
        self.numberer.number(bytes);
        self.numberer.last_sequence_id()
    }
}

#[cfg(test)]
mod tests {
    use spillway_protocol::{Compression, encode_packet};

    use super::*;

    /// For a server that sends these stored packets: ids and bytes.
    fn compression(packets: &[(u8, &[u8])]) -> BackendCompression {
        let packet = |(id, bytes): &(u8, &[u8])| [&[bytes.len() as u8, 0, 0, *id, 0, 0, 0], *bytes].concat();
        let wire: Vec<u8> = packets.iter().flat_map(packet).collect();
        BackendCompression::new(Box::new(Compressed::new(Compression::Zlib, &wire)))
    }

    /// Sends a command in that many compressed packets; gives their ids.
    fn send(compression: &mut BackendCompression, packets: usize, is_answered: bool) -> Vec<u8> {
        let mut outbox = BytesMut::new();
        compression.begin_command(is_answered, &mut outbox);
        for _ in 0..packets {
            compression.stage(b"part");
            compression.stage(b"s");
            compression.flush(&mut outbox);
        }
        assert_eq!(outbox.len(), packets * (7 + 5));
        outbox.chunks(7 + 5).map(|packet| packet[3]).collect()
    }

    fn inflate(compression: &mut BackendCompression) -> Result<usize, CompressionError> {
        compression.inflate(&mut [0; 100])
    }

    #[test]
    fn each_command_has_compressed_packets_of_its_own() {
        let mut compression = compression(&[]);
        assert_eq!(send(&mut compression, 1, true), [0]);
        assert_eq!(send(&mut compression, 3, false), [0, 1, 2]);
        assert_eq!(send(&mut compression, 2, true), [0, 1]);
    }

    #[test]
    fn responses_may_begin_behind_their_commands_and_nowhere_else() {
        let mut compression = compression(&[(1, b"a"), (2, b"a"), (4, b"b"), (1, b"c"), (7, b"?")]);
        for packets in [1, 4, 1] {
            send(&mut compression, packets, true);
        }
        for _ in 0..4 {
            assert_eq!(inflate(&mut compression), Ok(1));
        }
        assert_eq!(inflate(&mut compression), Err(CompressionError::SequenceGap { expected: 2, got: 7 }));
    }

    #[test]
    fn a_command_that_is_refused_early_is_answered_in_its_middle() {
        let mut compression = compression(&[(3, b"err"), (6, b"?")]);
        send(&mut compression, 5, true);
        assert_eq!(inflate(&mut compression), Ok(3));
        assert_eq!(inflate(&mut compression), Err(CompressionError::SequenceGap { expected: 4, got: 6 }));
    }

    #[test]
    fn responses_are_numbered_behind_their_commands() {
        let mut compression = compression(&[(1, b"file?"), (4, b"ok")]);
        send(&mut compression, 1, true);
        send(&mut compression, 1, true);
        compression.end_command(3);
        let ids = |compression: &mut BackendCompression| {
            let mut packets = [encode_packet(77, b"one"), encode_packet(77, b"two")].concat();
            let last = compression.number(&mut packets);
            assert_eq!(last, packets[10]);
            [packets[3], packets[10]]
        };
        assert_eq!(ids(&mut compression), [1, 2]);
        compression.end_response();
        assert_eq!(ids(&mut compression), [3, 4]);
        // The client's turn, with two packets from 5 on.
        assert_eq!(inflate(&mut compression), Ok(5));
        compression.begin_turn();
        assert_eq!(compression.link.next_id(), 2);
        let mut outbox = BytesMut::new();
        for _ in 0..2 {
            compression.stage(b"file");
            compression.flush(&mut outbox);
        }
        compression.end_turn(7);
        assert_eq!(inflate(&mut compression), Ok(2));
        assert_eq!(ids(&mut compression), [7, 8]);
    }
}
