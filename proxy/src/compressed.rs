//! The compressed protocol on one connection, in both directions.
//!
//! Both sides of a connection count compressed packets with one counter: who answers goes on with the number behind the
//! last one that it has read. A command begins with 0.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use spillway_protocol::{Compression, CompressionError, Compressor, Decompressor, Inflated};
use tokio::io::AsyncReadExt;
use tokio_util::io::poll_read_buf;

use crate::stream::Stream;

/// Compressed bytes that are read at once, and that wait at most.
const WIRE_LEN: usize = 32 * 1024;

/// A compressor and a decompressor, and what was read and not inflated yet.
pub(crate) struct Compressed {
    compressor: Compressor,
    decompressor: Decompressor,
    wire: BytesMut,
    /// What was compressed last.
    packed: Vec<u8>,
}

impl Compressed {
    /// Begins with what was read `ahead`.
    pub(crate) fn new(algorithm: Compression, ahead: &[u8]) -> Self {
        Self {
            compressor: Compressor::new(algorithm),
            decompressor: Decompressor::new(algorithm),
            wire: BytesMut::from(ahead),
            packed: Vec::new(),
        }
    }

    /// Bytes that were read and not inflated.
    pub(crate) fn unread(&self) -> usize {
        self.wire.len()
    }

    /// Compressed packets whose beginning was inflated.
    pub(crate) fn packets_read(&self) -> u64 {
        self.decompressor.packets()
    }

    /// The number behind that of the last packet that was inflated: an answer goes on with it.
    pub(crate) fn answer_id(&self) -> u8 {
        self.decompressor.next_sequence_id()
    }

    /// The number of the next packet to be sent.
    pub(crate) fn next_id(&self) -> u8 {
        self.compressor.next_sequence_id()
    }

    /// Sets the number of the next packet to be sent.
    pub(crate) fn set_next_id(&mut self, id: u8) {
        self.compressor.set_next_sequence_id(id);
    }

    /// What to [`encode`](Self::encode) in one step.
    pub(crate) fn step_len(&self) -> usize {
        self.compressor.chunk_len()
    }

    /// Gives back what memory is not needed while nothing comes and goes.
    pub(crate) fn rest(&mut self) {
        self.compressor.rest();
        self.decompressor.rest();
        self.packed = Vec::new();
        if self.wire.is_empty() {
            self.wire = BytesMut::new();
        }
    }

    /// Appends `bytes` to `out`, as compressed packets.
    pub(crate) fn encode(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.compressor.encode(bytes, out);
    }

    /// The same with an outbox.
    pub(crate) fn encode_into(&mut self, bytes: &[u8], outbox: &mut BytesMut) {
        self.packed.clear();
        self.compressor.encode(bytes, &mut self.packed);
        outbox.extend_from_slice(&self.packed);
    }

    /// Inflates some of what was read, of one compressed packet at the most. One that does not go on with the ids of the
    /// one before must have one that `is_due`. Nothing at all was done where more must be read first.
    pub(crate) fn inflate(
        &mut self,
        room: &mut [u8],
        is_due: impl Fn(u8) -> bool,
    ) -> Result<Inflated, CompressionError> {
        let inflated = self.decompressor.advance(&self.wire, room, is_due)?;
        self.wire.advance(inflated.consumed);
        Ok(inflated)
    }

    /// Whether there is room to read into.
    pub(crate) fn has_room(&self) -> bool {
        self.wire.len() < WIRE_LEN
    }

    /// One read, if there is room. 0 means that the peer has closed.
    pub(crate) fn poll_read(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if !self.has_room() {
            return Poll::Pending;
        }
        self.wire.reserve(WIRE_LEN - self.wire.len());
        poll_read_buf(Pin::new(stream), cx, &mut self.wire)
    }

    /// One read. 0 means that the peer has closed. Cancel safe.
    pub(crate) async fn read(&mut self, stream: &mut Stream) -> io::Result<usize> {
        self.wire.reserve(WIRE_LEN.saturating_sub(self.wire.len()).max(1));
        stream.read_buf(&mut self.wire).await
    }
}
