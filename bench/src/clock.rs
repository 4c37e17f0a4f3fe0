//! Time, as it is shown and as it is measured.

use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use spillway_tests::process;

/// Lines on stderr that say what goes on, with the time since the start.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    start: Instant,
}

impl Progress {
    /// Time starts now.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// One line.
    pub fn say(&self, what: &str) {
        eprintln!("[{:6.1} s] {what}", self.start.elapsed().as_secs_f64());
    }
}

/// Runs a program to its end; gives how long that took, to the moment. (Polling for the end, as
/// [`spillway_tests::process`] does, is too coarse for a run of half a second.) What it writes goes to /dev/null, but
/// its stderr is shown.
pub fn time(command: &mut Command, limit: Duration) -> Result<(Duration, ExitStatus)> {
    let start = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let pid = child.id();
    let (sender, ended) = mpsc::channel();
    let waiter = thread::spawn(move || {
        let status = child.wait();
        // Nobody listens any more after the limit.
        let _ = sender.send((status, start.elapsed()));
    });
    match ended.recv_timeout(limit) {
        Ok((status, took)) => {
            let _ = waiter.join();
            Ok((took, status.context("waiting for a program")?))
        }
        Err(_) => {
            process::send(pid, Signal::SIGKILL)?;
            bail!("{command:?} was not done after {} s", limit.as_secs())
        }
    }
}
