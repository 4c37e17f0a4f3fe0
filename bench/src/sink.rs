//! Slow sinks: the demo's, which stops again and again and keeps a hash of what it takes, and one of a steady speed.

use std::io::{self, BufRead as _, BufReader, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use sha1::{Digest as _, Sha1};

use crate::clock::Progress;

/// What a sink took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Bytes, without the lines that differ from one dump to the next.
    pub bytes: u64,
    /// SHA-1 of the same.
    pub hash: Vec<u8>,
}

/// Reads a dump to its end.
pub fn take(dump: impl Read) -> Result<Taken> {
    let mut reader = BufReader::with_capacity(READ_SIZE, dump);
    let mut hash = Sha1::new();
    let mut bytes = 0;
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        if !VARIABLE.iter().any(|start| line.starts_with(start)) {
            hash.update(&line);
            bytes += line.len() as u64;
        }
        line.clear();
    }
    Ok(Taken { bytes, hash: hash.finalize().to_vec() })
}

/// When a sink stops, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Stalls {
    /// First after so many bytes.
    pub first: u64,
    /// Then each time after so many more.
    pub every: u64,
    /// So often.
    pub times: u32,
    /// So long.
    pub pause: Duration,
}

/// A dump as it arrives at a sink that stalls.
#[derive(Debug)]
pub struct Stalling<R> {
    dump: R,
    stalls: Stalls,
    taken: u64,
    next: u64,
    progress: Progress,
}

impl<R: Read> Stalling<R> {
    /// Reads from `dump`, and says when it stops and goes on.
    pub fn new(dump: R, stalls: Stalls, progress: Progress) -> Self {
        Self { dump, stalls, taken: 0, next: stalls.first, progress }
    }
}

impl<R: Read> Read for Stalling<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken >= self.next && self.stalls.times > 0 {
            self.next += self.stalls.every;
            self.stalls.times -= 1;
            let megabytes = self.taken / 1_000_000;
            let seconds = self.stalls.pause.as_secs();
            self.progress.say(&format!("  the sink has {megabytes} MB and stands still for {seconds} s"));
            // The fault itself.
            thread::sleep(self.stalls.pause);
            self.progress.say("  the sink goes on");
        }
        let size = self.dump.read(buffer)?;
        self.taken += size as u64;
        Ok(size)
    }
}

/// Takes all of `dump`, so many bytes a second, and counts them in `taken`.
pub fn take_slowly(mut dump: impl Read, bytes_a_second: f64, taken: &AtomicU64) -> io::Result<()> {
    let mut buffer = vec![0; SLOW_READ_SIZE];
    let mut due = Instant::now();
    loop {
        let size = dump.read(&mut buffer)?;
        if size == 0 {
            return Ok(());
        }
        taken.fetch_add(size as u64, Ordering::Relaxed);
        // A sink that has waited for its input does not make up for it.
        due = due.max(Instant::now()) + Duration::from_secs_f64(size as f64 / bytes_a_second);
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

/// As in [`spillway_tests::client::normalised`].
const VARIABLE: [&[u8]; 2] = [b"-- Dump completed on", b"-- Host: "];
const READ_SIZE: usize = 1 << 20;
/// As much as a pipe holds.
const SLOW_READ_SIZE: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "-- Host: a\nINSERT\n-- Dump completed on now\nlast";

    #[test]
    fn lines_that_differ_anyway_do_not_count() {
        let taken = take(DUMP.as_bytes()).unwrap();
        assert_eq!(taken.bytes, 11);
        assert_eq!(taken, take(DUMP.replace("Host: a", "Host: b").as_bytes()).unwrap());
        assert_ne!(taken, take(DUMP.replace("INSERT", "insert").as_bytes()).unwrap());
    }

    #[test]
    fn a_stalling_sink_gets_all() {
        let stalls = Stalls { first: 0, every: 10, times: 2, pause: Duration::ZERO };
        let stalling = Stalling::new(DUMP.as_bytes(), stalls, Progress::start());
        assert_eq!(take(stalling).unwrap(), take(DUMP.as_bytes()).unwrap());
    }
}
