//! Reaching the server: from a name to its greeting, attempt by attempt.
//!
//! ```text
//!  Upstreams::reach ─► resolve ─► connect ─► greeting ─► Reached ─► TLS ─► login
//!        ▲                 failed │                                    │ lost
//!        └──── Attempts: pause, budget, log ◄──────────────────────────┘
//! ```

pub(crate) mod attempts;
mod connect;
pub(crate) mod decline;
pub(crate) mod failure;
pub(crate) mod limits;
pub(crate) mod login;
pub(crate) mod query;
mod resolve;
pub(crate) mod sightings;
mod tls;

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use spillway_protocol::{Capabilities, Compression, ERR_HEADER, Greeting};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use tracing::warn;

use crate::endpoint::Endpoint;
use crate::packet_stream::{HandshakePacket, PacketStream};
use crate::proxy_protocol::{self, Ends};
use crate::secrecy::Secrecy;
use crate::stream::Stream;
use crate::tls::UpstreamTls;
use attempts::{Attempts, GaveUp};
use connect::{connect_tcp, connect_unix};
use decline::{await_greeting_and_decline, decline};
use failure::{AttemptError, Cause, Phase, passes};
use resolve::Resolver;
use sightings::{Known, Sightings};

/// A server, as it is named and where it was found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Server {
    upstream: Endpoint,
    /// None for a Unix socket.
    address: Option<SocketAddr>,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.upstream.fmt(f)?;
        match (&self.upstream, self.address) {
            (Endpoint::Tcp { host, .. }, Some(address)) if *host != address.ip().to_string() => {
                write!(f, " ({})", address.ip())
            }
            _ => Ok(()),
        }
    }
}

impl Server {
    /// Not found anywhere yet.
    fn named(upstream: &Endpoint) -> Self {
        Self { upstream: upstream.clone(), address: None }
    }

    #[cfg(test)]
    pub(crate) fn for_test(host: &str) -> Self {
        Self { upstream: Endpoint::Tcp { host: host.to_owned(), port: 3306 }, address: None }
    }
}

/// A server that has greeted.
pub(crate) struct Reached {
    pub(crate) stream: PacketStream,
    pub(crate) greeting: Greeting,
    pub(crate) server: Server,
    /// Capabilities that this connection has for itself, whatever the client's has.
    pub(crate) hop: Capabilities,
}

impl Reached {
    /// The server has said OK: from now on both sides speak the compressed protocol, if they have agreed to.
    pub(crate) fn enter_command_phase(&mut self) {
        self.stream.begin_compression(Compression::agreed(self.hop));
    }
}

/// Why no server was reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReachError {
    #[error("the client went away before the server was reached")]
    ClientGone,
    #[error("{server} refused: {cause}")]
    Refused { server: Server, cause: Cause, sequence_id: u8, payload: Vec<u8> },
    #[error(transparent)]
    GaveUp(#[from] GaveUp),
}

/// The servers that may be reached.
#[derive(Debug)]
pub(crate) struct Upstreams {
    endpoints: Vec<Endpoint>,
    limits: limits::Limits,
    pub(crate) tls: UpstreamTls,
    /// Whether they are told whom a connection is made for.
    proxy_protocol: bool,
    /// What may be done with passwords on the way to them.
    pub(crate) secrecy: Secrecy,
    compression: Option<Compression>,
    resolver: Arc<Resolver>,
    /// Which of `endpoints` has let somebody in last: the first to be tried.
    preferred: AtomicUsize,
    /// What is known of each of `endpoints`.
    sightings: Arc<Sightings>,
}

impl Upstreams {
    pub(crate) fn new(
        endpoints: Vec<Endpoint>,
        limits: limits::Limits,
        tls: UpstreamTls,
        secrecy: Secrecy,
        proxy_protocol: bool,
        compression: Option<Compression>,
    ) -> Self {
        let (resolver, preferred) = (Arc::default(), AtomicUsize::new(0));
        let sightings = Arc::new(Sightings::of(endpoints.len()));
        Self { endpoints, limits, tls, secrecy, proxy_protocol, compression, resolver, preferred, sightings }
    }

    /// These in the place of those `before`, whose answers of the resolver stay known; and where the servers are the
    /// same, it is still known which one to try first.
    pub(crate) fn following(mut self, before: &Self) -> Self {
        self.resolver = Arc::clone(&before.resolver);
        if self.endpoints == before.endpoints {
            self.preferred = before.preferred.load(Ordering::Relaxed).into();
        }
        self
    }

    /// The servers, in the order in which they are tried.
    pub(crate) fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The compression that they are asked for.
    pub(crate) fn compression(&self) -> Option<Compression> {
        self.compression
    }

    /// How long a client may take for its part of the login.
    pub(crate) fn login_timeout(&self) -> Duration {
        self.limits.login
    }

    /// How long a peer's host may be silent.
    pub(crate) fn peer_timeout(&self) -> Duration {
        self.limits.peer
    }

    /// Attempts that begin now, for a client with this address, if it has one.
    pub(crate) fn attempts(&self, client: Option<Ends>) -> Attempts {
        Attempts::new(self.limits, self.endpoints.len()).on_behalf_of(client)
    }

    /// The same, at one server.
    pub(crate) fn attempts_at_one(&self, client: Option<Ends>) -> Attempts {
        Attempts::new(self.limits, 1).on_behalf_of(client)
    }

    /// The server has let somebody in: it is tried first from now on.
    pub(crate) fn prefer(&self, server: &Server) {
        if let Some(index) = self.endpoints.iter().position(|endpoint| *endpoint == server.upstream) {
            self.preferred.store(index, Ordering::Relaxed);
        }
    }

    /// Whether a server is reached by its Unix socket.
    pub(crate) fn has_socket(&self) -> bool {
        self.endpoints.iter().any(|endpoint| matches!(endpoint, Endpoint::Unix(_)))
    }

    /// Which of them is tried first.
    pub(crate) fn preferred(&self) -> usize {
        self.preferred.load(Ordering::Relaxed)
    }

    /// The upstreams, and what the last attempts have shown of them.
    pub(crate) fn known(&self) -> impl Iterator<Item = (&Endpoint, Known)> {
        self.endpoints.iter().zip(self.sightings.known(Instant::now()))
    }

    /// Keeps in mind what an attempt has shown of an upstream.
    fn note<T>(&self, upstream: usize, ended: &Result<T, Ended>) {
        match ended {
            Ok(_) => self.sightings.greeted(upstream),
            Err(Ended::Attempt(error)) => self.sightings.failed(upstream, error),
            Err(Ended::For(error @ ReachError::Refused { .. })) => self.sightings.failed(upstream, error),
            Err(Ended::For(_)) => {}
        }
    }

    /// Tries the upstreams by turns until one greets: one that is `like` the one that has greeted the client already, if
    /// there was one. Every try is one of `attempts`.
    ///
    /// When `gone` completes, the client has left: the connection under way is ended as a server likes it.
    pub(crate) async fn reach(
        &self,
        attempts: &mut Attempts,
        like: Option<&Greeting>,
        gone: impl Future<Output = ()>,
    ) -> Result<Reached, ReachError> {
        let mut gone = pin!(gone);
        loop {
            let turn = attempts.begin(self.preferred.load(Ordering::Relaxed));
            let ended = self.attempt(&self.endpoints[turn], attempts, like, gone.as_mut()).await;
            self.note(turn, &ended);
            let error = match ended {
                Ok(reached) => return Ok(reached),
                Err(Ended::For(error)) => return Err(error),
                Err(Ended::Attempt(error)) => error,
            };
            tokio::select! {
                next = attempts.failed(error) => next?,
                () = gone.as_mut() => return Err(ReachError::ClientGone),
            }
        }
    }

    /// Connects to `server` again, and to no other. When `gone` completes, as [`reach`](Self::reach).
    pub(crate) async fn reach_again(
        &self,
        server: &Server,
        attempts: &mut Attempts,
        like: &Greeting,
        gone: impl Future<Output = ()>,
    ) -> Result<Reached, ReachError> {
        let mut gone = pin!(gone);
        loop {
            attempts.begin(0);
            let addresses: Vec<_> = server.address.into_iter().collect();
            let greeted = self
                .connect_and_greet(&server.upstream, &addresses, attempts, Some(like), gone.as_mut())
                .await;
            if let Some(upstream) = self.endpoints.iter().position(|endpoint| *endpoint == server.upstream) {
                self.note(upstream, &greeted);
            }
            match greeted {
                Ok(reached) => return Ok(reached),
                Err(Ended::For(error)) => return Err(error),
                Err(Ended::Attempt(error)) => tokio::select! {
                    next = attempts.failed(error) => next?,
                    () = gone.as_mut() => return Err(ReachError::ClientGone),
                },
            }
        }
    }

    async fn attempt(
        &self,
        upstream: &Endpoint,
        attempts: &Attempts,
        like: Option<&Greeting>,
        mut gone: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Reached, Ended> {
        let addresses = tokio::select! {
            biased;
            () = gone.as_mut() => return Err(Ended::For(ReachError::ClientGone)),
            addresses = self.resolve(upstream, attempts) => addresses?,
        };
        self.connect_and_greet(upstream, &addresses, attempts, like, gone).await
    }

    async fn connect_and_greet(
        &self,
        upstream: &Endpoint,
        addresses: &[SocketAddr],
        attempts: &Attempts,
        like: Option<&Greeting>,
        mut gone: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Reached, Ended> {
        let mut connecting = pin!(self.connect(upstream, addresses, attempts));
        let (stream, server) = tokio::select! {
            biased;
            () = gone.as_mut() => {
                // The kernel may have made the connection already, and the server would see it break off.
                if let Ok((stream, _)) = connecting.await {
                    await_greeting_and_decline(stream, self.limits.greeting).await;
                }
                return Err(Ended::For(ReachError::ClientGone));
            }
            connected = connecting.as_mut() => connected?,
        };
        self.greet(stream, server, attempts, like, gone).await
    }

    /// The addresses of an upstream; none of a Unix socket.
    pub(crate) async fn resolve(
        &self,
        upstream: &Endpoint,
        attempts: &Attempts,
    ) -> Result<Vec<SocketAddr>, AttemptError> {
        let Endpoint::Tcp { host, port } = upstream else { return Ok(Vec::new()) };
        let limit = attempts.limit(|limits| limits.resolve);
        let resolved = self.resolver.resolve(host, *port, limit).await;
        let mut addresses =
            resolved.map_err(|error| failed(Phase::Resolve, Server::named(upstream), error))?;
        attempts.order(&mut addresses);
        Ok(addresses)
    }

    /// A connection to one of an upstream's addresses.
    pub(crate) async fn connect(
        &self,
        upstream: &Endpoint,
        addresses: &[SocketAddr],
        attempts: &Attempts,
    ) -> Result<(PacketStream, Server), AttemptError> {
        let limit = attempts.limit(|limits| limits.connect);
        let connected = match upstream {
            Endpoint::Unix(path) => connect_unix(path, limit).await.map(|stream| (stream, None)),
            Endpoint::Tcp { .. } => {
                connect_tcp(addresses, limit).await.map(|(stream, address)| (stream, Some(address)))
            }
        };
        let (mut stream, address) =
            connected.map_err(|error| failed(Phase::Connect, Server::named(upstream), error))?;
        let server = Server { upstream: upstream.clone(), address };
        if let Err(error) = stream.set_peer_timeout(self.limits.peer) {
            return Err(failed(Phase::Connect, server, error));
        }
        if self.proxy_protocol
            && let Err(cause) = introduce(&mut stream, attempts).await
        {
            return Err(failed(Phase::Connect, server, cause));
        }
        Ok((PacketStream::new(stream), server))
    }

    /// Reads the greeting on a connection that is made for no client.
    pub(crate) async fn greeting_of(
        &self,
        stream: PacketStream,
        server: Server,
        attempts: &Attempts,
    ) -> Result<Reached, AttemptError> {
        let refused = |server, cause| AttemptError { phase: Phase::Greeting, server, cause };
        match self.greet(stream, server.clone(), attempts, None, pin!(std::future::pending())).await {
            Ok(reached) => Ok(reached),
            Err(Ended::Attempt(error)) => Err(error),
            Err(Ended::For(ReachError::GaveUp(gave_up))) => Err(*gave_up.last),
            Err(Ended::For(ReachError::Refused { server, cause, .. })) => Err(refused(server, cause)),
            // There is none that could go.
            Err(Ended::For(ReachError::ClientGone)) => Err(refused(server, Cause::Unexpected)),
        }
    }

    /// Reads the greeting.
    async fn greet(
        &self,
        mut stream: PacketStream,
        server: Server,
        attempts: &Attempts,
        like: Option<&Greeting>,
        mut gone: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Reached, Ended> {
        let limit = attempts.limit(|limits| limits.greeting);
        let packet = tokio::select! {
            biased;
            packet = timeout(limit, stream.read_packet()) => packet,
            () = gone.as_mut() => {
                await_greeting_and_decline(stream, self.limits.greeting).await;
                return Err(Ended::For(ReachError::ClientGone));
            }
        };
        let packet = match packet {
            Ok(Ok(packet)) => packet,
            Ok(Err(error)) => return Err(failed(Phase::Greeting, server, error).into()),
            Err(_) => return Err(failed(Phase::Greeting, server, Cause::TimedOut(limit)).into()),
        };
        if packet.payload.first() == Some(&ERR_HEADER) {
            return Err(refused(server, packet));
        }
        let greeting = match Greeting::parse(packet.payload.to_vec()) {
            Ok(greeting) => greeting,
            Err(error) => return Err(failed(Phase::Greeting, server, Cause::Nonsense(error)).into()),
        };
        if like.is_some_and(|like| !like.is_like(&greeting)) {
            decline(stream, &greeting).await;
            let what = "its version or capabilities are not those that the client was told";
            return Err(failed(Phase::Greeting, server, Cause::Unfit(what)).into());
        }
        let hop = self.compression_with(&server, &greeting);
        Ok(Reached { stream, greeting, server, hop })
    }

    /// The flag of the compression that is wanted, if the server offers it. Compression is a matter of speed, so its
    /// lack is no reason to have no session.
    fn compression_with(&self, server: &Server, greeting: &Greeting) -> Capabilities {
        let Some(wanted) = self.compression else { return Capabilities::default() };
        if !greeting.capabilities().contains(wanted.capability()) {
            let wanted = wanted.name();
            warn!(%server, wanted, "the server does not offer this compression; going on without");
            return Capabilities::default();
        }
        wanted.capability()
    }
}

/// Tells a server whom this connection is made for, before either side says anything else.
async fn introduce(stream: &mut Stream, attempts: &Attempts) -> Result<(), Cause> {
    let header = proxy_protocol::encode(attempts.client())?;
    let limit = attempts.limit(|limits| limits.connect);
    match timeout(limit, stream.write_all(&header)).await {
        Ok(written) => Ok(written?),
        Err(_) => Err(Cause::TimedOut(limit)),
    }
}

/// How one attempt ended.
enum Ended {
    /// There may be others.
    Attempt(AttemptError),
    /// There will be no other.
    For(ReachError),
}

impl From<AttemptError> for Ended {
    fn from(error: AttemptError) -> Self {
        Self::Attempt(error)
    }
}

fn failed(phase: Phase, server: Server, cause: impl Into<Cause>) -> AttemptError {
    AttemptError { phase, server, cause: cause.into() }
}

fn refused(server: Server, packet: HandshakePacket) -> Ended {
    let cause = Cause::told(&packet.payload);
    if passes(&packet.payload) {
        return failed(Phase::Greeting, server, cause).into();
    }
    let HandshakePacket { sequence_id, payload } = packet;
    Ended::For(ReachError::Refused { server, cause, sequence_id, payload: payload.to_vec() })
}
