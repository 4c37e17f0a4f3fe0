//! Whole packets over a stream, for the connection phase, where they are small.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

use std::io;
use std::time::Duration;

use spillway_protocol::{Compression, CompressionError, HEADER_LEN, PacketHeader, encode_packet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use zeroize::{Zeroize, Zeroizing};

use crate::compressed::Compressed;
use crate::stream::Stream;

/// How long a peer may take to accept a packet, which is small.
const WRITE_LIMIT: Duration = Duration::from_secs(20);

/// The longest packet that is accepted: connection attributes may take 64 KiB, everything else is small.
const MAX_PACKET: u32 = 128 * 1024;

/// Bytes that are inflated at once.
const INFLATE_STEP: usize = 4 * 1024;

/// Room for what is read ahead, to begin with: most packets of a login.
const LEAST_ROOM: usize = 512;

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
    #[error("{0}")]
    Compression(#[from] CompressionError),
}

impl PacketIoError {
    /// Whether the peer does not speak this protocol; otherwise the connection is lost.
    pub(crate) fn is_nonsense(&self) -> bool {
        matches!(self, Self::TooLong { .. } | Self::Compression(_))
    }
}

/// A stream with what was read from it beyond the last packet, and the sequence id of the next one.
pub(crate) struct PacketStream {
    pub(crate) stream: Stream,
    /// There may be a password in it.
    pub(crate) ahead: Zeroizing<Vec<u8>>,
    /// The compressed protocol, once the login has ended.
    pub(crate) compression: Option<Box<Compressed>>,
    /// Each side of a proxy counts for itself: what is sent has the id behind the last packet of either direction.
    next_sequence_id: u8,
}

impl PacketStream {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, ahead: Zeroizing::default(), compression: None, next_sequence_id: 0 }
    }

    /// A connection that was in use: what was read `ahead` is inflated already, where it is compressed.
    pub(crate) fn in_use(
        stream: Stream,
        ahead: Zeroizing<Vec<u8>>,
        compression: Option<Box<Compressed>>,
    ) -> Self {
        Self { stream, ahead, compression, next_sequence_id: 0 }
    }

    /// Goes over to the compressed protocol, if there is one: behind the OK that ends the login. What was read ahead is
    /// compressed already.
    pub(crate) fn begin_compression(&mut self, compression: Option<Compression>) {
        if let Some(compression) = compression {
            let ahead = std::mem::take(&mut self.ahead);
            self.compression = Some(Box::new(Compressed::new(compression, &ahead)));
        }
    }

    /// Bytes that were read beyond the last packet.
    pub(crate) fn unread(&self) -> usize {
        self.ahead.len() + self.compression.as_ref().map_or(0, |compressed| compressed.unread())
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
            if self.read_more().await? == 0 {
                return Err(PacketIoError::Closed { received: self.unread() });
            }
        }
    }

    /// Reads some bytes of packets into `room`, inflated; 0 at the end of the stream. Cancel safe.
    pub(crate) async fn read_some(&mut self, room: &mut [u8]) -> Result<usize, PacketIoError> {
        if self.ahead.is_empty() && self.compression.is_none() {
            return Ok(self.stream.read(room).await?);
        }
        if self.ahead.is_empty() && self.read_more().await? == 0 {
            return Ok(0);
        }
        let len = room.len().min(self.ahead.len());
        room[..len].copy_from_slice(&self.ahead[..len]);
        self.ahead.drain(..len);
        Ok(len)
    }

    /// Adds something to what was read ahead; 0 at the end of the stream.
    async fn read_more(&mut self) -> Result<usize, PacketIoError> {
        let Some(compressed) = &mut self.compression else {
            make_room(&mut self.ahead, 1);
            return Ok(self.stream.read_buf(&mut *self.ahead).await?);
        };
        loop {
            let mut room = Zeroizing::new([0; INFLATE_STEP]);
            let next_id = compressed.next_id();
            let inflated = compressed.inflate(&mut room[..], |id| id == 0 || id == next_id)?;
            if inflated.produced > 0 {
                make_room(&mut self.ahead, inflated.produced);
                self.ahead.extend_from_slice(&room[..inflated.produced]);
                compressed.set_next_id(compressed.answer_id());
                return Ok(inflated.produced);
            }
            if inflated.consumed == 0 && compressed.read(&mut self.stream).await? == 0 {
                return Ok(0);
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
        if let Some(compressed) = self.compression.as_mut().filter(|_| sequence_id == 0) {
            compressed.set_next_id(0);
        }
        self.write_encoded(encode_packet(sequence_id, payload)).await
    }

    /// Writes a packet that has its header already.
    pub(crate) async fn write_encoded(&mut self, packet: Vec<u8>) -> Result<(), PacketIoError> {
        let mut packet = Zeroizing::new(packet);
        if let Some(compressed) = &mut self.compression {
            // Room for all, for the same reason as in `make_room`. What does not shrink gets a header.
            let mut wire = Zeroizing::new(Vec::with_capacity(packet.len() + packet.len() / 16 + LEAST_ROOM));
            compressed.encode(&packet, &mut wire);
            packet = wire;
        }
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

/// Makes room for so many more bytes. A vector that grows by itself leaves what it held behind in memory.
fn make_room(bytes: &mut Zeroizing<Vec<u8>>, len: usize) {
    let needed = bytes.len() + len;
    if needed > bytes.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(2 * bytes.capacity()).max(LEAST_ROOM)));
        larger.extend_from_slice(bytes);
        *bytes = larger;
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

    use super::*;

    fn pair() -> (PacketStream, PacketStream) {
        let (client, server) = UnixStream::pair().unwrap();
        (PacketStream::new(Stream::unix(client)), PacketStream::new(Stream::unix(server)))
    }

    /// An exchange of some turns, in which each side's numbers follow the other's.
    async fn exchange(client: &mut PacketStream, server: &mut PacketStream) {
        client.write_numbered(0, b"\x11user").await.unwrap();
        for turn in 0..3_u8 {
            let asked = server.read_packet().await.unwrap();
            assert_eq!(asked.sequence_id, 2 * turn);
            // Longer than what is inflated at once.
            server.write_packet(&[turn; 9000]).await.unwrap();
            let told = client.read_packet().await.unwrap();
            assert_eq!((told.sequence_id, &told.payload[..]), (2 * turn + 1, &[turn; 9000][..]));
            client.write_packet(b"answer").await.unwrap();
        }
        server.read_packet().await.unwrap();
    }

    #[tokio::test]
    async fn an_exchange_is_the_same_compressed_or_not() {
        for compression in [None, Some(Compression::Zlib), Some(Compression::ZSTD)] {
            let (mut client, mut server) = pair();
            client.begin_compression(compression);
            server.begin_compression(compression);
            for _ in 0..2 {
                exchange(&mut client, &mut server).await;
            }
            assert_eq!((client.unread(), server.unread()), (0, 0));
        }
    }

    #[tokio::test]
    async fn what_was_read_ahead_is_compressed_already() {
        let (mut client, mut server) = pair();
        client.write_packet(b"the last one in clear").await.unwrap();
        client.begin_compression(Some(Compression::Zlib));
        client.write_numbered(0, b"\x0e").await.unwrap();
        assert_eq!(&server.read_packet().await.unwrap().payload[..], b"the last one in clear");
        while server.unread() == 0 {
            server.stream.read_buf(&mut *server.ahead).await.unwrap();
        }
        server.begin_compression(Some(Compression::Zlib));
        assert!(server.unread() > 0);
        assert_eq!(&server.read_packet().await.unwrap().payload[..], b"\x0e");
    }

    #[tokio::test]
    async fn a_compressed_packet_that_lies_is_no_lost_connection() {
        let (mut client, mut server) = pair();
        server.begin_compression(Some(Compression::Zlib));
        client.stream.write_all(b"\x03\0\0\0\x99\0\0abc").await.unwrap();
        let Err(error) = server.read_packet().await else { panic!("a packet from nowhere") };
        assert!(error.is_nonsense(), "{error}");
    }
}
