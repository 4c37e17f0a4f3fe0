//! Whether the process lives, and whether a client that comes now can be served.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::site::Page;
use crate::backend::sightings::Known;
use crate::spool::disk;
use crate::watched::Watched;

/// What was last found out.
#[derive(Debug, Default)]
pub(super) struct Health {
    spool: Mutex<SpoolProbe>,
}

#[derive(Serialize)]
struct Verdict {
    status: &'static str,
    /// Why it is not as it should be.
    reasons: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    upstreams: Vec<Upstream>,
}

#[derive(Serialize)]
struct Upstream {
    upstream: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Health {
    /// `/healthz`: the threads that sessions run on do their work. If not, only a new start helps.
    pub(super) async fn alive(&self, watched: &Watched) -> Page {
        let reason = match watched.pulse.beats(BEAT_LIMIT).await {
            true => None,
            false => {
                Some(format!("a thread that sessions run on did nothing for {} s", BEAT_LIMIT.as_secs()))
            }
        };
        verdict(["ok", "failing"], reason.into_iter().collect(), Vec::new())
    }

    /// `/readyz`: clients are accepted, their backlog finds a place, and there is a server for them as far as is known.
    pub(super) async fn ready(&self, watched: &Watched) -> Page {
        let mut reasons = Vec::new();
        if watched.stop_accepting.is_cancelled() {
            reasons.push("no new sessions: spillway was told to stop".to_owned());
        }
        let dir = watched.disk.dir();
        if let Err(error) = self.spool.lock().await.look(dir).await {
            reasons.push(format!("the spool directory {} cannot be written: {error}", dir.display()));
        }
        let upstreams = upstreams(watched);
        if upstreams.iter().all(|upstream| upstream.reason.is_some()) {
            let failed = upstreams.iter().filter_map(|upstream| upstream.reason.as_deref());
            reasons.push(format!("no server can be reached: {}", failed.collect::<Vec<_>>().join("; ")));
        }
        verdict(["ready", "not ready"], reasons, upstreams)
    }
}

fn upstreams(watched: &Watched) -> Vec<Upstream> {
    let in_force = watched.in_force.get();
    let known = in_force.routes.iter().flat_map(|route| route.proxy.upstreams.known());
    let shown = known.map(|(endpoint, known)| {
        let (state, reason) = match known {
            Known::Nothing => ("not known", None),
            Known::Reached => ("reached", None),
            Known::Failed(why) => ("failed", Some(why)),
        };
        Upstream { upstream: endpoint.to_string(), state, reason }
    });
    shown.collect()
}

/// The good one of two words, if no reason speaks against it.
fn verdict([good, bad]: [&'static str; 2], reasons: Vec<String>, upstreams: Vec<Upstream>) -> Page {
    let (code, status) = match reasons.is_empty() {
        true => (StatusCode::OK, good),
        false => (StatusCode::SERVICE_UNAVAILABLE, bad),
    };
    Page::json(code, &Verdict { status, reasons, upstreams })
}

/// The last look at the spool directory.
#[derive(Debug, Default)]
struct SpoolProbe {
    found: Option<(Instant, Result<(), String>)>,
    /// One that is under way. A dead file system holds one thread, and no more.
    job: Option<JoinHandle<io::Result<()>>>,
}

impl SpoolProbe {
    /// Whether a file can be made there, as it was a moment ago.
    async fn look(&mut self, dir: &Path) -> Result<(), String> {
        if let Some((at, found)) = &self.found
            && at.elapsed() < PROBE_LASTS
        {
            return found.clone();
        }
        let job = self.job.get_or_insert_with(|| {
            let dir = dir.to_owned();
            spawn_blocking(move || disk::probe(&dir).map(drop))
        });
        let found = match timeout(PROBE_LIMIT, &mut *job).await {
            Ok(probed) => {
                self.job = None;
                probed.unwrap_or_else(|lost| Err(lost.into())).map_err(|error| error.to_string())
            }
            Err(_) => Err(format!("no answer within {} s", PROBE_LIMIT.as_secs())),
        };
        self.found = Some((Instant::now(), found.clone()));
        found
    }
}

/// How long a lane may take for a task that does nothing.
const BEAT_LIMIT: Duration = Duration::from_secs(5);

/// How long a look at the spool directory holds good, and how long it may take.
const PROBE_LASTS: Duration = Duration::from_secs(5);
const PROBE_LIMIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_look_at_the_spool_is_not_repeated_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut probe = SpoolProbe::default();
        assert_eq!(probe.look(dir.path()).await, Ok(()));
        let gone = dir.path().join("gone");
        assert_eq!(probe.look(&gone).await, Ok(()));
        probe.found = None;
        assert!(probe.look(&gone).await.unwrap_err().contains("No such file"));
    }
}
