//! A process's memory and disk space over time.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use spillway_tests::process::open_file_space;

use crate::process_use;

/// A watch under way.
#[derive(Debug)]
pub struct MemoryWatch {
    /// Its end ends the watch.
    stop: Sender<()>,
    thread: JoinHandle<Result<Vec<Moment>>>,
}

/// What was seen at one time.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// When, since the start of the watch.
    pub at: Duration,
    /// Memory that was resident, in bytes.
    pub resident: u64,
    /// Disk space of the files that the process had open below the directory, in bytes.
    pub on_disk: u64,
}

impl MemoryWatch {
    /// Looks at process `pid`, and at its files below `dir`, once in each period.
    pub fn start(pid: u32, dir: &Path, period: Duration) -> Self {
        let (stop, stopped) = mpsc::channel();
        let dir: PathBuf = dir.into();
        let start = Instant::now();
        let thread = thread::spawn(move || {
            let mut moments = Vec::new();
            loop {
                moments.push(Moment {
                    at: start.elapsed(),
                    resident: process_use::resident_memory(pid)?,
                    on_disk: open_file_space(pid, &dir)?,
                });
                if stopped.recv_timeout(period) != Err(RecvTimeoutError::Timeout) {
                    return Ok(moments);
                }
            }
        });
        Self { stop, thread }
    }

    /// Ends it.
    pub fn finish(self) -> Result<Vec<Moment>> {
        drop(self.stop);
        self.thread.join().map_err(|_| anyhow!("the watching thread panicked"))?
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn files_without_a_name_count() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = tempfile::tempfile_in(dir.path()).unwrap();
        file.write_all(&[1; 100_000]).unwrap();
        file.sync_all().unwrap();
        let moments = MemoryWatch::start(std::process::id(), dir.path(), Duration::from_millis(1));
        let moments = moments.finish().unwrap();
        assert!(moments[0].on_disk >= 100_000, "{moments:?}");
        assert!(moments[0].resident > 0);
    }
}
