//! The console's connections: how many there may be, for how long, and how each ends.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use opensrv_mysql::AsyncMysqlIntermediary;
use spillway_protocol::encode_err;
use tokio::io::{AsyncWrite, AsyncWriteExt, BufWriter, WriteHalf, split};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info, info_span, warn};

use super::State;
use super::packets::{Fault, PacketReader};
use super::shim::Shim;
use crate::client_address::ClientAddress;
use crate::stream::Stream;

/// Connections at a time, logged in or not.
const MAX_CONNECTIONS: usize = 16;

/// How long a login may take.
const LOGIN_LIMIT: Duration = Duration::from_secs(10);

/// How long a connection may be idle at least; it ends within twice that. Clients connect again by themselves.
const IDLE_LIMIT: Duration = Duration::from_secs(600);

/// How long a last word may take.
const LAST_WORD_LIMIT: Duration = Duration::from_secs(1);

/// How long accepting stops when it fails, for want of file descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    async fn accept(&self) -> io::Result<(Stream, String)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Stream::tcp(stream)?, peer.to_string()))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let peer = ClientAddress::unix(&stream.peer_cred()?).shown;
                Ok((Stream::unix(stream), peer))
            }
        }
    }
}

/// Serves clients until `end`.
pub(super) async fn serve(listener: &Listener, state: Arc<State>, end: &CancellationToken) {
    let mut connections = JoinSet::new();
    let mut last_id = 0_u32;
    loop {
        let accepted = tokio::select! {
            biased;
            () = end.cancelled() => break,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    // Without what it says, which may have words of the client's in it.
                    debug!(panicked = error.is_panic(), "a console connection ended by a fault in serving it");
                }
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                last_id = last_id.wrapping_add(1);
                let span = info_span!("console", peer);
                if connections.len() < MAX_CONNECTIONS {
                    connections.spawn(converse(stream, Arc::clone(&state), last_id).instrument(span));
                } else {
                    span.in_scope(|| debug!(MAX_CONNECTIONS, "refused a console connection: too many"));
                    refuse(stream).await;
                }
            }
            Err(error) => {
                warn!(%error, "cannot accept a client of the console; trying again");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    connections.shutdown().await;
}

/// In place of a greeting. A new connection has room for it, so this takes no time.
async fn refuse(mut stream: Stream) {
    let text = format!("spillway: the console has {MAX_CONNECTIONS} connections already");
    let _ = timeout(LAST_WORD_LIMIT, stream.write_all(&encode_err(0, 1040, None, &text))).await;
}

/// How far a connection has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Packets that came whole.
    pub(super) packets: AtomicU64,
    pub(super) is_logged_in: AtomicBool,
    /// Set when the login failed: what opensrv-mysql says to that is not for the client.
    pub(super) refused: OnceLock<Fault>,
}

/// Takes a client from its greeting to its end.
async fn converse(stream: Stream, state: Arc<State>, id: u32) {
    let progress = Arc::new(Progress::default());
    let (read, write) = split(stream);
    let mut reader = PacketReader::new(read, Arc::clone(&progress));
    let mut writer = Replies { inner: BufWriter::new(write), progress: Arc::clone(&progress) };
    let shim = Shim::new(state, Arc::clone(&progress), id);
    let ended = tokio::select! {
        ended = AsyncMysqlIntermediary::run_on(shim, &mut reader, &mut writer) => ended,
        () = silence(&progress) => return info!("closed a console connection: silent for too long"),
    };
    let Err(error) = ended else { return };
    let fault = error.get_ref().and_then(|source| source.downcast_ref::<Fault>());
    let fault = progress.refused.get().or(fault);
    // Nothing else of the error: it may have a client's bytes in it, its proof among them.
    debug!(kind = ?error.kind(), fault = fault.map(tracing::field::display), "a console connection ended");
    if let Some(fault) = fault {
        let (code, sqlstate) = fault.error_code();
        writer.tell(&encode_err(reader.next_sequence_id(), code, Some(sqlstate), &fault.to_string())).await;
    }
}

/// Completes when a client has been silent for too long, or has not taken its answer.
async fn silence(progress: &Progress) {
    sleep(LOGIN_LIMIT).await;
    if !progress.is_logged_in.load(Ordering::Relaxed) {
        return;
    }
    loop {
        let packets = progress.packets.load(Ordering::Relaxed);
        sleep(IDLE_LIMIT).await;
        if progress.packets.load(Ordering::Relaxed) == packets {
            return;
        }
    }
}

/// What goes to the client.
struct Replies {
    inner: BufWriter<WriteHalf<Stream>>,
    progress: Arc<Progress>,
}

impl Replies {
    /// A last word.
    async fn tell(&mut self, packet: &[u8]) {
        let _ = timeout(LAST_WORD_LIMIT, async {
            self.inner.write_all(packet).await?;
            self.inner.shutdown().await
        })
        .await;
    }

    fn is_muted(&self) -> bool {
        self.progress.refused.get().is_some()
    }
}

impl AsyncWrite for Replies {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.is_muted() {
            true => Poll::Ready(Ok(bytes.len())),
            false => Pin::new(&mut self.inner).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
