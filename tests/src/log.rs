//! The lines that a program writes, kept while it runs.

use std::io::{BufRead as _, BufReader, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::wait::wait_for;

/// Lines collected in the background.
#[derive(Clone, Debug, Default)]
pub struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    has_ended: Arc<AtomicBool>,
}

impl Log {
    /// Collects the lines of `stream` until it ends.
    pub fn collect(stream: impl Read + Send + 'static) -> Self {
        let log = Self::default();
        let writer = log.clone();
        thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while stream.read_until(b'\n', &mut line).is_ok_and(|size| size > 0) {
                writer.lock().push(String::from_utf8_lossy(&line).trim_end().to_owned());
                line.clear();
            }
            writer.has_ended.store(true, Ordering::Release);
        });
        log
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.lock().clone()
    }

    /// The lines so far that contain `pattern`.
    pub fn matching(&self, pattern: &str) -> Vec<String> {
        self.lock().iter().filter(|line| line.contains(pattern)).cloned().collect()
    }

    /// Waits for the `count`-th line that contains `pattern`.
    pub fn wait_for_nth(&self, pattern: &str, count: usize, limit: Duration) -> Result<String> {
        wait_for(limit, &format!("line {count} with {pattern:?} in the log"), || {
            Ok(self.lock().iter().filter(|line| line.contains(pattern)).nth(count - 1).cloned())
        })
        .with_context(|| format!("the log's last lines:\n{}", self.tail()))
    }

    /// Waits for a line that contains `pattern`.
    pub fn wait_for(&self, pattern: &str, limit: Duration) -> Result<String> {
        self.wait_for_nth(pattern, 1, limit)
    }

    /// Waits for the last line of a program that has ended.
    pub fn wait_for_end(&self, limit: Duration) -> Result<()> {
        wait_for(limit, "the log's end", || Ok(self.has_ended.load(Ordering::Acquire).then_some(())))
    }

    /// The last lines, for an error message.
    pub fn tail(&self) -> String {
        let lines = self.lock();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number in `name=NUMBER` of a log line.
pub fn field(line: &str, name: &str) -> Result<u64> {
    let value = line
        .split_whitespace()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        .with_context(|| format!("no {name}= in the log line {line:?}"))?;
    value.parse().with_context(|| format!("{name}={value} in the log line {line:?}"))
}
