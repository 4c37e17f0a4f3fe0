//! Networks that clients come from: `--proxy-protocol-networks` and `--allow`, in the words of MariaDB's variable for the
//! former.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// Clients, by where they come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// All.
    Any,
    /// Those that come over a Unix socket.
    UnixSockets,
    /// Those that come from an address of these.
    Addresses(IpNet),
}

impl Network {
    /// Whether a client from this address (none: over a Unix socket) is one of them. An IPv4 address is one in the
    /// clothes of IPv6 as well.
    pub(crate) fn has(&self, client: Option<IpAddr>) -> bool {
        match (self, client) {
            (Self::Any, _) | (Self::UnixSockets, None) => true,
            (Self::Addresses(network), Some(address)) => network.contains(&address.to_canonical()),
            (Self::UnixSockets, Some(_)) | (Self::Addresses(_), None) => false,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::UnixSockets => f.write_str("localhost"),
            Self::Addresses(network) => network.fmt(f),
        }
    }
}

/// A text that names no [`Network`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no network: give ADDRESS/BITS as 10.1.0.0/16, an IP address, `localhost` for Unix sockets, or `*` for all"
)]
pub struct NetworkError(String);

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        let text = input.trim();
        match text {
            "*" => Ok(Self::Any),
            "localhost" => Ok(Self::UnixSockets),
            _ => {
                let network =
                    text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map(Self::Addresses);
                network.map_err(|_| NetworkError(input.to_owned()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(network: &str, client: &str) -> bool {
        network.parse::<Network>().unwrap().has(client.parse().ok())
    }

    #[test]
    fn clients_of_a_network() {
        for (network, client, expected) in [
            ("*", "192.0.2.1", true),
            ("*", "socket", true),
            ("localhost", "socket", true),
            ("localhost", "127.0.0.1", false),
            ("127.0.0.1", "127.0.0.1", true),
            (" 127.0.0.1", "127.0.0.2", false),
            ("10.1.2.3/16", "10.1.200.200", true),
            ("10.1.0.0/16", "10.2.0.0", false),
            ("10.1.0.0/16", "socket", false),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("::1", "::2", false),
            ("10.1.0.0/16", "::ffff:10.1.2.3", true),
            ("::/0", "::ffff:10.1.2.3", false),
        ] {
            assert_eq!(has(network, client), expected, "{network} {client}");
        }
    }

    #[test]
    fn what_is_no_network_is_named() {
        for input in ["", "10.0.0.0/33", "10.0.0", "db1", "10.0.0.0/255.0.0.0", "::/129", "**"] {
            let error = input.parse::<Network>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{input}` is no network")), "{error}");
        }
    }
}
