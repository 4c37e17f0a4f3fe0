//! The proxy that serves one client program and ends with it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{BlockedSignals, Child, ClientExit, Plan, RunError, SocketDir};
use crate::endpoint::Endpoint;
use crate::lanes::Lanes;
use crate::listener::Listener;
use crate::session::Proxy;

/// How long sessions may take to notice that their client has ended.
const END_OF_SESSIONS: Duration = Duration::from_secs(5);

/// Starts the client of `plan` behind a private proxy and waits for both to end. Signals that Spillway alone gets are
/// passed on to the client.
///
/// # Errors
/// [`RunError`] if the proxy or the client cannot be started or waited for.
pub async fn run_client(
    plan: &Plan,
    proxy: Arc<Proxy>,
    socket_dir: &SocketDir,
    signals: BlockedSignals,
) -> Result<ClientExit, RunError> {
    let listener = Listener::bind(&Endpoint::Unix(socket_dir.socket().to_owned())).await?;
    let lanes = Arc::new(Lanes::start().map_err(RunError::Threads)?);
    let (stop_accepting, stop_sessions) = (CancellationToken::new(), CancellationToken::new());
    let acceptor = tokio::spawn(listener.accept(
        proxy,
        Arc::clone(&lanes),
        stop_accepting.clone(),
        stop_sessions.clone(),
    ));

    let exit = match Child::spawn(&plan.argv(socket_dir.socket()), signals) {
        Ok(mut child) => child.wait().await,
        Err(error) => Err(error),
    };

    stop_accepting.cancel();
    if let Err(error) = acceptor.await {
        tracing::error!(%error, "the acceptor failed");
    }
    if timeout(END_OF_SESSIONS, lanes.wait()).await.is_err() {
        stop_sessions.cancel();
        lanes.wait().await;
    }
    exit
}
