//! The sessions that are running, for whoever looks at them from outside: the progress display, the console, the web
//! page, metrics.
//!
//! A session writes its figures into atomics as it goes; a reader takes a [`SessionSnapshot`] and never waits for it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::client_address::ClientAddress;
use crate::spool::SpoolStats;

/// The sessions of a process.
#[derive(Debug, Default)]
pub struct Sessions {
    last_id: AtomicU64,
    live: Mutex<BTreeMap<u64, Arc<Session>>>,
    ended: Mutex<Totals>,
}

impl Sessions {
    /// A session that begins here, in the place of one that `route` names. It is listed until the guard is dropped.
    pub(crate) fn begin(
        self: &Arc<Self>,
        from: &ClientAddress,
        route: Option<Arc<str>>,
        stop: &CancellationToken,
    ) -> Listed {
        let session = Arc::new(Session {
            id: self.last_id.fetch_add(1, Ordering::Relaxed) + 1,
            route,
            client: from.shown.clone(),
            via: from.via.clone(),
            began: Instant::now(),
            began_at: SystemTime::now(),
            figures: Figures::default(),
            about: Mutex::default(),
            stop: stop.child_token(),
        });
        lock(&self.live).insert(session.id, Arc::clone(&session));
        Listed { sessions: Arc::clone(self), session }
    }

    /// Those that run now, the oldest first.
    pub fn snapshot(&self) -> Vec<SessionSnapshot> {
        let live: Vec<_> = lock(&self.live).values().cloned().collect();
        live.iter().map(|session| session.snapshot()).collect()
    }

    /// How many run now.
    pub fn running(&self) -> usize {
        lock(&self.live).len()
    }

    /// What all sessions have done so far, ended or not.
    pub fn totals(&self) -> Totals {
        // In the order in which an ending session passes from one to the other, so that none is missed; one that ends
        // in between is counted once, as it leaves `live` under the lock of `ended`.
        let ended = lock(&self.ended);
        let live = lock(&self.live);
        live.values().fold(*ended, |totals, session| totals.with(session))
    }

    /// Ends a session at once: its client is told that Spillway was told to stop. False if there is none of this id.
    pub fn kill(&self, id: u64) -> bool {
        let session = lock(&self.live).get(&id).cloned();
        session.inspect(|session| session.stop.cancel()).is_some()
    }
}

/// What sessions have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Sessions that have begun.
    pub sessions: u64,
    /// Of these, those that were logged in.
    pub logged_in: u64,
    /// Bytes taken from servers for clients.
    pub drained: u64,
    /// Bytes given to clients.
    pub fed: u64,
    /// Rows taken from servers.
    pub rows: u64,
    /// Milliseconds for which servers were held back at a limit of the spool.
    pub held_back_ms: u64,
    /// Signs of life on idle server sessions.
    pub keepalives: u64,
}

impl Totals {
    fn with(self, session: &Session) -> Self {
        let get = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        let figures = &session.figures;
        Self {
            sessions: self.sessions + 1,
            logged_in: self.logged_in + u64::from(lock(&session.about).login.is_some()),
            drained: self.drained + get(&figures.drained),
            fed: self.fed + get(&figures.fed),
            rows: self.rows + get(&figures.rows),
            held_back_ms: self.held_back_ms + get(&figures.held_back_ms),
            keepalives: self.keepalives + get(&figures.keepalives),
        }
    }
}

/// A running session's entry; it ends with this.
#[derive(Debug)]
pub(crate) struct Listed {
    sessions: Arc<Sessions>,
    session: Arc<Session>,
}

impl Listed {
    /// The entry, for those who write into it.
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut ended = lock(&self.sessions.ended);
        lock(&self.sessions.live).remove(&self.session.id);
        *ended = ended.with(&self.session);
    }
}

/// One session, as others see it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: u64,
    route: Option<Arc<str>>,
    client: String,
    via: Option<String>,
    began: Instant,
    began_at: SystemTime,
    pub(crate) figures: Figures,
    about: Mutex<About>,
    stop: CancellationToken,
}

/// What a session counts. Written by the session alone.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    drained: AtomicU64,
    fed: AtomicU64,
    rows: AtomicU64,
    backlog_peak: AtomicU64,
    on_disk: AtomicU64,
    on_disk_peak: AtomicU64,
    held_back_ms: AtomicU64,
    lead_ms: AtomicU64,
    responses: AtomicU64,
    pub(crate) attempts: Arc<AtomicU64>,
    pub(crate) keepalives: AtomicU64,
}

impl Figures {
    /// What the spool has to say.
    pub(crate) fn set_spool(&self, stats: SpoolStats, rows: u64, responses: usize) {
        let set = |figure: &AtomicU64, value| figure.store(value, Ordering::Relaxed);
        set(&self.drained, stats.drained);
        set(&self.fed, stats.fed);
        set(&self.rows, rows);
        set(&self.backlog_peak, stats.backlog_peak);
        set(&self.on_disk, stats.on_disk);
        set(&self.on_disk_peak, stats.on_disk_peak);
        set(&self.held_back_ms, millis(stats.held_back));
        set(&self.responses, responses as u64);
    }

    /// How much earlier the server had finished the last response of rows than the client.
    pub(crate) fn set_lead(&self, lead: Duration) {
        self.lead_ms.store(millis(lead), Ordering::Relaxed);
        metrics::histogram!("spillway_lead_seconds").record(lead.as_secs_f64());
    }
}

/// What becomes known of a session on its way.
#[derive(Debug, Default)]
struct About {
    login: Option<LoggedIn>,
    statement: Option<Statement>,
}

/// What a login has told.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LoggedIn {
    /// The account's name.
    pub user: String,
    /// How the client calls itself in its connection attributes: `mysqldump`.
    pub program: Option<String>,
    /// The server, as the configuration names it.
    pub upstream: String,
    /// Its version.
    pub server_version: String,
    /// The server's connection id.
    pub server_connection: u32,
    /// TLS towards the client.
    pub tls: Option<String>,
    /// TLS towards the server.
    pub server_tls: Option<String>,
}

#[derive(Debug)]
struct Statement {
    /// What it is about: a table, or the statement's first word.
    subject: Arc<str>,
    began: Instant,
    rows_before: u64,
}

impl Session {
    /// The login is over.
    pub(crate) fn set_login(&self, login: LoggedIn) {
        lock(&self.about).login = Some(login);
    }

    /// The client has become another user.
    pub(crate) fn set_user(&self, user: String) {
        if let Some(login) = &mut lock(&self.about).login {
            login.user = user;
        }
    }

    /// The server's answers are to this statement from now on.
    pub(crate) fn set_statement(&self, subject: Arc<str>) {
        let rows_before = self.figures.rows.load(Ordering::Relaxed);
        lock(&self.about).statement = Some(Statement { subject, began: Instant::now(), rows_before });
    }

    /// Cancelled when the session is to end.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    fn snapshot(&self) -> SessionSnapshot {
        let get = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        let figures = &self.figures;
        // In this order: whatever is written meanwhile, what was fed was drained.
        let fed = get(&figures.fed);
        let (drained, rows) = (get(&figures.drained), get(&figures.rows));
        let about = lock(&self.about);
        let statement = about.statement.as_ref();
        SessionSnapshot {
            id: self.id,
            route: self.route.clone(),
            client: self.client.clone(),
            via: self.via.clone(),
            began_unix_ms: self.began_at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, millis),
            age_ms: millis(self.began.elapsed()),
            state: match (&about.login, get(&figures.responses), drained > fed) {
                (None, ..) => State::Login,
                (Some(_), 0, false) => State::Idle,
                (Some(_), _, false) => State::Waiting,
                (Some(_), _, true) => State::Feeding,
            },
            attempts: get(&figures.attempts),
            login: about.login.clone(),
            subject: statement.map(|statement| Arc::clone(&statement.subject)),
            subject_ms: statement.map_or(0, |statement| millis(statement.began.elapsed())),
            subject_rows: statement.map_or(0, |statement| rows.saturating_sub(statement.rows_before)),
            rows,
            drained,
            fed,
            backlog: drained.saturating_sub(fed),
            backlog_peak: get(&figures.backlog_peak),
            on_disk: get(&figures.on_disk),
            on_disk_peak: get(&figures.on_disk_peak),
            held_back_ms: get(&figures.held_back_ms),
            lead_ms: get(&figures.lead_ms),
        }
    }
}

/// One session at one moment. Sizes in bytes, times in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct SessionSnapshot {
    /// Counted from 1 in the life of a process.
    pub id: u64,
    /// The route, where there are several.
    pub route: Option<Arc<str>>,
    /// Where the client comes from.
    pub client: String,
    /// Who has sent a PROXY header for it.
    pub via: Option<String>,
    /// When it began, in milliseconds since 1970.
    pub began_unix_ms: u64,
    /// How long ago that was.
    pub age_ms: u64,
    /// What it does.
    pub state: State,
    /// Attempts to reach the server that its login has taken so far.
    pub attempts: u64,
    /// Once it is logged in.
    #[serde(flatten)]
    pub login: Option<LoggedIn>,
    /// What the last statement is about: a table, or the statement's first word.
    pub subject: Option<Arc<str>>,
    /// How long ago that statement came.
    pub subject_ms: u64,
    /// Rows that it has given so far.
    pub subject_rows: u64,
    /// Rows of all statements.
    pub rows: u64,
    /// Taken from the server for the client.
    pub drained: u64,
    /// Given to the client.
    pub fed: u64,
    /// Drained and not fed.
    pub backlog: u64,
    /// The largest backlog.
    pub backlog_peak: u64,
    /// What the backlog takes on disk.
    pub on_disk: u64,
    /// The most it took there.
    pub on_disk_peak: u64,
    /// For how long the server was held back at a limit of the spool.
    pub held_back_ms: u64,
    /// How much earlier the server had finished the last response than the client.
    pub lead_ms: u64,
}

/// What a session does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Client and server are not logged in yet.
    Login,
    /// The client has nothing under way.
    Idle,
    /// The client waits for the server.
    Waiting,
    /// There is something for the client to take.
    Feeding,
}

impl State {
    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Idle => "idle",
            Self::Waiting => "waiting",
            Self::Feeding => "feeding",
        }
    }
}

/// Nothing that holds these locks leaves anything half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from() -> ClientAddress {
        ClientAddress { shown: "10.0.0.1:4711".to_owned(), ends: None, via: None }
    }

    #[test]
    fn a_session_is_listed_while_it_lasts_and_counted_for_ever() {
        let sessions = Arc::new(Sessions::default());
        let stop = CancellationToken::new();
        let one = sessions.begin(&from(), None, &stop);
        let two = sessions.begin(&from(), Some("a".into()), &stop);
        let stats = SpoolStats { drained: 10, fed: 4, ..SpoolStats::default() };
        two.session().set_statement("db.t".into());
        two.session().figures.set_spool(stats, 3, 1);
        two.session().set_login(LoggedIn { user: "backup".to_owned(), ..LoggedIn::default() });
        let shown = sessions.snapshot();
        assert_eq!(shown.iter().map(|session| session.id).collect::<Vec<_>>(), [1, 2]);
        assert_eq!((shown[0].state, shown[1].state), (State::Login, State::Feeding));
        assert_eq!((shown[1].backlog, shown[1].subject_rows), (6, 3));
        let expected =
            Totals { sessions: 2, logged_in: 1, drained: 10, fed: 4, rows: 3, ..Totals::default() };
        assert_eq!(sessions.totals(), expected);
        drop(two);
        assert_eq!(sessions.totals(), expected);
        assert_eq!(sessions.running(), 1);
        drop(one);
        assert_eq!((sessions.running(), sessions.totals()), (0, expected));
    }

    #[test]
    fn a_session_is_killed_by_its_id() {
        let sessions = Arc::new(Sessions::default());
        let all = CancellationToken::new();
        let listed = sessions.begin(&from(), None, &all);
        assert!(!sessions.kill(2));
        assert!(sessions.kill(1) && listed.session().stop().is_cancelled() && !all.is_cancelled());
    }
}
