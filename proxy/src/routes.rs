//! The routes of `serve`: begun together or not at all, and changed together or not at all at SIGHUP.
//!
//! A change is for the sessions to come: each listener gets other terms, and running sessions keep what they share with
//! others of their time. What must not begin anew is [`Common`] to all.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::task::{JoinError, spawn_blocking};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::common::Common;
use crate::config::{ConfigError, Configuration, LogLevel};
use crate::current::Current;
use crate::endpoint::Endpoint;
use crate::lanes::Lanes;
use crate::listener::{Listener, Terms};
use crate::session::Proxy;
use crate::socket_activation::PassedSockets;
use crate::watched::{InForce, Watched, WatchedRoute};

/// Changes what is logged.
pub type SetLogLevel = Box<dyn Fn(&LogLevel) + Send + Sync>;

/// All routes, with what their sessions share.
pub struct Routes {
    plan: Plan,
    common: Arc<Common>,
    set_log_level: SetLogLevel,
    /// The plan, for who looks at it.
    in_force: Arc<Current<InForce>>,
    /// Where clients are accepted.
    doors: Vec<Door>,
}

/// A configuration, and what was made of it.
struct Plan {
    configuration: Configuration,
    /// In the order of the routes.
    proxies: Vec<Arc<Proxy>>,
    /// Addresses, each with the number of its route.
    listen: Vec<(usize, Endpoint)>,
}

/// A listener that accepts.
struct Door {
    route: Option<String>,
    /// As the configuration has it.
    listen: Endpoint,
    /// Where it is; the port is the one that was chosen.
    address: Endpoint,
    terms: Arc<Current<Terms>>,
    stop: CancellationToken,
}

/// What accepts clients, and what ends that.
pub(crate) struct Acceptors {
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop_accepting: CancellationToken,
    pub(crate) stop_sessions: CancellationToken,
}

/// Why the settings stay what they were.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("reading them failed: {0}")]
    Failed(#[from] JoinError),
}

impl Routes {
    /// Makes what the sessions of each route share. Blocks on the disk.
    ///
    /// # Errors
    /// [`ConfigError`] for the first setting that cannot be used.
    pub fn new(configuration: Configuration, set_log_level: SetLogLevel) -> Result<Self, ConfigError> {
        let common = Arc::new(configuration.common()?);
        let plan = Plan::new(configuration, &common, &[])?;
        let in_force = Arc::new(Current::new(plan.in_force(&[])));
        Ok(Self { plan, common, set_log_level, in_force, doors: Vec::new() })
    }

    /// Binds all addresses, where there are no sockets that were passed for them.
    ///
    /// # Errors
    /// [`ConfigError::Listen`] for the first that cannot be bound; [`ConfigError::Activation`] for sockets that do not
    /// go with the addresses.
    pub async fn bind(&self, passed: PassedSockets) -> Result<Vec<Listener>, ConfigError> {
        if !passed.is_empty() {
            let addresses: Vec<_> = self.plan.listen.iter().map(|(_, address)| address.clone()).collect();
            return Ok(passed.into_listeners(&addresses)?);
        }
        let mut listeners = Vec::new();
        for listen in &self.plan.listen {
            listeners.push(self.plan.bind(listen).await?);
        }
        Ok(listeners)
    }

    /// What was read last.
    pub(crate) fn configuration(&self) -> &Configuration {
        &self.plan.configuration
    }

    /// For who looks at the sessions.
    pub(crate) fn watched(&self, acceptors: &Acceptors, began: SystemTime) -> Watched {
        Watched {
            in_force: Arc::clone(&self.in_force),
            sessions: Arc::clone(&self.common.sessions),
            memory: Arc::clone(&self.common.memory),
            disk: Arc::clone(&self.common.disk),
            pulse: acceptors.lanes.pulse(),
            stop_accepting: acceptors.stop_accepting.clone(),
            began,
        }
    }

    /// Responses that ended with an error of Spillway's own, of sessions that are over.
    pub(crate) fn told_errors(&self) -> u64 {
        self.common.told_errors()
    }

    /// Accepts on the listeners of [`bind`](Self::bind).
    pub(crate) fn begin(&mut self, listeners: Vec<Listener>, acceptors: &Acceptors) {
        let doors = self.plan.listen.iter().zip(listeners);
        self.doors = doors.map(|(listen, listener)| self.plan.open(listen, listener, acceptors)).collect();
        self.in_force.set(self.plan.in_force(&self.doors));
    }

    /// Reads file, certificates and keys again. Where anything is wrong with them, all stays as it was. Cancelling it
    /// leaves accepting to be ended.
    pub(crate) async fn reload(&mut self, acceptors: &Acceptors) {
        match self.try_reload(acceptors).await {
            Ok(Changes { changed, needs_restart }) => {
                info!(
                    changed,
                    needs_restart,
                    "SIGHUP: settings, certificates and keys were read again, for the sessions to come"
                );
                // Behind the line, which might be the first that is not wanted any more.
                (self.set_log_level)(&self.configuration().log_level());
            }
            Err(error) => warn!(
                %error,
                "SIGHUP: going on with the certificates, keys and settings that were read before"
            ),
        }
    }

    async fn try_reload(&mut self, acceptors: &Acceptors) -> Result<Changes, ReloadError> {
        let (before, common) = (self.plan.configuration.clone(), Arc::clone(&self.common));
        let proxies = self.plan.proxies.clone();
        // A dead file system must not hold the runtime.
        let plan = spawn_blocking(move || {
            let names = before.routes().iter().map(|route| route.name.clone());
            Plan::new(before.reread()?, &common, &names.zip(proxies).collect::<Vec<_>>())
        });
        let mut plan = plan.await??;
        let doors = self.match_doors(&plan);
        let mut new = Vec::new();
        for (listen, _) in plan.listen.iter().zip(&doors).filter(|(_, door)| door.is_none()) {
            new.push(plan.bind(listen).await?);
        }
        // From here on nothing fails.
        let changes = Changes::new(&mut plan.configuration, &self.plan.configuration);
        plan.configuration.set_limits(&self.common, &plan.proxies);
        let (mut new, mut old) = (new.into_iter(), Vec::new());
        old.extend(self.doors.drain(..).map(Some));
        for (listen, kept) in plan.listen.iter().zip(doors) {
            let door = match kept.and_then(|index| old[index].take()) {
                Some(door) => Some(plan.keep_open(listen.0, door)),
                None => new.next().map(|listener| plan.open(listen, listener, acceptors)),
            };
            self.doors.extend(door);
        }
        old.into_iter().flatten().for_each(|door| door.stop.cancel());
        self.in_force.set(plan.in_force(&self.doors));
        self.plan = plan;
        Ok(changes)
    }

    /// The doors that are open already where `plan` wants them.
    fn match_doors(&self, plan: &Plan) -> Vec<Option<usize>> {
        let mut taken = vec![false; self.doors.len()];
        let find = |(route, listen): &(usize, Endpoint)| {
            let name = plan.name(*route);
            let index = self.doors.iter().zip(&taken).position(|(door, taken)| {
                // Of port 0 there may be several.
                !taken && door.listen == *listen && (!is_any_port(listen) || door.route == name)
            })?;
            taken[index] = true;
            Some(index)
        };
        plan.listen.iter().map(find).collect()
    }
}

impl Plan {
    /// Makes of a configuration what its routes share, in the place of what those that are `known` by name do.
    fn new(
        configuration: Configuration,
        common: &Common,
        known: &[(Option<String>, Arc<Proxy>)],
    ) -> Result<Self, ConfigError> {
        let (mut proxies, mut listen) = (Vec::new(), Vec::new());
        for (number, route) in configuration.routes().iter().enumerate() {
            let addresses = route.listen_addresses()?;
            listen.extend(addresses.into_iter().map(|address| (number, address)));
            let before = known.iter().find(|(name, _)| *name == route.name).map(|(_, proxy)| &**proxy);
            let mut proxy = route.proxy(common, before)?;
            proxy.route = route.name.as_deref().map(Arc::from);
            proxies.push(Arc::new(proxy));
        }
        Ok(Self { configuration, proxies, listen })
    }

    async fn bind(&self, (route, listen): &(usize, Endpoint)) -> Result<Listener, ConfigError> {
        let located = |error| self.configuration.routes()[*route].locate(ConfigError::Listen(error));
        Listener::bind(listen).await.map_err(located)
    }

    fn open(&self, (route, listen): &(usize, Endpoint), listener: Listener, acceptors: &Acceptors) -> Door {
        let name = self.name(*route);
        listener.announce(name.as_deref());
        let terms = Arc::new(Current::new(self.terms(*route)));
        let (stop, address) = (acceptors.stop_accepting.child_token(), listener.address.clone());
        acceptors.tasks.spawn(listener.accept(
            Arc::clone(&terms),
            Arc::clone(&acceptors.lanes),
            stop.clone(),
            acceptors.stop_sessions.clone(),
        ));
        Door { route: name, listen: listen.clone(), address, terms, stop }
    }

    fn keep_open(&self, route: usize, door: Door) -> Door {
        door.terms.set(self.terms(route));
        Door { route: self.name(route), ..door }
    }

    /// For who looks at it, with the doors that are open.
    fn in_force(&self, doors: &[Door]) -> InForce {
        let route = |(number, proxy): (usize, &Arc<Proxy>)| {
            let name = self.name(number);
            let doors = doors.iter().filter(|door| door.route == name);
            WatchedRoute {
                proxy: Arc::clone(proxy),
                listen: doors.map(|door| door.address.clone()).collect(),
            }
        };
        InForce {
            routes: self.proxies.iter().enumerate().map(route).collect(),
            variables: self.configuration.variables(),
        }
    }

    fn name(&self, route: usize) -> Option<String> {
        self.configuration.routes()[route].name.clone()
    }

    fn terms(&self, route: usize) -> Terms {
        Terms {
            route: self.name(route),
            proxy: Arc::clone(&self.proxies[route]),
            headers_from: self.configuration.routes()[route].proxy_protocol_networks(),
        }
    }
}

fn is_any_port(listen: &Endpoint) -> bool {
    matches!(listen, Endpoint::Tcp { port: 0, .. })
}

/// What the log is told of a change.
struct Changes {
    changed: String,
    needs_restart: Option<String>,
}

impl Changes {
    /// What `now` changes. What it cannot change is taken out of it.
    fn new(now: &mut Configuration, before: &Configuration) -> Self {
        let needs_restart = now.keep_what_needs_restart(before);
        let needs_restart = (!needs_restart.is_empty()).then(|| needs_restart.join(", "));
        let changes = now.changes(before);
        let changed = if changes.is_empty() { "no setting".to_owned() } else { changes.join(", ") };
        Self { changed, needs_restart }
    }
}
