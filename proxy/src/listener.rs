//! Listening sockets, and the loop that accepts clients.

use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream, lookup_host};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Instrument, debug, error_span, warn};

use crate::client_address::ClientAddress;
use crate::current::Current;
use crate::endpoint::Endpoint;
use crate::lanes::Lanes;
use crate::proxy_protocol::{self, HeaderError, Network};
use crate::session::Proxy;
use crate::socket_activation::PassedSocket;
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

/// A bound listening socket. A Unix socket's file is removed on drop, if Spillway made it.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    /// Where it listens; the port is the one that was chosen.
    pub address: Endpoint,
}

/// What a listener's clients get.
#[derive(Debug)]
pub(crate) struct Terms {
    /// The name of the route, if there are routes.
    pub(crate) route: Option<String>,
    pub(crate) proxy: Arc<Proxy>,
    /// Clients that begin with a PROXY header.
    pub(crate) headers_from: Vec<Network>,
}

impl Terms {
    /// The same for all, for ever.
    pub(crate) fn only(proxy: Arc<Proxy>) -> Arc<Current<Self>> {
        Arc::new(Current::new(Self { route: None, proxy, headers_from: Vec::new() }))
    }
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, #[expect(dead_code, reason = "held for its drop")] Option<SocketFile>),
}

/// The file of a listening socket, removed on drop.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl SocketFile {
    pub(crate) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }
}

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
                    socket: Socket::Unix(listener, Some(SocketFile::at(path))),
                    address: address.clone(),
                })
            }
        }
    }

    /// One that the service manager has bound; a Unix socket's file stays.
    pub(crate) fn passed(socket: PassedSocket, address: Endpoint) -> Result<Self, ListenError> {
        let socket = match socket {
            PassedSocket::Tcp(listener) => TcpListener::from_std(listener).map(Socket::Tcp),
            PassedSocket::Unix(listener) => {
                UnixListener::from_std(listener).map(|listener| Socket::Unix(listener, None))
            }
        };
        match socket {
            Ok(socket) => Ok(Self { socket, address }),
            Err(source) => Err(ListenError { address, source }),
        }
    }

    /// Tells scripts where it is. A closed stdout is no reason not to serve.
    pub(crate) fn announce(&self, route: Option<&str>) {
        let route = route.map(|route| format!(" (route {route})")).unwrap_or_default();
        let mut stdout = io::stdout().lock();
        let _ = writeln!(stdout, "listening on {}{route}", self.address).and_then(|()| stdout.flush());
    }

    /// Accepts clients until `stop_accepting`, each a session on `lanes` by the `terms` of that moment; `stop_sessions`
    /// ends those at once.
    pub(crate) async fn accept(
        self,
        terms: Arc<Current<Terms>>,
        lanes: Arc<Lanes>,
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
                Ok((client, from)) => {
                    lanes.spawn(serve_client(terms.get(), client, from, stop_sessions.clone()));
                }
                Err(error) => {
                    warn!(%error, "cannot accept a client; trying again");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn accept_one(&self) -> io::Result<(Accepted, ClientAddress)> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                let from = ClientAddress::tcp(peer, stream.local_addr()?);
                Ok((Accepted::Tcp(stream.into_std()?), from))
            }
            Socket::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let from = ClientAddress::unix(&stream.peer_cred()?);
                Ok((Accepted::Unix(stream.into_std()?), from))
            }
        }
    }
}

/// A connection that no runtime has yet: its session's will.
enum Accepted {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Accepted {
    /// For the runtime that this is called on.
    fn into_stream(self) -> io::Result<Stream> {
        match self {
            Self::Tcp(stream) => Stream::tcp(TcpStream::from_std(stream)?),
            Self::Unix(stream) => Ok(Stream::unix(UnixStream::from_std(stream)?)),
        }
    }
}

/// Takes a client from its PROXY header, if it has to begin with one, to its end.
async fn serve_client(terms: Arc<Terms>, client: Accepted, mut from: ClientAddress, stop: CancellationToken) {
    let has_header = terms.headers_from.iter().any(|network| network.has(from.ip()));
    let mut client = match client.into_stream() {
        Ok(client) => client,
        Err(error) => return warn!(peer = from.shown, %error, "cannot serve a client"),
    };
    if has_header {
        let received = tokio::select! {
            received = proxy_protocol::receive(&mut client) => received,
            () = stop.cancelled() => return,
        };
        match received {
            Ok(said) => from = from.behind(said),
            Err(error) => return refuse_header(&terms, &from, &error),
        }
    }
    // Of a level at which warnings, too, tell whose they are; what is empty becomes known on the way.
    let span = error_span!(
        "session",
        id = Empty,
        route = terms.route,
        client = from.shown,
        via = from.via,
        user = Empty,
        program = Empty,
        upstream = Empty
    );
    terms.proxy.session(client, from, stop).instrument(span).await;
}

/// Nothing can be told to a client that has not said what it speaks.
fn refuse_header(terms: &Terms, from: &ClientAddress, error: &HeaderError) {
    metrics::counter!("spillway_refused_proxy_headers_total").increment(1);
    match error {
        // As load balancers find out whether anybody listens.
        HeaderError::Closed => {
            debug!(route = terms.route, peer = from.shown, %error, "no PROXY header");
            terms.proxy.probes.note(from.ip());
        }
        _ => warn!(
                peer = from.shown,
            %error,
            hint = "--proxy-protocol-networks has this peer: have it send one, or take it out",
            "no PROXY header; closed the connection"
        ),
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
pub(crate) async fn remove_stale(path: &Path) -> io::Result<()> {
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
