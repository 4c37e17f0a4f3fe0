//! Attempts at a logged-in server session: how many, how long, with which pauses, and how they end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::Server;
use super::failure::AttemptError;
use super::limits::Limits;
use crate::proxy_protocol::Ends;

/// The first pause, and the longest. Each is twice the one before, and up to as much again by chance, so that many
/// clients of a server that comes back do not come at once.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A login that takes this long is told as a warning: somebody waits.
const LONG: Duration = Duration::from_secs(10);

/// No more attempts.
#[derive(Debug, thiserror::Error)]
#[error("{attempts} {} in {} s, the last one failed {last}", if *.attempts == 1 { "attempt" } else { "attempts" }, .time.as_secs())]
pub(crate) struct GaveUp {
    pub(crate) attempts: u32,
    pub(crate) time: Duration,
    pub(crate) last: Box<AttemptError>,
}

/// The attempts of one connection phase, at several upstreams by turns.
pub(crate) struct Attempts {
    limits: Limits,
    /// Which upstream comes first, and how many there are.
    first: usize,
    upstreams: usize,
    /// The client that they are made for, if it has an address.
    client: Option<Ends>,
    started: Instant,
    deadline: Instant,
    pauses: ExponentialBackoff,
    made: u32,
    /// Where others see how many there are.
    shown: Arc<AtomicU64>,
    /// Addresses that took a connection and did not lead to a session.
    useless: Vec<SocketAddr>,
    /// Whether the log was told that it takes long.
    told: bool,
}

impl Attempts {
    /// Begins now, at one of so many upstreams.
    pub(crate) fn new(limits: Limits, upstreams: usize) -> Self {
        let now = Instant::now();
        let pauses = ExponentialBuilder::default()
            .with_min_delay(FIRST_PAUSE)
            .with_max_delay(LONGEST_PAUSE)
            .with_jitter()
            .without_max_times();
        Self {
            limits,
            first: 0,
            upstreams: upstreams.max(1),
            client: None,
            started: now,
            deadline: now + limits.handshake,
            pauses: pauses.build(),
            made: 0,
            shown: Arc::default(),
            useless: Vec::new(),
            told: false,
        }
    }

    /// They are made for this client.
    pub(crate) fn on_behalf_of(self, client: Option<Ends>) -> Self {
        Self { client, ..self }
    }

    /// They are counted there, as they begin.
    pub(crate) fn shown_in(self, shown: &Arc<AtomicU64>) -> Self {
        Self { shown: Arc::clone(shown), ..self }
    }

    /// The client that they are made for, if it has an address; none where they are Spillway's own.
    pub(crate) fn client(&self) -> Option<Ends> {
        self.client
    }

    /// Attempts of Spillway's own, which have to end when these have to.
    pub(crate) fn aside(&self) -> Self {
        Self { deadline: self.deadline, ..Self::new(self.limits, self.upstreams) }
    }

    pub(crate) fn made(&self) -> u32 {
        self.made
    }

    /// The limit of a step, or what is left for all.
    pub(crate) fn limit(&self, step: impl Fn(&Limits) -> Duration) -> Duration {
        step(&self.limits).min(self.left())
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// The client has taken its time.
    pub(crate) fn extend(&mut self, time: Duration) {
        self.deadline += time;
    }

    /// Begins an attempt; gives the number of the upstream whose turn it is. The first one is the `preferred`.
    pub(crate) fn begin(&mut self, preferred: usize) -> usize {
        if self.made == 0 {
            self.first = preferred;
        }
        let turn = self.first + self.made as usize;
        self.made += 1;
        self.shown.fetch_add(1, Ordering::Relaxed);
        turn % self.upstreams
    }

    /// Puts addresses last that were of no use in an earlier attempt.
    pub(crate) fn order(&self, addresses: &mut [SocketAddr]) {
        addresses.sort_by_key(|address| self.useless.contains(address));
    }

    /// A session was reached, after all.
    pub(crate) fn succeeded(&self, server: &Server) {
        metrics::histogram!("spillway_login_attempts").record(f64::from(self.made));
        if self.made > 1 {
            metrics::counter!("spillway_healed_logins_total").increment(1);
            info!(%server, attempts = self.made, seconds = self.started.elapsed().as_secs_f32(), "reached the server in the end");
        }
    }

    /// Notes a failure, and waits until it is time for the next attempt: at once if another upstream has its turn.
    ///
    /// # Errors
    /// [`GaveUp`] if the cause will not pass, or if no time is left for another attempt.
    pub(crate) async fn failed(&mut self, error: AttemptError) -> Result<(), GaveUp> {
        let left = self.left();
        let round_is_over = (self.made as usize).is_multiple_of(self.upstreams);
        // Backoffs without a limit of times do not end. Towards the end the pauses are shorter, so that a server that
        // comes late is not missed.
        let wait = match round_is_over {
            true => self.pauses.next().unwrap_or(LONGEST_PAUSE).min(left / 2).max(FIRST_PAUSE),
            false => Duration::ZERO,
        };
        self.note(&error, wait);
        let hopeless = round_is_over && !error.cause.passes();
        // The next attempt needs some time, too.
        if hopeless || wait + FIRST_PAUSE > left {
            return Err(GaveUp { attempts: self.made, time: self.started.elapsed(), last: Box::new(error) });
        }
        if self.started.elapsed() >= LONG && !std::mem::replace(&mut self.told, true) {
            warn!(attempts = self.made, %error, seconds_left = left.as_secs(), "the server was not reached so far; trying on");
        }
        sleep(wait).await;
        Ok(())
    }

    fn note(&mut self, error: &AttemptError, wait: Duration) {
        let (phase, cause) = (error.phase.label(), error.cause.label());
        let upstream = error.server.upstream.to_string();
        let labels = [("phase", phase.into()), ("cause", cause.into()), ("upstream", upstream)];
        metrics::counter!("spillway_failed_attempts_total", &labels).increment(1);
        metrics::histogram!("spillway_attempt_pause_seconds").record(wait.as_secs_f64());
        info!(
            attempt = self.made,
            phase,
            server = %error.server,
            cause = %error.cause,
            wait_ms = wait.as_millis(),
            "an attempt to reach the server failed"
        );
        self.useless.extend(error.server.address);
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::super::failure::{Cause, Phase};
    use super::*;

    fn failure(cause: Cause) -> AttemptError {
        AttemptError { phase: Phase::Connect, server: Server::for_test("db1"), cause }
    }

    fn refused() -> AttemptError {
        failure(io::Error::from(io::ErrorKind::ConnectionRefused).into())
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_the_budget_ends_them() {
        let mut attempts = Attempts::new(Limits::default(), 1);
        let started = Instant::now();
        let mut pauses = Vec::new();
        let gave_up = loop {
            attempts.begin(0);
            let before = Instant::now();
            match attempts.failed(refused()).await {
                Ok(()) => pauses.push(before.elapsed()),
                Err(gave_up) => break gave_up,
            }
        };
        assert!(started.elapsed() <= Duration::from_secs(60), "{:?}", started.elapsed());
        assert!(pauses[0] >= FIRST_PAUSE && pauses[0] <= 2 * FIRST_PAUSE, "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= 2 * LONGEST_PAUSE), "{pauses:?}");
        assert!(started.elapsed() >= Duration::from_secs(58), "{:?}", started.elapsed());
        assert!((12..=30).contains(&gave_up.attempts), "{gave_up}");
        assert!(gave_up.to_string().contains("attempts in") && gave_up.to_string().contains("db1:3306"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_clients_time_is_not_counted() {
        let mut attempts =
            Attempts::new(Limits { handshake: Duration::from_secs(1), ..Limits::default() }, 1);
        sleep(Duration::from_secs(30)).await;
        attempts.extend(Duration::from_secs(30));
        attempts.begin(0);
        attempts.failed(refused()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_are_counted_by_phase_cause_and_server() {
        use metrics_util::debugging::{DebugValue, DebuggingRecorder};

        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        let _installed = metrics::set_default_local_recorder(&recorder);
        let mut attempts = Attempts::new(Limits::default(), 1);
        for _ in 0..2 {
            attempts.begin(0);
            attempts.failed(refused()).await.unwrap();
        }
        attempts.begin(0);
        attempts.succeeded(&Server::for_test("db1"));
        let mut seen = Vec::new();
        for (key, _, _, value) in snapshotter.snapshot().into_vec() {
            let key = key.key();
            let labels: Vec<&str> = key.labels().map(metrics::Label::value).collect();
            seen.push(match value {
                DebugValue::Counter(count) => format!("{} {labels:?} {count}", key.name()),
                DebugValue::Histogram(values) => format!("{} {} values", key.name(), values.len()),
                DebugValue::Gauge(_) => String::new(),
            });
        }
        seen.sort();
        assert_eq!(
            seen,
            [
                "spillway_attempt_pause_seconds 2 values",
                "spillway_failed_attempts_total [\"connect\", \"refused\", \"db1:3306\"] 2",
                "spillway_healed_logins_total [] 1",
                "spillway_login_attempts 1 values",
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn upstreams_take_turns_without_a_pause() {
        let mut attempts = Attempts::new(Limits::default(), 3);
        let started = Instant::now();
        assert_eq!(attempts.begin(1), 1);
        attempts.failed(failure(Cause::Unexpected)).await.unwrap();
        assert_eq!(attempts.begin(0), 2);
        attempts.failed(refused()).await.unwrap();
        assert_eq!(started.elapsed(), Duration::ZERO);
        assert_eq!(attempts.begin(0), 0);
        attempts.failed(refused()).await.unwrap();
        assert!(started.elapsed() >= FIRST_PAUSE);
        assert_eq!(attempts.begin(0), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn useless_addresses_come_last() {
        let mut attempts = Attempts::new(Limits::default(), 1);
        let [a, b] = ["10.0.0.1:3306", "10.0.0.2:3306"].map(|address| address.parse().unwrap());
        let mut error = refused();
        error.server.address = Some(a);
        attempts.begin(0);
        attempts.failed(error).await.unwrap();
        let mut addresses = [a, b];
        attempts.order(&mut addresses);
        assert_eq!(addresses, [b, a]);
    }

    #[tokio::test]
    async fn what_does_not_pass_is_not_tried_again() {
        let mut attempts = Attempts::new(Limits::default(), 1);
        let denied = failure(io::Error::from(io::ErrorKind::PermissionDenied).into());
        assert!(attempts.failed(denied).await.is_err());
    }
}
