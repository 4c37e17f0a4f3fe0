//! Where a server is reached and where clients are listened for: a TCP host and port, or a Unix socket.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;

/// An address of a server or of a listener.
///
/// Written `HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`; what [`Display`](fmt::Display) writes is read back as the same
/// value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A host name or an IP address (without brackets), and a port.
    Tcp {
        /// Name or address, as the resolver takes it.
        host: String,
        /// The port; 0 only for a listener, where the system chooses.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

impl Endpoint {
    /// Reads the address of a listener, `ADDR:PORT` or `unix:PATH`: the port must be there, and 0 lets the system
    /// choose.
    pub fn parse_listen(input: &str) -> Result<Self, EndpointError> {
        Self::parse(input, Role::Listener)
    }

    /// Reads the address of a listener that speaks HTTP: as [`Endpoint::parse_listen`], without Unix sockets.
    pub fn parse_http(input: &str) -> Result<Self, EndpointError> {
        match Self::parse_listen(input)? {
            Self::Unix(_) => Err(EndpointError::NotTcp { input: input.into() }),
            tcp => Ok(tcp),
        }
    }

    fn parse(input: &str, role: Role) -> Result<Self, EndpointError> {
        if input.is_empty() {
            return Err(EndpointError::Empty);
        }
        if let Some(path) = input.strip_prefix(UNIX_PREFIX) {
            return parse_unix(input, path);
        }
        let (host, port) = match input.strip_prefix('[') {
            Some(rest) => split_bracketed(input, rest)?,
            None => split_plain(input)?,
        };
        let port = match (port, role) {
            (Some(port), _) => parse_port(input, port, role)?,
            (None, Role::Server) => DEFAULT_PORT,
            (None, Role::Listener) => return Err(EndpointError::NoPort { input: input.into() }),
        };
        Ok(Self::Tcp { host: host.into(), port })
    }
}

/// Reads the address of a server: `HOST[:PORT]`, `[IPV6][:PORT]` or `unix:PATH`. The port is 3306 where none is given.
impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(input: &str) -> Result<Self, EndpointError> {
        Self::parse(input, Role::Server)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{UNIX_PREFIX}{}", path.display()),
        }
    }
}

/// Why a text is no [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Nothing was given.
    #[error("the address is empty: give HOST:PORT, [IPV6]:PORT or unix:PATH")]
    Empty,
    /// There is a port, but no host before it.
    #[error("address `{input}` has no host before the colon: give HOST:PORT, [IPV6]:PORT or unix:PATH")]
    NoHost {
        /// What was given.
        input: String,
    },
    /// A listener needs a port.
    #[error("address `{input}` has no port: give ADDR:PORT, or port 0 to let the system choose one")]
    NoPort {
        /// What was given.
        input: String,
    },
    /// A Unix socket where a port is needed.
    #[error("address `{input}` is a Unix socket: give ADDR:PORT, which browsers and Prometheus can reach")]
    NotTcp {
        /// What was given.
        input: String,
    },
    /// More than one colon outside of brackets.
    #[error("address `{input}` looks like IPv6: put brackets around the IP address, as in `[::1]:3306`")]
    NeedsBrackets {
        /// What was given.
        input: String,
    },
    /// What stands in brackets is no IPv6 address, or the bracket stays open.
    #[error("address `{input}`: only an IPv6 address goes into brackets, as in `[::1]:3306`")]
    BadBrackets {
        /// What was given.
        input: String,
    },
    /// The port is no number that a port can have.
    #[error("address `{input}`: port `{port}` is not a number from {} to 65535", .role.lowest_port())]
    BadPort {
        /// What was given.
        input: String,
        /// The part that should have been a port.
        port: String,
        /// What the address is for.
        role: Role,
    },
    /// A character that no host name has.
    #[error("address `{input}`: a host name cannot contain {character:?}")]
    BadHost {
        /// What was given.
        input: String,
        /// The first character that cannot be.
        character: char,
    },
    /// `unix:` and nothing after it, or a path with a NUL byte.
    #[error("address `{input}` names no socket: give the path after `unix:`")]
    BadPath {
        /// What was given.
        input: String,
    },
    /// The kernel has no room for the path.
    #[error(
        "the socket path in `{input}` is {length} bytes long, the system takes {MAX_SOCKET_PATH}: choose a shorter one"
    )]
    PathTooLong {
        /// What was given.
        input: String,
        /// Its length in bytes.
        length: usize,
    },
}

/// What an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A server is reached there.
    Server,
    /// Clients are listened for there.
    Listener,
}

impl Role {
    fn lowest_port(self) -> u16 {
        match self {
            Self::Server => 1,
            Self::Listener => 0,
        }
    }
}

/// The longest path of a Unix socket: `sun_path` has 108 bytes, the last one is a NUL.
pub const MAX_SOCKET_PATH: usize = 107;

fn parse_unix(input: &str, path: &str) -> Result<Endpoint, EndpointError> {
    if path.is_empty() || path.contains('\0') {
        return Err(EndpointError::BadPath { input: input.into() });
    }
    if path.len() > MAX_SOCKET_PATH {
        return Err(EndpointError::PathTooLong { input: input.into(), length: path.len() });
    }
    Ok(Endpoint::Unix(path.into()))
}

/// Splits what follows an opening bracket into address and port.
fn split_bracketed<'a>(input: &str, rest: &'a str) -> Result<(&'a str, Option<&'a str>), EndpointError> {
    let bad = || EndpointError::BadBrackets { input: input.into() };
    let (address, after) = rest.split_once(']').ok_or_else(bad)?;
    // A zone (`fe80::1%eth0`) is the resolver's business.
    let (bare, zone) = address.split_once('%').unwrap_or((address, "zone"));
    if bare.parse::<Ipv6Addr>().is_err() || zone.is_empty() {
        return Err(bad());
    }
    check_host(input, address)?;
    match after.strip_prefix(':') {
        Some(port) => Ok((address, Some(port))),
        None if after.is_empty() => Ok((address, None)),
        None => Err(bad()),
    }
}

fn split_plain(input: &str) -> Result<(&str, Option<&str>), EndpointError> {
    let (host, port) = match input.split_once(':') {
        Some((_, rest)) if rest.contains(':') => {
            return Err(EndpointError::NeedsBrackets { input: input.into() });
        }
        Some((host, port)) => (host, Some(port)),
        None => (input, None),
    };
    if host.is_empty() {
        return Err(EndpointError::NoHost { input: input.into() });
    }
    check_host(input, host)?;
    Ok((host, port))
}

fn check_host(input: &str, host: &str) -> Result<(), EndpointError> {
    match host.chars().find(|&c| c.is_whitespace() || c.is_control() || "/@,[]".contains(c)) {
        Some(character) => Err(EndpointError::BadHost { input: input.into(), character }),
        None => Ok(()),
    }
}

fn parse_port(input: &str, port: &str, role: Role) -> Result<u16, EndpointError> {
    // `u16::from_str` would take a plus sign.
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    match port.parse() {
        Ok(number) if digits && number >= role.lowest_port() => Ok(number),
        _ => Err(EndpointError::BadPort { input: input.into(), port: port.into(), role }),
    }
}

const UNIX_PREFIX: &str = "unix:";
const DEFAULT_PORT: u16 = 3306;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tcp(host: &str, port: u16) -> Endpoint {
        Endpoint::Tcp { host: host.into(), port }
    }

    #[test]
    fn servers() {
        for (input, expected) in [
            ("db1", tcp("db1", 3306)),
            ("db1:3307", tcp("db1", 3307)),
            ("10.0.0.1", tcp("10.0.0.1", 3306)),
            ("[::1]", tcp("::1", 3306)),
            ("[::1]:3307", tcp("::1", 3307)),
            ("[fe80::1%eth0]:1", tcp("fe80::1%eth0", 1)),
            ("unix:/run/my sql.sock", Endpoint::Unix("/run/my sql.sock".into())),
            ("unix:db.sock", Endpoint::Unix("db.sock".into())),
        ] {
            assert_eq!(input.parse(), Ok(expected), "{input}");
        }
    }

    #[test]
    fn bad_servers_are_told_apart() {
        let error = |input: &str| input.parse::<Endpoint>().expect_err(input);
        assert_eq!(error(""), EndpointError::Empty);
        assert!(matches!(error(":3306"), EndpointError::NoHost { .. }));
        for input in ["::1", "fe80::1", "2001:db8::1:3306"] {
            assert!(error(input).to_string().contains("brackets"), "{input}");
        }
        for input in ["[::1", "[db1]:3306", "[::1]3306", "[]:1", "[fe80::1%]"] {
            assert!(matches!(error(input), EndpointError::BadBrackets { .. }), "{input}");
        }
        for input in ["db1:", "db1:0", "db1:65536", "db1:+1", "db1:mysql", "[::1]:"] {
            assert!(matches!(error(input), EndpointError::BadPort { .. }), "{input}");
        }
        for input in ["a b", "a,b:1", "/run/mysqld.sock", "root@db1", "db1\n"] {
            assert!(matches!(error(input), EndpointError::BadHost { .. }), "{input}");
        }
        assert!(matches!(error("unix:"), EndpointError::BadPath { .. }));
        let long = format!("unix:/{}", "x".repeat(MAX_SOCKET_PATH));
        assert!(matches!(error(&long), EndpointError::PathTooLong { length: 108, .. }));
    }

    #[test]
    fn listeners_need_a_port_and_may_let_the_system_choose() {
        assert_eq!(Endpoint::parse_listen("127.0.0.1:0"), Ok(tcp("127.0.0.1", 0)));
        assert_eq!(Endpoint::parse_listen("[::]:3307"), Ok(tcp("::", 3307)));
        assert_eq!(Endpoint::parse_listen("unix:/s"), Ok(Endpoint::Unix("/s".into())));
        for input in ["127.0.0.1", "[::1]"] {
            let error = Endpoint::parse_listen(input).expect_err(input);
            assert!(matches!(error, EndpointError::NoPort { .. }), "{input}");
        }
        let error = Endpoint::parse_listen("a:x").expect_err("no number").to_string();
        assert!(matches!(Endpoint::parse_http("unix:/s"), Err(EndpointError::NotTcp { .. })));
        assert_eq!(error, "address `a:x`: port `x` is not a number from 0 to 65535");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            host in "[a-z0-9][a-z0-9.-]{0,30}",
            address: u128,
            port in 1u16..,
            path in "[^\0]{1,26}",
        ) {
            let v6 = Ipv6Addr::from_bits(address).to_string();
            for endpoint in [tcp(&host, port), tcp(&v6, port), Endpoint::Unix(path.into())] {
                prop_assert_eq!(endpoint.to_string().parse(), Ok(endpoint.clone()));
                prop_assert_eq!(Endpoint::parse_listen(&endpoint.to_string()), Ok(endpoint));
            }
        }

        #[test]
        fn no_text_panics(input in ".{0,40}") {
            if let Ok(endpoint) = input.parse::<Endpoint>() {
                prop_assert_eq!(endpoint.to_string().parse(), Ok(endpoint));
            }
        }
    }
}
