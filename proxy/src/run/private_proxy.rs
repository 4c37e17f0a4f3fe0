//! The proxy that serves one client program and ends with it.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use indicatif::MultiProgress;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::progress::Progress;
use super::{BlockedSignals, Child, ClientExit, Outcome, Plan, RunError, SocketDir};
use crate::endpoint::Endpoint;
use crate::lanes::Lanes;
use crate::listener::{Listener, Terms};
use crate::session::Proxy;
use crate::sessions::Sessions;

/// How long sessions may take to notice that their client has ended.
const END_OF_SESSIONS: Duration = Duration::from_secs(5);

/// How long the rest of a client's stderr may take that has ended.
const END_OF_STDERR: Duration = Duration::from_millis(200);

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
    screen: Screen<'_>,
) -> Result<Outcome, RunError> {
    let listener = Listener::bind(&Endpoint::Unix(socket_dir.socket().to_owned())).await?;
    let lanes = Arc::new(Lanes::start().map_err(RunError::Threads)?);
    let sessions = Arc::clone(&proxy.sessions);
    let (stop_accepting, stop_sessions) = (CancellationToken::new(), CancellationToken::new());
    let acceptor = tokio::spawn(listener.accept(
        Terms::only(proxy),
        Arc::clone(&lanes),
        stop_accepting.clone(),
        stop_sessions.clone(),
    ));

    let began = (Instant::now(), SystemTime::now());
    let exit = run_to_end(&plan.argv(socket_dir.socket()), signals, screen, plan.client(), sessions).await;
    let took = began.0.elapsed();

    stop_accepting.cancel();
    if let Err(error) = acceptor.await {
        tracing::error!(%error, "the acceptor failed");
    }
    if timeout(END_OF_SESSIONS, lanes.wait()).await.is_err() {
        stop_sessions.cancel();
        lanes.wait().await;
    }
    Ok(Outcome { began, took, exit: exit? })
}

/// What the user sees while the client runs.
#[derive(Debug)]
pub struct Screen<'a> {
    /// Where progress is shown, if it is.
    pub progress: Option<&'a MultiProgress>,
    /// Where the client's stderr goes instead of ours.
    pub stderr: Option<OwnedFd>,
}

/// Runs the client. Where there is a display of progress, what the client writes to our stderr is put above it.
async fn run_to_end(
    argv: &[OsString],
    signals: BlockedSignals,
    screen: Screen<'_>,
    client: &'static str,
    sessions: Arc<Sessions>,
) -> Result<ClientExit, RunError> {
    let Screen { progress, stderr } = screen;
    let Some(lines) = progress.filter(|_| stderr.is_none()) else {
        let _display = progress.map(|lines| Progress::start(client, sessions, lines.clone()));
        return Child::spawn(argv, signals, stderr.as_ref())?.wait().await;
    };
    let (writer, reader) = pipe::pipe().map_err(RunError::Pipe)?;
    let writer = writer.into_blocking_fd().map_err(RunError::Pipe)?;
    let mut child = Child::spawn(argv, signals, Some(&writer))?;
    drop(writer);
    let display = Progress::start(client, sessions, lines.clone());
    let mut copying = std::pin::pin!(copy_above(reader, lines));
    let exit = tokio::select! {
        exit = child.wait() => exit,
        // The client has closed its stderr, and goes on.
        () = &mut copying => return child.wait().await,
    };
    // What it has written is here; a program that it has left behind may hold the pipe for ever.
    let _ = timeout(END_OF_STDERR, copying).await;
    drop(display);
    exit
}

async fn copy_above(mut reader: pipe::Receiver, lines: &MultiProgress) {
    let mut piece = [0; 4096];
    while let Ok(len @ 1..) = reader.read(&mut piece).await {
        // As with our own log lines, a terminal that is stopped is waited for.
        let _ = lines.suspend(|| io::stderr().write_all(&piece[..len]));
    }
}
