//! The configuration of `serve`: the process's settings, and those of each route.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracing::info_span;

use super::error::{ConfigError, Place};
use super::file::{ConfigFile, RouteTable};
use super::given::Given;
use super::keys::{OF_PROCESS, OF_ROUTE, OF_START, SHARED};
use super::layer::{Layer, Origin};
use super::secret::Secret;
use super::settings::{LogFormat, Settings};
use super::units::LogLevel;
use crate::common::{Common, Shares};
use crate::endpoint::Endpoint;
use crate::proxy_protocol::Network;
use crate::session::Proxy;
use crate::slots::Slots;
use crate::spool::budget::DiskBudget;

/// All that `serve` is told: by flags, variables and file.
#[derive(Clone, Debug)]
pub struct Configuration {
    given: Given,
    /// What holds for all, and where routes say nothing.
    process: RouteSettings,
    /// Without `[[route]]` there is one, which is `process`.
    routes: Vec<RouteSettings>,
}

/// What holds for one route.
#[derive(Clone, Debug, Default)]
pub struct RouteSettings {
    /// None without `[[route]]`.
    pub name: Option<String>,
    /// Where it begins in the file.
    line: Option<usize>,
    name_line: Option<usize>,
    file: Option<PathBuf>,
    pub(super) layer: Layer,
}

impl Configuration {
    /// Reads the file, if one is named.
    ///
    /// # Errors
    /// [`ConfigError`] if it cannot be read or has mistakes, or if the routes do not go together.
    pub fn load(given: Given) -> Result<Self, ConfigError> {
        let flags = given.layer();
        let file = flags.settings.config.clone();
        let ConfigFile { top, routes } = match &file {
            Some(path) => ConfigFile::read(path)?,
            None => ConfigFile::default(),
        };
        let top = flags.over(top);
        let routes: Vec<_> = routes.into_iter().map(|table| RouteSettings::new(table, &top, &file)).collect();
        if let Some(first) = routes.first() {
            // Of the file's own mistakes it is known where they are.
            let beside = OF_ROUTE.into_iter().filter(|key| !SHARED.contains(key) && top.settings.has(key));
            if let Some(key) = beside.min_by_key(|key| top.line(key).is_none()) {
                let process =
                    RouteSettings { line: first.line, layer: top, file, ..RouteSettings::default() };
                return Err(process.locate(ConfigError::BesideRoutes { key }));
            }
        }
        let listen = Some(given.passed.clone()).filter(|passed| routes.is_empty() && !passed.is_empty());
        let passed = Layer::new(Settings { listen, ..Settings::default() }, |_| Origin::Passed);
        let layer = top.over(passed).over_defaults();
        let process = RouteSettings { file, layer, ..RouteSettings::default() };
        let routes = if routes.is_empty() { vec![process.clone()] } else { routes };
        let configuration = Self { given, process, routes };
        configuration.check()?;
        Ok(configuration)
    }

    /// The same flags and variables, and what the file says now.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn reread(&self) -> Result<Self, ConfigError> {
        Self::load(self.given.clone())
    }

    /// Its routes: at least one.
    pub fn routes(&self) -> &[RouteSettings] {
        &self.routes
    }

    /// What holds for the process.
    pub(super) fn process(&self) -> &Layer {
        &self.process.layer
    }

    /// What to log.
    pub fn log_level(&self) -> LogLevel {
        self.process.settings().log_level.clone().unwrap_or_default()
    }

    /// How to log.
    pub fn log_format(&self) -> LogFormat {
        self.process.settings().log_format.unwrap_or_default()
    }

    /// Where metrics and the web page are served.
    pub fn http(&self) -> (Option<&Endpoint>, Option<&Endpoint>) {
        let settings = self.process.settings();
        (settings.metrics.as_ref(), settings.web.as_ref())
    }

    /// The password of the web page, if it has one.
    pub fn web_password(&self) -> Option<&Secret> {
        given_password(self.process.settings().web_password.as_ref())
    }

    /// Where the console is served, and with which password, if with any.
    pub fn console(&self) -> Option<(&Endpoint, Option<&Secret>)> {
        let settings = self.process.settings();
        Some((settings.console.as_ref()?, given_password(settings.console_password.as_ref())))
    }

    /// How long running sessions may go on after SIGTERM.
    pub fn shutdown_grace(&self) -> Duration {
        self.process.settings().shutdown_grace()
    }

    /// Makes what all routes share.
    ///
    /// # Errors
    /// [`ConfigError`] for the first setting that cannot be used.
    pub fn common(&self) -> Result<Common, ConfigError> {
        self.process.settings().common().map_err(|problem| self.process.locate(problem))
    }

    /// Sets the limits of what all routes share, and of the shares that `proxies`, in the order of the routes, have in
    /// them.
    pub(crate) fn set_limits(&self, common: &Common, proxies: &[Arc<Proxy>]) {
        let process = self.process.settings();
        common.memory.set_limit(process.memory_limit());
        common.disk.set_limits(process.disk_limit(), process.disk_reserve());
        common.slots.set_max(process.session_limit());
        for (route, proxy) in self.routes.iter().zip(proxies) {
            // Without routes the one that there is has all of it.
            if route.name.is_some() {
                proxy.disk.set_limits(route.settings().disk_limit(), 0);
                proxy.gate.slots.set_max(route.settings().session_limit());
            }
        }
    }

    /// Leaves what only a start can change what it was `before`. Gives the keys that were to be changed.
    pub(crate) fn keep_what_needs_restart(&mut self, before: &Self) -> Vec<&'static str> {
        let before = before.process.settings();
        let differing = self.process.settings().differing(before);
        for route in self.routes.iter_mut().chain([&mut self.process]) {
            OF_START.iter().for_each(|key| route.layer.settings.take_over(key, before));
        }
        differing.into_iter().filter(|key| OF_START.contains(key)).collect()
    }

    /// What is not the same as it was `before`: keys of the process, and for each route what has become of it.
    pub(crate) fn changes(&self, before: &Self) -> Vec<String> {
        let without_routes = !self.has_routes() && !before.has_routes();
        let of_process = |key: &str| without_routes || OF_PROCESS.contains(&key) || SHARED.contains(&key);
        let keys = self.process.differing(&before.process, of_process);
        let mut changes: Vec<String> = keys.into_iter().map(ToOwned::to_owned).collect();
        let mut gone: BTreeMap<&str, &RouteSettings> = before.named().collect();
        for (name, route) in self.named() {
            let Some(before) = gone.remove(name) else {
                changes.push(format!("{name}: new"));
                continue;
            };
            let keys = route.differing(before, |key| !OF_PROCESS.contains(&key));
            changes.extend((!keys.is_empty()).then(|| format!("{name}: {}", keys.join(" "))));
        }
        changes.extend(gone.into_keys().map(|name| format!("{name}: removed")));
        changes
    }

    fn has_routes(&self) -> bool {
        self.named().next().is_some()
    }

    fn named(&self) -> impl Iterator<Item = (&str, &RouteSettings)> {
        self.routes.iter().filter_map(|route| Some((route.name.as_deref()?, route)))
    }

    /// What can be told without a look at anything but the file: each route is whole, and no two are the same.
    fn check(&self) -> Result<(), ConfigError> {
        self.process.settings().check_memory().map_err(|problem| self.process.locate(problem))?;
        for (index, route) in self.routes.iter().enumerate().filter(|(_, route)| route.name.is_some()) {
            route.check_whole()?;
            self.routes[..index].iter().try_for_each(|before| route.check_apart(before))?;
        }
        Ok(())
    }
}

impl RouteSettings {
    /// A route of the file, above which there is `top`.
    fn new(table: RouteTable, top: &Layer, file: &Option<PathBuf>) -> Self {
        let RouteTable { line, name, own } = table;
        let has_listen = own.settings.has("listen");
        let listen = own.settings.listen.as_ref().and_then(|listen| listen.first()).map(ToString::to_string);
        let name_line = name.as_ref().map(|(_, line)| *line);
        // One that listens nowhere is refused, whatever it is called.
        let name = name.map(|(name, _)| name).or(listen).unwrap_or_default();
        let layer = own.inheriting(top.clone().without(&OF_ROUTE)).over_defaults();
        let layer = if has_listen { layer } else { layer.without(&["listen"]) };
        Self { name: Some(name), line: Some(line), name_line, file: file.clone(), layer }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.layer.settings
    }

    /// Where to listen.
    ///
    /// # Errors
    /// [`ConfigError::SocketUpstream`] if that would let anyone in as Spillway's own user.
    pub fn listen_addresses(&self) -> Result<Vec<Endpoint>, ConfigError> {
        self.settings().listen_addresses().map_err(|problem| self.locate(problem))
    }

    /// Which clients begin with a PROXY header.
    pub(crate) fn proxy_protocol_networks(&self) -> Vec<Network> {
        self.settings().proxy_protocol_networks.clone().unwrap_or_default()
    }

    /// Makes what the sessions of this route share, among them the shares in disk and slots that those `before` have.
    ///
    /// # Errors
    /// [`ConfigError`] for the first setting that cannot be used.
    pub(crate) fn proxy(&self, common: &Common, before: Option<&Proxy>) -> Result<Proxy, ConfigError> {
        let _span = self.name.as_ref().map(|name| info_span!("route", name).entered());
        let shares = match (before, &self.name) {
            (Some(before), _) => {
                Shares { disk: Arc::clone(&before.disk), slots: Arc::clone(&before.gate.slots) }
            }
            (None, None) => common.shares(),
            (None, Some(_)) => Shares {
                disk: DiskBudget::share_of(&common.disk, self.settings().disk_limit()),
                slots: Slots::share_of(&common.slots, self.settings().session_limit()),
            },
        };
        self.settings().proxy_within(common, shares, before).map_err(|problem| self.locate(problem))
    }

    /// The problem, with the place in the file that it comes from, if it comes from there.
    pub(crate) fn locate(&self, problem: ConfigError) -> ConfigError {
        self.locate_at(problem.key().unwrap_or_default(), problem)
    }

    fn locate_at(&self, key: &str, problem: ConfigError) -> ConfigError {
        let of_key = if key == "name" { self.name_line } else { self.layer.line(key) };
        let place = of_key.map(|line| (line, Some(key.to_owned()))).or_else(|| Some((self.line?, None)));
        match (&self.file, place) {
            (Some(path), Some((line, key))) => {
                let route = self.name.clone().filter(|name| !name.is_empty());
                let place = Place { path: path.clone(), line, route, key };
                ConfigError::InFile { place: Box::new(place), problem: Box::new(problem) }
            }
            _ => problem,
        }
    }

    fn check_whole(&self) -> Result<(), ConfigError> {
        let is_empty = |endpoints: &Option<Vec<Endpoint>>| endpoints.as_ref().is_none_or(Vec::is_empty);
        if is_empty(&self.settings().listen) {
            return Err(self.locate(ConfigError::NoListen));
        }
        if is_empty(&self.settings().upstream) {
            return Err(self.locate(ConfigError::NoUpstream));
        }
        Ok(())
    }

    fn check_apart(&self, before: &Self) -> Result<(), ConfigError> {
        let twice = |what: String| ConfigError::Twice { what, line: before.line.unwrap_or_default() };
        let others = before.settings().listen.as_deref().unwrap_or_default();
        // Where the system chooses the ports, they are not the same.
        let is_taken =
            |listen: &&Endpoint| !matches!(listen, Endpoint::Tcp { port: 0, .. }) && others.contains(listen);
        if let Some(listen) = self.settings().listen.iter().flatten().find(is_taken) {
            return Err(self.locate_at("listen", twice(format!("the address {listen}"))));
        }
        if self.name == before.name {
            return Err(self.locate_at("name", twice("the name".to_owned())));
        }
        Ok(())
    }

    fn differing(&self, before: &Self, wanted: impl Fn(&str) -> bool) -> Vec<&'static str> {
        let differing = self.settings().differing(before.settings());
        differing.into_iter().filter(|key| wanted(key)).collect()
    }
}

/// An empty one is none.
fn given_password(password: Option<&Secret>) -> Option<&Secret> {
    password.filter(|password| !password.as_bytes().is_empty())
}

#[cfg(test)]
mod tests;
