//! A connected socket to a client or a server: TCP or Unix.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::pin::{Pin, pin};
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use nix::libc;
use nix::sys::utsname::uname;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// How long a peer's host may be silent where nothing else is said.
pub(crate) const PEER_TIMEOUT: Duration = Duration::from_secs(120);

/// Questions of TCP whether a peer is there at all, before an idle connection is given up.
const KEEPALIVE_RETRIES: u32 = 4;

/// What was sent so often and never acknowledged is not lost by chance.
const UNANSWERED: u8 = 3;

/// A connected socket.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// A TCP socket, set up: no delay, keepalive.
    pub(crate) fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let socket = Self::Tcp(stream);
        socket.set_peer_timeout(PEER_TIMEOUT)?;
        Ok(socket)
    }

    /// After how much silence of the peer's host the kernel ends an idle connection: it begins to ask after half of that.
    /// While something is under way it asks nothing; see [`silence`](Self::silence).
    pub(crate) fn set_peer_timeout(&self, timeout: Duration) -> io::Result<()> {
        let Self::Tcp(stream) = self else { return Ok(()) };
        // The kernel counts whole seconds.
        let second = Duration::from_secs(1);
        let keepalive = TcpKeepalive::new()
            .with_time((timeout / 2).max(second))
            .with_interval((timeout / 2 / KEEPALIVE_RETRIES).max(second))
            .with_retries(KEEPALIVE_RETRIES);
        SockRef::from(stream).set_tcp_keepalive(&keepalive)
    }

    /// For how long the peer's host has said nothing, while it was sent the same again and again. None where it answers,
    /// and that does a peer that takes nothing because it is slow: its host acknowledges the questions whether there is
    /// room. (TCP_USER_TIMEOUT makes no difference between the two, so it would end slow clients.)
    pub(crate) fn silence(&self) -> Option<Duration> {
        let Self::Tcp(stream) = self else { return None };
        let info = tcp_info(stream)?;
        let unanswered = info.tcpi_retransmits.saturating_add(info.tcpi_probes);
        (unanswered >= UNANSWERED).then(|| Duration::from_millis(info.tcpi_last_ack_recv.into()))
    }

    /// Has the kernel wake whoever waits for bytes to read only when so many are there, or none will follow; what is
    /// there can be read at any time. False where it cannot: a Unix socket always wakes.
    pub(crate) fn set_least_readable(&self, bytes: i32) -> bool {
        match self {
            Self::Tcp(stream) => low_water_wakes() && set_receive_low_water(stream, bytes),
            Self::Unix(_) => false,
        }
    }

    /// The uid of the process at the other end of a Unix socket.
    pub(crate) fn peer_uid(&self) -> Option<u32> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(stream) => stream.peer_cred().ok().map(|cred| cred.uid()),
        }
    }

    /// Returns when the peer has gone without a word. Never, if it has sent bytes: whoever reads them will find out.
    pub(crate) async fn gone(&self) {
        loop {
            let ready = match self {
                Self::Tcp(stream) => stream.ready(Interest::READABLE).await.map(drop),
                Self::Unix(stream) => stream.ready(Interest::READABLE).await.map(drop),
            };
            let mut byte = [MaybeUninit::uninit()];
            let peeked = ready.and_then(|()| match self {
                Self::Tcp(stream) => {
                    stream.try_io(Interest::READABLE, || SockRef::from(stream).peek(&mut byte))
                }
                Self::Unix(stream) => {
                    stream.try_io(Interest::READABLE, || SockRef::from(stream).peek(&mut byte))
                }
            });
            match peeked {
                Ok(0) => return,
                Ok(_) => std::future::pending::<()>().await,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    /// Returns when the peer has ended its side of the connection, whatever it has sent before.
    pub(crate) async fn read_closed(&self) {
        loop {
            let ready = match self {
                Self::Tcp(stream) => stream.ready(Interest::READABLE).await,
                Self::Unix(stream) => stream.ready(Interest::READABLE).await,
            };
            match ready {
                Ok(ready) if !ready.is_read_closed() => std::future::pending::<()>().await,
                _ => return,
            }
        }
    }

    /// Whether that is so now.
    pub(crate) fn is_read_closed(&self) -> bool {
        pin!(self.read_closed()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }
}

/// Whether the kernel wakes for what is there already when the mark is lowered. Since 4.18 it does, when TCP got a
/// setter of its own (`tcp_set_rcvlowat`); before, such bytes could be left lying for ever.
fn low_water_wakes() -> bool {
    static SINCE_4_18: LazyLock<bool> = LazyLock::new(|| {
        let release = uname().ok().and_then(|name| name.release().to_str().map(str::to_owned));
        release.is_some_and(|release| is_at_least_4_18(&release))
    });
    *SINCE_4_18
}

fn is_at_least_4_18(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().ok());
    (numbers.next().flatten(), numbers.next().flatten()) >= (Some(4), Some(18))
}

/// Sets SO_RCVLOWAT of socket(7), for which no library that we use has a safe call.
#[expect(
    unsafe_code,
    reason = "the option's value is a C int that lives through the call, with its own size"
)]
fn set_receive_low_water(socket: &TcpStream, bytes: libc::c_int) -> bool {
    let value: *const libc::c_int = &raw const bytes;
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open as `socket` is borrowed; the kernel reads `len` bytes at `value` and keeps nothing.
    let set = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVLOWAT, value.cast(), len)
    };
    set == 0
}

/// TCP_INFO of tcp(7), for which no library that we use has a safe call. None on kernels that tell less.
#[expect(unsafe_code, reason = "the kernel fills a structure of integers, for which all zeros is a value")]
fn tcp_info(socket: &TcpStream) -> Option<libc::tcp_info> {
    // SAFETY: it has nothing but integers in it.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
    let (value, fd) = ((&raw mut info).cast(), socket.as_raw_fd());
    // SAFETY: the descriptor is open as `socket` is borrowed; the kernel writes no more than `len` bytes at `value`.
    let got = unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, value, &raw mut len) };
    (got == 0 && len as usize >= size_of::<libc::tcp_info>()).then_some(info)
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // Sockets buffer nothing on this side.
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::time::timeout;

    use super::*;

    #[test]
    fn kernels_are_told_by_their_release() {
        for (release, is_newer) in [
            ("3.10.0-1160.el7", false),
            ("4.17.19", false),
            ("4.18.0-553.el8", true),
            ("6.1.0", true),
            ("x", false),
        ] {
            assert_eq!(is_at_least_4_18(release), is_newer, "{release}");
        }
    }

    #[tokio::test]
    async fn a_peer_is_gone_when_it_hangs_up_in_silence() {
        let (here, there) = UnixStream::pair().unwrap();
        let here = Socket::Unix(here);
        assert!(timeout(Duration::from_millis(20), here.gone()).await.is_err());
        drop(there);
        here.gone().await;

        let (here, mut there) = UnixStream::pair().unwrap();
        there.write_all(b"GET / HTTP/1.1").await.unwrap();
        drop(there);
        assert!(timeout(Duration::from_millis(20), Socket::Unix(here).gone()).await.is_err());
    }
}
