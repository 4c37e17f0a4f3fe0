//! Where a client comes from.

use std::net::{IpAddr, SocketAddr};

use tokio::net::unix::UCred;

use crate::proxy_protocol::Ends;

/// Where a client comes from, as its socket says or a PROXY header in front of it.
#[derive(Clone, Debug)]
pub(crate) struct ClientAddress {
    /// For the log.
    pub(crate) shown: String,
    /// None of a client whose socket is a Unix socket, if no header says more.
    pub(crate) ends: Option<Ends>,
    /// For the log: the socket of who has sent a header for the client. It is the sender's uid that this socket has.
    pub(crate) via: Option<String>,
}

impl ClientAddress {
    /// Of a TCP socket.
    pub(crate) fn tcp(peer: SocketAddr, local: SocketAddr) -> Self {
        let ends = Ends::new(peer, local);
        Self { shown: ends.source().to_string(), ends: Some(ends), via: None }
    }

    /// Of a Unix socket.
    pub(crate) fn unix(peer: &UCred) -> Self {
        let shown = format!("pid {} of uid {}", peer.pid().unwrap_or(0), peer.uid());
        Self { shown, ends: None, via: None }
    }

    /// As a header has it that came over this socket; `said` is none where it says nothing of the client.
    pub(crate) fn behind(self, said: Option<Ends>) -> Self {
        let via = Some(self.shown.clone());
        match said {
            Some(ends) => Self { shown: ends.source().to_string(), ends: Some(ends), via },
            None => Self { via, ..self },
        }
    }

    /// The IP address.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.ends.map(|ends| ends.source().ip())
    }
}
