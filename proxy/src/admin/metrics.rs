//! Metrics for Prometheus: what is counted where it happens, and what sessions tell of themselves at the scrape.

use std::collections::BTreeMap;
use std::time::SystemTime;

use metrics::{counter, describe_counter, describe_histogram, histogram, set_global_recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::exposition::{Exposition, Kind};
use super::process;
use crate::journal::WarningKind;
use crate::session::ErrorKind;
use crate::watched::{Watched, disk_limit, route_name};

/// What is counted where it happens. There is one in a process.
pub(super) struct Recorder(PrometheusHandle);

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Recorder")
    }
}

/// Metrics cannot be counted.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecorderError {
    #[error("the buckets of a histogram: {0}")]
    Buckets(#[from] metrics_exporter_prometheus::BuildError),
    #[error("metrics go elsewhere already")]
    Twice,
}

impl Recorder {
    /// From now on everything is counted.
    pub(super) fn install() -> Result<Self, RecorderError> {
        let mut builder = PrometheusBuilder::new();
        for (name, _, buckets) in HISTOGRAMS {
            builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), buckets)?;
        }
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        set_global_recorder(recorder).map_err(|_| RecorderError::Twice)?;
        begin_at_zero();
        Ok(Self(handle))
    }

    /// Sorts the values of histograms into their buckets.
    pub(super) fn keep_up(&self) {
        self.0.run_upkeep();
    }

    /// All metrics, as they are now.
    pub(super) fn render(&self, watched: &Watched) -> String {
        let mut out = Exposition::default();
        expose(&mut out, watched);
        process::expose(&mut out);
        let mut text = out.into_text();
        text.push_str(&self.0.render());
        text
    }
}

/// A counter that appears with its first event makes that event invisible: nothing has grown.
fn begin_at_zero() {
    for (name, help) in COUNTERS {
        describe_counter!(name, help);
        counter!(name).increment(0);
    }
    for (name, help, _) in HISTOGRAMS {
        describe_histogram!(name, help);
        let _ = histogram!(name);
    }
    describe_counter!(FAILED_ATTEMPTS.0, FAILED_ATTEMPTS.1);
    describe_counter!(ERRORS.0, ERRORS.1);
    for kind in ErrorKind::ALL {
        counter!(ERRORS.0, "kind" => kind.name()).increment(0);
    }
    describe_counter!(WARNINGS.0, WARNINGS.1);
    for kind in WarningKind::ALL {
        counter!(WARNINGS.0, "kind" => kind.name()).increment(0);
    }
}

/// What is known without anybody counting for it.
fn expose(out: &mut Exposition, watched: &Watched) {
    use Kind::{Counter, Gauge};
    let Watched { sessions, memory, disk, .. } = watched;
    let version = [(env!("CARGO_PKG_VERSION"), 1)];
    out.values(Gauge, "spillway_build_info", "The version of Spillway.", "version", version);
    let began = watched.began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    out.value(Gauge, "process_start_time_seconds", "When the process began.", began.as_secs_f64());

    let live = sessions.snapshot();
    let mut by_route: BTreeMap<&str, u64> = BTreeMap::new();
    let in_force = watched.in_force.get();
    for route in &in_force.routes {
        by_route.entry(route_name(route.proxy.route.as_ref())).or_default();
    }
    for session in &live {
        *by_route.entry(route_name(session.route.as_ref())).or_default() += 1;
    }
    out.values(Gauge, "spillway_sessions", "Sessions that run.", "route", by_route);
    let backlog: u64 = live.iter().map(|session| session.backlog).sum();
    out.value(
        Gauge,
        "spillway_backlog_bytes",
        "Bytes taken from servers that clients have not taken.",
        backlog,
    );

    let totals = sessions.totals();
    let counters = [
        ("spillway_sessions_total", "Sessions that have begun.", totals.sessions),
        ("spillway_logins_total", "Sessions that were logged in.", totals.logged_in),
        ("spillway_drained_bytes_total", "Bytes taken from servers for clients.", totals.drained),
        ("spillway_fed_bytes_total", "Bytes given to clients.", totals.fed),
        ("spillway_rows_total", "Rows taken from servers.", totals.rows),
        ("spillway_keepalives_total", "Signs of life on idle server sessions.", totals.keepalives),
    ];
    for (name, help, value) in counters {
        out.value(Counter, name, help, value);
    }
    let held_back = totals.held_back_ms as f64 / 1e3;
    let help = "Seconds for which servers had to wait at a limit of the spool, of all sessions together.";
    out.value(Counter, "spillway_held_back_seconds_total", help, held_back);

    out.value(Gauge, "spillway_spool_memory_bytes", "Memory in use for backlogs.", memory.used());
    out.value(Gauge, "spillway_spool_memory_limit_bytes", "The limit of that (--memory).", memory.limit());
    out.value(Gauge, "spillway_spool_disk_bytes", "Disk space in use for backlogs.", disk.used());
    if let Some(max) = disk_limit(disk) {
        out.value(Gauge, "spillway_spool_disk_limit_bytes", "The limit of that (--spool-max).", max);
    }
    let peaks = [("memory", memory.peak()), ("disk", disk.peak())];
    out.values(Gauge, "spillway_spool_peak_bytes", "The most that was in use so far.", "tier", peaks);
}

const COUNTERS: [(&str, &str); 6] = [
    ("spillway_healed_logins_total", "Logins that took more than one attempt to reach the server."),
    ("spillway_healed_sessions_total", "Sessions that went on over a new connection to the server."),
    ("spillway_clients_without_login_total", "Clients that left before they had logged in."),
    ("spillway_refused_proxy_headers_total", "Clients whose PROXY header was missing or wrong."),
    ("spillway_spooled_bytes_total", "Bytes of backlogs that went to disk."),
    ("spillway_spooled_disk_bytes_total", "What these took there, compressed or not."),
];

/// Counters with labels.
const FAILED_ATTEMPTS: (&str, &str) =
    ("spillway_failed_attempts_total", "Attempts to reach a server that failed, by step, cause and server.");
const ERRORS: (&str, &str) = ("spillway_errors_total", "Errors that clients were told, by kind.");
const WARNINGS: (&str, &str) = ("spillway_warnings_total", "Dumps that may lack something, by kind.");

/// With the upper bounds of their buckets.
const HISTOGRAMS: [(&str, &str, &[f64]); 3] = [
    (
        "spillway_login_attempts",
        "Attempts that a login took to reach the server.",
        &[1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0],
    ),
    (
        "spillway_attempt_pause_seconds",
        "Pauses between two attempts.",
        &[0.0, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0],
    ),
    (
        "spillway_lead_seconds",
        "How much earlier the server had finished a response of rows than the client.",
        &[0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 43200.0],
    ),
];
