//! One simulated world: clients, Spillway's sessions and servers in one thread, under a clock that goes on only when all of
//! them wait.

use std::fs;
use std::iter;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use socket2::SockRef;
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::{Builder, Handle};
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::client::{self, ClientView};
use super::plan::Plan;
use super::server::{PASSWORD, SESSION_INIT, Seen, Server, USER};
use crate::backend::Upstreams;
use crate::backend::limits::Limits;
use crate::client_address::ClientAddress;
use crate::config::{TlsVersion, UpstreamTlsMode};
use crate::credentials::{Auth, Credentials};
use crate::endpoint::Endpoint;
use crate::journal::Ledger;
use crate::proxy_protocol::Network;
use crate::secrecy::Secrecy;
use crate::session::{Gate, Proxy, ServerProfile};
use crate::sessions::Totals;
use crate::slots::Slots;
use crate::spool::budget::{DiskBudget, MemoryBudget};
use crate::spool::packing::{Algorithm, Packing};
use crate::stream::Stream;
use crate::tls::{UpstreamTls, UpstreamTlsFiles};

/// How long a session may go on without its client: a login that is under way is ended as servers like it.
const AFTER_CLIENT: Duration = Duration::from_secs(120);

/// How long the server's connections may go on without the session: it reads the end when it has slept and written.
const AFTER_SESSION: Duration = Duration::from_secs(100 * 24 * 3600);

/// More than any disk has.
const NO_DISK: u64 = u64::MAX / 2;

/// What has come of a plan.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) client: ClientView,
    pub(super) server: Seen,
    /// The session was told to end before it had.
    pub(super) stopped: bool,
    /// What is wrong with how session and server ended.
    pub(super) leaks: Vec<String>,
    pub(super) totals: Totals,
    pub(super) told_errors: u64,
    pub(super) disk_peak: u64,
}

/// Where worlds put their files, one after the other.
pub(super) struct Place {
    dir: TempDir,
}

impl Place {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("spool")).unwrap();
        Self { dir }
    }

    fn spool(&self) -> PathBuf {
        self.dir.path().join("spool")
    }

    fn socket(&self, number: usize) -> PathBuf {
        self.dir.path().join(format!("server-{number}.sock"))
    }

    /// Descriptors of spool files that are open.
    fn open_files(&self) -> usize {
        let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
        links
            .filter_map(|link| fs::read_link(link.path()).ok())
            .filter(|to| to.starts_with(self.spool()))
            .count()
    }
}

/// Has the world of a plan run to its end. Gives what has come of the plan, and of its neighbours.
pub(super) fn run(plan: &Arc<Plan>, place: &Place) -> Vec<Outcome> {
    // As the lanes have it, with one thread for the disk: the fewer, the less depends on which is faster.
    let runtime = Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .event_interval(1)
        .max_blocking_threads(1)
        .build()
        .unwrap();
    runtime.block_on(live_together(plan, place))
}

async fn live_together(plan: &Arc<Plan>, place: &Place) -> Vec<Outcome> {
    let per_session = plan.spool.memory_per_session;
    let memory = MemoryBudget::new(4 * per_session.max(256 * 1024), per_session);
    let disk = DiskBudget::new(place.spool(), plan.spool.disk_max, 0);
    let mut lives = Vec::new();
    for (number, plan) in iter::once(plan).chain(&plan.neighbours).enumerate() {
        let (plan, socket) = (Arc::clone(plan), place.socket(number));
        let proxy = Arc::new(proxy(&plan, &socket, Arc::clone(&memory), Arc::clone(&disk)));
        lives.push(tokio::spawn(live(plan, proxy, socket)));
    }
    let filling = tokio::spawn(fill(Arc::clone(plan), Arc::clone(&disk)));
    let mut outcomes = Vec::new();
    for life in lives {
        outcomes.push(life.await.unwrap());
    }
    filling.abort();
    let _ = filling.await;
    // A task that is cancelled ends in its next turn.
    for _ in 0..3 {
        yield_now().await;
    }
    let counts = [
        ("tasks are alive", Handle::current().metrics().num_alive_tasks() as u64),
        ("bytes of memory are in use", memory.used()),
        ("bytes of disk are in use", disk.used()),
        ("spool files are open", place.open_files() as u64),
    ];
    for (what, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        outcomes[0].leaks.push(format!("{count} {what} after the end"));
    }
    outcomes
}

/// One client, its session and its server.
async fn live(plan: Arc<Plan>, proxy: Arc<Proxy>, socket: PathBuf) -> Outcome {
    // A world that has failed leaves it behind.
    let _ = fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).unwrap();
    let (server, over) = (Arc::new(Server::new(Arc::clone(&plan))), CancellationToken::new());
    let serving = tokio::spawn(Arc::clone(&server).serve(listener, over.clone()));

    let (clients_end, stream) = UnixStream::pair().unwrap();
    if let Some(size) = plan.client.send_buffer {
        SockRef::from(&stream).set_send_buffer_size(size).unwrap();
    }
    let from = ClientAddress::unix(&stream.peer_cred().unwrap());
    let (stop, halfway) = (CancellationToken::new(), Arc::new(Notify::new()));
    let (taking, stopping) = (Arc::clone(&proxy), stop.clone());
    let mut session = tokio::spawn(async move { taking.session(Stream::unix(stream), from, stopping).await });
    let stopped = Arc::new(AtomicBool::new(false));
    let ending =
        end_early(Arc::clone(&plan), Arc::clone(&proxy), stop, Arc::clone(&halfway), Arc::clone(&stopped));
    let ending = tokio::spawn(ending);

    let client = tokio::spawn(client::run(plan, clients_end, halfway)).await.unwrap();
    let mut leaks = Vec::new();
    if let Ok(ended) = timeout(AFTER_CLIENT, &mut session).await {
        ended.unwrap();
    } else {
        leaks.push(format!("the session goes on {AFTER_CLIENT:?} after its client has ended"));
        session.abort();
    }
    ending.abort();
    let _ = ending.await;
    over.cancel();
    if timeout(AFTER_SESSION, serving).await.map(Result::unwrap).is_err() {
        leaks.push("a connection to the server is open for ever".to_owned());
    }
    fs::remove_file(socket).unwrap();
    if proxy.sessions.running() > 0 {
        leaks.push("a session that has ended is listed".to_owned());
    }
    let server = server.seen().clone();
    let (totals, told_errors) = (proxy.sessions.totals(), proxy.told_errors());
    let (stopped, disk_peak) = (stopped.load(Ordering::Relaxed), proxy.disk.peak());
    Outcome { client, server, stopped, leaks, totals, told_errors, disk_peak }
}

fn proxy(plan: &Plan, socket: &Path, memory: Arc<MemoryBudget>, disk: Arc<DiskBudget>) -> Proxy {
    let files =
        UpstreamTlsFiles { mode: UpstreamTlsMode::Off, min_version: TlsVersion::V12, ca: None, own: None };
    let tls = UpstreamTls::new(&files).unwrap();
    let endpoints = vec![Endpoint::Unix(socket.to_owned())];
    let upstreams = Upstreams::new(endpoints, Limits::default(), tls, Secrecy::default(), false, None);
    let auth = match plan.is_stored {
        true => Auth::Stored(Arc::new(Credentials::new(USER.to_vec(), PASSWORD.to_vec()))),
        false => Auth::Passthrough,
    };
    Proxy {
        gate: Gate::new(vec![Network::Any], Slots::new(u32::MAX)),
        upstreams: Arc::new(upstreams),
        auth,
        client_tls: None,
        profile: ServerProfile::default(),
        connection_ids: Arc::default(),
        probes: Arc::default(),
        memory,
        disk,
        packing: packing(plan.spool.algorithm),
        spool_encrypt: plan.spool.encrypts,
        session_init: vec![SESSION_INIT.to_owned()],
        // It waits by the real clock.
        busy_poll: Duration::ZERO,
        keepalive: plan.keepalive,
        // Longer than any client in here takes.
        keepalive_for: Duration::from_secs(7 * 24 * 3600),
        allow_socket_upstream: false,
        told_errors: Arc::default(),
        drain_limit: plan.drain_limit,
        drain_limit_total: None,
        sessions: Arc::default(),
        ledger: Arc::new(Ledger::of_sessions()),
        route: None,
    }
}

/// Shared by all worlds, as it takes long to make.
fn packing(algorithm: Option<Algorithm>) -> Arc<Packing> {
    static KINDS: [OnceLock<Arc<Packing>>; 3] = [OnceLock::new(), OnceLock::new(), OnceLock::new()];
    let kind = match algorithm {
        None => 0,
        Some(Algorithm::Lz4) => 1,
        Some(Algorithm::Zstd) => 2,
    };
    Arc::clone(KINDS[kind].get_or_init(|| Packing::new(algorithm)))
}

/// Ends the session, if that is planned: after some time, or `halfway`.
async fn end_early(
    plan: Arc<Plan>,
    proxy: Arc<Proxy>,
    stop: CancellationToken,
    halfway: Arc<Notify>,
    stopped: Arc<AtomicBool>,
) {
    let Some(plan) = &plan.stop else { return };
    tokio::select! {
        () = sleep(plan.after) => {}
        () = halfway.notified() => {}
    }
    // One that has ended is no more to be stopped.
    stopped.store(proxy.sessions.running() > 0, Ordering::Relaxed);
    if plan.kill {
        proxy.sessions.kill(1);
    } else {
        stop.cancel();
    }
}

/// Fills the disk for some time, if that is planned.
async fn fill(plan: Arc<Plan>, disk: Arc<DiskBudget>) {
    let Some(full) = &plan.spool.full else { return };
    sleep(full.start).await;
    disk.set_limits(plan.spool.disk_max, NO_DISK);
    sleep(full.end - full.start).await;
    disk.set_limits(plan.spool.disk_max, 0);
}
