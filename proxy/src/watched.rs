//! What operators look at and act on: by the console, the web page and metrics.

use std::sync::Arc;
use std::time::SystemTime;

use tokio_util::sync::CancellationToken;

use crate::current::Current;
use crate::endpoint::Endpoint;
use crate::lanes::Pulse;
use crate::session::Proxy;
use crate::sessions::Sessions;
use crate::spool::budget::{DiskBudget, MemoryBudget};

/// A running `serve`.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    pub(crate) in_force: Arc<Current<InForce>>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) memory: Arc<MemoryBudget>,
    pub(crate) disk: Arc<DiskBudget>,
    pub(crate) pulse: Pulse,
    /// Cancelled to take no new sessions any more: by the console, or because the process ends.
    pub(crate) stop_accepting: CancellationToken,
    pub(crate) began: SystemTime,
}

/// What the start or the last SIGHUP has made of the configuration.
#[derive(Debug)]
pub(crate) struct InForce {
    pub(crate) routes: Vec<WatchedRoute>,
    /// Settings by name, as text.
    pub(crate) variables: Vec<(String, String)>,
}

/// A route, and where its clients come in.
#[derive(Debug)]
pub(crate) struct WatchedRoute {
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) listen: Vec<Endpoint>,
}

/// What the route is called where there is only one.
const ONLY_ROUTE: &str = "default";

/// A route's name, as operators see it.
pub(crate) fn route_name(route: Option<&Arc<str>>) -> &str {
    route.map_or(ONLY_ROUTE, |name| name)
}

/// `--spool-max`, or a route's share of it, if there is one.
pub(crate) fn disk_limit(disk: &DiskBudget) -> Option<u64> {
    Some(disk.max()).filter(|max| *max != u64::MAX)
}
