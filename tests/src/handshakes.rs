//! Many logins hit at many places: cases run beside each other, each on a faulty connection of its worker's own.

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::client::{difference, normalised};
use crate::fault::{Action, Direction};
use crate::process::{self, Finished};
use crate::{Endpoint, Fault, Spillway};

/// So many connections in a row suffer this.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Connections.
    pub times: usize,
    /// Which bytes are counted.
    pub direction: Direction,
    /// Bytes that pass.
    pub after: u64,
    /// What happens then.
    pub action: Action,
}

/// How a client has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// With status 0 and all of its output.
    Right,
    /// With an error that says that the connection was lost.
    Loud,
    /// With an error of whatever words: programs do not pass on all that they are told.
    Failed,
    /// [`Verdict::Right`] or [`Verdict::Failed`]: never with status 0 and other output.
    Either,
}

/// What all cases have in common.
pub struct Matrix<'a> {
    /// Where the server is.
    pub server: std::net::SocketAddr,
    /// Of the proxy.
    pub options: &'a [&'a str],
    /// The client, without a fault.
    pub client: &'a (dyn Fn(&Endpoint) -> Command + Sync),
    /// What it writes, normalised.
    pub expected: &'a [u8],
}

/// By so many bytes a client's response may be shorter than the last one: it tells the process number, in digits.
pub const DIGITS: u64 = 7;
/// Workers, each with a proxy and a relay; most of a case is waiting.
const WORKERS: usize = 12;
const LIMIT: Duration = Duration::from_secs(60);

impl Matrix<'_> {
    /// Runs all cases; `verdict` tells how each has to end.
    pub fn run(&self, cases: &[Case], verdict: impl Fn(&Case) -> Verdict + Sync) -> Result<()> {
        let arm = |case: &Case, fault: &Fault| {
            fault.arm_next(case.times, case.direction, case.after, case.action);
        };
        self.run_armed(cases, arm, verdict)
    }

    /// As [`Matrix::run`], with faults that `arm` sets up: `times` connections have to suffer.
    pub fn run_armed(
        &self,
        cases: &[Case],
        arm: impl Fn(&Case, &Fault) + Sync,
        verdict: impl Fn(&Case) -> Verdict + Sync,
    ) -> Result<()> {
        let next = AtomicUsize::new(0);
        let failures = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..WORKERS.min(cases.len()) {
                scope.spawn(|| {
                    let next_case = || cases.get(next.fetch_add(1, Ordering::Relaxed));
                    let outcome = self.work(next_case, &arm, &verdict);
                    if let Err(error) = outcome {
                        failures.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(error);
                        next.store(cases.len(), Ordering::Relaxed);
                    }
                });
            }
        });
        let failures = failures.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        failures.into_iter().next().map_or(Ok(()), Err)
    }

    fn work<'c>(
        &self,
        mut next: impl FnMut() -> Option<&'c Case>,
        arm: &impl Fn(&Case, &Fault),
        verdict: &impl Fn(&Case) -> Verdict,
    ) -> Result<()> {
        let fault = Fault::start(self.server)?;
        let spillway = Spillway::to(&fault.address()).options(self.options).start()?;
        // The first login may need more than the others: with stored credentials the server is learned.
        self.judge(&self.dump(&spillway)?, Verdict::Right).context("without a fault")?;
        while let Some(case) = next() {
            let before = fault.connections();
            arm(case, &fault);
            let finished = self.dump(&spillway)?;
            fault.heal();
            let verdict = verdict(case);
            let outcome = self.judge(&finished, verdict).and_then(|()| {
                let made = before..fault.connections();
                let suffered = made.clone().filter(|&index| fault.suffered(index).is_some()).count();
                // What cannot be healed ends there, not after the last of the faults.
                let all =
                    suffered == case.times || verdict == Verdict::Loud && (1..case.times).contains(&suffered);
                ensure!(
                    all,
                    "{suffered} of {} connections have suffered, and not {}",
                    made.len(),
                    case.times
                );
                Ok(())
            });
            outcome.with_context(|| {
                format!("{case:?}\nspillway's log:\n{}", spillway.log().lines().join("\n"))
            })?;
        }
        Ok(())
    }

    fn dump(&self, spillway: &Spillway) -> Result<Finished> {
        process::run(&mut (self.client)(spillway.endpoint()), LIMIT)
    }

    fn judge(&self, finished: &Finished, verdict: Verdict) -> Result<()> {
        match (verdict, finished.status.success()) {
            (Verdict::Right | Verdict::Either, true) => {
                match difference(self.expected, &normalised(&finished.stdout)) {
                    None => Ok(()),
                    Some(difference) => bail!("the dump is not the direct one: {difference}"),
                }
            }
            (Verdict::Right, false) => bail!("the client failed: {}", finished.stderr),
            (Verdict::Failed | Verdict::Either, false) => Ok(()),
            (Verdict::Loud | Verdict::Failed, true) => bail!("the client ended well"),
            (Verdict::Loud, false) => {
                let stderr = &finished.stderr;
                ensure!(stderr.contains("spillway:") && stderr.contains("2013"), "no honest error: {stderr}");
                Ok(())
            }
        }
    }
}

/// Cases for every offset before `total`, by turns of these actions.
pub fn every_offset(times: usize, direction: Direction, total: u64, actions: &[Action]) -> Vec<Case> {
    let actions = actions.iter().cycle();
    (0..total).zip(actions).map(|(after, &action)| Case { times, direction, after, action }).collect()
}
