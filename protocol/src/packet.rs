//! Packets: a header of four bytes (payload length in three, little-endian; sequence id in one), then the payload.
//!
//! A payload of 2^24-1 bytes says that the logical packet goes on in the next one; the last piece is shorter, empty if
//! need be. Source: [MySQL packets](https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_packets.html).

/// Length of a packet header in bytes.
pub const HEADER_LEN: usize = 4;

/// The longest payload of one packet, and the sign that the logical packet goes on: 2^24-1.
pub const MAX_PAYLOAD_LEN: u32 = 0xff_ffff;

/// How many of a logical packet's first payload bytes [`PacketScanner`] keeps. The longest thing looked at is an OK
/// packet up to its status flags: 1 + 9 + 9 + 2 bytes.
const PREFIX_LEN: usize = 32;

/// The header of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketHeader {
    /// Payload bytes that follow, at most [`MAX_PAYLOAD_LEN`].
    pub payload_len: u32,
    /// Counts the packets of a command and its response; wraps at 256.
    pub sequence_id: u8,
}

impl PacketHeader {
    /// Decodes the four bytes of a header.
    pub const fn decode([a, b, c, sequence_id]: [u8; HEADER_LEN]) -> Self {
        Self { payload_len: u32::from_le_bytes([a, b, c, 0]), sequence_id }
    }

    /// Encodes the header. Payload lengths over [`MAX_PAYLOAD_LEN`] have no encoding; their upper byte is lost.
    pub const fn encode(self) -> [u8; HEADER_LEN] {
        let [a, b, c, _] = self.payload_len.to_le_bytes();
        [a, b, c, self.sequence_id]
    }

    /// Whether the logical packet goes on in another packet.
    pub const fn is_continued(self) -> bool {
        self.payload_len == MAX_PAYLOAD_LEN
    }
}

/// A logical packet, all pieces seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogicalPacket {
    /// Payload bytes of all pieces.
    pub payload_len: u64,
    /// Sequence id of the first piece.
    pub first_sequence_id: u8,
    /// Sequence id of the last piece.
    pub last_sequence_id: u8,
}

/// Finds the ends of logical packets in a stream that comes in chunks cut anywhere, and keeps the first bytes of the
/// packet under way. Never looks at a byte twice and never allocates.
#[derive(Debug, Default)]
pub struct PacketScanner {
    header: [u8; HEADER_LEN],
    /// Bytes of the header seen; `HEADER_LEN` while in the payload.
    header_len: usize,
    /// Payload bytes of the current piece still to come.
    piece_left: u32,
    /// Pieces of the current logical packet whose header is complete.
    pieces: u64,
    first_sequence_id: u8,
    payload_len: u64,
    prefix: [u8; PREFIX_LEN],
    prefix_len: usize,
}

impl PacketScanner {
    /// Reads up to the end of the current logical packet. Returns how many bytes of `input` belong to it, and the
    /// packet if it ended there; without an end all of `input` is consumed.
    pub fn scan(&mut self, input: &[u8]) -> (usize, Option<LogicalPacket>) {
        self.scan_with(input, |_| {})
    }

    /// As [`scan`](Self::scan), and shows the pieces of the payload to `on_payload`, in order.
    pub(crate) fn scan_with(
        &mut self,
        input: &[u8],
        mut on_payload: impl FnMut(&[u8]),
    ) -> (usize, Option<LogicalPacket>) {
        if self.prefix_len > 0 && self.is_at_boundary() {
            self.prefix_len = 0;
        }
        let mut at = 0;
        while at < input.len() {
            if self.header_len < HEADER_LEN {
                at += self.take_header(&input[at..]);
            } else {
                let len = self.take_payload(&input[at..]);
                on_payload(&input[at..at + len]);
                at += len;
            }
            if let Some(packet) = self.take_end() {
                return (at, Some(packet));
            }
        }
        (at, None)
    }

    /// As [`scan`](Self::scan), and gives each piece the sequence id `next`, which counts on.
    pub(crate) fn scan_numbering(
        &mut self,
        input: &mut [u8],
        next: &mut u8,
    ) -> (usize, Option<LogicalPacket>) {
        if self.prefix_len > 0 && self.is_at_boundary() {
            self.prefix_len = 0;
        }
        let mut at = 0;
        while at < input.len() {
            if self.header_len < HEADER_LEN {
                at += self.take_header(&input[at..]);
                if self.header_len == HEADER_LEN {
                    // The id is a header's last byte.
                    input[at - 1] = *next;
                    self.header[HEADER_LEN - 1] = *next;
                    *next = next.wrapping_add(1);
                }
            } else {
                at += self.take_payload(&input[at..]);
            }
            if let Some(packet) = self.take_end() {
                return (at, Some(packet));
            }
        }
        (at, None)
    }

    /// The first payload bytes of the packet under way or, right after its end, of the last one: at most 32.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix[..self.prefix_len]
    }

    /// Whether the stream stands between two logical packets.
    pub const fn is_at_boundary(&self) -> bool {
        self.header_len == 0 && self.pieces == 0
    }

    /// Bytes, headers included, of the logical packet under way that have been seen; 0 at a boundary.
    pub const fn unfinished_len(&self) -> u64 {
        let header_under_way = if self.header_len < HEADER_LEN { self.header_len as u64 } else { 0 };
        self.payload_len + self.pieces * HEADER_LEN as u64 + header_under_way
    }

    fn take_header(&mut self, input: &[u8]) -> usize {
        let n = input.len().min(HEADER_LEN - self.header_len);
        self.header[self.header_len..self.header_len + n].copy_from_slice(&input[..n]);
        self.header_len += n;
        if self.header_len == HEADER_LEN {
            let header = PacketHeader::decode(self.header);
            if self.pieces == 0 {
                self.first_sequence_id = header.sequence_id;
            }
            self.pieces += 1;
            self.piece_left = header.payload_len;
        }
        n
    }

    fn take_payload(&mut self, input: &[u8]) -> usize {
        let n = input.len().min(self.piece_left as usize);
        let kept = n.min(PREFIX_LEN - self.prefix_len);
        self.prefix[self.prefix_len..self.prefix_len + kept].copy_from_slice(&input[..kept]);
        self.prefix_len += kept;
        self.piece_left -= n as u32;
        self.payload_len += n as u64;
        n
    }

    fn take_end(&mut self) -> Option<LogicalPacket> {
        if self.header_len < HEADER_LEN || self.piece_left > 0 {
            return None;
        }
        self.header_len = 0;
        let header = PacketHeader::decode(self.header);
        if header.is_continued() {
            return None;
        }
        let packet = LogicalPacket {
            payload_len: self.payload_len,
            first_sequence_id: self.first_sequence_id,
            last_sequence_id: header.sequence_id,
        };
        self.pieces = 0;
        self.payload_len = 0;
        Some(packet)
    }
}

/// One packet: `payload` behind its header. `payload` must be shorter than [`MAX_PAYLOAD_LEN`]; what is made here (a
/// command of the proxy's own, an error message) always is.
pub fn encode_packet(sequence_id: u8, payload: &[u8]) -> Vec<u8> {
    debug_assert!(payload.len() < MAX_PAYLOAD_LEN as usize);
    let header = PacketHeader { payload_len: payload.len() as u32, sequence_id };
    let mut packet = Vec::with_capacity(HEADER_LEN + payload.len());
    packet.extend_from_slice(&header.encode());
    packet.extend_from_slice(payload);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trips() {
        let header = PacketHeader { payload_len: 0x01_02_03, sequence_id: 255 };
        assert_eq!(header.encode(), [3, 2, 1, 255]);
        assert_eq!(PacketHeader::decode(header.encode()), header);
    }

    #[test]
    fn packet_ends_are_found_whatever_the_chunks() {
        let mut stream = encode_packet(0, b"");
        stream.extend(encode_packet(1, b"hello"));
        for size in 1..=stream.len() {
            let mut scanner = PacketScanner::default();
            let mut found = Vec::new();
            for mut chunk in stream.chunks(size) {
                while !chunk.is_empty() {
                    let (n, packet) = scanner.scan(chunk);
                    chunk = &chunk[n..];
                    if let Some(packet) = packet {
                        found.push((packet.payload_len, scanner.prefix().to_vec()));
                        assert_eq!(scanner.unfinished_len(), 0);
                    }
                }
            }
            assert_eq!(found, [(0, vec![]), (5, b"hello".to_vec())]);
        }
    }

    #[test]
    fn a_full_piece_goes_on_in_the_next() {
        let mut scanner = PacketScanner::default();
        let full = PacketHeader { payload_len: MAX_PAYLOAD_LEN, sequence_id: 255 }.encode();
        assert_eq!(scanner.scan(&full), (4, None));
        let body = vec![7; MAX_PAYLOAD_LEN as usize];
        assert_eq!(scanner.scan(&body), (body.len(), None));
        assert!(!scanner.is_at_boundary());
        assert_eq!(scanner.unfinished_len(), 4 + u64::from(MAX_PAYLOAD_LEN));
        let (n, packet) = scanner.scan(&[0, 0, 0, 0]);
        assert_eq!(n, 4);
        let packet = packet.unwrap();
        assert_eq!((packet.first_sequence_id, packet.last_sequence_id), (255, 0));
        assert_eq!(packet.payload_len, u64::from(MAX_PAYLOAD_LEN));
    }
}
