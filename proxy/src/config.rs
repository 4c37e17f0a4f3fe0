//! Settings: flag, then `SPILLWAY_…` variable, then configuration file, then default.

mod defaults;
mod error;
mod file;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod given;
mod keys;
mod layer;
mod print;
mod routes;
mod secret;
mod settings;
mod tls;
mod units;

use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

pub use crate::backend::limits::Limits;
pub use error::{ConfigError, Place};
pub use given::Given;
pub use routes::{Configuration, RouteSettings};
pub use secret::Secret;
pub use settings::{
    AuthMode, ClientCertMode, ClientTlsMode, LogFormat, Settings, SpoolCompress, TlsVersion,
    UpstreamCompression, UpstreamTlsMode,
};
pub use units::{LevelError, LogLevel};

use spillway_protocol::Compression;

use crate::backend::Upstreams;
use crate::common::{Common, Shares};
use crate::credentials::{Auth, Credentials};
use crate::drain_limit::DrainLimit;
use crate::endpoint::Endpoint;
use crate::proxy_protocol::Network;
use crate::rsa::{MAX_PEM_LEN, PublicKey};
use crate::secrecy::Secrecy;
use crate::session::{Gate, Proxy, ServerProfile};
use crate::slots::Slots;
use crate::spool;
use crate::spool::budget::DiskBudget;
use crate::spool::packing::Algorithm;
use units::{Size, Span};

/// The least for `--memory-per-session`: a few blocks.
const LEAST_MEMORY_PER_SESSION: Size = Size(64 * 1024);
/// The least for `--memory`: a few sessions.
const LEAST_MEMORY: Size = Size(1024 * 1024);

/// The least for `--drain-limit`: below that a dump is as good as stopped.
const LEAST_DRAIN_LIMIT: Size = Size(64 * 1024);

impl Settings {
    /// Where to listen.
    ///
    /// # Errors
    /// [`ConfigError::SocketUpstream`] if that would let anyone in as Spillway's own user.
    pub fn listen_addresses(&self) -> Result<Vec<Endpoint>, ConfigError> {
        let listen = self.listen.clone().unwrap_or_else(defaults::listen);
        let over_tcp = listen.iter().find(|listen| matches!(listen, Endpoint::Tcp { .. }));
        let to_socket = self.upstream.iter().flatten().find(|upstream| matches!(upstream, Endpoint::Unix(_)));
        match (over_tcp, to_socket) {
            (Some(listen), Some(upstream)) if !self.allow_socket_upstream.unwrap_or(false) => {
                Err(ConfigError::SocketUpstream { listen: listen.clone(), upstream: upstream.clone() })
            }
            _ => Ok(listen),
        }
    }

    /// How long running sessions may go on after SIGTERM.
    pub fn shutdown_grace(&self) -> Duration {
        self.shutdown_grace.map_or(defaults::SHUTDOWN_GRACE, |Span(grace)| grace)
    }

    /// How long the steps towards a logged-in session may take.
    ///
    /// # Errors
    /// [`ConfigError::NoTime`] for one that may take none.
    pub fn limits(&self) -> Result<Limits, ConfigError> {
        let default = Limits::default();
        let limit = |option, given: Option<Span>, default| match given {
            Some(Span(Duration::ZERO)) => Err(ConfigError::NoTime { option }),
            given => Ok(given.map_or(default, |Span(limit)| limit)),
        };
        Ok(Limits {
            resolve: limit("--resolve-timeout", self.resolve_timeout, default.resolve)?,
            connect: limit("--connect-timeout", self.connect_timeout, default.connect)?,
            greeting: limit("--greeting-timeout", self.greeting_timeout, default.greeting)?,
            auth: limit("--auth-timeout", self.auth_timeout, default.auth)?,
            handshake: limit("--handshake-timeout", self.handshake_timeout, default.handshake)?,
            peer: limit("--peer-timeout", self.peer_timeout, default.peer)?,
            login: limit("--login-timeout", self.login_timeout, default.login)?,
        })
    }

    /// Whether there is something in them that others must not read.
    fn has_password(&self) -> bool {
        [&self.password, &self.web_password, &self.console_password].into_iter().any(Option::is_some)
    }

    /// Whether Spillway is to know the account and is not told it: `run` looks for it in the client's options then.
    pub fn needs_credentials(&self) -> bool {
        self.auth == Some(AuthMode::Stored) && self.given_credentials().is_none()
    }

    /// Who checks the client's password.
    ///
    /// # Errors
    /// [`ConfigError`] if that is Spillway and it has no account, or only half of one; if the account's file cannot be
    /// used; and if an account is given that would not be used.
    pub fn auth(&self) -> Result<Auth, ConfigError> {
        let given = self.given_credentials();
        if self.auth != Some(AuthMode::Stored) {
            return given.map_or(Ok(Auth::Passthrough), |option| Err(ConfigError::UnusedCredentials(option)));
        }
        let credentials = match (&self.credentials, &self.user, &self.password) {
            (Some(file), None, None) => Arc::new(Credentials::from_file(file)?),
            (None, Some(user), Some(password)) => {
                Arc::new(Credentials::new(user.clone().into_bytes(), password.as_bytes().to_vec()))
            }
            (Some(_), _, _) => return Err(ConfigError::TwoAccounts),
            (None, Some(_), None) => return Err(ConfigError::NoPassword),
            (None, None, Some(_)) => return Err(ConfigError::NoUser),
            (None, None, None) => self.clients_own.clone().ok_or(ConfigError::NoCredentials)?,
        };
        Ok(Auth::Stored(credentials))
    }

    /// What may be done with passwords on open connections.
    fn secrecy(&self) -> Result<Secrecy, ConfigError> {
        let server_key = self.upstream_server_public_key.as_ref().map(|path| {
            let unusable = |problem| ConfigError::ServerPublicKey { path: path.clone(), problem };
            let mut pem = Vec::new();
            // One byte more than a key may have, so that a longer file is noticed.
            let read =
                File::open(path).and_then(|file| file.take(MAX_PEM_LEN as u64 + 1).read_to_end(&mut pem));
            read.map_err(|error| unusable(error.to_string()))?;
            PublicKey::from_pem(&pem).map_err(|error| unusable(error.to_string()))
        });
        Ok(Secrecy::new(
            server_key.transpose()?,
            self.get_server_public_key.unwrap_or(false),
            self.allow_cleartext.unwrap_or(false),
        ))
    }

    /// The option by which an account is given, if one is.
    fn given_credentials(&self) -> Option<&'static str> {
        let given = [
            ("--credentials", self.credentials.is_some()),
            ("--user", self.user.is_some()),
            (
                "a password (SPILLWAY_PASSWORD, or password in the configuration file)",
                self.password.is_some(),
            ),
        ];
        given.into_iter().find_map(|(option, given)| given.then_some(option))
    }

    /// Checks the settings that all sessions share, and makes of them what they share.
    ///
    /// # Errors
    /// [`ConfigError`] for the first setting that cannot be used.
    pub fn proxy(&self) -> Result<Proxy, ConfigError> {
        let common = self.common()?;
        self.proxy_within(&common, common.shares(), None)
    }

    /// The same without a look at the spool directory, of which `check` tells more.
    ///
    /// # Errors
    /// As [`proxy`](Self::proxy).
    pub fn unprobed_proxy(&self) -> Result<Proxy, ConfigError> {
        let common = self.unprobed_common()?;
        self.proxy_within(&common, common.shares(), None)
    }

    /// Makes what all sessions of the process share.
    fn common(&self) -> Result<Common, ConfigError> {
        let common = self.unprobed_common()?;
        let dir = common.disk.dir();
        spool::disk::probe(dir).map_err(|source| ConfigError::SpoolDir { path: dir.to_owned(), source })?;
        Ok(common)
    }

    fn unprobed_common(&self) -> Result<Common, ConfigError> {
        self.check_memory()?;
        self.check_max_sessions()?;
        if let Some(limit) = self.drain_limit_total {
            at_least("--drain-limit-total", limit, LEAST_DRAIN_LIMIT)?;
        }
        let dir = self.spool_dir.clone().unwrap_or_else(defaults::spool_dir);
        let disk = DiskBudget::new(dir, self.disk_limit(), self.disk_reserve());
        let drain_limit_total = self.drain_limit_total.map(|Size(rate)| Arc::new(DrainLimit::new(rate)));
        let slots = Slots::new(self.session_limit());
        Ok(Common::new(slots, self.memory_limit(), disk, drain_limit_total))
    }

    /// Makes what the sessions of a route share. What is known of the servers by those `before` stays known.
    fn proxy_within(
        &self,
        common: &Common,
        shares: Shares,
        before: Option<&Proxy>,
    ) -> Result<Proxy, ConfigError> {
        let upstreams = self.upstreams()?;
        let upstreams = match before {
            Some(before) => upstreams.following(&before.upstreams),
            None => upstreams,
        };
        self.check_max_sessions()?;
        let per_session = self.memory_per_session.unwrap_or(defaults::MEMORY_PER_SESSION);
        at_least("--memory-per-session", per_session, LEAST_MEMORY_PER_SESSION)?;
        if let Some(limit) = self.drain_limit {
            at_least("--drain-limit", limit, LEAST_DRAIN_LIMIT)?;
        }
        let keepalive = self.keepalive.map_or(defaults::KEEPALIVE, |Span(interval)| interval);
        if keepalive.is_zero() {
            return Err(ConfigError::NoTime { option: "--keepalive" });
        }
        let session_init = self.session_init.clone().unwrap_or_else(defaults::session_init);
        let packing = match self.spool_compress {
            None | Some(SpoolCompress::Off) => None,
            Some(SpoolCompress::Lz4) => Some(Algorithm::Lz4),
            Some(SpoolCompress::Zstd) => Some(Algorithm::Zstd),
        };
        let allowed = self.allow.clone().unwrap_or_else(|| vec![Network::Any]);
        Ok(Proxy {
            gate: Gate::new(allowed, shares.slots),
            upstreams: Arc::new(upstreams),
            auth: self.auth()?,
            client_tls: self.client_tls(common)?,
            profile: ServerProfile::default(),
            connection_ids: Arc::clone(&common.connection_ids),
            probes: Arc::clone(&common.probes),
            memory: common.memory.with_per_session(per_session.0),
            disk: shares.disk,
            packing: common.packing(packing),
            spool_encrypt: self.spool_encrypt.unwrap_or(false),
            session_init: session_init.into_iter().filter(|sql| !sql.trim().is_empty()).collect(),
            busy_poll: self.busy_poll.map_or_else(defaults::busy_poll, |Span(time)| time),
            keepalive,
            keepalive_for: self.keepalive_for.map_or(defaults::KEEPALIVE_FOR, |Span(time)| time),
            allow_socket_upstream: self.allow_socket_upstream.unwrap_or(false),
            told_errors: Arc::clone(&common.told_errors),
            drain_limit: self.drain_limit.map(|Size(rate)| rate),
            drain_limit_total: common.drain_limit_total.clone(),
            sessions: Arc::clone(&common.sessions),
            ledger: Arc::clone(&common.ledger),
            route: None,
        })
    }

    fn upstreams(&self) -> Result<Upstreams, ConfigError> {
        let endpoints = self.upstream.clone().filter(|upstreams| !upstreams.is_empty());
        let compression = match self.upstream_compression {
            None | Some(UpstreamCompression::Off) => None,
            Some(UpstreamCompression::Zlib) => Some(Compression::Zlib),
            Some(UpstreamCompression::Zstd) => Some(Compression::ZSTD),
        };
        Ok(Upstreams::new(
            endpoints.ok_or(ConfigError::NoUpstream)?,
            self.limits()?,
            self.upstream_tls()?,
            self.secrecy()?,
            self.upstream_proxy_protocol.unwrap_or(false),
            compression,
        ))
    }

    fn check_memory(&self) -> Result<(), ConfigError> {
        at_least("--memory", self.memory.unwrap_or(defaults::MEMORY), LEAST_MEMORY)
    }

    fn check_max_sessions(&self) -> Result<(), ConfigError> {
        match self.max_sessions {
            Some(max) => at_least("--max-sessions", Size(max.into()), Size(1)),
            None => Ok(()),
        }
    }

    /// `--max-sessions`
    fn session_limit(&self) -> u32 {
        self.max_sessions.unwrap_or(u32::MAX)
    }

    fn memory_limit(&self) -> u64 {
        self.memory.unwrap_or(defaults::MEMORY).0
    }

    /// `--spool-max`
    fn disk_limit(&self) -> u64 {
        self.spool_max.map_or(u64::MAX, |Size(max)| max)
    }

    /// `--spool-min-free`
    fn disk_reserve(&self) -> u64 {
        self.spool_min_free.unwrap_or(defaults::SPOOL_MIN_FREE).0
    }
}

fn at_least(option: &'static str, value: Size, least: Size) -> Result<(), ConfigError> {
    if value.0 < least.0 { Err(ConfigError::TooSmall { option, value, least }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use clap::Args as _;

    use super::*;

    #[test]
    fn unusable_settings_name_option_and_value() {
        let upstream = Some(vec!["db1".parse().unwrap()]);
        let base = Settings { upstream, ..Settings::default() };
        let bad = Settings { spool_dir: Some("/nowhere".into()), ..base.clone() };
        assert!(bad.proxy().unwrap_err().to_string().contains("--spool-dir /nowhere"));
        let bad = Settings { memory: Some(Size(1000)), ..base.clone() };
        assert!(bad.proxy().unwrap_err().to_string().contains("--memory 1000"));
        let bad = Settings { upstream: Some(vec!["unix:/s".parse().unwrap()]), ..base };
        assert!(bad.listen_addresses().unwrap_err().to_string().contains("--allow-socket-upstream"));
        assert!(matches!(Settings::default().proxy(), Err(ConfigError::NoUpstream)));
    }

    #[test]
    fn limits_are_those_of_the_sessions_unless_given() {
        assert_eq!(Settings::default().limits().unwrap(), Limits::default());
        let settings = Settings { connect_timeout: Some("2s".parse().unwrap()), ..Settings::default() };
        let two = Duration::from_secs(2);
        assert_eq!(settings.limits().unwrap(), Limits { connect: two, ..Limits::default() });
        let settings = Settings { auth_timeout: Some("0s".parse().unwrap()), ..Settings::default() };
        assert_eq!(
            settings.limits().unwrap_err().to_string(),
            "--auth-timeout 0s: must be longer than nothing"
        );
    }

    #[test]
    fn the_help_tells_the_limits() {
        let help = Settings::augment_args(clap::Command::new("spillway")).render_long_help().to_string();
        let Limits { resolve, connect, greeting, auth, handshake, login, peer } = Limits::default();
        for (option, limit) in [
            ("resolve", resolve),
            ("connect", connect),
            ("greeting", greeting),
            ("auth", auth),
            ("handshake", handshake),
            ("peer", peer),
            ("login", login),
        ] {
            let (_, behind) = help.split_once(&format!("--{option}-timeout <TIME>")).expect(option);
            let (_, default) = behind.split_once("[default: ").expect(option);
            assert!(default.starts_with(&format!("{}s]", limit.as_secs())), "{option}: {default}");
        }
    }

    /// The kind of the error, or of the authentication.
    fn auth(toml: &str) -> String {
        let settings: Settings = toml::from_str(toml).unwrap();
        match settings.auth() {
            Ok(Auth::Passthrough) => "passthrough".to_owned(),
            Ok(Auth::Stored(credentials)) => String::from_utf8_lossy(credentials.user()).into_owned(),
            Err(error) => format!("{error:?}").split([' ', '(', '{']).next().unwrap_or_default().to_owned(),
        }
    }

    #[test]
    fn accounts() {
        for (toml, expected) in [
            ("", "passthrough"),
            ("auth = 'passthrough'", "passthrough"),
            ("auth = 'stored'\nuser = 'a'\npassword = ''", "a"),
            ("auth = 'stored'", "NoCredentials"),
            ("auth = 'stored'\nuser = 'a'", "NoPassword"),
            ("auth = 'stored'\npassword = 'a'", "NoUser"),
            ("auth = 'stored'\nuser = 'a'\ncredentials = '/c'", "TwoAccounts"),
            ("auth = 'stored'\npassword = 'a'\ncredentials = '/c'", "TwoAccounts"),
            ("auth = 'stored'\ncredentials = '/nowhere'", "Credentials"),
            ("credentials = '/c'", "UnusedCredentials"),
            ("user = 'a'", "UnusedCredentials"),
            ("auth = 'passthrough'\npassword = 'a'", "UnusedCredentials"),
        ] {
            assert_eq!(auth(toml), expected, "{toml}");
        }
        let own = Some(Arc::new(Credentials::new(b"own".to_vec(), vec![])));
        let settings = Settings { auth: Some(AuthMode::Stored), clients_own: own, ..Settings::default() };
        assert!(settings.needs_credentials());
        assert!(matches!(settings.auth(), Ok(Auth::Stored(own)) if own.user() == b"own"));
        let settings = Settings { user: Some("a".to_owned()), ..settings };
        assert!(!settings.needs_credentials());
        assert!(matches!(settings.auth(), Err(ConfigError::NoPassword)));
    }

    #[test]
    fn the_password_is_not_shown() {
        let settings: Settings = toml::from_str("password = 'secret'").unwrap();
        let shown = format!("{settings:?}");
        assert!(shown.contains("not shown") && !shown.contains("secret"), "{shown}");
    }
}
