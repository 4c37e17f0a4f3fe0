//! Settings: flag, then `SPILLWAY_…` variable, then configuration file, then default.

mod units;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Deserializer};

use crate::endpoint::Endpoint;
use crate::session::Proxy;
use crate::spool;
use crate::spool::budget::{DiskBudget, MemoryBudget};
use units::{Size, Span};

/// The statement that keeps a server from ending a dump even where the spool is full: its own limit for a client that
/// does not read, raised to a day.
const DEFAULT_SESSION_INIT: &str = "SET SESSION net_write_timeout = 86400";

/// Everything that can be set, by flag, variable or file; what is left out has a default.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The server: HOST or HOST:PORT (IPv6 addresses in brackets) or unix:PATH; several are tried in this order
    #[arg(long, value_name = "SERVER", value_delimiter = ',', env = "SPILLWAY_UPSTREAM")]
    #[serde(deserialize_with = "one_or_many")]
    pub upstream: Option<Vec<Endpoint>>,

    /// Where to listen: ADDR:PORT or unix:PATH; port 0 takes a free one [default: 127.0.0.1:3307]
    #[arg(long, value_name = "ADDR", value_delimiter = ',', env = "SPILLWAY_LISTEN", value_parser = Endpoint::parse_listen)]
    #[serde(deserialize_with = "listen_addresses")]
    pub listen: Option<Vec<Endpoint>>,

    /// Directory for what does not fit into memory [default: /var/tmp]
    #[arg(long, value_name = "DIR", env = "SPILLWAY_SPOOL_DIR")]
    pub spool_dir: Option<PathBuf>,

    /// Disk space for all sessions together [default: no limit but --spool-min-free]
    #[arg(long, value_name = "SIZE", env = "SPILLWAY_SPOOL_MAX")]
    pub spool_max: Option<Size>,

    /// Disk space that is left free for others [default: 1GiB]
    #[arg(long, value_name = "SIZE", env = "SPILLWAY_SPOOL_MIN_FREE")]
    pub spool_min_free: Option<Size>,

    /// Memory for the backlog of one session [default: 16MiB]
    #[arg(long, value_name = "SIZE", env = "SPILLWAY_MEMORY_PER_SESSION")]
    pub memory_per_session: Option<Size>,

    /// Memory for the backlogs of all sessions together [default: 256MiB]
    #[arg(long, value_name = "SIZE", env = "SPILLWAY_MEMORY")]
    pub memory: Option<Size>,

    /// Time between signs of life on an idle server session, at most a third of the server's shortest idle timeout
    /// [default: 10s]
    #[arg(long, value_name = "TIME", env = "SPILLWAY_KEEPALIVE")]
    pub keepalive: Option<Span>,

    /// How long the server session of an idle client is kept alive after its last byte [default: 12h]
    #[arg(long, value_name = "TIME", env = "SPILLWAY_KEEPALIVE_FOR")]
    pub keepalive_for: Option<Span>,

    /// Statement to send on every server session first; may be repeated, '' for none
    /// [default: SET SESSION net_write_timeout = 86400]
    #[arg(long, value_name = "SQL", env = "SPILLWAY_SESSION_INIT")]
    #[serde(deserialize_with = "one_or_many")]
    pub session_init: Option<Vec<String>>,

    /// How long running sessions may go on after SIGTERM [default: 1h]
    #[arg(long, value_name = "TIME", env = "SPILLWAY_SHUTDOWN_GRACE")]
    pub shutdown_grace: Option<Span>,

    /// Let clients of other users reach a server's Unix socket, where they are taken for Spillway's own user
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL", env = "SPILLWAY_ALLOW_SOCKET_UPSTREAM")]
    pub allow_socket_upstream: Option<bool>,

    /// What to log: error, warn, info, debug or trace, for all or by module [default: info for serve, warn for run]
    #[arg(long, value_name = "LEVEL", env = "SPILLWAY_LOG_LEVEL")]
    pub log_level: Option<String>,

    /// Configuration file in TOML; its keys are these options with _ for -
    #[arg(long, value_name = "FILE", env = "SPILLWAY_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
}

/// A setting that cannot be used. Exit code 78.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("--config {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no configuration.
    #[error("--config {}, line {line}: {message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line of the mistake, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// No server is named.
    #[error(
        "no server: give --upstream HOST[:PORT] (or SPILLWAY_UPSTREAM, or upstream in the configuration file)"
    )]
    NoUpstream,
    /// The spool directory is of no use.
    #[error("--spool-dir {}: {source}; name a directory that exists and that spillway may write to", path.display())]
    SpoolDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A size is too small to work with.
    #[error("{option} {value}: must be at least {least}")]
    TooSmall {
        /// The option.
        option: &'static str,
        /// Its value.
        value: Size,
        /// The least.
        least: Size,
    },
    /// A time of 0.
    #[error("{option} 0s: must be longer than nothing")]
    NoTime {
        /// The option.
        option: &'static str,
    },
    /// A TCP listener with a socket upstream.
    #[error(
        "--listen {listen} with --upstream {upstream}: the server would take every client for spillway's own user; \
         listen on unix:PATH, or give --allow-socket-upstream if that is what you want"
    )]
    SocketUpstream {
        /// The listener.
        listen: Endpoint,
        /// The server.
        upstream: Endpoint,
    },
}

/// The least for `--memory-per-session`: a few blocks.
const LEAST_MEMORY_PER_SESSION: Size = Size(64 * 1024);
/// The least for `--memory`: a few sessions.
const LEAST_MEMORY: Size = Size(1024 * 1024);

impl Settings {
    /// Adds the configuration file's settings where neither flag nor variable has one.
    ///
    /// # Errors
    /// [`ConfigError`] if there is a file and it cannot be read or has mistakes.
    pub fn with_file(self) -> Result<Self, ConfigError> {
        let Some(path) = self.config.clone() else {
            return Ok(self);
        };
        let file = Self::read(&path)?;
        Ok(Self {
            upstream: self.upstream.or(file.upstream),
            listen: self.listen.or(file.listen),
            spool_dir: self.spool_dir.or(file.spool_dir),
            spool_max: self.spool_max.or(file.spool_max),
            spool_min_free: self.spool_min_free.or(file.spool_min_free),
            memory_per_session: self.memory_per_session.or(file.memory_per_session),
            memory: self.memory.or(file.memory),
            keepalive: self.keepalive.or(file.keepalive),
            keepalive_for: self.keepalive_for.or(file.keepalive_for),
            session_init: self.session_init.or(file.session_init),
            shutdown_grace: self.shutdown_grace.or(file.shutdown_grace),
            allow_socket_upstream: self.allow_socket_upstream.or(file.allow_socket_upstream),
            log_level: self.log_level.or(file.log_level),
            config: self.config,
        })
    }

    fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        toml::from_str(&text).map_err(|error| {
            let before = error.span().map_or("", |span| &text[..span.start.min(text.len())]);
            let line = before.matches('\n').count() + 1;
            ConfigError::Malformed { path: path.to_owned(), line, message: error.message().to_owned() }
        })
    }

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

    /// How long running sessions may go on after SIGTERM.
    pub fn shutdown_grace(&self) -> Duration {
        self.shutdown_grace.map_or(Duration::from_secs(3600), |Span(grace)| grace)
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
        let keepalive = self.keepalive.map_or(Duration::from_secs(10), |Span(interval)| interval);
        if keepalive.is_zero() {
            return Err(ConfigError::NoTime { option: "--keepalive" });
        }
        let dir = self.spool_dir.clone().unwrap_or_else(|| PathBuf::from("/var/tmp"));
        spool::disk::probe(&dir).map_err(|source| ConfigError::SpoolDir { path: dir.clone(), source })?;
        let max = self.spool_max.map_or(u64::MAX, |Size(max)| max);
        let min_free = self.spool_min_free.map_or(1 << 30, |Size(min_free)| min_free);
        let session_init = self.session_init.clone().unwrap_or_else(|| vec![DEFAULT_SESSION_INIT.to_owned()]);
        Ok(Proxy {
            upstreams,
            memory: MemoryBudget::new(memory.0, per_session.0),
            disk: DiskBudget::new(dir, max, min_free),
            session_init: session_init.into_iter().filter(|sql| !sql.trim().is_empty()).collect(),
            keepalive,
            keepalive_for: self.keepalive_for.map_or(Duration::from_secs(12 * 3600), |Span(time)| time),
            allow_socket_upstream: self.allow_socket_upstream.unwrap_or(false),
            told_errors: AtomicU64::new(0),
        })
    }
}

fn at_least(option: &'static str, value: Size, least: Size) -> Result<(), ConfigError> {
    if value.0 < least.0 { Err(ConfigError::TooSmall { option, value, least }) } else { Ok(()) }
}

/// A key of the file that may hold one string or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

fn one_or_many<'de, D, T>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    parsed_list(deserializer, |text| text.parse().map_err(|error: T::Err| error.to_string()))
}

fn listen_addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Endpoint>>, D::Error> {
    parsed_list(deserializer, |text| Endpoint::parse_listen(text).map_err(|error| error.to_string()))
}

fn parsed_list<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<Vec<T>>, D::Error> {
    let texts = match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(text) => vec![text],
        OneOrMany::Many(texts) => texts,
    };
    let values: Result<Vec<T>, String> = texts.iter().map(|text| parse(text)).collect();
    values.map(Some).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(toml: &str) -> Result<Settings, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, toml).unwrap();
        Settings { config: Some(file.path().to_owned()), ..Settings::default() }.with_file()
    }

    #[test]
    fn a_file_fills_in_what_flags_leave_out() {
        let file =
            settings("upstream = 'db1:3307'\nmemory = '64MiB'\nkeepalive = '2s'\nsession_init = []").unwrap();
        assert_eq!(file.upstream.unwrap()[0].to_string(), "db1:3307");
        assert_eq!(file.memory, Some(Size(64 << 20)));
        assert_eq!(file.session_init, Some(vec![]));
    }

    #[test]
    fn mistakes_in_a_file_are_named_with_their_line() {
        let error = settings("memory = '1GiB'\nspool_max = 'many'").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("many"), "{error}");
        let error = settings("\nspool_mux = '1GiB'").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("spool_mux"), "{error}");
    }

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
}
