//! How fast servers are drained at most (`--drain-limit`, `--drain-limit-total`): full speed can hurt a server that is
//! busy, or a line that others share.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// What may be read at once after a pause, in time at the full rate.
const BURST: Duration = Duration::from_millis(50);

/// The smallest and largest piece that is read at once.
const PIECES: (u64, u64) = (4 * 1024, 1024 * 1024);

/// A rate, of one session or of several together. Bytes are counted when they have been read, as nobody knows before how
/// many there are: who reads runs into debt, and waits until it is paid.
///
/// Source: the generic cell rate algorithm, [ITU-T I.371](https://www.itu.int/rec/T-REC-I.371): one time says all.
#[derive(Debug)]
pub struct DrainLimit {
    bytes_per_second: u64,
    began: Instant,
    /// When what was read is paid for, in nanoseconds since `began`.
    paid: AtomicU64,
}

impl DrainLimit {
    /// So many bytes a second; 1 at least.
    pub fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), began: Instant::now(), paid: AtomicU64::new(0) }
    }

    fn now(&self) -> u64 {
        nanos(self.began.elapsed())
    }

    fn spend(&self, bytes: u64) {
        let price = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let price = u64::try_from(price).unwrap_or(u64::MAX);
        let now = self.now();
        // An ordinary counter: nothing else is ordered by it.
        let _ = self.paid.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |paid| {
            Some(paid.max(now).saturating_add(price))
        });
    }

    /// When the next piece may be read, if that is not now.
    fn wait_until(&self) -> Option<Instant> {
        let free = self.paid.load(Ordering::Relaxed).saturating_sub(nanos(BURST));
        (free > self.now()).then(|| self.began + Duration::from_nanos(free))
    }

    /// A twentieth of a second's bytes.
    fn piece(&self) -> u64 {
        (self.bytes_per_second / 20).clamp(PIECES.0, PIECES.1)
    }
}

/// One session's limits.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    limits: Vec<Arc<DrainLimit>>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Throttle {
    /// All of these hold.
    pub(crate) fn new(limits: Vec<Arc<DrainLimit>>) -> Self {
        Self { limits, timer: None }
    }

    /// Ready with how many bytes may be read now, at most.
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        while let Some(until) = self.limits.iter().filter_map(|limit| limit.wait_until()).max() {
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
            timer.as_mut().reset(until);
            std::task::ready!(timer.as_mut().poll(cx));
        }
        let piece = self.limits.iter().map(|limit| limit.piece()).min();
        Poll::Ready(piece.and_then(|piece| usize::try_from(piece).ok()).unwrap_or(usize::MAX))
    }

    /// So many bytes were read.
    pub(crate) fn spend(&self, bytes: usize) {
        self.limits.iter().for_each(|limit| limit.spend(bytes as u64));
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// Reads for ten seconds as fast as it may.
    async fn read(throttle: &mut Throttle) -> u64 {
        let began = Instant::now();
        let mut read = 0;
        while began.elapsed() < Duration::from_secs(10) {
            let room = poll_fn(|cx| throttle.poll_room(cx)).await;
            throttle.spend(room);
            read += room as u64;
        }
        read
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_kept() {
        for rate in [1_000, 1_000_000, 3_000_000_000] {
            let read = read(&mut Throttle::new(vec![Arc::new(DrainLimit::new(rate))])).await;
            let slack = rate / 5 + 2 * PIECES.1;
            assert!(read >= 10 * rate - slack.min(10 * rate) && read <= 10 * rate + slack, "{rate}: {read}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_share_a_limit_of_all() {
        let all = Arc::new(DrainLimit::new(1_000_000));
        let mut sessions =
            [(); 4].map(|()| Throttle::new(vec![Arc::clone(&all), Arc::new(DrainLimit::new(500_000))]));
        let [a, b, c, d] = &mut sessions;
        let (a, b, c, d) = tokio::join!(read(a), read(b), read(c), read(d));
        let total = a + b + c + d;
        assert!((9_000_000..12_000_000).contains(&total), "{a} {b} {c} {d}");
    }

    #[tokio::test]
    async fn without_a_limit_nothing_waits() {
        let mut throttle = Throttle::default();
        let room = poll_fn(|cx| throttle.poll_room(cx)).await;
        assert_eq!(room, usize::MAX);
    }
}
