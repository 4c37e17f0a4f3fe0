//! Whole packets over a stream, for the connection phase, where they are small.

use std::io;
use std::time::Duration;

use spillway_protocol::{HEADER_LEN, PacketHeader, encode_packet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use zeroize::{Zeroize, Zeroizing};

use crate::stream::Stream;

/// How long a peer may take to accept a packet, which is small.
const WRITE_LIMIT: Duration = Duration::from_secs(20);

/// The longest packet that is accepted: connection attributes may take 64 KiB, everything else is small.
const MAX_PACKET: u32 = 128 * 1024;

/// One packet of the connection phase. Has no `Debug`: it may hold the answer to a scramble.
pub(crate) struct HandshakePacket {
    pub(crate) sequence_id: u8,
    pub(crate) payload: Zeroizing<Vec<u8>>,
}

/// Why a packet could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PacketIoError {
    #[error("the connection was closed after {received} bytes of a packet")]
    Closed { received: usize },
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error(
        "a packet of {len} bytes, where the connection phase has {MAX_PACKET} at most: not this protocol?"
    )]
    TooLong { len: u32 },
}

impl PacketIoError {
    /// Whether the peer does not speak this protocol; otherwise the connection is lost.
    pub(crate) fn is_nonsense(&self) -> bool {
        matches!(self, Self::TooLong { .. })
    }
}

/// A stream with what was read from it beyond the last packet, and the sequence id of the next one.
pub(crate) struct PacketStream {
    pub(crate) stream: Stream,
    pub(crate) ahead: Vec<u8>,
    /// Each side of a proxy counts for itself: what is sent has the id behind the last packet of either direction.
    next_sequence_id: u8,
}

impl PacketStream {
    pub(crate) fn new(stream: Stream) -> Self {
        Self::with_ahead(stream, Vec::new())
    }

    /// A stream from which this was read already.
    pub(crate) fn with_ahead(stream: Stream, ahead: Vec<u8>) -> Self {
        Self { stream, ahead, next_sequence_id: 0 }
    }

    /// Reads one packet. Cancel safe: what was read stays here.
    pub(crate) async fn read_packet(&mut self) -> Result<HandshakePacket, PacketIoError> {
        loop {
            if let Some(header) = self.ahead.first_chunk().copied().map(PacketHeader::decode) {
                if header.payload_len > MAX_PACKET {
                    return Err(PacketIoError::TooLong { len: header.payload_len });
                }
                let end = HEADER_LEN + header.payload_len as usize;
                if self.ahead.len() >= end {
                    let payload = Zeroizing::new(self.ahead[HEADER_LEN..end].to_vec());
                    self.ahead[..end].zeroize();
                    self.ahead.drain(..end);
                    self.next_sequence_id = header.sequence_id.wrapping_add(1);
                    return Ok(HandshakePacket { sequence_id: header.sequence_id, payload });
                }
            }
            if self.stream.read_buf(&mut self.ahead).await? == 0 {
                return Err(PacketIoError::Closed { received: self.ahead.len() });
            }
        }
    }

    /// The sequence id of the next packet to be written.
    pub(crate) fn next_sequence_id(&self) -> u8 {
        self.next_sequence_id
    }

    /// Writes one packet, in its turn. Not cancel safe: a part may have gone out.
    pub(crate) async fn write_packet(&mut self, payload: &[u8]) -> Result<(), PacketIoError> {
        let sequence_id = self.next_sequence_id;
        self.write_numbered(sequence_id, payload).await
    }

    /// As [`Self::write_packet`], for a peer that has the turn then. Where it has closed the connection it may have said
    /// why, and that is for the next read to find.
    pub(crate) async fn ask(&mut self, payload: &[u8]) -> Result<(), PacketIoError> {
        match self.write_packet(payload).await {
            Err(PacketIoError::Io(error)) if is_closed(&error) => Ok(()),
            written => written,
        }
    }

    /// Writes the first packet of an exchange, which numbers those that follow.
    pub(crate) async fn write_numbered(
        &mut self,
        sequence_id: u8,
        payload: &[u8],
    ) -> Result<(), PacketIoError> {
        self.next_sequence_id = sequence_id.wrapping_add(1);
        let packet = Zeroizing::new(encode_packet(sequence_id, payload));
        let written = async {
            self.stream.write_all(&packet).await?;
            self.stream.flush().await
        };
        match timeout(WRITE_LIMIT, written).await {
            Ok(written) => Ok(written?),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes no packet").into()),
        }
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}
