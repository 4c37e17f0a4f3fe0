//! What a check has found, as it is told to people and to programs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// The form of the JSON object. It counts up where a program that reads it would have to change; more fields may come.
const VERSION: u32 = 1;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing would go wrong, as far as could be seen.
    Fine,
    /// An upstream cannot be reached, or does not let Spillway in.
    Unreachable,
    /// Something else would go wrong.
    Unfit,
}

/// Everything that a check has found.
#[derive(Debug, Serialize)]
pub struct Report {
    version: u32,
    spillway: &'static str,
    verdict: Verdict,
    #[serde(serialize_with = "seconds")]
    seconds: Duration,
    pub(super) upstreams: Vec<UpstreamReport>,
    pub(super) spool: SpoolReport,
    pub(super) memory: MemoryReport,
    pub(super) problems: Vec<Finding>,
    pub(super) notes: Vec<Finding>,
}

impl Report {
    pub(super) fn new(
        time: Duration,
        upstreams: Vec<UpstreamReport>,
        spool: SpoolReport,
        memory: MemoryReport,
        findings: Findings,
    ) -> Self {
        let Findings { problems, notes } = findings;
        let verdict = if problems.iter().any(|problem| problem.about == About::Upstream) {
            Verdict::Unreachable
        } else if problems.is_empty() {
            Verdict::Fine
        } else {
            Verdict::Unfit
        };
        let spillway = env!("CARGO_PKG_VERSION");
        Self { version: VERSION, spillway, verdict, seconds: time, upstreams, spool, memory, problems, notes }
    }

    /// How it ended.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The JSON object, in one line.
    ///
    /// # Errors
    /// None: every value in it is one that JSON has.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

/// One step, and what came of it.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    pub(super) step: &'static str,
    pub(super) outcome: Outcome,
    /// For people.
    pub(super) detail: String,
    /// None where nothing was waited for.
    #[serde(serialize_with = "optional_seconds")]
    pub(super) seconds: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    Ok,
    Failed,
    Skipped,
}

impl Step {
    pub(super) fn ok(step: &'static str, detail: impl Into<String>, time: Option<Duration>) -> Self {
        Self { step, outcome: Outcome::Ok, detail: detail.into(), seconds: time }
    }

    pub(super) fn failed(step: &'static str, detail: impl Into<String>, time: Option<Duration>) -> Self {
        Self { step, outcome: Outcome::Failed, detail: detail.into(), seconds: time }
    }

    pub(super) fn skipped(step: &'static str, detail: impl Into<String>) -> Self {
        Self { step, outcome: Outcome::Skipped, detail: detail.into(), seconds: None }
    }
}

/// One of `--upstream`.
#[derive(Debug, Serialize)]
pub(super) struct UpstreamReport {
    pub(super) upstream: String,
    /// None where there is no name to resolve.
    pub(super) resolve: Option<Step>,
    pub(super) addresses: Vec<AddressReport>,
}

/// One address of an upstream.
#[derive(Debug, Default, Serialize)]
pub(super) struct AddressReport {
    pub(super) address: String,
    pub(super) steps: Vec<Step>,
    /// None if it has not greeted.
    pub(super) server: Option<ServerReport>,
}

/// A server that has greeted.
#[derive(Debug, Serialize)]
pub(super) struct ServerReport {
    /// `mariadb` or `mysql`.
    pub(super) kind: &'static str,
    pub(super) version: String,
    pub(super) tls_offered: bool,
    /// None before the login.
    pub(super) session: Option<SessionReport>,
}

/// A server session of Spillway's own.
#[derive(Debug, Default, Serialize)]
pub(super) struct SessionReport {
    pub(super) user: String,
    pub(super) plugin: &'static str,
    /// The version; none without TLS.
    pub(super) tls: Option<&'static str>,
    pub(super) version_comment: String,
    /// By their names, with `session.` or `global.` before; times in seconds.
    pub(super) variables: BTreeMap<&'static str, u64>,
}

/// The spool directory.
#[derive(Debug, Default, Serialize)]
pub(super) struct SpoolReport {
    pub(super) dir: String,
    pub(super) steps: Vec<Step>,
    pub(super) file_system: Option<String>,
    /// Whether files there never have a name (O_TMPFILE).
    pub(super) nameless: Option<bool>,
    /// Whether they are written past the page cache (O_DIRECT).
    pub(super) direct: Option<bool>,
    /// Bytes.
    pub(super) free: Option<u64>,
    /// Bytes that a backlog may take.
    pub(super) usable: Option<u64>,
    pub(super) write_bytes_per_second: Option<u64>,
    pub(super) read_bytes_per_second: Option<u64>,
}

/// The memory of this machine, or of what it gives this process.
#[derive(Debug, Default, Serialize)]
pub(super) struct MemoryReport {
    pub(super) steps: Vec<Step>,
    /// `--memory`.
    pub(super) memory: u64,
    pub(super) machine: Option<u64>,
    /// Of the machine's, at this moment.
    pub(super) available: Option<u64>,
    /// The smallest limit of a control group.
    pub(super) cgroup_limit: Option<u64>,
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum About {
    /// Reaching a server, and its letting Spillway in.
    Upstream,
    /// What it says then.
    Session,
    Spool,
    Memory,
}

/// Something that a person should know.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    about: About,
    pub(super) text: String,
    /// What to do.
    pub(super) advice: Option<String>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) problems: Vec<Finding>,
    pub(super) notes: Vec<Finding>,
}

impl Findings {
    /// Something would go wrong.
    pub(super) fn problem(&mut self, about: About, text: impl Into<String>, advice: Option<&str>) {
        push(&mut self.problems, about, text.into(), advice);
    }

    /// Nothing would go wrong by this.
    pub(super) fn note(&mut self, about: About, text: impl Into<String>, advice: Option<&str>) {
        push(&mut self.notes, about, text.into(), advice);
    }
}

/// Several addresses, or upstreams, may be one server.
fn push(findings: &mut Vec<Finding>, about: About, text: String, advice: Option<&str>) {
    if !findings.iter().any(|finding| finding.text == text) {
        findings.push(Finding { about, text, advice: advice.map(str::to_owned) });
    }
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    // Microseconds: more digits would be noise.
    serializer.serialize_f64(time.as_micros() as f64 / 1e6)
}

fn optional_seconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => seconds(time, serializer),
        None => serializer.serialize_none(),
    }
}
