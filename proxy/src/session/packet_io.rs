//! Whole packets over a stream, for the handshake, where they are small.

use std::io;

use spillway_protocol::{HEADER_LEN, PacketHeader, encode_packet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::stream::Stream;

/// The longest handshake packet that is accepted: connection attributes may take 64 KiB, everything else is small.
const MAX_HANDSHAKE_PACKET: u32 = 128 * 1024;

/// One packet of a handshake. Has no `Debug`: it may hold the answer to a scramble.
pub(crate) struct HandshakePacket {
    pub(crate) sequence_id: u8,
    pub(crate) payload: Vec<u8>,
}

/// Why a handshake packet could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PacketIoError {
    #[error("the connection was closed after {received} bytes of a packet")]
    Closed { received: usize },
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error(
        "a packet of {len} bytes, where a handshake packet has {MAX_HANDSHAKE_PACKET} at most: not this protocol?"
    )]
    TooLong { len: u32 },
}

/// A stream with what was read from it beyond the last packet.
pub(crate) struct PacketStream {
    pub(crate) stream: Stream,
    pub(crate) ahead: Vec<u8>,
}

impl PacketStream {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, ahead: Vec::new() }
    }

    /// Reads one packet. Cancel safe: what was read stays here.
    pub(crate) async fn read_packet(&mut self) -> Result<HandshakePacket, PacketIoError> {
        loop {
            if let Some(header) = self.ahead.first_chunk().copied().map(PacketHeader::decode) {
                if header.payload_len > MAX_HANDSHAKE_PACKET {
                    return Err(PacketIoError::TooLong { len: header.payload_len });
                }
                let end = HEADER_LEN + header.payload_len as usize;
                if self.ahead.len() >= end {
                    let payload = self.ahead[HEADER_LEN..end].to_vec();
                    self.ahead.drain(..end);
                    return Ok(HandshakePacket { sequence_id: header.sequence_id, payload });
                }
            }
            if self.stream.read_buf(&mut self.ahead).await? == 0 {
                return Err(PacketIoError::Closed { received: self.ahead.len() });
            }
        }
    }

    /// Writes one packet.
    pub(crate) async fn write_packet(
        &mut self,
        sequence_id: u8,
        payload: &[u8],
    ) -> Result<(), PacketIoError> {
        Ok(self.stream.write_all(&encode_packet(sequence_id, payload)).await?)
    }
}
