//! Threads beside those of the sessions: what operators ask takes no time from a dump.

use std::future::Future;
use std::io;
use std::thread::{self, JoinHandle};

use tokio::runtime::Builder;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

/// For looks at the spool's directory and the resolver, either of which may not answer.
const MAX_BLOCKING_THREADS: usize = 2;

/// A thread with a runtime of its own. Dropping it ends the thread and waits for it.
#[derive(Debug)]
pub(crate) struct SideThread {
    end: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl SideThread {
    /// Runs what `serve` makes, which ends soon after its token is cancelled.
    ///
    /// # Errors
    /// If the system gives no thread, or no descriptors for its runtime.
    pub(crate) fn start<S, F>(name: &str, serve: S) -> io::Result<Self>
    where
        S: FnOnce(CancellationToken) -> F + Send + 'static,
        F: Future<Output = ()>,
    {
        let runtime =
            Builder::new_current_thread().enable_all().max_blocking_threads(MAX_BLOCKING_THREADS).build()?;
        let end = CancellationToken::new();
        let ended = end.clone();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            runtime.block_on(serve(ended));
            // A look at a directory that does not answer is left behind.
            runtime.shutdown_background();
        })?;
        Ok(Self { end, thread: Some(thread) })
    }

    /// Ends it and waits for it.
    pub(crate) async fn end(self) {
        // One that has panicked is over, too.
        let _ = spawn_blocking(move || drop(self)).await;
    }
}

impl Drop for SideThread {
    fn drop(&mut self) {
        self.end.cancel();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
