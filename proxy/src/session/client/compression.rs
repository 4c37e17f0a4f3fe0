//! The compressed protocol towards a client: what it sends is inflated, what it gets compressed, and all of it numbered
//! as a server would.
//!
//! A server answers a command with the compressed sequence id behind the last compressed packet that it has read for
//! it, and gives its first packet the same number. Commands that were in the packet before already do not count: their
//! responses just go on. Source: `net_serv.cc` of both servers.

use std::collections::VecDeque;

use bytes::BytesMut;
use spillway_protocol::{CompressionError, PacketNumberer};

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

    /// Compresses some of `packets`, in one step; gives how many bytes.
    pub(super) fn encode_step(&mut self, packets: &[u8], outbox: &mut BytesMut) -> usize {
        if !self.is_begun {
            self.is_begun = true;
            let start = self.starts.front().copied().flatten();
            self.go_on_with(start.unwrap_or_else(|| self.link.next_id()));
        } else if self.responses.is_between_results() {
            // A server has flushed the result before, and goes on with the number of the compressed packet. Drivers that
            // check the numbers inside know it.
            self.responses.set_next(self.link.next_id());
        }
        let len = packets.len().min(self.link.step_len());
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
