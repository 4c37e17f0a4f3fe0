//! The threads that sessions run on.
//!
//! A lane is a thread with a runtime of its own, and a session stays on its lane. Everything a session waits for (its
//! two sockets, its disk jobs) then wakes the one thread that has its state in the cache; a runtime that hands tasks
//! from thread to thread wakes a second one for most of the short waits of a dump, and both together do less
//! (ARCHITECTURE.md has the figures).

use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;

/// The lanes, and the sessions on them. Dropping it ends the threads, with whatever still runs on them, and waits for
/// them; so no session may hold it.
#[derive(Debug)]
pub struct Lanes {
    lanes: Vec<Lane>,
    sessions: TaskTracker,
    end: CancellationToken,
}

#[derive(Debug)]
struct Lane {
    runtime: Handle,
    /// Sessions that are on it.
    load: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Lanes {
    /// As many lanes as there are cores that the process may use.
    ///
    /// # Errors
    /// If the system gives no thread, or no descriptors for a runtime.
    pub fn start() -> io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, NonZero::get);
        let mut lanes =
            Self { lanes: Vec::new(), sessions: TaskTracker::new(), end: CancellationToken::new() };
        let blocking_threads = (MAX_BLOCKING_THREADS / count).max(MIN_BLOCKING_THREADS);
        for number in 0..count {
            lanes.lanes.push(Lane::start(number, blocking_threads, lanes.end.clone())?);
        }
        Ok(lanes)
    }

    /// Runs a session on the lane that has the fewest.
    pub(crate) fn spawn(&self, session: impl Future<Output = ()> + Send + 'static) {
        let alive = self.lanes.iter().filter(|lane| lane.is_alive());
        let Some(lane) = alive.min_by_key(|lane| lane.load.load(Ordering::Relaxed)) else {
            return error!(
                "no thread is left to run sessions on; start spillway again, and report the panic above"
            );
        };
        let place = Place::take(&lane.load);
        let session = async move {
            session.await;
            drop(place);
        };
        self.sessions.spawn_on(session, &lane.runtime);
    }

    /// Sessions that run.
    pub(crate) fn running(&self) -> usize {
        self.sessions.len()
    }

    /// Waits until no session runs any more. Cancel safe.
    pub(crate) async fn wait(&self) {
        self.sessions.close();
        self.sessions.wait().await;
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.end.cancel();
        for lane in &mut self.lanes {
            // One that has panicked is over, too.
            let _ = lane.thread.take().map(JoinHandle::join);
        }
    }
}

impl Lane {
    fn start(number: usize, blocking_threads: usize, end: CancellationToken) -> io::Result<Self> {
        // With every turn of a task a look at the sockets: a task that stays awake (busy_poll) waits for one.
        let runtime = Builder::new_current_thread()
            .enable_all()
            .event_interval(1)
            .max_blocking_threads(blocking_threads)
            .build()?;
        let handle = runtime.handle().clone();
        let thread = thread::Builder::new().name(format!("lane-{number}")).spawn(move || {
            runtime.block_on(end.cancelled());
            // A look-up that the system's resolver still works on is left behind: nothing waits for its answer any
            // more, and it may take half a minute.
            runtime.shutdown_background();
        })?;
        Ok(Self { runtime: handle, load: Arc::default(), thread: Some(thread) })
    }

    fn is_alive(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

/// Threads for disk jobs and look-ups, of all lanes together and of one lane at least. A job that finds none waits.
const MAX_BLOCKING_THREADS: usize = 512;
const MIN_BLOCKING_THREADS: usize = 16;

/// A session's place on a lane, until it is dropped.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(load: &Arc<AtomicUsize>) -> Self {
        load.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(load))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sessions_are_spread_and_waited_for() {
        let lanes = Lanes::start().unwrap();
        let stay = CancellationToken::new();
        for _ in 0..3 * lanes.lanes.len() {
            lanes.spawn(stay.clone().cancelled_owned());
        }
        assert!(lanes.lanes.iter().all(|lane| lane.load.load(Ordering::Relaxed) == 3));
        stay.cancel();
        lanes.wait().await;
        assert!(lanes.lanes.iter().all(|lane| lane.load.load(Ordering::Relaxed) == 0));
    }

    #[tokio::test]
    async fn a_session_that_panics_leaves_its_place() {
        let lanes = Lanes::start().unwrap();
        lanes.spawn(async { panic!("on purpose") });
        lanes.wait().await;
        assert!(lanes.lanes.iter().all(|lane| lane.load.load(Ordering::Relaxed) == 0));
    }
}
