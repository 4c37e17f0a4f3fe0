//! The client half: reads commands, writes responses.

mod compression;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use spillway_protocol::{Command, CompressionError, RequestReader, whole_command};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::io::poll_read_buf;
use zeroize::{Zeroize, Zeroizing};

use crate::packet_stream::PacketStream;
use crate::spool::ResponseId;
use crate::stream::Stream;
use compression::ClientCompression;

/// Bytes of commands that are read ahead.
const INBOX_LEN: usize = 16 * 1024;

/// How long a client that was told the end may take to hang up.
const LINGER: Duration = Duration::from_secs(2);

/// What becomes of the command under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// It goes to the server; the response, if there is one, has this id.
    Forward(Option<ResponseId>),
    /// It has gone to the server already, as a whole or in other words.
    Sent(ResponseId),
    /// It goes nowhere: it would end a session that has ended, or somebody else's.
    RefuseKill(u64),
    /// It goes nowhere; ERR 1047 answers it.
    Refuse(Command),
    /// It goes nowhere; the session is lost and says so.
    Lost,
    /// It goes nowhere, as the session is lost, which the next command is told: to this one nobody waits for an answer.
    Ignore,
}

/// The connection to the client.
pub(crate) struct ClientHalf {
    stream: Stream,
    pub(crate) reader: RequestReader,
    /// Bytes read and not consumed by `reader`.
    pub(crate) inbox: BytesMut,
    /// A command that was announced and may not start yet.
    pub(crate) announced: Option<Command>,
    pub(crate) route: Route,
    /// Packets of the proxy's own, and everything that was compressed.
    outbox: BytesMut,
    compression: Option<ClientCompression>,
    /// The stream may hold back what was written.
    unflushed: bool,
}

impl ClientHalf {
    /// What was read behind the last packet of an exchange begins the first command.
    pub(crate) fn new(packets: PacketStream) -> Self {
        let PacketStream { stream, ahead, compression, .. } = packets;
        Self {
            stream,
            reader: RequestReader::default(),
            inbox: BytesMut::from(&ahead[..]),
            announced: None,
            route: Route::Forward(None),
            outbox: BytesMut::new(),
            compression: compression.map(ClientCompression::new),
            unflushed: false,
        }
    }

    /// The connection, for another exchange. A command that was announced and has not started is its first packet.
    pub(crate) fn into_packets(mut self) -> PacketStream {
        let compression = self.compression.map(ClientCompression::into_link);
        // A change of user may bring a password along.
        let ahead = Zeroizing::new(self.inbox.to_vec());
        self.inbox.zeroize();
        PacketStream::in_use(self.stream, ahead, compression)
    }

    /// For how long the client's host has answered nothing of what it was sent.
    pub(crate) fn silence(&self) -> Option<Duration> {
        self.stream.silence()
    }

    /// Whether there is room for more commands.
    fn has_room(&self) -> bool {
        match &self.compression {
            Some(compression) => compression.link.has_room(),
            None => self.inbox.len() < INBOX_LEN,
        }
    }

    /// Whether it has gone, and no read tells, as the commands before its end have to wait. To be asked now and then.
    pub(crate) fn has_gone_unread(&self) -> bool {
        !self.has_room() && self.stream.is_read_closed()
    }

    /// One read of commands, if there is room for them. 0 means that the client has gone.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if !self.has_room() {
            return Poll::Pending;
        }
        if let Some(compression) = &mut self.compression {
            return compression.link.poll_read(&mut self.stream, cx);
        }
        self.inbox.reserve(INBOX_LEN - self.inbox.len());
        poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.inbox)
    }

    /// Inflates more of what was read into the inbox, when all that is there is part of a command. False if there is
    /// nothing.
    ///
    /// # Errors
    /// [`CompressionError`]; nothing more comes from this client.
    pub(crate) fn inflate(&mut self) -> Result<bool, CompressionError> {
        let Some(compression) = &mut self.compression else { return Ok(false) };
        let len = self.inbox.len();
        self.inbox.resize(INBOX_LEN.max(len), 0);
        let inflated = compression.inflate(&mut self.inbox[len..]);
        self.inbox.truncate(len + inflated.as_ref().unwrap_or(&0));
        inflated.map(|len| len > 0)
    }

    /// Takes notice of the next `len` bytes of the inbox, which the reader has consumed; gives the sequence id of the
    /// last packet that has ended in them, `told` by the reader, as the server sees it.
    pub(crate) fn number_requests(&mut self, len: usize, told: u8) -> u8 {
        match &mut self.compression {
            Some(compression) => compression.number_requests(&mut self.inbox[..len]),
            None => told,
        }
    }

    /// The client's next packet begins a command.
    pub(crate) fn begin_command(&mut self) {
        if let Some(compression) = &mut self.compression {
            compression.begin_command();
        }
    }

    /// The client's next packet belongs to the response under way, and has this sequence id.
    pub(crate) fn begin_turn(&mut self, sequence_id: u8) {
        if let Some(compression) = &mut self.compression {
            compression.begin_turn(sequence_id);
        }
    }

    /// The command under way is answered, by a response behind those that are open.
    pub(crate) fn open_response(&mut self) {
        if let Some(compression) = &mut self.compression {
            compression.open_response();
        }
    }

    /// The command under way is complete.
    pub(crate) fn end_command(&mut self) {
        if let Some(compression) = &mut self.compression {
            compression.end_command();
        }
    }

    /// The client has had its turn in the middle of the response that is being fed.
    pub(crate) fn end_turn(&mut self) {
        if let Some(compression) = &mut self.compression {
            compression.end_turn();
        }
    }

    /// The first response is fed to its end.
    pub(crate) fn finish_response(&mut self) {
        if let Some(compression) = &mut self.compression {
            compression.finish_response();
        }
    }

    /// The session is idle: gives back the memory of compression.
    pub(crate) fn rest(&mut self) {
        if let Some(compression) = self.compression.as_mut().filter(|_| self.outbox.is_empty()) {
            compression.rest();
            self.outbox = BytesMut::new();
        }
    }

    /// The payload of the command that was announced, if it is short enough to be looked at as a whole.
    pub(crate) fn whole_command(&self) -> Option<&[u8]> {
        whole_command(&self.inbox)
    }

    /// Packets of the proxy's own, to be written before anything else.
    pub(crate) fn send(&mut self, packets: &[u8]) {
        if self.compression.is_none() {
            return self.outbox.extend_from_slice(packets);
        }
        let mut rest = packets;
        while !rest.is_empty() {
            let taken = self.compress(rest);
            rest = &rest[taken..];
        }
    }

    /// Compresses some of `packets` into the outbox; gives how many bytes. None are without compression.
    fn compress(&mut self, packets: &[u8]) -> usize {
        self.compression.as_mut().map_or(0, |compression| compression.encode_step(packets, &mut self.outbox))
    }

    /// Whether everything was written that [`send`](Self::send) and [`poll_feed`](Self::poll_feed) got.
    pub(crate) fn is_flushed(&self) -> bool {
        self.outbox.is_empty() && !self.unflushed
    }

    /// Writes what is waiting. Ready with true if something was written, false if there was nothing.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut progress = false;
        while !self.outbox.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.outbox) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => self.outbox.advance(n),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
            self.unflushed = true;
            progress = true;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(progress))
    }

    /// One write of a response's bytes, behind all that was [sent](Self::send), which [`poll_flush`](Self::poll_flush)
    /// sees to the end.
    ///
    /// Under compression it takes one step's bytes, and never waits: [`poll_flush`](Self::poll_flush) first.
    pub(crate) fn poll_feed(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.compression.is_some() {
            let taken = self.compress(bytes);
            return match self.poll_flush(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                _ => Poll::Ready(Ok(taken)),
            };
        }
        if !self.outbox.is_empty() {
            ready!(self.poll_flush(cx))?;
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.unflushed |= written.is_ready();
        written
    }

    /// Ends the connection so that what was written arrives: a socket that is closed with unread bytes from the
    /// client resets the connection, and the reset overtakes an ERR on its way.
    pub(crate) async fn close(mut self) {
        let lingering = async {
            self.stream.shutdown().await?;
            let mut sink = [0; 4096];
            while self.stream.read(&mut sink).await? > 0 {}
            Ok::<(), io::Error>(())
        };
        let _ = timeout(LINGER, lingering).await;
    }
}
