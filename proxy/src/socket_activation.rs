//! Sockets that the service manager has opened before it started Spillway (sd_listen_fds(3)): they take the place of
//! those that `--listen` would bind.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;
use socket2::SockRef;

use crate::endpoint::Endpoint;
use crate::listener::{ListenError, Listener};

/// Passed sockets that cannot be used. Exit code 78.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// One is of another kind.
    #[error(
        "socket {number} of {count} passed by the service manager: {source}; spillway takes listening stream sockets, \
         TCP or Unix (ListenStream= and Accept=no in the .socket unit)"
    )]
    Unusable {
        /// Which one, from 1.
        number: usize,
        /// How many there are.
        count: usize,
        /// What is wrong.
        source: io::Error,
    },
    /// There are more or fewer of them than addresses.
    #[error(
        "the service manager passed {} ({}), and --listen names {listen}: have both name the same, or drop --listen",
        sockets(passed.len()), join(passed)
    )]
    Count {
        /// Where the sockets listen.
        passed: Vec<Endpoint>,
        /// Addresses to listen on.
        listen: usize,
    },
    /// One is a Unix socket where TCP is asked for, or the other way round.
    #[error(
        "--listen {listen}: the service manager passed {passed} in its place; have both name the same in the same \
         order, or drop --listen"
    )]
    Kind {
        /// What is asked for.
        listen: Endpoint,
        /// Where the socket listens.
        passed: Endpoint,
    },
    /// The runtime does not take one.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// The sockets that were passed, in their order. None, where Spillway was started in another way.
#[derive(Debug, Default)]
pub struct PassedSockets(Vec<(PassedSocket, Endpoint)>);

/// One of them.
#[derive(Debug)]
pub(crate) enum PassedSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl PassedSockets {
    /// Takes them over: what `LISTEN_FDS` counts, if `LISTEN_PID` is this process.
    ///
    /// To be called first of all: the variables are taken out of the environment, for which there must be no other
    /// threads, and a descriptor that the manager does not hold, whatever it says, must not be one of our own.
    ///
    /// # Errors
    /// [`ActivationError::Unusable`]
    pub fn take() -> Result<Self, ActivationError> {
        let mut passed = ListenFd::from_env();
        let count = passed.len();
        let take = |index| {
            take_one(&mut passed, index).map_err(|source| ActivationError::Unusable {
                number: index + 1,
                count,
                source,
            })
        };
        (0..count).map(take).collect::<Result<_, _>>().map(Self)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where they listen: what `--listen` stands for where it is not given.
    pub fn addresses(&self) -> Vec<Endpoint> {
        self.0.iter().map(|(_, address)| address.clone()).collect()
    }

    /// Makes them the listeners of `listen`, one for each.
    ///
    /// # Errors
    /// [`ActivationError`] if they are not as many, or not of the same kinds.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn into_listeners(self, listen: &[Endpoint]) -> Result<Vec<Listener>, ActivationError> {
        if self.0.len() != listen.len() {
            return Err(ActivationError::Count { passed: self.addresses(), listen: listen.len() });
        }
        let listeners =
            self.0.into_iter().zip(listen).map(|((socket, passed), listen)| match (&socket, listen) {
                (PassedSocket::Tcp(_), Endpoint::Tcp { .. }) | (PassedSocket::Unix(_), Endpoint::Unix(_)) => {
                    Ok(Listener::passed(socket, passed)?)
                }
                _ => Err(ActivationError::Kind { listen: listen.clone(), passed }),
            });
        listeners.collect()
    }
}

fn take_one(passed: &mut ListenFd, index: usize) -> io::Result<(PassedSocket, Endpoint)> {
    if let Ok(Some(listener)) = passed.take_tcp_listener(index) {
        listener.set_nonblocking(true)?;
        check_listens(&SockRef::from(&listener))?;
        let local = listener.local_addr()?;
        let address = Endpoint::Tcp { host: local.ip().to_string(), port: local.port() };
        return Ok((PassedSocket::Tcp(listener), address));
    }
    // It is no TCP socket. An error leaves it where it is, and says what it should have been.
    let listener = passed.take_unix_listener(index).map_err(|_| other("it is none of these"))?;
    let listener = listener.ok_or_else(|| other("it is taken already"))?;
    listener.set_nonblocking(true)?;
    check_listens(&SockRef::from(&listener))?;
    let local = SockRef::from(&listener).local_addr()?;
    // The name of an abstract one is shown as systemd writes it.
    let path = local.as_pathname().map(ToOwned::to_owned).or_else(|| {
        let name = String::from_utf8_lossy(local.as_abstract_namespace()?).into_owned();
        Some(format!("@{name}").into())
    });
    Ok((PassedSocket::Unix(listener), Endpoint::Unix(path.unwrap_or_default())))
}

/// With `Accept=yes` it would be a client's connection.
fn check_listens(socket: &SockRef<'_>) -> io::Result<()> {
    if socket.is_listener()? { Ok(()) } else { Err(other("it does not listen")) }
}

fn other(problem: &'static str) -> io::Error {
    io::Error::other(problem)
}

fn sockets(count: usize) -> String {
    if count == 1 { "1 socket".to_owned() } else { format!("{count} sockets") }
}

fn join(addresses: &[Endpoint]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(dir: &std::path::Path) -> PassedSockets {
        let path = dir.join("socket");
        let unix = UnixListener::bind(&path).unwrap();
        unix.set_nonblocking(true).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        tcp.set_nonblocking(true).unwrap();
        let tcp_address = tcp.local_addr().unwrap().to_string().parse().unwrap();
        PassedSockets(vec![
            (PassedSocket::Unix(unix), Endpoint::Unix(path)),
            (PassedSocket::Tcp(tcp), tcp_address),
        ])
    }

    #[tokio::test]
    async fn they_are_taken_for_addresses_of_their_kinds() {
        let dir = tempfile::tempdir().unwrap();
        let sockets = passed(dir.path());
        let addresses = sockets.addresses();
        let listeners = sockets.into_listeners(&addresses).unwrap();
        assert_eq!(listeners.iter().map(|listener| listener.address.clone()).collect::<Vec<_>>(), addresses);
        drop(listeners);
        assert!(dir.path().join("socket").exists(), "the socket's file is the service manager's");
    }

    #[tokio::test]
    async fn what_does_not_fit_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let sockets = passed(dir.path());
        let addresses = sockets.addresses();
        let error = sockets.into_listeners(&addresses[..1]).unwrap_err().to_string();
        assert!(error.contains("2 sockets (unix:") && error.contains("names 1"), "{error}");
        std::fs::remove_file(dir.path().join("socket")).unwrap();
        let swapped: Vec<_> = addresses.iter().rev().cloned().collect();
        let error = passed(dir.path()).into_listeners(&swapped).unwrap_err().to_string();
        assert!(error.contains("--listen 127.0.0.1:") && error.contains("passed unix:"), "{error}");
    }
}
