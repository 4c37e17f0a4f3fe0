//! Lines of the log that strangers can cause as often as they like, and which must not fill the disk.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time between two lines of one kind.
const PAUSE: Duration = Duration::from_secs(10);

/// Lets a line through, and counts those that it does not.
#[derive(Debug, Default)]
pub(crate) struct LogLimit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    untold: u64,
}

impl LogLimit {
    /// Whether a line may be written now. If so: how many were not, since the last one.
    pub(crate) fn line(&self) -> Option<u64> {
        self.line_at(Instant::now())
    }

    fn line_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE) {
            state.untold += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_now_and_then_and_a_count_of_the_others() {
        let limit = LogLimit::default();
        let start = Instant::now();
        let at = |seconds| limit.line_at(start + Duration::from_secs(seconds));
        assert_eq!([0, 1, 9, 10, 11].map(at), [Some(0), None, None, Some(2), None]);
        assert_eq!(at(1000), Some(1));
    }
}
