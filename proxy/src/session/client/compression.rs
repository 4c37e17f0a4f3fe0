//! The compressed protocol towards a client: what it sends is inflated, what it gets compressed, and all of it numbered
//! as a server would.
//!
//! A server answers a command with the compressed sequence id behind the last compressed packet that it has read for
//! it, and gives its first packet the same number. Commands that were in the packet before already do not count: their
//! responses just go on. Source: `net_serv.cc` of both servers.

use std::collections::VecDeque;

use bytes::BytesMut;
use spillway_protocol::{CompressionError, HEADER_LEN, PacketHeader, PacketNumberer};

use crate::compressed::Compressed;

pub(super) struct ClientCompression {
    pub(super) link: Box<Compressed>,
    /// A packet could not be followed: no more is read from this client.
    is_broken: bool,
    /// The client may speak in the middle of a response.
    may_answer: bool,
    /// Numbers the client's packets, as a server without compression wants them.
    requests: PacketNumberer,
    /// Numbers what the client gets.
    responses: PacketNumberer,
    /// Compressed packets that had been read when the last command ended.
    packets_at_end: u64,
    /// The command under way has opened a response.
    is_answered: bool,
    /// With which compressed id each response begins that is not fed to its end; none for one that just goes on.
    starts: VecDeque<Option<u8>>,
    /// The numbers of the first of them are set.
    is_begun: bool,
    /// What is about to be compressed.
    scratch: Vec<u8>,
}

impl ClientCompression {
    pub(super) fn new(link: Box<Compressed>) -> Self {
        Self {
            packets_at_end: link.packets_read(),
            link,
            is_broken: false,
            may_answer: false,
            requests: PacketNumberer::default(),
            responses: PacketNumberer::default(),
            is_answered: false,
            starts: VecDeque::new(),
            is_begun: false,
            scratch: Vec::new(),
        }
    }

    /// The connection, for an exchange that goes on with what was read last.
    pub(super) fn into_link(mut self) -> Box<Compressed> {
        self.link.set_next_id(self.link.answer_id());
        self.link
    }

    /// Inflates into `room` some of what was read: the bytes, none if more must be read first.
    pub(super) fn inflate(&mut self, room: &mut [u8]) -> Result<usize, CompressionError> {
        while !self.is_broken {
            let answer_id = self.may_answer.then_some(self.link.next_id());
            match self.link.inflate(room, |id| id == 0 || Some(id) == answer_id) {
                Ok(inflated) if inflated.produced == 0 && inflated.consumed > 0 => {}
                Ok(inflated) => return Ok(inflated.produced),
                Err(error) => {
                    self.is_broken = true;
                    return Err(error);
                }
            }
        }
        Ok(0)
    }

    /// The client's next packet begins a command.
    pub(super) fn begin_command(&mut self) {
        self.requests.set_next(0);
        self.may_answer = false;
    }

    /// The client's next packet belongs to the response under way, and has this number.
    pub(super) fn begin_turn(&mut self, sequence_id: u8) {
        self.requests.set_next(sequence_id);
        self.may_answer = true;
    }

    /// Numbers the client's bytes; gives the number of the last packet that is complete.
    pub(super) fn number_requests(&mut self, bytes: &mut [u8]) -> u8 {
        self.requests.number(bytes);
        self.requests.last_sequence_id()
    }

    /// A response belongs to the command under way.
    pub(super) fn open_response(&mut self) {
        self.is_answered = true;
        self.starts.push_back(self.start());
    }

    /// The command under way is complete: now it is known with which id its response begins.
    pub(super) fn end_command(&mut self) {
        let start = self.start();
        if std::mem::take(&mut self.is_answered)
            && let Some(last) = self.starts.back_mut()
        {
            *last = start;
        }
        self.packets_at_end = self.link.packets_read();
    }

    fn start(&self) -> Option<u8> {
        (self.link.packets_read() > self.packets_at_end).then_some(self.link.answer_id())
    }

    /// The client has had its turn in the middle of the response that is being fed.
    pub(super) fn end_turn(&mut self) {
        self.packets_at_end = self.link.packets_read();
        self.is_begun = true;
        self.go_on_with(self.link.answer_id());
    }

    /// The first response is fed to its end.
    pub(super) fn finish_response(&mut self) {
        self.starts.pop_front();
        self.is_begun = false;
    }

    /// Gives back what memory is not needed while nothing comes and goes.
    pub(super) fn rest(&mut self) {
        self.link.rest();
        self.scratch = Vec::new();
    }

    /// Compresses some of `packets`, in one step; gives how many bytes.
    pub(super) fn encode_step(&mut self, packets: &[u8], outbox: &mut BytesMut) -> usize {
        let len = packets.len().min(self.link.step_len());
        if !self.is_begun {
            self.is_begun = true;
            let start = self.starts.front().copied().flatten();
            self.go_on_with(start.unwrap_or_else(|| self.link.next_id()));
        } else if self.responses.is_between_results() && begins_with_whole_packet(&packets[..len]) {
            // A server has flushed the result before, and goes on with the number of the compressed packet. Drivers that
            // check the numbers inside know it: mysql_async wants that number here, and takes it everywhere, but from a
            // packet that goes on in another compressed one. (What is a row after all may.)
            self.responses.set_next(self.link.next_id());
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(&packets[..len]);
        self.responses.number(&mut self.scratch);
        self.link.encode_into(&self.scratch, outbox);
        len
    }

    fn go_on_with(&mut self, id: u8) {
        self.link.set_next_id(id);
        self.responses.set_next(id);
    }
}

fn begins_with_whole_packet(bytes: &[u8]) -> bool {
    let header = bytes.first_chunk().copied().map(PacketHeader::decode);
    header.is_some_and(|header| HEADER_LEN + header.payload_len as usize <= bytes.len())
}

#[cfg(test)]
mod tests {
    use spillway_protocol::{Compression, Decompressor, encode_packet};

    use super::*;

    /// For a client that sends these stored packets: ids and bytes.
    fn compression(packets: &[(u8, &[u8])]) -> ClientCompression {
        let packet = |(id, bytes): &(u8, &[u8])| [&[bytes.len() as u8, 0, 0, *id, 0, 0, 0], *bytes].concat();
        let wire: Vec<u8> = packets.iter().flat_map(packet).collect();
        ClientCompression::new(Box::new(Compressed::new(Compression::Zlib, &wire)))
    }

    /// Reads a command that ends in the `count`-th next compressed packet, and is answered.
    fn command(compression: &mut ClientCompression, count: usize) {
        compression.begin_command();
        compression.open_response();
        for _ in 0..count {
            assert!(compression.inflate(&mut [0; 100]).unwrap() > 0);
        }
        compression.end_command();
    }

    /// Compresses each of `parts`, step by step; gives the ids of the compressed packets, and those of the packets inside.
    fn sent(compression: &mut ClientCompression, parts: &[&[u8]]) -> (Vec<u8>, Vec<u8>) {
        let mut wire = BytesMut::new();
        for part in parts {
            let mut rest = *part;
            while !rest.is_empty() {
                let taken = compression.encode_step(rest, &mut wire);
                rest = &rest[taken..];
            }
        }
        let (mut ids, mut plain, mut room) = (Vec::new(), Vec::new(), vec![0; 1 << 20]);
        let mut decompressor = Decompressor::new(Compression::Zlib);
        let mut rest = &wire[..];
        while !rest.is_empty() {
            let inflated = decompressor.advance(rest, &mut room, |_| true).unwrap();
            ids.push(decompressor.next_sequence_id().wrapping_sub(1));
            plain.extend_from_slice(&room[..inflated.produced]);
            rest = &rest[inflated.consumed..];
        }
        let (mut inside, mut rest) = (Vec::new(), &plain[..]);
        while let Some(header) = rest.first_chunk().copied().map(PacketHeader::decode) {
            inside.push(header.sequence_id);
            rest = &rest[HEADER_LEN + header.payload_len as usize..];
        }
        (ids, inside)
    }

    #[test]
    fn a_response_goes_on_with_the_numbers_of_its_command() {
        let mut compression =
            compression(&[(0, b"a"), (0, b"b"), (1, b"b"), (2, b"b"), (0, b"c and d"), (0, b"e")]);
        for packets in [1, 3, 1, 0, 1] {
            command(&mut compression, packets);
        }
        let answer = [encode_packet(1, b"row"), encode_packet(2, b"end")].concat();
        let mut numbers = Vec::new();
        for _ in 0..5 {
            numbers.push(sent(&mut compression, &[&answer, &answer]));
            compression.finish_response();
        }
        let of = |first: u8| (vec![first, first + 1], (first..first + 4).collect());
        // The fourth was in the packet of the third already.
        assert_eq!(numbers, [of(1), of(3), of(1), (vec![3, 4], vec![3, 4, 5, 6]), of(1)]);
    }

    #[test]
    fn a_client_that_has_had_its_turn_is_answered_behind_it() {
        let mut compression = compression(&[(0, b"load"), (2, b"file"), (3, b"end"), (9, b"?")]);
        command(&mut compression, 1);
        assert_eq!(sent(&mut compression, &[&encode_packet(1, b"\xfbname")]), (vec![1], vec![1]));
        compression.begin_turn(2);
        for _ in 0..2 {
            assert!(compression.inflate(&mut [0; 100]).unwrap() > 0);
        }
        compression.end_turn();
        assert_eq!(sent(&mut compression, &[&encode_packet(7, b"ok")]), (vec![4], vec![4]));
        compression.finish_response();
        compression.begin_command();
        let gap = CompressionError::SequenceGap { expected: 4, got: 9 };
        assert_eq!(compression.inflate(&mut [0; 100]), Err(gap));
        assert_eq!(compression.inflate(&mut [0; 100]), Ok(0), "nothing more comes");
    }

    #[test]
    fn a_further_result_may_take_the_compressed_packets_number() {
        let more = encode_packet(3, b"\xfe\0\0\x0a\0");
        let rows = [encode_packet(1, b"row"), encode_packet(2, b"row"), more].concat();
        let count = encode_packet(4, b"\x01");
        let last = encode_packet(5, b"\xfe\0\0\x02\0");
        let mut one = compression(&[(0, b"q")]);
        command(&mut one, 1);
        assert_eq!(
            sent(&mut one, &[&rows, &[&count[..], &last].concat()]),
            (vec![1, 2], vec![1, 2, 3, 2, 3])
        );
        // Behind what only looks like the end of a result, a packet that goes on in another compressed one does not.
        let long = encode_packet(4, &vec![b'x'; 200_000]);
        let mut other = compression(&[(0, b"q")]);
        command(&mut other, 1);
        let (ids, inside) = sent(&mut other, &[&rows, &long, &last]);
        assert_eq!((ids, inside), ((1..=6).collect(), vec![1, 2, 3, 4, 5]));
    }
}
