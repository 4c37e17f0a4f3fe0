//! `spillway serve`: a long-running proxy, and how it ends.
//!
//! Shutdown in phases: SIGTERM or SIGINT ends accepting; running sessions go on until they end by themselves, for
//! `--shutdown-grace` at most; after that, or at a second signal, their clients are told and cut off.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::admin::{self, Sockets};
use crate::console::{self, ConsoleSocket};
use crate::lanes::Lanes;
use crate::listener::Listener;
use crate::routes::{Acceptors, Routes};
use crate::service::Notifier;
use crate::side_thread::SideThread;
use crate::watched::Watched;

/// Serves until a signal ends it; `listeners` are those that the routes have bound, and operators come in by `doors`.
/// Returns how many responses ended with an error of Spillway's own.
///
/// # Errors
/// If the process cannot receive signals, or start threads.
pub async fn serve(
    mut routes: Routes,
    listeners: Vec<Listener>,
    doors: OperatorsDoors,
) -> std::io::Result<u64> {
    let began = SystemTime::now();
    let mut signals = Signals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        hangup: signal(SignalKind::hangup())?,
    };
    let acceptors = Acceptors {
        lanes: Arc::new(Lanes::start()?),
        tasks: TaskTracker::new(),
        stop_accepting: CancellationToken::new(),
        stop_sessions: CancellationToken::new(),
    };
    routes.begin(listeners, &acceptors);
    let side_threads = doors.open(&routes.watched(&acceptors, began))?;
    let notifier = Arc::new(Notifier::from_env());
    notifier.ready().await;
    let telling = {
        let (notifier, lanes) = (Arc::clone(&notifier), Arc::clone(&acceptors.lanes));
        tokio::spawn(async move { notifier.keep_telling(|| lanes.running()).await })
    };

    let name = signals.next_reloading(&mut routes, &acceptors, &notifier).await;
    notifier.stopping().await;
    let Acceptors { lanes, tasks, stop_accepting, stop_sessions } = acceptors;
    stop_accepting.cancel();
    tasks.close();
    tasks.wait().await;
    let grace = routes.configuration().shutdown_grace();
    info!(
        signal = name,
        running = lanes.running(),
        ?grace,
        "no new sessions; the running ones may end by themselves"
    );
    tokio::select! {
        () = lanes.wait() => {}
        () = tokio::time::sleep(grace) => warn!(running = lanes.running(), "--shutdown-grace is over: ending sessions"),
        name = signals.next() => warn!(signal = name, running = lanes.running(), "second signal: ending sessions"),
    }
    stop_sessions.cancel();
    lanes.wait().await;
    for thread in side_threads {
        thread.end().await;
    }
    telling.abort();
    let _ = telling.await; // It is cancelled, as it never ends by itself.
    info!("stopped");
    Ok(routes.told_errors())
}

/// Where operators come in, bound.
#[derive(Debug)]
pub struct OperatorsDoors {
    /// Metrics and the web page.
    pub http: Sockets,
    /// The console, if there is one.
    pub console: Option<ConsoleSocket>,
}

impl OperatorsDoors {
    fn open(self, watched: &Watched) -> std::io::Result<Vec<SideThread>> {
        let http = admin::start(self.http, watched.clone())?;
        let console = self.console.map(|socket| console::start(socket, watched.clone())).transpose()?;
        Ok(http.into_iter().chain(console).collect())
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// The next signal that ends something. At SIGHUP settings, certificates and keys are read again meanwhile.
    async fn next_reloading(
        &mut self,
        routes: &mut Routes,
        acceptors: &Acceptors,
        notifier: &Notifier,
    ) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => {}
            }
            notifier.reloading().await;
            // Beside the signals: a dead file system must not keep anybody from ending the process.
            tokio::select! {
                name = self.next() => return name,
                () = routes.reload(acceptors) => {}
            }
            notifier.ready().await;
        }
    }
}
