//! `spillway serve`: a long-running proxy, and how it ends.
//!
//! Shutdown in phases: SIGTERM or SIGINT ends accepting; running sessions go on until they end by themselves, for
//! `--shutdown-grace` at most; after that, or at a second signal, their clients are told and cut off.

use std::io::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::lanes::Lanes;
use crate::listener::Listener;
use crate::service::Notifier;
use crate::session::Proxy;

/// Serves until a signal ends it. Returns how many responses ended with an error of Spillway's own.
///
/// # Errors
/// If the process cannot receive signals, or start threads.
pub async fn serve(proxy: Arc<Proxy>, listeners: Vec<Listener>, grace: Duration) -> std::io::Result<u64> {
    let mut signals = Signals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        hangup: signal(SignalKind::hangup())?,
    };
    let (lanes, acceptors) = (Arc::new(Lanes::start()?), TaskTracker::new());
    let (stop_accepting, stop_sessions) = (CancellationToken::new(), CancellationToken::new());
    for listener in listeners {
        announce(&listener);
        acceptors.spawn(listener.accept(
            Arc::clone(&proxy),
            Arc::clone(&lanes),
            stop_accepting.clone(),
            stop_sessions.clone(),
        ));
    }
    acceptors.close();
    let notifier = Arc::new(Notifier::from_env());
    notifier.ready().await;
    let telling = {
        let (notifier, lanes) = (Arc::clone(&notifier), Arc::clone(&lanes));
        tokio::spawn(async move { notifier.keep_telling(|| lanes.running()).await })
    };

    let name = signals.next_reloading(&proxy, &notifier).await;
    notifier.stopping().await;
    stop_accepting.cancel();
    acceptors.wait().await;
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
    telling.abort();
    let _ = telling.await; // It is cancelled, as it never ends by itself.
    info!("stopped");
    Ok(proxy.told_errors())
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

    /// The next signal that ends something. At SIGHUP certificates and keys are read again meanwhile.
    async fn next_reloading(&mut self, proxy: &Arc<Proxy>, notifier: &Arc<Notifier>) -> &'static str {
        // One at a time, and beside the signals: a dead file system must not keep anybody from ending the process.
        let mut reloading = None;
        loop {
            let is_idle = reloading.is_none();
            let reloaded = async {
                match &mut reloading {
                    Some(reloading) => Pin::as_mut(reloading).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv(), if is_idle => {
                    reloading = Some(Box::pin(reload(Arc::clone(proxy), Arc::clone(notifier))));
                }
                () = reloaded => reloading = None,
            }
        }
    }
}

async fn reload(proxy: Arc<Proxy>, notifier: Arc<Notifier>) {
    notifier.reloading().await;
    match spawn_blocking(move || proxy.reload_tls()).await {
        Ok(Ok(())) => info!("SIGHUP: certificates and keys were read again, for the connections to come"),
        Ok(Err(error)) => {
            warn!(%error, "SIGHUP: going on with the certificates and keys that were read before");
        }
        Err(error) => error!(%error, "SIGHUP: reading certificates and keys failed"),
    }
    notifier.ready().await;
}

/// Tells scripts where a listener is. A closed stdout is no reason not to serve.
fn announce(listener: &Listener) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "listening on {}", listener.address).and_then(|()| stdout.flush());
}
