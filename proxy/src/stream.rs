//! A byte stream to a client or a server: a socket, plain or under TLS.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ProtocolVersion, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::socket::Socket;

/// A connected stream. What is written may wait in it until it is flushed.
#[derive(Debug)]
pub(crate) struct Stream {
    transport: Transport,
}

#[derive(Debug)]
enum Transport {
    Plain(Socket),
    Tls(Box<TlsStream<Rewound>>),
    /// A TLS handshake is under way, or has failed.
    Closed,
}

impl Stream {
    /// Over TCP.
    pub(crate) fn tcp(stream: TcpStream) -> io::Result<Self> {
        Ok(Self { transport: Transport::Plain(Socket::tcp(stream)?) })
    }

    /// Over a Unix socket.
    pub(crate) fn unix(stream: UnixStream) -> Self {
        Self { transport: Transport::Plain(Socket::Unix(stream)) }
    }

    /// Begins TLS as the server. `ahead` was read already. The stream is closed if this fails or is cancelled.
    ///
    /// # Errors
    /// Those of the socket, and of TLS with kind `InvalidData`.
    pub(crate) async fn accept_tls(&mut self, ahead: Vec<u8>, config: Arc<ServerConfig>) -> io::Result<()> {
        let socket = self.take_plain(ahead)?;
        let stream = TlsAcceptor::from(config).accept(socket).await?;
        self.transport = Transport::Tls(Box::new(stream.into()));
        Ok(())
    }

    /// Begins TLS as the client, with the server of this name. The stream is closed if this fails or is cancelled.
    ///
    /// # Errors
    /// Those of the socket, and of TLS with kind `InvalidData`.
    pub(crate) async fn connect_tls(
        &mut self,
        name: ServerName<'static>,
        config: Arc<ClientConfig>,
    ) -> io::Result<()> {
        let socket = self.take_plain(Vec::new())?;
        let stream = TlsConnector::from(config).connect(name, socket).await?;
        self.transport = Transport::Tls(Box::new(stream.into()));
        Ok(())
    }

    fn take_plain(&mut self, ahead: Vec<u8>) -> io::Result<Rewound> {
        match std::mem::replace(&mut self.transport, Transport::Closed) {
            Transport::Plain(socket) => Ok(Rewound { ahead, socket }),
            Transport::Tls(_) => Err(io::Error::other("TLS begins a second time")),
            Transport::Closed => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Whether nobody who listens between the two ends can read what goes over it: TLS, or a Unix socket.
    pub(crate) fn is_safe(&self) -> bool {
        self.is_tls() || self.is_unix()
    }

    /// Whether it is under TLS.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.transport, Transport::Tls(_))
    }

    /// The version of TLS, for the log; `off` without.
    pub(crate) fn tls_version(&self) -> &'static str {
        let Transport::Tls(stream) = &self.transport else { return "off" };
        match stream.get_ref().1.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "1.2",
            Some(ProtocolVersion::TLSv1_3) => "1.3",
            _ => "on",
        }
    }

    /// Whether it goes over a Unix socket.
    pub(crate) fn is_unix(&self) -> bool {
        matches!(self.socket(), Some(Socket::Unix(_)))
    }

    /// The uid of the process at the other end of a Unix socket.
    pub(crate) fn peer_uid(&self) -> Option<u32> {
        self.socket()?.peer_uid()
    }

    /// Returns when the peer has gone. Over a plain socket never, if it has sent bytes before: whoever reads them will
    /// find out.
    pub(crate) async fn gone(&self) {
        match &self.transport {
            Transport::Plain(socket) => socket.gone().await,
            // TLS says good-bye.
            Transport::Tls(stream) => stream.get_ref().0.socket.read_closed().await,
            Transport::Closed => {}
        }
    }

    /// Whether the peer has ended its side of the connection, whatever it has sent before.
    pub(crate) fn is_read_closed(&self) -> bool {
        self.socket().is_none_or(Socket::is_read_closed)
    }

    /// Has the kernel wake whoever waits for bytes to read only when so many are there, or none will follow. False
    /// where it cannot.
    pub(crate) fn set_least_readable(&self, bytes: i32) -> bool {
        self.socket().is_some_and(|socket| socket.set_least_readable(bytes))
    }

    /// After how much silence of the peer's host an idle connection ends ([`Socket::set_peer_timeout`]).
    pub(crate) fn set_peer_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.socket().map_or(Ok(()), |socket| socket.set_peer_timeout(timeout))
    }

    /// For how long the peer's host has answered nothing of what it was sent ([`Socket::silence`]).
    pub(crate) fn silence(&self) -> Option<Duration> {
        self.socket()?.silence()
    }

    fn socket(&self) -> Option<&Socket> {
        match &self.transport {
            Transport::Plain(socket) => Some(socket),
            Transport::Tls(stream) => Some(&stream.get_ref().0.socket),
            Transport::Closed => None,
        }
    }

    /// One read into `room`: the bytes read, 0 at the end.
    pub(crate) fn poll_read_into(
        &mut self,
        cx: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(room);
        Pin::new(self).poll_read(cx, &mut buf).map_ok(|()| buf.filled().len())
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Transport::Tls(stream) => match Pin::new(stream).poll_read(cx, buf) {
                // Without TLS's good-bye, as many servers and clients go. Where a packet is missing, its reader knows.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    Poll::Ready(Ok(()))
                }
                read => read,
            },
            Transport::Closed => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().transport {
            Transport::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Closed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Closed => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Closed => Poll::Ready(Ok(())),
        }
    }
}

/// A socket with the bytes that were read from it before TLS began.
#[derive(Debug)]
struct Rewound {
    ahead: Vec<u8>,
    socket: Socket,
}

impl AsyncRead for Rewound {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ahead.is_empty() {
            return Pin::new(&mut this.socket).poll_read(cx, buf);
        }
        let len = this.ahead.len().min(buf.remaining());
        buf.put_slice(&this.ahead[..len]);
        this.ahead.drain(..len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}
