//! Waiting for a condition instead of for a time.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Polls `condition` until it holds; after `limit` the error names `what` was waited for.
pub fn wait_until(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    wait_for(limit, what, || Ok(condition().then_some(())))
}

/// Polls `probe` until it gives a value; an error from it ends the wait at once.
pub fn wait_for<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(value) = probe()? {
            return Ok(value);
        }
        if start.elapsed() >= limit {
            bail!("waited {:.1} s in vain for: {what}", start.elapsed().as_secs_f64());
        }
        sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Long enough to cost no time that matters on two cores, short enough not to slow a test.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);
