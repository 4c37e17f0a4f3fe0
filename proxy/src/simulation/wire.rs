//! Packets over a socket in a peer's own time: in pieces, with pauses, and up to a byte behind which there is no more.

use std::io;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use spillway_protocol::{HEADER_LEN, PacketHeader, encode_packet};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::yield_now;
use tokio::time::sleep;

/// Pieces of a message, at most: a long one byte by byte would take too long to simulate.
const MOST_PIECES: usize = 200;

/// How a peer reads or writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Bytes at a time.
    pub(super) piece: usize,
    /// Before one piece in so many there is a pause; 0 for never.
    pub(super) pause_in: u32,
    pub(super) pause: Duration,
}

impl Pace {
    /// As fast as it goes.
    pub(super) const AT_ONCE: Self = Self { piece: 1 << 20, pause_in: 0, pause: Duration::ZERO };

    /// Bytes at a time of a message of `len` bytes.
    pub(super) fn piece_of(self, len: usize) -> usize {
        self.piece.max(len / MOST_PIECES).max(1)
    }

    /// Lets the others go on before the next piece.
    pub(super) async fn wait(self, rng: &mut StdRng) {
        if self.pause_in > 0 && rng.random_ratio(1, self.pause_in) {
            sleep(self.pause).await;
        } else {
            yield_now().await;
        }
    }

    /// Writes all of `bytes`.
    pub(super) async fn write(
        self,
        to: &mut (impl AsyncWrite + Unpin),
        bytes: &[u8],
        rng: &mut StdRng,
    ) -> io::Result<()> {
        for piece in bytes.chunks(self.piece_of(bytes.len())) {
            self.wait(rng).await;
            to.write_all(piece).await?;
        }
        Ok(())
    }
}

/// Why a conversation does not go on.
#[derive(Debug)]
pub(super) enum Stop {
    /// The other end has closed the connection.
    Gone,
    /// All bytes are written that there may be.
    Reached,
    /// The other end has said something that it must not.
    Odd(String),
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// One end of a connection, packet by packet.
pub(super) struct Line {
    pub(super) stream: UnixStream,
    pub(super) ahead: Vec<u8>,
    pub(super) rng: StdRng,
    pace: Pace,
    /// Sequence id of the next packet of either side.
    next_id: u8,
    /// Bytes that may still be written, if there is a limit.
    left: Option<usize>,
}

impl Line {
    /// As fast as it goes, and without an end.
    pub(super) fn new(stream: UnixStream, seed: u64) -> Self {
        let (rng, pace) = (StdRng::seed_from_u64(seed), Pace::AT_ONCE);
        Self { stream, ahead: Vec::new(), rng, pace, next_id: 0, left: None }
    }

    /// The next packet begins an exchange.
    pub(super) fn begin(&mut self) {
        self.next_id = 0;
    }

    /// From now on at this pace, and so many more bytes at most.
    pub(super) fn limit(&mut self, pace: Pace, bytes: Option<usize>) {
        self.pace = pace;
        self.left = bytes;
    }

    /// The next packet's payload. Cancel safe.
    pub(super) async fn read_packet(&mut self) -> Result<Vec<u8>, Stop> {
        loop {
            if let Some(header) = self.ahead.first_chunk().copied().map(PacketHeader::decode) {
                let end = HEADER_LEN + header.payload_len as usize;
                if self.ahead.len() >= end {
                    if header.sequence_id != self.next_id {
                        let (got, expected) = (header.sequence_id, self.next_id);
                        return Err(Stop::Odd(format!("sequence id {got} in the place of {expected}")));
                    }
                    self.next_id = header.sequence_id.wrapping_add(1);
                    let payload = self.ahead[HEADER_LEN..end].to_vec();
                    self.ahead.drain(..end);
                    return Ok(payload);
                }
            }
            if self.stream.read_buf(&mut self.ahead).await? == 0 {
                return Err(Stop::Gone);
            }
        }
    }

    /// Sends a packet in its turn.
    pub(super) async fn send(&mut self, payload: &[u8]) -> Result<(), Stop> {
        let packet = encode_packet(self.next_id, payload);
        self.next_id = self.next_id.wrapping_add(1);
        self.write(&packet).await
    }

    /// Sends packets that have their headers.
    pub(super) async fn write(&mut self, packets: &[u8]) -> Result<(), Stop> {
        let len = self.left.map_or(packets.len(), |left| left.min(packets.len()));
        self.pace.write(&mut self.stream, &packets[..len], &mut self.rng).await?;
        if let Some(left) = &mut self.left {
            *left -= len;
            if *left == 0 {
                return Err(Stop::Reached);
            }
        }
        Ok(())
    }

    /// Waits for the other end to close the connection.
    pub(super) async fn until_closed(&mut self) {
        let mut room = [0; 4096];
        while let Ok(1..) = self.stream.read(&mut room).await {}
    }
}
