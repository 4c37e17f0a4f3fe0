//! The PROXY protocol: whom a connection is made for, said in front of its first byte.
//!
//! Source: [the specification](https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt). Servers are sent version
//! 2, from clients both versions are taken.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod networks;

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ppp::{v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

pub use networks::{Network, NetworkError};

/// How long a header may take. It is sent right behind the connection, so this is time for a lost packet or two.
const LIMIT: Duration = Duration::from_secs(5);

/// The longest header of version 2 behind its first 16 bytes. Addresses take 216 at most, and the rest is only skipped:
/// so much has room for a client's certificate, the longest that proxies are known to add.
const MAX_LEN: u16 = 4096;
/// The longest header of version 1, by the specification.
const MAX_LINE: usize = 107;

/// The first bytes of version 2; the shortest header of version 1 is longer.
const SIGNATURE_LEN: usize = v2::PROTOCOL_PREFIX.len();
/// All of version 2 up to the addresses.
const FIXED_LEN: usize = 16;
/// Version 2 with the command LOCAL.
const LOCAL: u8 = 0x20;

/// The address of a client and the one that it connected to, both of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    source: SocketAddr,
    destination: SocketAddr,
}

impl Ends {
    /// An IPv4 client of an IPv6 socket is taken for what it is.
    pub(crate) fn new(source: SocketAddr, destination: SocketAddr) -> Self {
        let (plain_source, plain_destination) = (source.ip().to_canonical(), destination.ip().to_canonical());
        let at = |ip, port| SocketAddr::new(ip, port);
        if plain_source.is_ipv4() == plain_destination.is_ipv4() {
            let [source, destination] =
                [at(plain_source, source.port()), at(plain_destination, destination.port())];
            return Self { source, destination };
        }
        let [source, destination] = [source, destination].map(|end| at(mapped(end.ip()).into(), end.port()));
        Self { source, destination }
    }

    /// The client's address.
    pub(crate) fn source(&self) -> SocketAddr {
        self.source
    }
}

fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// The header of a connection to a server. Without a `client` that has addresses it is LOCAL: the server then goes by
/// the connection's own, as it does without a header. MariaDB refuses a relayed connection of no address, and takes
/// one of a Unix socket's for its own host's (tried: 10.11), which no client of ours is.
///
/// # Errors
/// None that can happen.
pub(crate) fn encode(client: Option<Ends>) -> io::Result<Vec<u8>> {
    let builder = match client {
        Some(Ends { source, destination }) => v2::Builder::with_addresses(
            v2::Version::Two | v2::Command::Proxy,
            v2::Protocol::Stream,
            (source, destination),
        ),
        None => v2::Builder::new(
            v2::Version::Two | v2::Command::Local,
            v2::AddressFamily::Unspecified | v2::Protocol::Unspecified,
        ),
    };
    builder.build()
}

/// Why a client's header cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error("the connection was closed before its first byte")]
    Closed,
    #[error("the connection was closed within the header")]
    Truncated,
    #[error("{0}")]
    Io(io::Error),
    #[error("no whole header came within {} s", LIMIT.as_secs())]
    TimedOut,
    #[error("the first bytes are not those of a header")]
    NotOne,
    #[error("a header of {0} bytes, where {MAX_LEN} are the most")]
    TooLong(u16),
    #[error("a line that does not end within {MAX_LINE} bytes")]
    Endless,
    #[error("version 1: {0}")]
    Version1(v1::BinaryParseError),
    #[error("version 2: {0}")]
    Version2(v2::ParseError),
}

impl From<io::Error> for HeaderError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Truncated } else { Self::Io(error) }
    }
}

/// Reads the header that a connection begins with, and not a byte more. Gives what it says of the client; nothing where
/// the connection is the sender's own, or the client's address is none of IP's: the connection's own counts then.
///
/// # Errors
/// [`HeaderError`] if there is none, or none that is to be used.
pub(crate) async fn receive(
    stream: &mut (impl AsyncRead + Unpin + Send),
) -> Result<Option<Ends>, HeaderError> {
    timeout(LIMIT, read(stream)).await.unwrap_or(Err(HeaderError::TimedOut))
}

async fn read(stream: &mut (impl AsyncRead + Unpin + Send)) -> Result<Option<Ends>, HeaderError> {
    let mut start = [0; SIGNATURE_LEN];
    // Many a probe ends with a RST.
    let len = stream.read(&mut start).await.unwrap_or(0);
    if len == 0 {
        return Err(HeaderError::Closed);
    }
    stream.read_exact(&mut start[len..]).await?;
    if start == v2::PROTOCOL_PREFIX {
        read_version2(stream).await
    } else if start.starts_with(v1::PROTOCOL_PREFIX.as_bytes()) {
        read_version1(stream, &start).await
    } else {
        Err(HeaderError::NotOne)
    }
}

async fn read_version2(stream: &mut (impl AsyncRead + Unpin + Send)) -> Result<Option<Ends>, HeaderError> {
    let mut header = v2::PROTOCOL_PREFIX.to_vec();
    header.resize(FIXED_LEN, 0);
    stream.read_exact(&mut header[SIGNATURE_LEN..]).await?;
    let (command, len) =
        (header[SIGNATURE_LEN], u16::from_be_bytes([header[FIXED_LEN - 2], header[FIXED_LEN - 1]]));
    if len > MAX_LEN {
        return Err(HeaderError::TooLong(len));
    }
    // Grows by what comes, and not by what was said.
    let got = stream.take(len.into()).read_to_end(&mut header).await?;
    if got < len.into() {
        return Err(HeaderError::Truncated);
    }
    if command == LOCAL {
        // What follows this command is not to be looked at.
        return Ok(None);
    }
    let header = v2::Header::try_from(header.as_slice()).map_err(HeaderError::Version2)?;
    Ok(match (header.protocol, header.addresses) {
        (v2::Protocol::Stream, v2::Addresses::IPv4(ip)) => Some(ends(
            (ip.source_address.into(), ip.source_port),
            (ip.destination_address.into(), ip.destination_port),
        )),
        (v2::Protocol::Stream, v2::Addresses::IPv6(ip)) => Some(ends(
            (ip.source_address.into(), ip.source_port),
            (ip.destination_address.into(), ip.destination_port),
        )),
        _ => None,
    })
}

/// The line ends where it ends: so byte by byte, as what follows is not the header's.
async fn read_version1(
    stream: &mut (impl AsyncRead + Unpin + Send),
    start: &[u8],
) -> Result<Option<Ends>, HeaderError> {
    let mut line = start.to_vec();
    while line.last() != Some(&b'\n') {
        if line.len() >= MAX_LINE {
            return Err(HeaderError::Endless);
        }
        line.push(stream.read_u8().await?);
    }
    let header = v1::Header::try_from(line.as_slice()).map_err(HeaderError::Version1)?;
    Ok(match header.addresses {
        v1::Addresses::Tcp4(ip) => Some(ends(
            (ip.source_address.into(), ip.source_port),
            (ip.destination_address.into(), ip.destination_port),
        )),
        v1::Addresses::Tcp6(ip) => Some(ends(
            (ip.source_address.into(), ip.source_port),
            (ip.destination_address.into(), ip.destination_port),
        )),
        v1::Addresses::Unknown => None,
    })
}

fn ends(source: (IpAddr, u16), destination: (IpAddr, u16)) -> Ends {
    Ends::new(source.into(), destination.into())
}

#[cfg(test)]
mod tests;
