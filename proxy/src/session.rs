//! One client connection with its backend connection, from accept to end.

mod backend;
mod client;
mod handshake;
mod keepalive;
mod loss;
mod packet_io;
mod relay;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use spillway_protocol::encode_err;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::backend::{ConnectError, Connected, connect};
use crate::endpoint::Endpoint;
use crate::spool::Spool;
use crate::spool::budget::{DiskBudget, MemoryBudget};
use crate::stream::Stream;
use backend::BackendHalf;
use client::ClientHalf;
use handshake::{GreetingError, LoginError, log_in, read_greeting, refusal};
use keepalive::Keepalive;
use loss::{Loss, Told};
use packet_io::PacketStream;
use relay::{Relay, RelayEnd, RelayParts};

/// How long a session that is told to stop may take to tell its client.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// What all sessions of a proxy share.
#[derive(Debug)]
pub struct Proxy {
    /// Where the servers are, in the order in which they are tried.
    pub upstreams: Vec<Endpoint>,
    /// Memory of all sessions.
    pub memory: Arc<MemoryBudget>,
    /// Disk space of all sessions.
    pub disk: Arc<DiskBudget>,
    /// Statements sent on every server session before the client's first command, and again when the client resets
    /// the session.
    pub session_init: Vec<String>,
    /// Time between two keepalives on an idle server session.
    pub keepalive: Duration,
    /// How long the server session of an idle client is kept alive after the client took its last byte.
    pub keepalive_for: Duration,
    /// Whether clients that are not of Spillway's own uid may use a server's Unix socket (`--allow-socket-upstream`).
    pub allow_socket_upstream: bool,
    /// Responses that Spillway ended with an error of its own.
    pub told_errors: AtomicU64,
}

impl Proxy {
    /// Responses that ended with an error of Spillway's own, of sessions that are over.
    pub fn told_errors(&self) -> u64 {
        self.told_errors.load(Ordering::Relaxed)
    }

    /// Takes a client from its first byte to its last. `stop` ends the session at once.
    pub(crate) async fn session(&self, client: Stream, stop: CancellationToken) {
        let started = Instant::now();
        let mut client = PacketStream::new(client);
        let ready = tokio::select! {
            ready = self.establish(&mut client) => ready,
            () = stop.cancelled() => return,
        };
        let parts = match ready {
            Ok(ready) => ready,
            Err(refusal) => return self.refuse(client, refusal).await,
        };
        info!(
            user = parts.login.user,
            server = %parts.told.upstream,
            version = parts.login.server_version,
            server_connection = parts.login.connection_id,
            "session started"
        );
        let client = ClientHalf::new(client.stream, &client.ahead);
        let mut relay = Relay::new(client, parts);
        let end = tokio::select! {
            end = poll_fn(|cx| relay.poll(cx)) => end,
            () = stop.cancelled() => {
                relay.abandon(Loss::Shutdown);
                let told = timeout(STOP_TIMEOUT, poll_fn(|cx| relay.poll(cx))).await;
                told.unwrap_or(RelayEnd::Lost(Loss::Shutdown))
            }
        };
        self.told_errors.fetch_add(relay.told_errors(), Ordering::Relaxed);
        log_end(&relay, &end, started);
        let (client, spool) = relay.into_parts();
        tokio::join!(spool.close(), async {
            if matches!(end, RelayEnd::Lost(_)) {
                client.close().await;
            }
        });
    }

    /// Everything up to the end of the login.
    async fn establish(&self, client: &mut PacketStream) -> Result<RelayParts, Refusal> {
        self.check_socket_upstream(&client.stream)?;
        let memory = self.memory.share().ok_or(Refusal::NoMemory)?;
        let Connected { stream, address } = tokio::select! {
            connected = connect(&self.upstreams) => connected?,
            () = client.stream.gone() => return Err(Refusal::ClientGone),
        };
        let mut backend = PacketStream::new(stream);
        let greeting = tokio::select! {
            greeting = read_greeting(&mut backend) => greeting,
            () = client.stream.gone() => return Err(Refusal::ClientGone),
        };
        let (greeting, sequence_id) = match greeting {
            Ok(greeting) => greeting,
            Err(GreetingError::Refused(packet)) => {
                client
                    .write_packet(packet.sequence_id, &packet.payload)
                    .await
                    .map_err(LoginError::ClientGone)?;
                return Err(refusal(&packet.payload).into());
            }
            Err(GreetingError::Failed(error)) => return Err(Refusal::NoGreeting { address, error }),
        };
        let login = log_in(client, &mut backend, &greeting, sequence_id).await?;
        if !backend.ahead.is_empty() {
            return Err(Refusal::BytesBehindLogin(backend.ahead.len()));
        }
        let told = Told { upstream: address, by_libmariadb: login.by_libmariadb };
        Ok(RelayParts {
            backend: BackendHalf::new(backend.stream, login.capabilities),
            spool: Spool::new(memory, Arc::clone(&self.disk)),
            keepalive: Keepalive::new(self.keepalive, self.keepalive_for),
            login,
            told,
            session_init: self.session_init.clone(),
        })
    }

    /// `unix_socket` accounts trust the uid at the other end, which is Spillway's own: whoever comes through would be
    /// taken for Spillway's user.
    fn check_socket_upstream(&self, client: &Stream) -> Result<(), Refusal> {
        let to_socket = self.upstreams.iter().any(|upstream| matches!(upstream, Endpoint::Unix(_)));
        let own_uid = nix::unistd::Uid::effective().as_raw();
        if to_socket && !self.allow_socket_upstream && client.peer_uid() != Some(own_uid) {
            return Err(Refusal::ForeignUid(client.peer_uid()));
        }
        Ok(())
    }

    /// Tells a client why it cannot be served, as far as it can be told, and the log.
    async fn refuse(&self, mut client: PacketStream, refusal: Refusal) {
        if let Some(packet) = refusal.err_packet() {
            let _ = timeout(STOP_TIMEOUT, client.stream.write_all(&packet)).await;
        }
        match refusal {
            Refusal::ClientGone | Refusal::Login(LoginError::ClientGone(_)) => debug!(%refusal, "no session"),
            Refusal::Login(LoginError::Refused { .. }) => info!(%refusal, "no session"),
            _ => warn!(%refusal, "no session"),
        }
    }
}

/// Why a client got no session.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the client went away before the server was reached")]
    ClientGone,
    #[error(
        "the server is reached by its Unix socket, which is only for clients of spillway's own uid; this one is {0:?}"
    )]
    ForeignUid(Option<u32>),
    #[error("--memory leaves nothing for another session")]
    NoMemory,
    #[error(transparent)]
    Unreachable(#[from] ConnectError),
    #[error("lost connection to {address} at its greeting (error 2013): {error}")]
    NoGreeting { address: String, error: LoginError },
    #[error(transparent)]
    Login(#[from] LoginError),
    #[error("the server sent {0} bytes behind the end of the login")]
    BytesBehindLogin(usize),
}

impl Refusal {
    /// The ERR packet for the client. Before the greeting it carries no SQLSTATE, and its code is one of a server's:
    /// of the client's own (2003, 2013) a client with MariaDB's library would show "Received malformed packet" only,
    /// and which library it is, nobody knows yet.
    fn err_packet(&self) -> Option<Vec<u8>> {
        let code = match self {
            Self::ForeignUid(_) => ER_ACCESS_DENIED_NO_PASSWORD_ERROR,
            Self::NoMemory => ER_CON_COUNT_ERROR,
            Self::Unreachable(_) => ER_CONNECT_TO_FOREIGN_DATA_SOURCE,
            Self::NoGreeting { .. } => ER_NET_READ_ERROR,
            // Nobody can be told, or the server's own ERR was passed on.
            Self::ClientGone | Self::Login(_) | Self::BytesBehindLogin(_) => return None,
        };
        Some(encode_err(0, code, None, &format!("spillway: {self}")))
    }
}

const ER_CON_COUNT_ERROR: u16 = 1040;
const ER_NET_READ_ERROR: u16 = 1158;
const ER_CONNECT_TO_FOREIGN_DATA_SOURCE: u16 = 1429;
const ER_ACCESS_DENIED_NO_PASSWORD_ERROR: u16 = 1698;

fn log_end(relay: &Relay, end: &RelayEnd, started: Instant) {
    let stats = relay.spool().stats();
    let reason = match end {
        RelayEnd::ClientLeft => "the client left".to_owned(),
        RelayEnd::ClientGone(None) => "the client went away".to_owned(),
        RelayEnd::ClientGone(Some(error)) => format!("the client went away: {error}"),
        RelayEnd::Lost(loss) => loss.to_string(),
    };
    info!(
        reason,
        seconds = started.elapsed().as_secs(),
        rows = relay.rows(),
        drained = stats.drained,
        fed = stats.fed,
        backlog_peak = stats.backlog_peak,
        spooled_peak = stats.spooled_peak,
        "session ended"
    );
}
