//! Reaching the server: addresses, one after the other, each with a limit.

use std::io;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;
use tracing::debug;

use crate::endpoint::Endpoint;
use crate::stream::Stream;

/// How long one address may take to answer, and how long a name may take to be resolved.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to a server.
pub(crate) struct Connected {
    pub(crate) stream: Stream,
    /// Which one it is, for messages.
    pub(crate) address: String,
}

/// No server could be reached.
#[derive(Debug, thiserror::Error)]
#[error("can't connect to {upstream} (error 2003): {source}; is it running, and reachable from here?")]
pub(crate) struct ConnectError {
    upstream: String,
    source: io::Error,
}

/// Connects to the first of `upstreams` that takes a connection.
///
/// # Errors
/// [`ConnectError`] with the last failure.
pub(crate) async fn connect(upstreams: &[Endpoint]) -> Result<Connected, ConnectError> {
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "no upstream is configured");
    let mut name = String::new();
    for upstream in upstreams {
        name = upstream.to_string();
        match connect_one(upstream).await {
            Ok(stream) => {
                return Ok(Connected { stream, address: name });
            }
            Err(error) => {
                debug!(%upstream, %error, "cannot connect");
                last = error;
            }
        }
    }
    Err(ConnectError { upstream: name, source: last })
}

async fn connect_one(upstream: &Endpoint) -> io::Result<Stream> {
    match upstream {
        Endpoint::Unix(path) => {
            Ok(Stream::Unix(timeout(CONNECT_TIMEOUT, UnixStream::connect(path)).await.map_err(timed_out)??))
        }
        Endpoint::Tcp { host, port } => {
            let resolved =
                timeout(CONNECT_TIMEOUT, lookup_host((host.as_str(), *port))).await.map_err(timed_out)??;
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            for address in resolved {
                match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
                    Ok(Ok(stream)) => return Stream::tcp(stream),
                    Ok(Err(error)) => last = error,
                    Err(elapsed) => last = timed_out(elapsed),
                }
            }
            Err(last)
        }
    }
}

fn timed_out(_: tokio::time::error::Elapsed) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()))
}
