//! Clients that connect and leave without a login: most often health checks.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use tracing::info;

/// Peers that are told apart; those that come later are counted together.
const MAX_PEERS: usize = 1000;

/// How often each peer has left without a login.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    times: Mutex<HashMap<Peer, u64>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Peer {
    Address(IpAddr),
    Socket,
    Others,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Socket => f.write_str("Unix socket"),
            Self::Others => f.write_str("other addresses"),
        }
    }
}

impl Probes {
    /// A client from this address (none: by the Unix socket) has left. Tells the log of the 1st, 10th, 100th … time.
    pub(crate) fn note(&self, address: Option<IpAddr>) {
        let (peer, times) = self.count(address);
        metrics::counter!("spillway_clients_without_login_total").increment(1);
        if is_power_of_ten(times) {
            info!(
                %peer,
                times,
                hint = "health checks should ask /readyz of --metrics instead: in passthrough each costs the server a \
                        refused login, with --auth stored none",
                "clients have left without a login"
            );
        }
    }

    fn count(&self, address: Option<IpAddr>) -> (Peer, u64) {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = address.map_or(Peer::Socket, Peer::Address);
        let peer = if times.len() < MAX_PEERS || times.contains_key(&peer) { peer } else { Peer::Others };
        let count = times.entry(peer).or_default();
        *count += 1;
        (peer, *count)
    }
}

fn is_power_of_ten(number: u64) -> bool {
    number > 0 && 10_u64.pow(number.ilog10()) == number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_counted_apart_and_in_bounds() {
        let probes = Probes::default();
        let address = |number: u32| Some(IpAddr::from(number.to_be_bytes()));
        assert_eq!(probes.count(address(1)).1, 1);
        assert_eq!(probes.count(address(1)).1, 2);
        assert_eq!(probes.count(None).1, 1);
        for number in 2..3000 {
            probes.count(address(number));
        }
        assert_eq!(probes.count(address(5000)).0, Peer::Others);
        assert_eq!(probes.count(address(1)).1, 3);
    }

    #[test]
    fn the_log_is_told_ever_more_rarely() {
        let told: Vec<u64> = (0..=1000).filter(|&times| is_power_of_ten(times)).collect();
        assert_eq!(told, [1, 10, 100, 1000]);
    }
}
