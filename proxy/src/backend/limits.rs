//! How long each step towards a logged-in server session may take.

use std::time::Duration;

use crate::socket::PEER_TIMEOUT;

/// Time limits of the connection phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The resolver's answer for a name (`--resolve-timeout`).
    pub resolve: Duration,
    /// The connection to one address (`--connect-timeout`).
    pub connect: Duration,
    /// The greeting on a connection (`--greeting-timeout`).
    pub greeting: Duration,
    /// Each packet of the server's in the login (`--auth-timeout`).
    pub auth: Duration,
    /// All attempts together, without the time in which the client has the turn (`--handshake-timeout`).
    pub handshake: Duration,
    /// Silence of a peer's host at any time, also of a client's and after the login (`--peer-timeout`).
    pub peer: Duration,
    /// The client's own part of it (`--login-timeout`).
    pub login: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            resolve: Duration::from_secs(15),
            connect: Duration::from_secs(10),
            // A server that looks its client's name up in a DNS that does not answer takes 20 to 30 s.
            greeting: Duration::from_secs(30),
            auth: Duration::from_secs(20),
            handshake: Duration::from_secs(60),
            peer: PEER_TIMEOUT,
            // Passwords are typed before the connection is made, but for those that a plugin asks for.
            login: Duration::from_secs(60),
        }
    }
}
