//! One client connection with its backend connection, from accept to end.

mod applicant;
mod backend;
mod bridge;
mod change_user;
mod client;
mod continuity;
mod error_kind;
mod exchange;
mod exposure;
mod gate;
mod keepalive;
mod login;
mod loss;
mod passthrough;
mod probes;
mod refusal;
mod relay;
mod stored;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use spillway_protocol::Compression;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::field::Value;
use tracing::{Span, debug, info, warn};

use crate::backend::Upstreams;
use crate::backend::login::OWN_LOGIN;
use crate::busy_poll::BusyPoll;
use crate::client_address::ClientAddress;
use crate::connection_ids::ConnectionIds;
use crate::credentials::Auth;
use crate::drain_limit::{DrainLimit, Throttle};
use crate::journal::{Journal, Ledger};
use crate::packet_stream::PacketStream;
use crate::printable::printable;
use crate::proxy_protocol::Ends;
use crate::sessions::{LoggedIn, Session, Sessions};
use crate::spool::Spool;
use crate::spool::budget::{DiskBudget, MemoryBudget};
use crate::spool::packing::Packing;
use crate::stream::Stream;
use crate::tls::{ClientTls, Identity};
use applicant::Applicant;
use continuity::Continuity;
pub(crate) use error_kind::ErrorKind;
pub(crate) use gate::Gate;
use keepalive::Keepalive;
pub(crate) use keepalive::{TIMEOUTS, keepalive_interval, numbers_of_row, row_values, timeouts_statement};
use login::Ready;
use loss::{Loss, Told};
pub(crate) use probes::Probes;
use refusal::Refusal;
use relay::{Kept, Opening, Relay, RelayEnd, RelayParts};
pub(crate) use stored::{ServerProfile, new_scramble};

/// How long a session that is told to stop may take to tell its client.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// What all sessions of a route share. What they share with other routes is a part of [`Common`](crate::common::Common).
#[derive(Debug)]
pub struct Proxy {
    /// Who may come in, and how many.
    pub(crate) gate: Gate,
    pub(crate) upstreams: Arc<Upstreams>,
    /// Who checks the clients' passwords.
    pub(crate) auth: Auth,
    /// TLS as the clients are offered it.
    pub(crate) client_tls: Option<Arc<ClientTls>>,
    pub(crate) profile: ServerProfile,
    pub(crate) connection_ids: Arc<ConnectionIds>,
    pub(crate) probes: Arc<Probes>,
    /// Memory of all sessions.
    pub memory: Arc<MemoryBudget>,
    /// Disk space of its sessions.
    pub disk: Arc<DiskBudget>,
    /// Compression of what is written there.
    pub(crate) packing: Arc<Packing>,
    /// Whether it is encrypted.
    pub(crate) spool_encrypt: bool,
    /// Statements sent on every server session before the client's first command, and again when the client resets
    /// the session.
    pub session_init: Vec<String>,
    /// How long a session's thread may stay awake for the next small packet (`--busy-poll`).
    pub busy_poll: Duration,
    /// Time between two keepalives on an idle server session.
    pub keepalive: Duration,
    /// How long the server session of an idle client is kept alive after the client took its last byte.
    pub keepalive_for: Duration,
    /// Whether clients that are not of Spillway's own uid may use a server's Unix socket (`--allow-socket-upstream`).
    pub allow_socket_upstream: bool,
    /// Responses that Spillway ended with an error of its own.
    pub told_errors: Arc<AtomicU64>,
    /// How fast a session drains its server at most (`--drain-limit`), in bytes a second.
    pub drain_limit: Option<u64>,
    /// How fast all sessions together do (`--drain-limit-total`).
    pub drain_limit_total: Option<Arc<DrainLimit>>,
    /// Those that run, of all proxies of the process.
    pub sessions: Arc<Sessions>,
    /// What they have found.
    pub ledger: Arc<Ledger>,
    /// The name of the route, where there are several.
    pub route: Option<Arc<str>>,
}

impl Proxy {
    /// Responses that ended with an error of Spillway's own, of sessions that are over.
    pub fn told_errors(&self) -> u64 {
        self.told_errors.load(Ordering::Relaxed)
    }

    /// Takes a client that comes `from` there from its first byte to its last. `stop` ends the session at once.
    pub(crate) async fn session(&self, client: Stream, from: ClientAddress, stop: CancellationToken) {
        let _slot = match self.gate.admit(&from) {
            Ok(slot) => slot,
            Err(refusal) => return self.gate.turn_away(client, &refusal).await,
        };
        let started = Instant::now();
        let listed = self.sessions.begin(&from, self.route.clone(), &stop);
        let stop = listed.session().stop().clone();
        tell_span("id", Some(listed.session().id));
        if let Err(error) = client.set_peer_timeout(self.upstreams.peer_timeout()) {
            return debug!(%error, "the client is gone already");
        }
        let mut applicant = Applicant::new(client, self.client_tls.clone(), self.upstreams.login_timeout());
        let ready = tokio::select! {
            ready = self.establish(&mut applicant, &from, listed.session()) => ready,
            () = stop.cancelled() => return,
        };
        let parts = match ready {
            Ok(parts) => parts,
            Err(refusal) => {
                refusal.log();
                if refusal.is_by_leaving() {
                    self.probes.note(from.ip());
                }
                return applicant.tell(&refusal).await;
            }
        };
        info!(
            user = printable(&parts.login.user),
            server = %parts.told.upstream,
            version = parts.login.server_version,
            server_connection = parts.login.connection_id,
            tls = applicant.packets.stream.tls_version(),
            server_tls = parts.backend.stream.tls_version(),
            compression = parts.login.client_compression.map_or("off", Compression::name),
            server_compression = parts.login.server_compression.map_or("off", Compression::name),
            "session started"
        );
        let (may_want_proof, identity) = (applicant.may_want_proof(), applicant.identity());
        let mut relay = Relay::new(applicant.packets, parts, Opening::Session);
        let mut busy_poll = BusyPoll::new(self.busy_poll);
        let end = loop {
            let end = tokio::select! {
                end = busy_poll.drive(|cx| (relay.poll(cx), relay.is_brisk())) => end,
                () = stop.cancelled() => {
                    relay.abandon();
                    let told = timeout(STOP_TIMEOUT, poll_fn(|cx| relay.poll(cx))).await;
                    told.unwrap_or(RelayEnd::Lost(Loss::Shutdown))
                }
            };
            let RelayEnd::ChangeUser(backend) = end else { break end };
            let (client, parts) = relay.pause(*backend);
            match self.go_on_as_another(client, identity.clone(), parts, &stop).await {
                Ok(next) => relay = next,
                Err(spool) => return spool.close().await,
            }
        };
        self.told_errors.fetch_add(relay.told_errors(), Ordering::Relaxed);
        log_end(&relay, &end, started);
        if !relay.was_used() && matches!(self.auth, Auth::Passthrough) && may_want_proof {
            warn!(
                hint = "give spillway a certificate of a CA that the client knows (its ssl-ca), use --auth stored, or \
                        connect over a Unix socket, as spillway run does",
                "a client of MariaDB left at once, as those since 11.4 do that cannot trust the certificate: the server \
                 proves its own by the password, which spillway cannot do for its own"
            );
        }
        tokio::select! {
            () = relay.end_login() => {}
            () = stop.cancelled() => {}
        }
        let (client, spool, mut journal) = relay.into_parts();
        journal.end(matches!(end, RelayEnd::ClientGone(_)));
        self.ledger.on_backlog(spool.stats().backlog_peak);
        tokio::join!(spool.close(), async {
            if matches!(end, RelayEnd::Lost(_) | RelayEnd::RefusedUser) {
                client.close().await;
            }
        });
    }

    /// Between two command phases: the client wants to be another user. Gives the next phase, or what is left of the
    /// session.
    async fn go_on_as_another(
        &self,
        client: PacketStream,
        identity: Option<Arc<Identity>>,
        mut parts: RelayParts,
        stop: &CancellationToken,
    ) -> Result<Relay, Spool> {
        let mut applicant = Applicant::with_session(
            client,
            identity,
            parts.told.by_libmariadb,
            self.upstreams.login_timeout(),
        );
        let changed = tokio::select! {
            changed = self.change_user(&mut applicant, &mut parts) => changed,
            () = stop.cancelled() => Err(Refusal::Stopped),
        };
        match changed {
            Ok(opening) => Ok(Relay::new(applicant.packets, parts, opening)),
            Err(refusal) => {
                warn!(%refusal, "the session ended in a change of user");
                let told = parts.kept.told_errors() + u64::from(!refusal.is_by_leaving());
                self.told_errors.fetch_add(told, Ordering::Relaxed);
                applicant.tell(&refusal).await;
                Err(parts.spool)
            }
        }
    }

    /// Everything up to the end of the login.
    async fn establish(
        &self,
        applicant: &mut Applicant,
        from: &ClientAddress,
        session: &Arc<Session>,
    ) -> Result<RelayParts, Refusal> {
        self.check_socket_upstream(&applicant.packets.stream, from)?;
        let memory = self.memory.share().ok_or(Refusal::NoMemory)?;
        let mut attempts = self.upstreams.attempts(from.ends).shown_in(&session.figures.attempts);
        let ready = match &self.auth {
            Auth::Passthrough => passthrough::log_in(applicant, &self.upstreams, &mut attempts).await?,
            Auth::Stored(credentials) => {
                let (profile, ids) = (&self.profile, &self.connection_ids);
                stored::log_in(applicant, &self.upstreams, &mut attempts, profile, ids, credentials).await?
            }
        };
        if ready.backend.unread() > 0 {
            return Err(Refusal::BytesBehindLogin(ready.backend.unread()));
        }
        applicant.packets.begin_compression(ready.login.client_compression);
        attempts.succeeded(&ready.server);
        self.ledger.on_login(attempts.made(), &ready.login.server_version);
        self.upstreams.prefer(&ready.server);
        let continuity = self.continuity(&ready, from.ends);
        let journal = Journal::new(
            Arc::clone(&self.ledger),
            Arc::clone(session),
            ready.response.database(),
            u16::from(ready.response.character_set()),
        );
        let program = ready.response.attribute(b"program_name").map(printable);
        let Ready { backend, server, login, .. } = ready;
        let upstream = server.to_string();
        let user = printable(&login.user);
        tell_span("user", Some(&user));
        tell_span("program", program.as_ref());
        tell_span("upstream", Some(&upstream));
        session.set_login(LoggedIn {
            user,
            program,
            upstream: upstream.clone(),
            server_version: login.server_version.clone(),
            server_connection: login.connection_id,
            tls: tls_of(&applicant.packets.stream),
            server_tls: tls_of(&backend.stream),
        });
        Ok(RelayParts {
            backend,
            spool: Spool::new(memory, Arc::clone(&self.disk), Arc::clone(&self.packing), self.spool_encrypt),
            keepalive: Keepalive::new(self.keepalive, self.keepalive_for),
            peer_timeout: self.upstreams.peer_timeout(),
            told: Told { upstream, by_libmariadb: applicant.is_by_libmariadb() },
            told_id: self.connection_ids.tell(&server, login.told_connection_id, login.connection_id),
            session_init: self.session_init.clone(),
            continuity,
            login,
            kept: Kept::default(),
            journal,
            throttle: self.throttle(),
        })
    }

    fn throttle(&self) -> Throttle {
        let own = self.drain_limit.map(|limit| Arc::new(DrainLimit::new(limit)));
        Throttle::new(own.into_iter().chain(self.drain_limit_total.clone()).collect())
    }

    /// With stored credentials a session can go on over another connection.
    fn continuity(&self, ready: &Ready, client: Option<Ends>) -> Option<Continuity> {
        let Auth::Stored(credentials) = &self.auth else { return None };
        Some(Continuity::new(
            Arc::clone(&self.upstreams),
            Arc::clone(credentials),
            client,
            ready.server.clone(),
            ready.greeting.clone(),
            ready.response.clone(),
            ready.login.capabilities | OWN_LOGIN,
        ))
    }

    /// `unix_socket` accounts trust the uid at the other end, which is Spillway's own: whoever comes through would be
    /// taken for Spillway's user. Behind another proxy the uid at this end is that proxy's, and says nothing.
    fn check_socket_upstream(&self, client: &Stream, from: &ClientAddress) -> Result<(), Refusal> {
        let own_uid = nix::unistd::Uid::effective().as_raw();
        let uid = client.peer_uid().filter(|_| from.via.is_none());
        if self.upstreams.has_socket() && !self.allow_socket_upstream && uid != Some(own_uid) {
            return Err(Refusal::ForeignUid(uid));
        }
        Ok(())
    }
}

/// Has every line of the session's log from now on tell this of it.
fn tell_span(field: &'static str, value: Option<impl Value>) {
    if let Some(value) = value {
        Span::current().record(field, value);
    }
}

fn tls_of(stream: &Stream) -> Option<String> {
    Some(stream.tls_version()).filter(|version| *version != "off").map(str::to_owned)
}

fn log_end(relay: &Relay, end: &RelayEnd, started: Instant) {
    let stats = relay.spool().stats();
    let reason = match end {
        RelayEnd::ClientLeft => "the client left".to_owned(),
        RelayEnd::ClientGone(None) => "the client went away".to_owned(),
        RelayEnd::ClientGone(Some(error)) => format!("the client went away: {error}"),
        RelayEnd::Lost(loss) => loss.to_string(),
        RelayEnd::RefusedUser => "the server refused a change of user".to_owned(),
        RelayEnd::ChangeUser(_) => "a change of user".to_owned(),
    };
    info!(
        reason,
        seconds = started.elapsed().as_secs(),
        rows = relay.rows(),
        drained = stats.drained,
        fed = stats.fed,
        backlog_peak = stats.backlog_peak,
        spooled_peak = stats.spooled_peak,
        spooled_on_disk_peak = stats.on_disk_peak,
        "session ended"
    );
}
