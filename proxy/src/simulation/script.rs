//! What a simulated client asks and what a simulated server answers, byte for byte.

use std::fmt;
use std::ops::Range;

use rand::RngExt;
use rand::rngs::StdRng;
use spillway_protocol::{Capabilities, Command, HEADER_LEN, MAX_PAYLOAD_LEN, PacketHeader, encode_err};

use super::plan::log_uniform;

/// Which server it is, as far as its answers depend on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialect {
    pub(super) is_mariadb: bool,
    pub(super) deprecate_eof: bool,
}

impl Dialect {
    pub(super) fn version(self) -> &'static str {
        if self.is_mariadb { "5.5.5-10.11.6-MariaDB-simulated" } else { "8.4.0-simulated" }
    }

    /// What the server offers, and the client takes.
    pub(super) fn capabilities(self) -> Capabilities {
        let eof = if self.deprecate_eof { Capabilities::DEPRECATE_EOF } else { Capabilities::default() };
        Capabilities::LONG_PASSWORD
            | Capabilities::LONG_FLAG
            | Capabilities::PROTOCOL_41
            | Capabilities::TRANSACTIONS
            | Capabilities::SECURE_CONNECTION
            | Capabilities::MULTI_STATEMENTS
            | Capabilities::MULTI_RESULTS
            | Capabilities::PLUGIN_AUTH
            | eof
    }
}

/// Packets that follow each other, and where the logical ones end.
#[derive(Clone, Default)]
pub(super) struct Packets {
    pub(super) bytes: Vec<u8>,
    /// Where each ends, and the sequence id that follows.
    pub(super) ends: Vec<(usize, u8)>,
}

impl Packets {
    /// Adds one packet; in pieces, if it is too long. The first has the sequence id 1.
    pub(super) fn push(&mut self, payload: &[u8]) {
        let mut next_id = self.ends.last().map_or(1, |&(_, next)| next);
        let mut rest = payload;
        loop {
            let (piece, others) = rest.split_at(rest.len().min(MAX_PAYLOAD_LEN as usize));
            let header = PacketHeader { payload_len: piece.len() as u32, sequence_id: next_id };
            self.bytes.extend_from_slice(&header.encode());
            self.bytes.extend_from_slice(piece);
            next_id = next_id.wrapping_add(1);
            rest = others;
            if piece.len() < MAX_PAYLOAD_LEN as usize {
                break;
            }
        }
        self.ends.push((self.bytes.len(), next_id));
    }

    fn ok(&mut self, status: u16) {
        let [low, high] = status.to_le_bytes();
        self.push(&[0, 0, 0, low, high, 0, 0]);
    }

    fn err(&mut self, code: u16, message: &str) {
        self.push(&encode_err(0, code, Some(b"HY000"), message)[HEADER_LEN..]);
    }

    /// The column count, definitions of columns, and what ends them.
    fn head(&mut self, columns: u8, dialect: Dialect) {
        self.push(&[columns]);
        self.definitions(columns, dialect);
    }

    fn definitions(&mut self, columns: u8, dialect: Dialect) {
        for number in 0..columns {
            let name = format!("c{number}");
            let mut definition = b"\x03def\x02db\x01t\x01t".to_vec();
            for name in [&name, &name] {
                definition.push(name.len() as u8);
                definition.extend_from_slice(name.as_bytes());
            }
            definition.extend_from_slice(&[0x0c, 45, 0, 255, 255, 0, 0, 0xfd, 0, 0, 0, 0, 0]);
            self.push(&definition);
        }
        if !dialect.deprecate_eof {
            self.push(&[0xfe, 0, 0, AUTOCOMMIT as u8, 0]);
        }
    }

    fn end(&mut self, status: u16, dialect: Dialect) {
        let [low, high] = status.to_le_bytes();
        match dialect.deprecate_eof {
            true => self.push(&[0xfe, 0, 0, low, high, 0, 0]),
            false => self.push(&[0xfe, 0, 0, low, high]),
        }
    }

    /// A result set of one row with these values.
    pub(super) fn one_row(values: &[String], dialect: Dialect) -> Self {
        let mut packets = Self::default();
        packets.head(values.len() as u8, dialect);
        let values = values.iter().flat_map(|value| [&[value.len() as u8], value.as_bytes()].concat());
        packets.push(&values.collect::<Vec<u8>>());
        packets.end(AUTOCOMMIT, dialect);
        packets
    }

    /// Just OK.
    pub(super) fn just_ok() -> Self {
        let mut packets = Self::default();
        packets.ok(AUTOCOMMIT);
        packets
    }

    /// A line of text, as it answers COM_STATISTICS.
    pub(super) fn text(line: &str) -> Self {
        let mut packets = Self::default();
        packets.push(line.as_bytes());
        packets
    }
}

/// What becomes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The server answers it, and gets it once.
    Answered,
    /// The same, but it may be sent again on another connection.
    Setting,
    /// COM_RESET_CONNECTION, which is among the settings that are made again.
    Reset,
    /// The server gets it and says nothing.
    Unanswered,
    /// The server never gets it; Spillway answers.
    Refused,
}

/// A command of the client's and its answer, which is empty for one that has none.
#[derive(Clone)]
pub(super) struct Exchange {
    pub(super) payload: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) answer: Packets,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let payload = &self.payload[..self.payload.len().min(40)];
        write!(f, "{:?} {:?}: {} bytes", self.kind, String::from_utf8_lossy(payload), self.answer.bytes.len())
    }
}

impl Exchange {
    /// Whether the server gets to see it.
    pub(super) fn is_forwarded(&self) -> bool {
        self.kind != Kind::Refused
    }
}

/// Status flags.
const IN_TRANS: u16 = 1;
const AUTOCOMMIT: u16 = 2;
const MORE_RESULTS: u16 = 8;

/// A command byte that no server has.
const UNKNOWN: Command = Command(0x7b);

/// The command of this number, with about so many bytes of answer at most.
pub(super) fn draw_exchange(rng: &mut StdRng, number: usize, dialect: Dialect, most: usize) -> Exchange {
    let (kind, payload, answer) = match rng.random_range(0..100) {
        0..12 => return setting(number),
        12..16 => (Kind::Setting, format!("\x02db{number}").into_bytes(), Packets::just_ok()),
        16..20 => (Kind::Answered, vec![Command::PING.0], Packets::just_ok()),
        20..24 => (Kind::Reset, vec![Command::RESET_CONNECTION.0], Packets::just_ok()),
        24..27 => return close(number),
        27..30 => return unknown(),
        30..33 => {
            let sql = format!("SELECT {number} + ?");
            let prepare = [&[Command::STMT_PREPARE.0], sql.as_bytes()].concat();
            (Kind::Answered, prepare, prepared(number, dialect))
        }
        33..36 => {
            let execute = [Command::STMT_EXECUTE.0, number as u8, 0, 0, 0, 0, 1, 0, 0, 0];
            (Kind::Answered, execute.to_vec(), binary_rows(rng, dialect, most))
        }
        36..38 => {
            let dump = [Command::BINLOG_DUMP.0, 4, 0, 0, 0, 1, 0, number as u8, 0, 0, 0];
            (Kind::Answered, dump.to_vec(), binlog(rng, most))
        }
        38..46 => {
            let sql = format!("\x03SELECT @@max_allowed_packet AS number{number}");
            (Kind::Answered, sql.into_bytes(), Packets::one_row(&["16777216".to_owned()], dialect))
        }
        _ => (Kind::Answered, draw_query(rng, number), draw_answer(rng, dialect, most)),
    };
    Exchange { payload, kind, answer }
}

/// A statement that can be made again.
pub(super) fn setting(number: usize) -> Exchange {
    let sql = format!("\x03SET SESSION sort_buffer_size = {}", 100_000 + number);
    Exchange { payload: sql.into_bytes(), kind: Kind::Setting, answer: Packets::just_ok() }
}

/// COM_STMT_CLOSE.
pub(super) fn close(number: usize) -> Exchange {
    let payload = [&[Command::STMT_CLOSE.0][..], &(number as u32).to_le_bytes()].concat();
    Exchange { payload, kind: Kind::Unanswered, answer: Packets::default() }
}

/// A command that Spillway does not pass on.
pub(super) fn unknown() -> Exchange {
    let message = format!("spillway: {UNKNOWN} is not known and was not forwarded");
    let mut answer = Packets::default();
    answer.push(&encode_err(0, 1047, Some(b"08S01"), &message)[HEADER_LEN..]);
    Exchange { payload: vec![UNKNOWN.0], kind: Kind::Refused, answer }
}

/// A statement of one parameter and three columns.
fn prepared(number: usize, dialect: Dialect) -> Packets {
    let mut packets = Packets::default();
    packets.push(&[0, number as u8, 0, 0, 0, 3, 0, 1, 0, 0, 0, 0]);
    packets.definitions(1, dialect);
    packets.definitions(3, dialect);
    packets
}

fn binary_rows(rng: &mut StdRng, dialect: Dialect, most: usize) -> Packets {
    let mut packets = Packets::default();
    packets.head(3, dialect);
    for _ in 0..rng.random_range(0..20) {
        let len = log_uniform(rng, 2..most);
        // A header byte, and which values are NULL.
        packets.push(&vec![0; len]);
    }
    packets.end(AUTOCOMMIT, dialect);
    packets
}

/// Events, and an EOF packet of the old form whatever the capabilities are.
fn binlog(rng: &mut StdRng, most: usize) -> Packets {
    let mut packets = Packets::default();
    for _ in 0..rng.random_range(0..100) {
        let mut event = vec![0];
        event.resize(log_uniform(rng, 20..most / 10), b'e');
        packets.push(&event);
    }
    packets.push(&[0xfe, 0, 0, AUTOCOMMIT as u8, 0]);
    packets
}

/// One row of about 16 MiB: where packets are split.
pub(super) fn draw_giant(rng: &mut StdRng, number: usize, dialect: Dialect) -> Exchange {
    let lengths = [0xff_fffe, 0xff_ffff, 0x100_0000, 0x100_0001, 0x101_2345];
    let len = lengths[rng.random_range(0..lengths.len())];
    let head = if len - 4 < 0x100_0000 { 4 } else { 9 };
    let mut packets = Packets::default();
    packets.head(1, dialect);
    push_row(&mut packets, rng, &[len - head]);
    push_row(&mut packets, rng, &[3]);
    packets.end(AUTOCOMMIT, dialect);
    Exchange { payload: draw_query(rng, number), kind: Kind::Answered, answer: packets }
}

fn draw_query(rng: &mut StdRng, number: usize) -> Vec<u8> {
    let longest = if rng.random_ratio(1, 12) { 60_000 } else { 100 };
    let len = log_uniform(rng, 1..longest);
    let noise: String = (0..len).map(|_| char::from(rng.random_range(b'a'..=b'z'))).collect();
    format!("\x03SELECT * FROM t{number} WHERE c = '{noise}'").into_bytes()
}

fn draw_answer(rng: &mut StdRng, dialect: Dialect, most: usize) -> Packets {
    let mut packets = Packets::default();
    let results = if rng.random_ratio(1, 6) { rng.random_range(2..5) } else { 1 };
    for left in (0..results).rev() {
        let in_trans = if rng.random_ratio(1, 20) { IN_TRANS } else { 0 };
        let status = AUTOCOMMIT | in_trans | if left > 0 { MORE_RESULTS } else { 0 };
        match rng.random_range(0..10) {
            0 => packets.ok(status),
            1 => {
                packets.err(1064, "You have an error in your script");
                break;
            }
            _ => {
                packets.head(2, dialect);
                push_rows(&mut packets, rng, most / results);
                if rng.random_ratio(1, 12) {
                    packets.err(1317, "Query execution was interrupted");
                    break;
                }
                packets.end(status, dialect);
            }
        }
    }
    packets
}

fn push_rows(packets: &mut Packets, rng: &mut StdRng, most: usize) {
    let lengths: Range<usize> = match rng.random_range(0..4) {
        0 => 1..30,
        1 => most / 4..most / 2,
        _ => 1..most,
    };
    let rows = rng.random_range(0..2000);
    let limit = packets.bytes.len() + rng.random_range(0..most.max(1));
    for _ in 0..rows {
        let len = log_uniform(rng, lengths.clone());
        push_row(packets, rng, &[len / 2, len - len / 2]);
        if packets.bytes.len() > limit {
            break;
        }
    }
}

fn push_row(packets: &mut Packets, rng: &mut StdRng, lengths: &[usize]) {
    let mut row = Vec::with_capacity(lengths.iter().sum::<usize>() + 9 * lengths.len());
    for &len in lengths {
        let digits = (len as u64).to_le_bytes();
        match len {
            0..=0xfa => row.push(len as u8),
            0xfb..=0xffff => row.extend_from_slice(&[0xfc, digits[0], digits[1]]),
            0x1_0000..=0xff_ffff => row.extend_from_slice(&[0xfd, digits[0], digits[1], digits[2]]),
            _ => {
                row.push(0xfe);
                row.extend_from_slice(&digits);
            }
        }
        let start = row.len();
        row.resize(start + len, b'x');
        // Every other value can be compressed.
        if rng.random_bool(0.5) {
            rng.fill(&mut row[start..]);
        }
    }
    packets.push(&row);
}
