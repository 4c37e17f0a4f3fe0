//! How a client reaches the server: directly, or through one of the proxies that are compared.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use spillway_tests::{Endpoint, Server};

use crate::peers::Peer;
use crate::proxy::{Proxy, Session};
use crate::{process_use, programs};

/// A way, before anything is started for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// Its name in the report.
    pub name: &'static str,
    /// What stands in between.
    pub by: By,
}

/// What stands between client and server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// Nothing.
    Nothing,
    /// HAProxy in TCP mode.
    Haproxy,
    /// MySQL Router with a static route.
    Router,
    /// `spillway serve` with these options beside the addresses.
    Spillway(Vec<String>),
}

impl Way {
    /// What all others are compared with.
    pub fn direct() -> Self {
        Self { name: DIRECT, by: By::Nothing }
    }

    /// By HAProxy.
    pub fn haproxy() -> Self {
        Self { name: HAPROXY, by: By::Haproxy }
    }

    /// By MySQL Router.
    pub fn router() -> Self {
        Self { name: ROUTER, by: By::Router }
    }

    /// Spillway with the options that users have: none but the addresses.
    pub fn spillway() -> Self {
        Self { name: SPILLWAY, by: By::Spillway(Vec::new()) }
    }

    /// Spillway with these options more, under a name of its own.
    pub fn spillway_with(name: &'static str, options: &[&str]) -> Self {
        Self { name, by: By::Spillway(options.iter().map(|&option| option.to_owned()).collect()) }
    }

    /// The same under another name, for cases in which the client's side differs (`direct` with TLS, say).
    pub fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// Direct, the peers, Spillway: what every case has that has no reason for others.
    pub fn all() -> Vec<Self> {
        vec![Self::direct(), Self::haproxy(), Self::router(), Self::spillway()]
    }

    /// The same, and a direct connection with `mbuffer` behind the dump; for cases with a pipe, who put it there.
    pub fn all_and_mbuffer() -> Vec<Self> {
        let mut ways = Self::all();
        ways.insert(ways.len() - 1, Self::direct().named(MBUFFER));
        ways
    }

    /// Starts what stands in between.
    pub fn open(self, server: &Server) -> Result<Route> {
        let between = match &self.by {
            By::Nothing => Between::Nothing(server.address()),
            By::Haproxy => Between::Peer(Peer::haproxy(server)?),
            By::Router => Between::Peer(Peer::router(server)?),
            By::Spillway(options) => {
                Between::Spillway(Proxy::start(&programs::spillway()?, server, options)?)
            }
        };
        Ok(Route { way: self.name, between })
    }
}

/// A way that is open. Dropping it ends what was started for it.
#[derive(Debug)]
pub struct Route {
    way: &'static str,
    between: Between,
}

#[derive(Debug)]
enum Between {
    Nothing(SocketAddr),
    Peer(Peer),
    Spillway(Proxy),
}

impl Route {
    /// The way's name.
    pub fn name(&self) -> &'static str {
        self.way
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        match &self.between {
            Between::Nothing(server) => *server,
            Between::Peer(peer) => peer.address(),
            Between::Spillway(proxy) => proxy.address(),
        }
    }

    /// The same as programs take it.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Tcp(self.address())
    }

    /// Spillway, where that stands in between.
    pub fn spillway(&self) -> Option<&Proxy> {
        match &self.between {
            Between::Spillway(proxy) => Some(proxy),
            Between::Nothing(_) | Between::Peer(_) => None,
        }
    }

    /// Whether Spillway stands in between.
    pub fn is_spillway(&self) -> bool {
        matches!(self.between, Between::Spillway(_))
    }

    /// The process in between.
    pub fn pid(&self) -> Option<u32> {
        match &self.between {
            Between::Nothing(_) => None,
            Between::Peer(peer) => Some(peer.pid()),
            Between::Spillway(proxy) => Some(proxy.pid()),
        }
    }

    /// To be called when `sessions` more have ended: waits until Spillway has cleared up behind them, so that this
    /// counts as theirs; gives what it tells of the last. The others have nothing to clear up.
    pub fn settle(&mut self, sessions: usize) -> Result<Option<Session>> {
        let Between::Spillway(proxy) = &mut self.between else { return Ok(None) };
        proxy.sessions_end(sessions).map(Some).context("the end of Spillway's sessions")
    }

    /// CPU time of the process in between so far.
    pub fn cpu(&self) -> Result<Option<Duration>> {
        self.pid().map(process_use::cpu).transpose()
    }

    /// The most memory that the process in between had resident so far.
    pub fn peak_memory(&self) -> Result<Option<u64>> {
        self.pid().map(process_use::peak_memory).transpose()
    }
}

/// The name of [`Way::direct`].
pub const DIRECT: &str = "direct";
/// The name of the way by HAProxy.
pub const HAPROXY: &str = "haproxy";
/// The name of the way by MySQL Router.
pub const ROUTER: &str = "router";
/// The name of a direct connection with `mbuffer` in the pipe.
pub const MBUFFER: &str = "mbuffer";
/// The name of [`Way::spillway`].
pub const SPILLWAY: &str = "spillway";
