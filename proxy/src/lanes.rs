//! The threads that sessions run on.
//!
//! A lane is a thread with a runtime of its own, and a session stays on its lane. The first lane is the thread that
//! accepts: on a quiet proxy nothing has to wake a second one for a new client. Everything a session waits for (its
//! two sockets, its disk jobs) then wakes the one thread that has its state in the cache; a runtime that hands tasks
//! from thread to thread wakes a second one for most of the short waits of a dump, and both together do less
//! (ARCHITECTURE.md has the figures).

use std::io;
use std::iter;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Mutex;
use tokio::task::JoinHandle as TaskHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Runs `main` on this thread, which is the first lane of a [`Lanes::start`] in it.
///
/// # Errors
/// If the system gives no descriptors for a runtime.
pub fn block_on<T>(main: impl Future<Output = T>) -> io::Result<T> {
    let runtime = runtime()?;
    let output = runtime.block_on(main);
    // A look-up that the system's resolver still works on is left behind: nothing waits for its answer any more, and
    // it may take half a minute.
    runtime.shutdown_background();
    Ok(output)
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        // With every turn of a task a look at the sockets: a task that stays awake (busy_poll) waits for one.
        .event_interval(1)
        .max_blocking_threads((MAX_BLOCKING_THREADS / cores()).max(MIN_BLOCKING_THREADS))
        .build()
}

/// Cores that the process may use.
fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// The lanes, and the sessions on them. Dropping it ends the threads, with whatever still runs on them, and waits for
/// them; so no session may hold it.
#[derive(Debug)]
pub struct Lanes {
    /// The thread that accepts.
    first: Lane,
    others: Vec<Lane>,
    sessions: TaskTracker,
    end: CancellationToken,
}

#[derive(Debug)]
struct Lane {
    runtime: Handle,
    /// Sessions that are on it.
    load: Arc<AtomicUsize>,
    /// None for the first, which is over when all is.
    thread: Option<JoinHandle<()>>,
}

impl Lanes {
    /// As many lanes as there are cores that the process may use. The first is the runtime that this is called on.
    ///
    /// # Errors
    /// If the system gives no thread, or no descriptors for a runtime.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn start() -> io::Result<Self> {
        let mut lanes = Self {
            first: Lane { runtime: Handle::current(), load: Arc::default(), thread: None },
            others: Vec::new(),
            sessions: TaskTracker::new(),
            end: CancellationToken::new(),
        };
        for number in 1..cores() {
            lanes.others.push(Lane::start(number, lanes.end.clone())?);
        }
        Ok(lanes)
    }

    /// Runs a session on the lane that has the fewest.
    pub(crate) fn spawn(&self, session: impl Future<Output = ()> + Send + 'static) {
        let lane = self.lanes().min_by_key(|lane| lane.load.load(Ordering::Relaxed)).unwrap_or(&self.first);
        let place = Place::take(&lane.load);
        let session = async move {
            session.await;
            drop(place);
        };
        self.sessions.spawn_on(session, &lane.runtime);
    }

    /// For a look at the lanes from elsewhere.
    pub(crate) fn pulse(&self) -> Pulse {
        let lanes = iter::once(&self.first).chain(&self.others);
        Pulse(Arc::new(Mutex::new(lanes.map(|lane| (lane.runtime.clone(), None)).collect())))
    }

    fn lanes(&self) -> impl Iterator<Item = &Lane> {
        iter::once(&self.first).chain(self.others.iter().filter(|lane| lane.is_alive()))
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
        for lane in &mut self.others {
            // One that has panicked is over, too.
            let _ = lane.thread.take().map(JoinHandle::join);
        }
    }
}

impl Lane {
    fn start(number: usize, end: CancellationToken) -> io::Result<Self> {
        let runtime = runtime()?;
        let handle = runtime.handle().clone();
        let thread = thread::Builder::new().name(format!("lane-{number}")).spawn(move || {
            runtime.block_on(end.cancelled());
            // See block_on.
            runtime.shutdown_background();
        })?;
        Ok(Self { runtime: handle, load: Arc::default(), thread: Some(thread) })
    }

    fn is_alive(&self) -> bool {
        self.thread.as_ref().is_none_or(|thread| !thread.is_finished())
    }
}

/// Whether the lanes turn.
#[derive(Clone, Debug)]
pub(crate) struct Pulse(Arc<Mutex<Vec<Beat>>>);

/// A lane, and the task that it was given last to show that it turns.
type Beat = (Handle, Option<TaskHandle<()>>);

impl Pulse {
    /// Whether every lane runs a task, and does so within `limit`. A lane that does not is given no other one before it
    /// has run the last. Cancel safe.
    pub(crate) async fn beats(&self, limit: Duration) -> bool {
        let all = async {
            let mut lanes = self.0.lock().await;
            for (lane, beat) in &mut *lanes {
                beat.get_or_insert_with(|| lane.spawn(async {}));
            }
            for (_, beat) in &mut *lanes {
                let Some(task) = beat else { continue };
                // A runtime that is over drops the task, which is an error.
                if task.await.is_err() {
                    return false;
                }
                *beat = None;
            }
            true
        };
        timeout(limit, all).await.unwrap_or(false)
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
        for _ in 0..3 * lanes.lanes().count() {
            lanes.spawn(stay.clone().cancelled_owned());
        }
        assert!(lanes.lanes().all(|lane| lane.load.load(Ordering::Relaxed) == 3));
        stay.cancel();
        lanes.wait().await;
        assert!(lanes.lanes().all(|lane| lane.load.load(Ordering::Relaxed) == 0));
    }

    #[tokio::test]
    async fn a_lane_that_stands_still_is_noticed() {
        let lanes = Lanes::start().unwrap();
        let pulse = lanes.pulse();
        assert!(pulse.beats(Duration::from_secs(60)).await);
        // Of a machine with one core there is but this thread, which cannot stand still and look.
        let Some(other) = lanes.others.first() else { return };
        let (go_on, wait) = std::sync::mpsc::channel::<()>();
        other.runtime.spawn(async move { wait.recv() });
        assert!(!pulse.beats(Duration::from_millis(50)).await);
        drop(go_on);
        assert!(pulse.beats(Duration::from_secs(60)).await);
        drop(lanes);
        assert!(!pulse.beats(Duration::from_secs(60)).await);
    }

    #[tokio::test]
    async fn a_session_that_panics_leaves_its_place() {
        let lanes = Lanes::start().unwrap();
        lanes.spawn(async { panic!("on purpose") });
        lanes.wait().await;
        assert!(lanes.lanes().all(|lane| lane.load.load(Ordering::Relaxed) == 0));
    }
}
