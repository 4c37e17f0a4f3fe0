//! Time, as it is shown.

use std::time::Instant;

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
