//! `spillway check`: tells whether a dump through this host would work, and why not.
//!
//! It goes the way of a session, by the same code: each address of each server once, up to the login, and the spool's
//! own jobs to the disk and back. Nothing is tried twice, so it takes no longer than the limits of the single steps, and
//! no server sees a handshake break off.

mod advice;
mod file_system;
mod memory;
mod report;
mod server;
mod session;
mod spool;
mod text;

use tokio::time::Instant;

pub use report::{Report, Verdict};

use crate::session::Proxy;
use memory::check_memory;
use report::Findings;
use server::check_upstream;
use spool::check_spool;

/// Looks at everything that a session of this proxy would need.
pub async fn check(proxy: &Proxy) -> Report {
    let began = Instant::now();
    // The first random numbers of a thread that TLS uses take 35 ms, which would count as the first server's (measured).
    let _ = aws_lc_rs::rand::fill(&mut [0; 32]);
    let mut findings = Findings::default();
    let mut upstreams = Vec::new();
    // One after the other: what is measured is not to disturb what else is.
    for upstream in proxy.upstreams.endpoints() {
        upstreams.push(check_upstream(proxy, upstream, &mut findings).await);
    }
    let spool = check_spool(&proxy.disk, &mut findings).await;
    let memory = check_memory(&proxy.memory, &mut findings).await;
    Report::new(began.elapsed(), upstreams, spool, memory, findings)
}
