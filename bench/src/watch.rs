//! Looks at the server and at a process from outside while a dump runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use spillway_tests::{Raw, Server, process};

use crate::clock::Progress;

/// A watch under way.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Seen>>,
}

/// What was seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// From the first look at which the server was busy with the dump's query to the last.
    pub busy: Duration,
    /// The process's peak of resident memory.
    pub peak_memory: u64,
}

impl Watch {
    /// Watches for the query with which `mysqldump` reads a table, over a connection of its own, and the process.
    pub fn start(server: &Server, pid: u32, progress: Progress) -> Result<Self> {
        let connection = Raw::login(server.address())?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || watch(connection, pid, progress, &stopped));
        Ok(Self { stop, thread })
    }

    /// Ends the watch.
    pub fn finish(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the watching thread panicked"))?
    }
}

fn watch(mut connection: Raw, pid: u32, progress: Progress, stop: &AtomicBool) -> Result<Seen> {
    let mut seen = Seen::default();
    let mut first = None;
    let mut told = false;
    while !stop.load(Ordering::Relaxed) {
        let busy = connection.value(BUSY)? != "0";
        let now = Instant::now();
        if busy {
            seen.busy = now - *first.get_or_insert(now);
        } else if first.is_some() && !told {
            told = true;
            progress.say(&format!("  the server's query is over after {:.1} s", seen.busy.as_secs_f64()));
        }
        // It may have ended, then the last value stands.
        if let Ok(peak) = process::memory(pid, "VmHWM") {
            seen.peak_memory = seen.peak_memory.max(peak);
        }
        thread::sleep(PERIOD);
    }
    Ok(seen)
}

const BUSY: &str = "SELECT COUNT(*) FROM information_schema.processlist
    WHERE id <> CONNECTION_ID() AND command = 'Query' AND info LIKE 'SELECT /*!40001 SQL_NO_CACHE */%'";
/// Fine enough for times shown in tenths of a second.
const PERIOD: Duration = Duration::from_millis(10);
