//! Where a client's commands begin and end.

use crate::command::Command;
use crate::packet::{HEADER_LEN, PacketHeader};

/// How many bytes of a command are kept for [`RequestReader::prefix`].
pub(crate) const PREFIX_LEN: usize = 128;

/// Commands of this many payload bytes or fewer are announced when they are whole. A client writes such a command at
/// once, so nothing waits for it; and whoever forwards it can first look at all of it.
pub const WHOLE_COMMAND_LEN: usize = 8 * 1024;

/// Cuts the client's bytes into commands and into what a client sends in the middle of a response.
///
/// Bytes that [`advance`](Self::advance) does not consume must be presented again with more behind them: a packet is
/// begun only where its header and its command byte are whole, so that a command can be refused before any byte of it
/// has gone on; one of [`WHOLE_COMMAND_LEN`] or less only where all of it is there.
#[derive(Debug)]
pub struct RequestReader {
    state: State,
    /// Payload bytes of the current piece still to come.
    piece_left: u32,
    /// The current piece is of 2^24-1 bytes: another follows.
    continued: bool,
    /// Sequence id of the latest piece.
    sequence_id: u8,
    prefix: [u8; PREFIX_LEN],
    prefix_len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between packets.
    ExpectCommand,
    /// [`RequestEvent::Start`] was given out, the command's header is not consumed yet.
    Announced,
    /// Inside a command, or a packet that begins none.
    Packet,
    /// Between packets of a file that the server asked for.
    ExpectFile,
    /// Inside a packet of the file.
    FilePacket,
}

/// One step of a [`RequestReader`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestStep {
    /// Bytes that belong to the command or packet under way. 0 without an event means: more bytes, please.
    pub consumed: usize,
    /// What was found behind them.
    pub event: Option<RequestEvent>,
}

/// What [`RequestReader::advance`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestEvent {
    /// A command begins with the next byte. None of it is consumed yet.
    Start(Command),
    /// A packet begins whose sequence id is not 0, where only a command may stand. None of it is consumed yet.
    Continuation,
    /// The command or continuation is complete.
    End {
        /// Sequence id of its last packet; the response goes on from there.
        sequence_id: u8,
    },
    /// The file that the server asked for is complete: its empty packet was seen.
    FileEnd {
        /// Sequence id of the empty packet.
        sequence_id: u8,
    },
}

impl Default for RequestReader {
    fn default() -> Self {
        Self {
            state: State::ExpectCommand,
            piece_left: 0,
            continued: false,
            sequence_id: 0,
            prefix: [0; PREFIX_LEN],
            prefix_len: 0,
        }
    }
}

impl RequestReader {
    /// Takes one step over `input`: the bytes that earlier steps have not consumed, and all that came since.
    pub fn advance(&mut self, input: &[u8]) -> RequestStep {
        match self.state {
            State::ExpectCommand => self.expect_command(input),
            State::ExpectFile => match begin(input, 0) {
                Some(header) => self.enter(State::FilePacket, header),
                None => RequestStep { consumed: 0, event: None },
            },
            State::Announced => match begin(input, 0) {
                Some(header) => self.enter(State::Packet, header),
                None => RequestStep { consumed: 0, event: None },
            },
            State::Packet | State::FilePacket => self.within(input),
        }
    }

    /// The next packets are those of a file, up to an empty one (LOAD DATA LOCAL INFILE). False if the client has
    /// sent the beginning of another command already, which the server would take for the file's content.
    #[must_use]
    pub fn expect_file(&mut self) -> bool {
        let between = self.state == State::ExpectCommand;
        if between {
            self.state = State::ExpectFile;
        }
        between
    }

    /// Whether the next byte begins a command, none being announced.
    pub const fn is_between_commands(&self) -> bool {
        matches!(self.state, State::ExpectCommand)
    }

    /// The first payload bytes of the command under way or just ended: at most 128.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix[..self.prefix_len]
    }

    fn expect_command(&mut self, input: &[u8]) -> RequestStep {
        // An empty packet has no command byte: it is announced as COM_SLEEP, which no server answers but with 1047.
        let Some(header) = begin_whole(input) else {
            return RequestStep { consumed: 0, event: None };
        };
        self.state = State::Announced;
        self.prefix_len = 0;
        let event = if header.sequence_id == 0 {
            RequestEvent::Start(Command(if header.payload_len > 0 { input[HEADER_LEN] } else { 0 }))
        } else {
            RequestEvent::Continuation
        };
        RequestStep { consumed: 0, event: Some(event) }
    }

    fn enter(&mut self, state: State, header: PacketHeader) -> RequestStep {
        self.state = state;
        self.piece_left = header.payload_len;
        self.continued = header.is_continued();
        self.sequence_id = header.sequence_id;
        let event = self.piece_end(header.payload_len == 0 && state == State::FilePacket);
        RequestStep { consumed: HEADER_LEN, event }
    }

    fn within(&mut self, input: &[u8]) -> RequestStep {
        if self.piece_left == 0 {
            // The piece before was full: this is the header of the next one.
            return match begin(input, 0) {
                Some(header) => {
                    self.piece_left = header.payload_len;
                    self.continued = header.is_continued();
                    self.sequence_id = header.sequence_id;
                    RequestStep { consumed: HEADER_LEN, event: self.piece_end(false) }
                }
                None => RequestStep { consumed: 0, event: None },
            };
        }
        let n = input.len().min(self.piece_left as usize);
        // Of a file nothing is kept.
        let room = if self.state == State::Packet { PREFIX_LEN - self.prefix_len } else { 0 };
        let kept = n.min(room);
        self.prefix[self.prefix_len..self.prefix_len + kept].copy_from_slice(&input[..kept]);
        self.prefix_len += kept;
        self.piece_left -= n as u32;
        RequestStep { consumed: n, event: self.piece_end(false) }
    }

    /// The event that the end of a piece brings, if the piece is at its end.
    fn piece_end(&mut self, file_end: bool) -> Option<RequestEvent> {
        if self.piece_left > 0 || self.continued {
            return None;
        }
        let sequence_id = self.sequence_id;
        if self.state == State::Packet {
            self.state = State::ExpectCommand;
            return Some(RequestEvent::End { sequence_id });
        }
        if file_end {
            self.state = State::ExpectCommand;
            return Some(RequestEvent::FileEnd { sequence_id });
        }
        self.state = State::ExpectFile;
        None
    }
}

/// The header at the start of `input`, if it is there with `more` bytes of its payload (or all of a shorter one).
fn begin(input: &[u8], more: usize) -> Option<PacketHeader> {
    let header = PacketHeader::decode(*input.first_chunk()?);
    let wanted = HEADER_LEN + more.min(header.payload_len as usize);
    (input.len() >= wanted).then_some(header)
}

/// As [`begin`] for a command: with all of a small one, with its command byte for others.
fn begin_whole(input: &[u8]) -> Option<PacketHeader> {
    let header = PacketHeader::decode(*input.first_chunk()?);
    let len = header.payload_len as usize;
    begin(input, if len <= WHOLE_COMMAND_LEN { len } else { 1 })
}

/// The payload of the command that begins `input`, if [`RequestReader`] announces it only when it is whole.
pub fn whole_command(input: &[u8]) -> Option<&[u8]> {
    let header = PacketHeader::decode(*input.first_chunk()?);
    let len = header.payload_len as usize;
    if len > WHOLE_COMMAND_LEN { None } else { input.get(HEADER_LEN..HEADER_LEN + len) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{MAX_PAYLOAD_LEN, encode_packet};

    /// Drives a reader over `stream` in chunks of `size` and lists what it finds.
    fn drive(reader: &mut RequestReader, stream: &[u8], size: usize) -> Vec<RequestEvent> {
        let mut events = Vec::new();
        let mut pending = Vec::new();
        for chunk in stream.chunks(size) {
            pending.extend_from_slice(chunk);
            loop {
                let step = reader.advance(&pending);
                pending.drain(..step.consumed);
                events.extend(step.event);
                if step.consumed == 0 && step.event.is_none() {
                    break;
                }
            }
        }
        assert!(pending.is_empty());
        events
    }

    #[test]
    fn commands_are_announced_before_a_byte_is_consumed() {
        let mut stream = encode_packet(0, b"\x03SELECT 1");
        stream.extend(encode_packet(0, b""));
        stream.extend(encode_packet(3, b"scramble"));
        let expected = [
            RequestEvent::Start(Command::QUERY),
            RequestEvent::End { sequence_id: 0 },
            RequestEvent::Start(Command(0)),
            RequestEvent::End { sequence_id: 0 },
            RequestEvent::Continuation,
            RequestEvent::End { sequence_id: 3 },
        ];
        for size in 1..=stream.len() {
            assert_eq!(drive(&mut RequestReader::default(), &stream, size), expected, "chunks of {size}");
        }
    }

    #[test]
    fn a_small_command_is_announced_when_it_is_whole() {
        let small = encode_packet(0, &[3; WHOLE_COMMAND_LEN]);
        let mut reader = RequestReader::default();
        assert_eq!(reader.advance(&small[..small.len() - 1]), RequestStep { consumed: 0, event: None });
        assert_eq!(reader.advance(&small).event, Some(RequestEvent::Start(Command::QUERY)));
        assert_eq!(whole_command(&small), Some(&small[HEADER_LEN..]));
        let large = encode_packet(0, &[3; WHOLE_COMMAND_LEN + 1]);
        assert_eq!(
            RequestReader::default().advance(&large[..9]).event,
            Some(RequestEvent::Start(Command::QUERY))
        );
        assert_eq!(whole_command(&large), None);
    }

    #[test]
    fn a_command_of_several_pieces_is_one() {
        let mut stream = PacketHeader { payload_len: MAX_PAYLOAD_LEN, sequence_id: 0 }.encode().to_vec();
        stream.extend(vec![3; MAX_PAYLOAD_LEN as usize]);
        stream.extend(encode_packet(1, b"rest"));
        let mut reader = RequestReader::default();
        let events = drive(&mut reader, &stream, 1 << 20);
        assert_eq!(events, [RequestEvent::Start(Command::QUERY), RequestEvent::End { sequence_id: 1 }]);
        assert_eq!(reader.prefix().len(), PREFIX_LEN);
    }

    #[test]
    fn a_file_ends_with_an_empty_packet() {
        let mut reader = RequestReader::default();
        assert!(reader.expect_file());
        let mut stream = encode_packet(2, b"1\t2\n");
        stream.extend(encode_packet(3, b"3\t4\n"));
        stream.extend(encode_packet(4, b""));
        stream.extend(encode_packet(0, b"\x0e"));
        let expected = [
            RequestEvent::FileEnd { sequence_id: 4 },
            RequestEvent::Start(Command::PING),
            RequestEvent::End { sequence_id: 0 },
        ];
        assert_eq!(drive(&mut reader, &stream, 3), expected);
    }

    #[test]
    fn a_file_is_no_part_of_the_command_that_asked_for_it() {
        let mut reader = RequestReader::default();
        drive(&mut reader, &encode_packet(0, b"\x03LOAD"), 100);
        assert!(reader.expect_file());
        drive(&mut reader, &[encode_packet(2, b"secret"), encode_packet(3, b"")].concat(), 100);
        assert_eq!(reader.prefix(), b"\x03LOAD");
    }

    #[test]
    fn a_file_cannot_begin_inside_a_command() {
        let mut reader = RequestReader::default();
        assert_eq!(
            reader.advance(&encode_packet(0, b"\x0e")).event,
            Some(RequestEvent::Start(Command::PING))
        );
        assert!(!reader.expect_file());
    }
}
