//! Listening sockets, and the loop that accepts clients.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener, UnixStream, lookup_host};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, info_span, warn};

use crate::endpoint::Endpoint;
use crate::session::Proxy;
use crate::stream::Stream;

/// How long accepting stops when it fails, for want of file descriptors as a rule: until some sessions have ended.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// An address cannot be listened on. Exit code 78.
#[derive(Debug, thiserror::Error)]
#[error("--listen {address}: {source}")]
pub struct ListenError {
    address: Endpoint,
    source: io::Error,
}

/// A bound listening socket. A Unix socket's file is removed on drop.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    /// Where it listens; the port is the one that was chosen.
    pub address: Endpoint,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, #[expect(dead_code, reason = "held for its drop")] SocketFile),
}

#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            debug!(path = %self.0.display(), %error, "cannot remove the listening socket's file");
        }
    }
}

impl Listener {
    /// Binds `address`. A Unix socket's file that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// [`ListenError`] if the address is in use, not ours, or not to be resolved.
    pub async fn bind(address: &Endpoint) -> Result<Self, ListenError> {
        let failed = |source| ListenError { address: address.clone(), source };
        match address {
            Endpoint::Tcp { host, port } => {
                let listener = bind_tcp(host, *port).await.map_err(failed)?;
                let local = listener.local_addr().map_err(failed)?;
                let address = Endpoint::Tcp { host: local.ip().to_string(), port: local.port() };
                Ok(Self { socket: Socket::Tcp(listener), address })
            }
            Endpoint::Unix(path) => {
                remove_stale(path).await.map_err(failed)?;
                let listener = UnixListener::bind(path).map_err(failed)?;
                Ok(Self {
                    socket: Socket::Unix(listener, SocketFile(path.clone())),
                    address: address.clone(),
                })
            }
        }
    }

    /// Accepts clients until `stop_accepting`, each a task of `sessions`; `stop_sessions` ends those at once.
    pub async fn accept(
        self,
        proxy: Arc<Proxy>,
        sessions: TaskTracker,
        stop_accepting: CancellationToken,
        stop_sessions: CancellationToken,
    ) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop_accepting.cancelled() => return,
                accepted = self.accept_one() => accepted,
            };
            match accepted {
                Ok((client, peer)) => {
                    let (proxy, stop) = (Arc::clone(&proxy), stop_sessions.clone());
                    let span = info_span!("session", client = peer);
                    sessions.spawn(async move { proxy.session(client, stop).await }.instrument(span));
                }
                Err(error) => {
                    warn!(%error, "cannot accept a client; trying again");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn accept_one(&self) -> io::Result<(Stream, String)> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Stream::tcp(stream)?, peer.to_string()))
            }
            Socket::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let peer = stream.peer_cred()?;
                Ok((Stream::unix(stream), format!("pid {} of uid {}", peer.pid().unwrap_or(0), peer.uid())))
            }
        }
    }
}

async fn bind_tcp(host: &str, port: u16) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host((host, port)).await? {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Removes a socket's file if nobody listens there.
async fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket
        && UnixStream::connect(path)
            .await
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    {
        std::fs::remove_file(path)?;
    }
    Ok(())
}
