//! A client's packets as opensrv-mysql can take them: one whole packet with each read, with the sequence id that is due.
//!
//! Its reader (0.7.0) gives out memory that it has freed when two packets come with one read, takes one in pieces for
//! two, and runs into assertions over sequence ids. Beyond that it says OK to commands that it does not know, and ends
//! over text that is not UTF-8. So none of that ever reaches it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, BytesMut};
use spillway_protocol::Command;
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::io::poll_read_buf;

use super::connections::Progress;

/// The longest packet with its header: what opensrv-mysql has room for in one read.
pub(super) const MAX_PACKET_LEN: usize = 4096;

const HEADER_LEN: usize = 4;

/// In place of a command that opensrv-mysql does not know: a statement that nobody writes.
pub(super) const UNKNOWN_COMMAND: &str = "\u{1}unknown command";

/// What ends a console connection, and the client is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("spillway: the console takes packets of up to {MAX_PACKET_LEN} bytes, and this one has {0}")]
    TooLong(usize),
    #[error("spillway: the console got packet {got} where packet {due} was due")]
    OutOfOrder { got: u8, due: u8 },
    #[error("spillway: access denied to the console for user '{user}' (using password: {with_password})")]
    AccessDenied { user: String, with_password: &'static str },
}

impl Fault {
    pub(super) fn error_code(&self) -> (u16, &'static [u8; 5]) {
        match self {
            Self::TooLong(_) => (1153, b"08S01"),
            Self::OutOfOrder { .. } => (1156, b"08S01"),
            Self::AccessDenied { .. } => (1045, b"28000"),
        }
    }
}

/// Which packet is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// The answer to the greeting.
    HandshakeResponse,
    /// The answer to an AuthSwitchRequest, or the first command.
    AuthAnswer,
    Command,
}

/// Reads a client's packets.
pub(super) struct PacketReader<R> {
    inner: R,
    buffer: BytesMut,
    due: Due,
    last_sequence_id: u8,
    progress: Arc<Progress>,
}

impl<R> PacketReader<R> {
    pub(super) fn new(inner: R, progress: Arc<Progress>) -> Self {
        let buffer = BytesMut::with_capacity(MAX_PACKET_LEN);
        Self { inner, buffer, due: Due::HandshakeResponse, last_sequence_id: 0, progress }
    }

    /// Of an answer to the last packet.
    pub(super) fn next_sequence_id(&self) -> u8 {
        self.last_sequence_id.wrapping_add(1)
    }

    /// The next packet, if all of it is there.
    fn next_packet(&mut self) -> Result<Option<BytesMut>, Fault> {
        let Some(&[a, b, c, sequence_id]) = self.buffer.first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let len = HEADER_LEN + u32::from_le_bytes([a, b, c, 0]) as usize;
        // Before the rest of it comes: nobody waits for a packet that is not to be taken.
        let next = self.check(sequence_id)?;
        if len > MAX_PACKET_LEN {
            self.last_sequence_id = sequence_id;
            return Err(Fault::TooLong(len));
        }
        if self.buffer.len() < len {
            return Ok(None);
        }
        (self.due, self.last_sequence_id) = (next, sequence_id);
        let mut packet = self.buffer.split_to(len);
        if sequence_id == 0 {
            make_fit(&mut packet);
        }
        Ok(Some(packet))
    }

    /// What is due behind a packet with this sequence id.
    fn check(&self, sequence_id: u8) -> Result<Due, Fault> {
        match (self.due, sequence_id) {
            (Due::HandshakeResponse, 1) => Ok(Due::AuthAnswer),
            (Due::AuthAnswer, 3) | (Due::AuthAnswer | Due::Command, 0) => Ok(Due::Command),
            (Due::HandshakeResponse, got) => Err(Fault::OutOfOrder { got, due: 1 }),
            (_, got) => Err(Fault::OutOfOrder { got, due: 0 }),
        }
    }
}

/// Leaves a command that opensrv-mysql knows, in UTF-8, and no longer than it was but for the shortest.
fn make_fit(packet: &mut BytesMut) {
    let payload = &mut packet[HEADER_LEN..];
    let is_known = match payload.first().map(|&command| Command(command)) {
        Some(Command::QUERY | Command::INIT_DB | Command::STMT_PREPARE) => {
            if str::from_utf8(&payload[1..]).is_err() {
                payload[1..].iter_mut().filter(|byte| !byte.is_ascii()).for_each(|byte| *byte = b'?');
            }
            true
        }
        Some(Command::STMT_CLOSE) => payload.len() == 5,
        // It knows no COM_RESET_CONNECTION, and OK is the right answer to that.
        Some(Command::QUIT | Command::PING | Command::RESET_CONNECTION) => true,
        _ => false,
    };
    if !is_known {
        packet.clear();
        packet.put_uint_le(UNKNOWN_COMMAND.len() as u64 + 1, 3);
        packet.extend_from_slice(&[0, Command::QUERY.0]);
        packet.extend_from_slice(UNKNOWN_COMMAND.as_bytes());
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for PacketReader<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if let Some(packet) = this.next_packet().map_err(io::Error::other)? {
                if packet.len() > out.remaining() {
                    return Poll::Ready(Err(io::Error::other("no room for a packet")));
                }
                out.put_slice(&packet);
                this.progress.packets.fetch_add(1, Ordering::Relaxed);
                return Poll::Ready(Ok(()));
            }
            this.buffer.reserve(MAX_PACKET_LEN - this.buffer.len());
            if ready!(poll_read_buf(Pin::new(&mut this.inner), cx, &mut this.buffer))? == 0 {
                return Poll::Ready(match this.buffer.is_empty() {
                    true => Ok(()),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    fn packet(sequence_id: u8, payload: &[u8]) -> Vec<u8> {
        let [a, b, c, _] = (payload.len() as u32).to_le_bytes();
        [&[a, b, c, sequence_id], payload].concat()
    }

    /// What opensrv-mysql reads of this, read by read, and the fault in the end.
    async fn reads(bytes: &[u8], piece: usize) -> (Vec<Vec<u8>>, Option<Fault>) {
        let mut stream = in_pieces(bytes, piece);
        let mut reader = PacketReader::new(&mut stream, Arc::default());
        let (mut reads, mut room) = (Vec::new(), vec![0; MAX_PACKET_LEN]);
        loop {
            match reader.read(&mut room).await {
                Ok(0) => return (reads, None),
                Ok(n) => reads.push(room[..n].to_vec()),
                Err(error) => {
                    let fault = error.get_ref().and_then(|source| source.downcast_ref::<Fault>());
                    return (reads, fault.cloned());
                }
            }
        }
    }

    /// A stream whose every read gives so many bytes at most.
    fn in_pieces(bytes: &[u8], piece: usize) -> impl AsyncRead + Unpin + use<> {
        struct Pieces(std::collections::VecDeque<u8>, usize);
        impl AsyncRead for Pieces {
            fn poll_read(
                mut self: Pin<&mut Self>,
                _: &mut Context<'_>,
                out: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                let n = self.1.min(self.0.len()).min(out.remaining());
                let bytes: Vec<u8> = self.0.drain(..n).collect();
                out.put_slice(&bytes);
                Poll::Ready(Ok(()))
            }
        }
        Pieces(bytes.iter().copied().collect(), piece)
    }

    #[tokio::test]
    async fn a_read_is_a_packet_however_they_come() {
        let packets =
            [packet(1, b"login"), packet(3, b""), packet(0, b"\x03SHOW STATUS"), packet(0, b"\x0e")];
        for piece in [1, 2, 7, 10_000] {
            assert_eq!(reads(&packets.concat(), piece).await, (packets.to_vec(), None), "{piece}");
        }
    }

    #[tokio::test]
    async fn what_opensrv_does_not_know_is_a_statement_that_nobody_writes() {
        let bytes =
            [packet(1, b"login"), packet(0, b"\x11admin\0"), packet(0, b""), packet(0, b"\x03a\xe4\xff")];
        let (reads, fault) = reads(&bytes.concat(), 100).await;
        let refused = packet(0, format!("\x03{UNKNOWN_COMMAND}").as_bytes());
        assert_eq!((&reads[1..], fault), (&[refused.clone(), refused, packet(0, b"\x03a??")][..], None));
    }

    #[tokio::test]
    async fn faults_are_found_in_the_header() {
        let login = packet(1, b"login");
        for (header, expected) in [
            (vec![0xff, 0xff, 0xff, 0], Fault::TooLong(0xff_ffff + 4)),
            (vec![4, 0, 0, 7], Fault::OutOfOrder { got: 7, due: 0 }),
            (vec![4, 0, 0, 255], Fault::OutOfOrder { got: 255, due: 0 }),
        ] {
            let (reads, fault) = reads(&[login.clone(), header].concat(), 100).await;
            assert_eq!((reads.len(), fault), (1, Some(expected)));
        }
        assert_eq!(reads(&packet(0, b"x"), 100).await, (vec![], Some(Fault::OutOfOrder { got: 0, due: 1 })));
        // Cut short: an end, and none of the faults.
        assert_eq!(reads(&login[..6], 100).await, (vec![], None));
    }
}
