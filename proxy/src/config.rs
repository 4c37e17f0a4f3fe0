//! Settings: flag, then `SPILLWAY_…` variable, then configuration file, then default.

mod error;
mod file;
mod secret;
mod settings;
mod tls;
mod units;

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

pub use crate::backend::limits::Limits;
pub use error::ConfigError;
pub use secret::Secret;
pub use settings::{
    AuthMode, ClientCertMode, ClientTlsMode, Settings, SpoolCompress, TlsVersion, UpstreamCompression,
    UpstreamTlsMode,
};

use spillway_protocol::Compression;

use crate::backend::Upstreams;
use crate::credentials::{Auth, Credentials};
use crate::drain_limit::DrainLimit;
use crate::endpoint::Endpoint;
use crate::journal::Ledger;
use crate::proxy_protocol::Network;
use crate::rsa::{MAX_PEM_LEN, PublicKey};
use crate::secrecy::Secrecy;
use crate::session::{Probes, Proxy, ServerProfile};
use crate::spool;
use crate::spool::budget::{DiskBudget, MemoryBudget};
use crate::spool::packing::{Algorithm, Packing};
use units::{Size, Span};

/// The statement that keeps a server from ending a dump even where the spool is full: its own limit for a client that
/// does not read, raised to a day.
const DEFAULT_SESSION_INIT: &str = "SET SESSION net_write_timeout = 86400";

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
        let default = || vec![Endpoint::Tcp { host: "127.0.0.1".to_owned(), port: 3307 }];
        let listen = self.listen.clone().unwrap_or_else(default);
        let over_tcp = listen.iter().find(|listen| matches!(listen, Endpoint::Tcp { .. }));
        let to_socket = self.upstream.iter().flatten().find(|upstream| matches!(upstream, Endpoint::Unix(_)));
        match (over_tcp, to_socket) {
            (Some(listen), Some(upstream)) if !self.allow_socket_upstream.unwrap_or(false) => {
                Err(ConfigError::SocketUpstream { listen: listen.clone(), upstream: upstream.clone() })
            }
            _ => Ok(listen),
        }
    }

    /// Which clients begin with a PROXY header.
    pub fn proxy_protocol_networks(&self) -> Arc<[Network]> {
        self.proxy_protocol_networks.clone().unwrap_or_default().into()
    }

    /// How long running sessions may go on after SIGTERM.
    pub fn shutdown_grace(&self) -> Duration {
        self.shutdown_grace.map_or(Duration::from_secs(3600), |Span(grace)| grace)
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
        })
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
        let upstreams = self.upstream.clone().filter(|upstreams| !upstreams.is_empty());
        let upstreams = upstreams.ok_or(ConfigError::NoUpstream)?;
        let per_session = self.memory_per_session.unwrap_or(Size(16 << 20));
        at_least("--memory-per-session", per_session, LEAST_MEMORY_PER_SESSION)?;
        let memory = self.memory.unwrap_or(Size(256 << 20));
        at_least("--memory", memory, LEAST_MEMORY)?;
        for (option, limit) in
            [("--drain-limit", self.drain_limit), ("--drain-limit-total", self.drain_limit_total)]
        {
            limit.map_or(Ok(()), |limit| at_least(option, limit, LEAST_DRAIN_LIMIT))?;
        }
        let limits = self.limits()?;
        let auth = self.auth()?;
        let keepalive = self.keepalive.map_or(Duration::from_secs(10), |Span(interval)| interval);
        if keepalive.is_zero() {
            return Err(ConfigError::NoTime { option: "--keepalive" });
        }
        let dir = self.spool_dir.clone().unwrap_or_else(|| PathBuf::from("/var/tmp"));
        spool::disk::probe(&dir).map_err(|source| ConfigError::SpoolDir { path: dir.clone(), source })?;
        let max = self.spool_max.map_or(u64::MAX, |Size(max)| max);
        let min_free = self.spool_min_free.map_or(1 << 30, |Size(min_free)| min_free);
        let session_init = self.session_init.clone().unwrap_or_else(|| vec![DEFAULT_SESSION_INIT.to_owned()]);
        let proxy_protocol = self.upstream_proxy_protocol.unwrap_or(false);
        let compression = match self.upstream_compression {
            None | Some(UpstreamCompression::Off) => None,
            Some(UpstreamCompression::Zlib) => Some(Compression::Zlib),
            Some(UpstreamCompression::Zstd) => Some(Compression::ZSTD),
        };
        let packing = match self.spool_compress {
            None | Some(SpoolCompress::Off) => None,
            Some(SpoolCompress::Lz4) => Some(Algorithm::Lz4),
            Some(SpoolCompress::Zstd) => Some(Algorithm::Zstd),
        };
        Ok(Proxy {
            upstreams: Arc::new(Upstreams::new(
                upstreams,
                limits,
                self.upstream_tls()?,
                self.secrecy()?,
                proxy_protocol,
                compression,
            )),
            auth,
            client_tls: self.client_tls()?,
            profile: ServerProfile::default(),
            connection_ids: Arc::default(),
            probes: Probes::default(),
            memory: MemoryBudget::new(memory.0, per_session.0),
            disk: DiskBudget::new(dir, max, min_free),
            packing: Packing::new(packing),
            session_init: session_init.into_iter().filter(|sql| !sql.trim().is_empty()).collect(),
            busy_poll: self.busy_poll.map_or_else(default_busy_poll, |Span(time)| time),
            keepalive,
            keepalive_for: self.keepalive_for.map_or(Duration::from_secs(12 * 3600), |Span(time)| time),
            allow_socket_upstream: self.allow_socket_upstream.unwrap_or(false),
            told_errors: AtomicU64::new(0),
            drain_limit: self.drain_limit.map(|Size(rate)| rate),
            drain_limit_total: self.drain_limit_total.map(|Size(rate)| Arc::new(DrainLimit::new(rate))),
            sessions: Arc::default(),
            ledger: Arc::new(Ledger::of_sessions()),
            route: None,
        })
    }
}

/// With a single core nobody could bring the packet that is waited for.
fn default_busy_poll() -> Duration {
    match std::thread::available_parallelism() {
        Ok(cores) if cores.get() > 1 => Duration::from_micros(200),
        _ => Duration::ZERO,
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
        let Limits { resolve, connect, greeting, auth, handshake } = Limits::default();
        for (option, limit) in [
            ("resolve", resolve),
            ("connect", connect),
            ("greeting", greeting),
            ("auth", auth),
            ("handshake", handshake),
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
