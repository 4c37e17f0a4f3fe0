//! Sequence ids of one's own.
//!
//! In the compressed protocol servers and clients number, and check, only the compressed packets. What stands in the
//! headers inside jumps: whenever a server flushes what it has written, it goes on with the number of its next
//! compressed packet (`net_flush()` in both servers' net_serv.cc). A peer without compression checks just these
//! numbers, and so do some drivers with it.

use crate::packet::PacketScanner;
use crate::status::{EOF_HEADER, OK_HEADER, StatusFlags, eof_status, ok_status};

/// Numbers the packets of a stream that comes in chunks cut anywhere.
#[derive(Debug, Default)]
pub struct PacketNumberer {
    scanner: PacketScanner,
    next: u8,
    last: u8,
    /// The last packet says that another result follows.
    more_results: bool,
}

impl PacketNumberer {
    /// Gives all packets whose headers are in `bytes` their numbers.
    pub fn number(&mut self, bytes: &mut [u8]) {
        let mut at = 0;
        while at < bytes.len() {
            let (n, packet) = self.scanner.scan_numbering(&mut bytes[at..], &mut self.next);
            at += n;
            if let Some(packet) = packet {
                self.last = packet.last_sequence_id;
                self.more_results = says_more_results(self.scanner.prefix());
            }
        }
    }

    /// The next packet gets this number.
    pub const fn set_next(&mut self, sequence_id: u8) {
        self.next = sequence_id;
    }

    /// The number behind that of the last packet.
    pub const fn next_sequence_id(&self) -> u8 {
        self.next
    }

    /// The number of the last logical packet that was complete: that of its last piece.
    pub const fn last_sequence_id(&self) -> u8 {
        self.last
    }

    /// Whether the stream stands behind a packet that ends a result and announces another. A row may look the same: so
    /// this is good only for what may as well be done behind a row.
    pub const fn is_between_results(&self) -> bool {
        self.scanner.is_at_boundary() && self.more_results
    }
}

fn says_more_results(payload: &[u8]) -> bool {
    let more = |status: Option<StatusFlags>| {
        status.is_some_and(|status| status.contains(StatusFlags::MORE_RESULTS_EXISTS))
    };
    match payload.first() {
        Some(&OK_HEADER) => more(ok_status(payload)),
        Some(&EOF_HEADER) => more(eof_status(payload)) || more(ok_status(payload)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{MAX_PAYLOAD_LEN, PacketHeader, encode_packet};

    /// Numbers `stream` in chunks of `size`; gives the ids of its packets.
    fn numbered(first: u8, stream: &[u8], size: usize) -> (Vec<u8>, PacketNumberer) {
        let mut numberer = PacketNumberer::default();
        numberer.set_next(first);
        let mut stream = stream.to_vec();
        stream.chunks_mut(size).for_each(|chunk| numberer.number(chunk));
        let mut ids = Vec::new();
        let mut rest = stream.as_slice();
        while let Some(header) = rest.first_chunk().copied().map(PacketHeader::decode) {
            ids.push(header.sequence_id);
            rest = &rest[crate::HEADER_LEN + header.payload_len as usize..];
        }
        (ids, numberer)
    }

    #[test]
    fn packets_are_numbered_whatever_the_chunks() {
        let stream = [encode_packet(7, b"one"), encode_packet(7, b""), encode_packet(9, b"three")].concat();
        for size in 1..=stream.len() {
            let (ids, numberer) = numbered(254, &stream, size);
            assert_eq!(ids, [254, 255, 0], "chunks of {size}");
            assert_eq!((numberer.last_sequence_id(), numberer.next_sequence_id()), (0, 1));
        }
    }

    #[test]
    fn every_piece_of_a_long_packet_counts() {
        let mut stream = PacketHeader { payload_len: MAX_PAYLOAD_LEN, sequence_id: 9 }.encode().to_vec();
        stream.resize(crate::HEADER_LEN + MAX_PAYLOAD_LEN as usize, 1);
        stream.extend(encode_packet(9, b""));
        let (ids, numberer) = numbered(1, &stream, 1 << 20);
        assert_eq!((ids, numberer.last_sequence_id()), (vec![1, 2], 2));
    }

    #[test]
    fn the_place_between_two_results_is_known() {
        for (last, between) in [
            (&b"\xfe\0\0\x0a\0"[..], true),
            (b"\xfe\0\0\x02\0", false),
            (b"\0\x01\0\x0a\0\0\0", true),
            (b"\xfe\x01\0\x0a\0\0\0", true),
            (b"\0\x01\0\x02\0\0\0", false),
            (b"\x01\x0a\x0a\x0a\x0a", false),
        ] {
            let stream = [encode_packet(1, b"row"), encode_packet(2, last)].concat();
            for size in [1, 5, stream.len()] {
                let (_, mut numberer) = numbered(1, &stream, size);
                assert_eq!(numberer.is_between_results(), between, "{last:?}");
                numberer.number(&mut [1]);
                assert!(!numberer.is_between_results());
            }
        }
    }
}
