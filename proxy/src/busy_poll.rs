//! Asking again at once instead of sleeping, where the next packet is expected within microseconds.
//!
//! A dump of many small tables is a game of ping-pong in which every turn puts one thread to sleep and wakes another,
//! and on a machine whose idle cores really stop (all virtual ones do) waking takes as long as the server takes for
//! its answer. So a session that waits in such a game keeps its thread awake for a moment: other sessions of the
//! thread still get their turns, and how long a moment is follows from what the last waits were like. The rule is
//! that of Linux's KVM for halted virtual CPUs (halt_poll_ns): the window doubles after a wait that it should have
//! covered, and is halved after one that was too long for any window.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// The shortest window; half of it is none.
const FIRST_WINDOW: Duration = Duration::from_micros(25);

/// How long one session's thread stays awake for it.
#[derive(Debug)]
pub(crate) struct BusyPoll {
    /// The longest window; zero to sleep always.
    most: Duration,
    window: Duration,
}

impl BusyPoll {
    /// Never awake longer than `most` without anything happening.
    pub(crate) fn new(most: Duration) -> Self {
        Self { most, window: Duration::ZERO }
    }

    /// Drives `poll` to its end, as [`poll_fn`] does. With each [`Poll::Pending`] it tells whether what it waits for may
    /// come at once. It is polled only when something has woken it. Cancel safe if `poll` is.
    pub(crate) async fn drive<T>(&mut self, mut poll: impl FnMut(&mut Context<'_>) -> (Poll<T>, bool)) -> T {
        let mut bell: Option<Arc<Bell>> = None;
        let mut wait: Option<Instant> = None;
        poll_fn(|cx| {
            let bell = match &mut bell {
                Some(bell) if bell.task.will_wake(cx.waker()) => bell,
                other => other.insert(Bell::new(cx.waker())),
            };
            if bell.rung.swap(false, Ordering::Acquire) {
                if let Some(since) = wait.take() {
                    self.adapt(since.elapsed());
                }
                let waker = Waker::from(Arc::clone(bell));
                match poll(&mut Context::from_waker(&waker)) {
                    (Poll::Ready(output), _) => return Poll::Ready(output),
                    (Poll::Pending, false) => return Poll::Pending,
                    (Poll::Pending, true) => wait = Some(Instant::now()),
                }
            }
            if wait.is_some_and(|since| since.elapsed() < self.window) {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        })
        .await
    }

    /// The last wait took so long.
    fn adapt(&mut self, waited: Duration) {
        if waited > self.most {
            self.window /= 2;
            if self.window < FIRST_WINDOW {
                self.window = Duration::ZERO;
            }
        } else if waited > self.window {
            self.window = (2 * self.window).clamp(FIRST_WINDOW.min(self.most), self.most);
        }
    }
}

/// Tells a wake-up by what is waited for from one of our own.
struct Bell {
    task: Waker,
    rung: AtomicBool,
}

impl Bell {
    /// Rung already: what is waited for must come to know it.
    fn new(task: &Waker) -> Arc<Self> {
        Arc::new(Self { task: task.clone(), rung: AtomicBool::new(true) })
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    const MOST: Duration = Duration::from_micros(200);

    #[test]
    fn the_window_follows_the_waits() {
        let mut busy = BusyPoll::new(MOST);
        for expected in [25, 50, 100, 100] {
            busy.adapt(Duration::from_micros(80));
            assert_eq!(busy.window, Duration::from_micros(expected));
        }
        busy.adapt(Duration::from_micros(150));
        assert_eq!(busy.window, MOST);
        for expected in [100, 50, 25, 0, 0] {
            busy.adapt(Duration::from_secs(1));
            assert_eq!(busy.window, Duration::from_micros(expected));
        }
        let mut never = BusyPoll::new(Duration::ZERO);
        never.adapt(Duration::ZERO);
        assert_eq!(never.window, Duration::ZERO);
    }

    #[tokio::test]
    async fn it_ends_as_the_future_does_and_lets_others_run() {
        let (sender, mut receiver) = mpsc::channel(1);
        let mut busy = BusyPoll { most: Duration::from_secs(3600), window: Duration::from_secs(3600) };
        let mut polls = 0;
        let other = tokio::spawn(async move { sender.send(7).await });
        let received = busy
            .drive(|cx| {
                polls += 1;
                (receiver.poll_recv(cx), true)
            })
            .await;
        assert_eq!(received, Some(7));
        assert!(polls <= 3, "polled {polls} times, woken once");
        other.await.unwrap().unwrap();
    }
}
