//! A connection to one of several addresses, in the manner of happy eyeballs.
//!
//! Source: [RFC 8305](https://www.rfc-editor.org/rfc/rfc8305): addresses of the two families by turns, a new attempt
//! every 250 ms while none has succeeded.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::stream::Stream;

/// How long one address may take before the next one is tried beside it.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Connects to the first address that takes a connection; each may take `limit`.
///
/// Attempts that lose are given up before they are complete, so a server sees nothing of them but in the instant in
/// which two succeed. Dropping the future gives up all of them, and may so drop one that the kernel has just completed.
///
/// # Errors
/// The last failure, with its address.
pub(crate) async fn connect_tcp(
    addresses: &[SocketAddr],
    limit: Duration,
) -> io::Result<(Stream, SocketAddr)> {
    let mut waiting = by_turns(addresses).into_iter();
    let mut attempts = JoinSet::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        match waiting.next() {
            Some(address) => drop(attempts.spawn(connect_one(address, limit))),
            None if attempts.is_empty() => return Err(last),
            None => {}
        }
        let patience = if waiting.len() > 0 { ATTEMPT_DELAY } else { limit + ATTEMPT_DELAY };
        match timeout(patience, attempts.join_next()).await {
            Ok(Some(Ok(Ok((stream, address))))) => return Ok((Stream::tcp(stream)?, address)),
            Ok(Some(Ok(Err(error)))) => last = error,
            Ok(Some(Err(panicked))) => last = io::Error::other(panicked),
            // The next address is due, or nothing is left.
            Ok(None) | Err(_) => {}
        }
    }
}

async fn connect_one(address: SocketAddr, limit: Duration) -> io::Result<(TcpStream, SocketAddr)> {
    let connected = timeout(limit, TcpStream::connect(address)).await;
    let stream = connected.unwrap_or_else(|_| Err(timed_out(limit)));
    stream
        .map(|stream| (stream, address))
        .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))
}

/// Connects to a Unix socket.
///
/// # Errors
/// As the system gives them; a time-out where the server's queue stays full.
pub(crate) async fn connect_unix(path: &Path, limit: Duration) -> io::Result<Stream> {
    match timeout(limit, UnixStream::connect(path)).await {
        Ok(stream) => Ok(Stream::unix(stream?)),
        Err(_) => Err(timed_out(limit)),
    }
}

fn timed_out(limit: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {:.1} s", limit.as_secs_f32()))
}

/// The addresses in the resolver's order, but the families by turns.
fn by_turns(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.iter().copied().partition(|address| address.is_ipv6() == first_is_v6);
    let mut second = second.into_iter();
    let mut all: Vec<_> =
        first.into_iter().flat_map(|address| [Some(address), second.next()]).flatten().collect();
    all.extend(second);
    all
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn families_take_turns() {
        let addresses = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]
            .map(|address| address.parse::<SocketAddr>().unwrap());
        let ordered: Vec<_> = by_turns(&addresses).iter().map(ToString::to_string).collect();
        assert_eq!(ordered, ["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]);
    }

    #[tokio::test]
    async fn a_dead_address_costs_no_more_than_the_delay() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        // A listener whose queue is full answers nobody, as a black hole.
        let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        full.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        full.listen(0).unwrap();
        let dead = full.local_addr().unwrap().as_socket().unwrap();
        let _fill = [
            TcpStream::connect(dead).await,
            timeout(Duration::from_millis(50), TcpStream::connect(dead))
                .await
                .unwrap_or_else(|_| Err(timed_out(LIMIT))),
        ];

        let started = Instant::now();
        let (_, address) = connect_tcp(&[dead, good], LIMIT).await.unwrap();
        assert_eq!(address, good);
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }

    #[tokio::test]
    async fn a_refusal_is_told_with_its_address() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = connect_tcp(&[address], LIMIT).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(error.to_string().starts_with(&address.to_string()), "{error}");
    }
}
