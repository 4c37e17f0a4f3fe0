//! The client half: reads commands, writes responses.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use spillway_protocol::{Command, RequestReader, whole_command};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::io::poll_read_buf;

use crate::packet_stream::PacketStream;
use crate::spool::ResponseId;
use crate::stream::Stream;

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
    /// Packets of the proxy's own.
    outbox: BytesMut,
    /// The stream may hold back what was written.
    unflushed: bool,
}

impl ClientHalf {
    /// What was read behind the last packet of an exchange begins the first command.
    pub(crate) fn new(packets: PacketStream) -> Self {
        let PacketStream { stream, ahead, .. } = packets;
        Self {
            stream,
            reader: RequestReader::default(),
            inbox: BytesMut::from(&ahead[..]),
            announced: None,
            route: Route::Forward(None),
            outbox: BytesMut::new(),
            unflushed: false,
        }
    }

    /// The connection, for another exchange. A command that was announced and has not started is its first packet.
    pub(crate) fn into_packets(self) -> PacketStream {
        PacketStream::with_ahead(self.stream, self.inbox.to_vec())
    }

    /// One read of commands, if there is room for them. 0 means that the client has gone.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.inbox.len() >= INBOX_LEN {
            return Poll::Pending;
        }
        self.inbox.reserve(INBOX_LEN - self.inbox.len());
        poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.inbox)
    }

    /// The payload of the command that was announced, if it is short enough to be looked at as a whole.
    pub(crate) fn whole_command(&self) -> Option<&[u8]> {
        whole_command(&self.inbox)
    }

    /// Packets of the proxy's own, to be written before anything else.
    pub(crate) fn send(&mut self, packets: &[u8]) {
        self.outbox.extend_from_slice(packets);
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

    /// One write of a response's bytes, which [`poll_flush`](Self::poll_flush) sees to the end.
    pub(crate) fn poll_feed(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
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
