//! The SQL console (`--console`): what operators see and do with any client of MySQL's or MariaDB's.
//!
//! ```text
//!  client ─► packets ─► opensrv-mysql ─► shim ─► statements ─► tables
//!                                                    └─► KILL, DRAIN
//! ```
//!
//! It has a thread of its own, so nothing that is asked there takes time from a dump. `opensrv-mysql` speaks the
//! protocol; it is shown nothing but what it can take (`packets`).

mod connections;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod packets;
mod shim;
mod statements;
mod tables;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{TcpListener, UnixListener, lookup_host};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::Secret;
use crate::endpoint::Endpoint;
use crate::listener::{SocketFile, remove_stale};
use crate::side_thread::SideThread;
use crate::watched::Watched;

/// Why there can be no console. Exit code 78.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// The address cannot be listened on.
    #[error("--console {address}: {source}")]
    Listen {
        /// What was given.
        address: Endpoint,
        /// Why.
        source: io::Error,
    },
    /// Others could reach it, and would not be asked for a password.
    #[error(
        "--console {address}: other hosts can reach it, and it has no password: set SPILLWAY_CONSOLE_PASSWORD, or \
         console_password in the configuration file, or listen on 127.0.0.1 or unix:PATH"
    )]
    NoPassword {
        /// What was given.
        address: Endpoint,
    },
}

/// The console's socket, bound.
#[derive(Debug)]
pub struct ConsoleSocket {
    listener: Listener,
    address: Endpoint,
    password: Option<Secret>,
}

#[derive(Debug)]
enum Listener {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, SocketFile),
}

impl ConsoleSocket {
    /// Binds `wanted`. A Unix socket is for its owner alone (mode 0600).
    ///
    /// # Errors
    /// [`ConsoleError`] if it cannot be bound, or if other hosts could reach it and there is no password.
    pub async fn bind(wanted: Endpoint, password: Option<Secret>) -> Result<Self, ConsoleError> {
        let failed = |source| ConsoleError::Listen { address: wanted.clone(), source };
        let (listener, address) = match &wanted {
            Endpoint::Tcp { host, port } => {
                let addresses: Vec<_> = lookup_host((host.as_str(), *port)).await.map_err(failed)?.collect();
                let is_open = |address: &SocketAddr| !address.ip().to_canonical().is_loopback();
                if password.is_none() && addresses.iter().any(is_open) {
                    return Err(ConsoleError::NoPassword { address: wanted });
                }
                let listener = std::net::TcpListener::bind(addresses.as_slice()).map_err(failed)?;
                listener.set_nonblocking(true).map_err(failed)?;
                let local = listener.local_addr().map_err(failed)?;
                let address = Endpoint::Tcp { host: local.ip().to_string(), port: local.port() };
                (Listener::Tcp(listener), address)
            }
            Endpoint::Unix(path) => {
                remove_stale(path).await.map_err(failed)?;
                let listener = bind_private(path).map_err(failed)?;
                (Listener::Unix(listener, SocketFile::at(path)), wanted.clone())
            }
        };
        Ok(Self { listener, address, password })
    }

    /// Tells scripts and the log where it is. A closed stdout is no reason not to serve.
    fn announce(&self) {
        let mut stdout = io::stdout().lock();
        let _ = writeln!(stdout, "console on {}", self.address).and_then(|()| stdout.flush());
        info!(address = %self.address, password = self.password.is_some(), "console");
    }
}

/// Has the mode before it has a name, so that at no time others can connect.
fn bind_private(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 128;

/// What all connections of the console share.
#[derive(Debug)]
struct State {
    watched: Watched,
    password: Option<Secret>,
}

/// Serves on `socket`, and tells so.
///
/// # Errors
/// If the system gives no thread, or no descriptors for its runtime.
pub(crate) fn start(socket: ConsoleSocket, watched: Watched) -> io::Result<SideThread> {
    socket.announce();
    let ConsoleSocket { listener, password, .. } = socket;
    let state = Arc::new(State { watched, password });
    SideThread::start("console", async move |end| {
        if let Err(error) = serve(listener, state, &end).await {
            warn!(%error, "the console cannot be served");
        }
    })
}

async fn serve(listener: Listener, state: Arc<State>, end: &CancellationToken) -> io::Result<()> {
    match listener {
        Listener::Tcp(listener) => {
            let listener = TcpListener::from_std(listener)?;
            connections::serve(&connections::Listener::Tcp(listener), state, end).await;
        }
        Listener::Unix(listener, _file) => {
            let listener = UnixListener::from_std(listener)?;
            connections::serve(&connections::Listener::Unix(listener), state, end).await;
        }
    }
    Ok(())
}
