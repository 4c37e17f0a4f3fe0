//! What the console shows, as tables.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use humantime::format_rfc3339_seconds;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::statements::{HELP, Item, is_like};
use crate::backend::sightings::Known;
use crate::credentials::Auth;
use crate::sessions::SessionSnapshot;
use crate::spool::budget::DiskBudget;
use crate::watched::{Watched, WatchedRoute, disk_limit, route_name};

/// A table to show.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) columns: Vec<(String, Kind)>,
    pub(super) rows: Vec<Vec<Value>>,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Number,
    Text,
}

/// What stands in a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Number(u64),
    Null,
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Number(number as u64)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, T::into)
    }
}

use Kind::{Number, Text};

/// Columns of SHOW SPOOL that are about memory, and before.
const BEFORE_DISK: usize = 6;

/// How long the spool's file system may take to tell how full it is.
const STATVFS_LIMIT: Duration = Duration::from_secs(2);

impl Table {
    fn new(columns: &[(&str, Kind)]) -> Self {
        Self {
            columns: columns.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect(),
            rows: Vec::new(),
        }
    }

    /// HELP.
    pub(super) fn help() -> Self {
        let mut table = Self::new(&[("statement", Text), ("what_it_does", Text)]);
        table.rows = HELP.iter().map(|&(statement, what)| vec![statement.into(), what.into()]).collect();
        table
    }

    /// SHOW SESSIONS.
    pub(super) fn sessions(sessions: &[SessionSnapshot]) -> Self {
        let mut table = Self::new(&[
            ("id", Number),
            ("route", Text),
            ("client", Text),
            ("user", Text),
            ("program", Text),
            ("upstream", Text),
            ("attempts", Number),
            ("state", Text),
            ("subject", Text),
            ("rows", Number),
            ("drained", Number),
            ("fed", Number),
            ("backlog", Number),
            ("on_disk", Number),
            ("lead_ms", Number),
            ("held_back_ms", Number),
            ("age_ms", Number),
        ]);
        for session in sessions {
            let login = session.login.as_ref();
            table.rows.push(vec![
                session.id.into(),
                route_name(session.route.as_ref()).into(),
                session.client.as_str().into(),
                login.map(|login| login.user.as_str()).into(),
                login.and_then(|login| login.program.as_deref()).into(),
                login.map(|login| login.upstream.as_str()).into(),
                session.attempts.into(),
                session.state.name().into(),
                session.subject.as_deref().into(),
                session.rows.into(),
                session.drained.into(),
                session.fed.into(),
                session.backlog.into(),
                session.on_disk.into(),
                session.lead_ms.into(),
                session.held_back_ms.into(),
                session.age_ms.into(),
            ]);
        }
        table
    }

    /// SHOW SPOOL: a row for all, one for each route that has a share of the disk, and one for each session.
    pub(super) async fn spool(watched: &Watched) -> Self {
        let mut table = Self::new(&[
            ("scope", Text),
            ("backlog", Number),
            ("backlog_peak", Number),
            ("memory", Number),
            ("memory_peak", Number),
            ("memory_limit", Number),
            ("on_disk", Number),
            ("on_disk_peak", Number),
            ("disk_limit", Number),
            ("disk_free", Number),
            ("directory", Text),
        ]);
        let (sessions, Watched { memory, disk, .. }) = (watched.sessions.snapshot(), watched);
        let backlog = |of: &dyn Fn(&&SessionSnapshot) -> bool| -> u64 {
            sessions.iter().filter(of).map(|session| session.backlog).sum()
        };
        table.rows.push(vec![
            "all".into(),
            backlog(&|_| true).into(),
            Value::Null,
            memory.used().into(),
            memory.peak().into(),
            memory.limit().into(),
            disk.used().into(),
            disk.peak().into(),
            disk_limit(disk).into(),
            free_space(Arc::clone(disk)).await.into(),
            disk.dir().display().to_string().into(),
        ]);
        for WatchedRoute { proxy, .. } in &watched.in_force.get().routes {
            let Some(name) = &proxy.route else { continue };
            let mut row = vec![format!("route {name}").into()];
            row.extend([backlog(&|session| session.route == proxy.route).into()]);
            row.resize(BEFORE_DISK, Value::Null);
            row.extend([proxy.disk.used().into(), proxy.disk.peak().into(), disk_limit(&proxy.disk).into()]);
            table.push_padded(row);
        }
        for session in &sessions {
            let mut row = vec![
                format!("session {}", session.id).into(),
                session.backlog.into(),
                session.backlog_peak.into(),
            ];
            row.resize(BEFORE_DISK, Value::Null);
            row.extend([session.on_disk.into(), session.on_disk_peak.into()]);
            table.push_padded(row);
        }
        table
    }

    fn push_padded(&mut self, mut row: Vec<Value>) {
        row.resize(self.columns.len(), Value::Null);
        self.rows.push(row);
    }

    /// SHOW ROUTES.
    pub(super) fn routes(watched: &Watched) -> Self {
        let mut table = Self::new(&[
            ("route", Text),
            ("listen", Text),
            ("upstreams", Text),
            ("auth", Text),
            ("sessions", Number),
            ("drain_limit", Number),
        ]);
        let mut running = BTreeMap::<_, u64>::new();
        for session in watched.sessions.snapshot() {
            *running.entry(session.route).or_default() += 1;
        }
        for WatchedRoute { proxy, listen } in &watched.in_force.get().routes {
            let upstreams = proxy.upstreams.known().map(|(upstream, _)| upstream.to_string());
            table.rows.push(vec![
                route_name(proxy.route.as_ref()).into(),
                list(listen.iter().map(ToString::to_string)).into(),
                list(upstreams).into(),
                match proxy.auth {
                    Auth::Passthrough => "passthrough".into(),
                    Auth::Stored(_) => "stored".into(),
                },
                running.get(&proxy.route).copied().unwrap_or_default().into(),
                proxy.drain_limit.into(),
            ]);
        }
        table
    }

    /// SHOW UPSTREAMS.
    pub(super) fn upstreams(watched: &Watched) -> Self {
        let mut table = Self::new(&[
            ("route", Text),
            ("upstream", Text),
            ("preferred", Text),
            ("sessions", Number),
            ("last_seen", Text),
            ("last_error", Text),
        ]);
        let sessions = watched.sessions.snapshot();
        for WatchedRoute { proxy, .. } in &watched.in_force.get().routes {
            for (index, (upstream, known)) in proxy.upstreams.known().enumerate() {
                let upstream = upstream.to_string();
                // As a session names it, with the address where it was found.
                let is_there = |session: &&SessionSnapshot| {
                    let there =
                        session.login.as_ref().and_then(|login| login.upstream.strip_prefix(&upstream));
                    session.route == proxy.route
                        && there.is_some_and(|at| at.is_empty() || at.starts_with(" ("))
                };
                let (seen, error) = match known {
                    Known::Nothing => ("unknown", None),
                    Known::Reached => ("reached", None),
                    Known::Failed(why) => ("failed", Some(why)),
                };
                table.rows.push(vec![
                    route_name(proxy.route.as_ref()).into(),
                    upstream.as_str().into(),
                    yes_or_no(proxy.upstreams.preferred() == index),
                    sessions.iter().filter(is_there).count().into(),
                    seen.into(),
                    error.into(),
                ]);
            }
        }
        table
    }

    /// SHOW STATUS.
    pub(super) fn status(watched: &Watched) -> Self {
        let (totals, sessions) = (watched.sessions.totals(), watched.sessions.snapshot());
        let sum = |figure: fn(&SessionSnapshot) -> u64| sessions.iter().map(figure).sum::<u64>();
        let in_force = watched.in_force.get();
        // One count for all routes.
        let errors = in_force.routes.first().map_or(0, |route| route.proxy.told_errors());
        let uptime = watched.began.elapsed().unwrap_or_default();
        let numbers: [(&str, u64); 14] = [
            ("Backlog", sum(|session| session.backlog)),
            ("Drained", totals.drained),
            ("Errors_told", errors),
            ("Fed", totals.fed),
            ("Held_back_ms", totals.held_back_ms),
            ("Keepalives", totals.keepalives),
            ("Logins", totals.logged_in),
            ("Memory_used", watched.memory.used()),
            ("On_disk", watched.disk.used()),
            ("Rows", totals.rows),
            ("Routes", in_force.routes.len() as u64),
            ("Sessions", totals.sessions),
            ("Sessions_running", watched.sessions.running() as u64),
            ("Uptime", uptime.as_secs()),
        ];
        let texts = [
            ("Draining", if watched.stop_accepting.is_cancelled() { "YES" } else { "NO" }.to_owned()),
            ("Started", format_rfc3339_seconds(watched.began).to_string()),
            ("Version", env!("CARGO_PKG_VERSION").to_owned()),
        ];
        let numbers = numbers.into_iter().map(|(name, number)| (name, number.to_string()));
        let mut pairs: Vec<_> = numbers.chain(texts).collect();
        pairs.sort_unstable();
        Self::pairs(pairs)
    }

    /// Names with values, as SHOW VARIABLES has them.
    pub(super) fn pairs<N: Into<Value>>(pairs: impl IntoIterator<Item = (N, String)>) -> Self {
        let mut table = Self::new(&[("Variable_name", Text), ("Value", Text)]);
        table.rows = pairs.into_iter().map(|(name, value)| vec![name.into(), value.into()]).collect();
        table
    }

    /// The rows whose first field is like `pattern`, if there is one.
    pub(super) fn like(mut self, pattern: Option<&str>) -> Self {
        if let Some(pattern) = pattern {
            self.rows.retain(|row| matches!(row.first(), Some(Value::Text(name)) if is_like(name, pattern)));
        }
        self
    }

    /// SHOW WARNINGS: there are none.
    pub(super) fn warnings() -> Self {
        Self::new(&[("Level", Text), ("Code", Number), ("Message", Text)])
    }

    /// What a client has selected when it connected.
    pub(super) fn selected(items: &[(&str, Item)], user: &str, connection_id: u32) -> Self {
        let kind = |item: &Item| match item {
            Item::ConnectionId | Item::Number(_) => Number,
            _ => Text,
        };
        let columns: Vec<_> = items.iter().map(|(name, item)| (*name, kind(item))).collect();
        let mut table = Self::new(&columns);
        let row = items.iter().map(|(_, item)| match item {
            Item::Version => env!("CARGO_PKG_VERSION").into(),
            Item::VersionComment => "console of spillway; SHOW HELP lists what there is".into(),
            Item::User => format!("{user}@console").into(),
            Item::CharacterSet => "utf8mb4".into(),
            Item::Database => Value::Null,
            Item::ConnectionId => u64::from(connection_id).into(),
            Item::Number(number) => (*number).into(),
        });
        table.rows.push(row.collect());
        table
    }
}

fn yes_or_no(is: bool) -> Value {
    if is { "YES" } else { "NO" }.into()
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

/// None where the file system does not tell, or not in time.
async fn free_space(disk: Arc<DiskBudget>) -> Option<u64> {
    timeout(STATVFS_LIMIT, spawn_blocking(move || disk.free())).await.ok()?.ok()?.ok()
}
