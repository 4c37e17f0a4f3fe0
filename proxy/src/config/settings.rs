//! All settings, as they are written: flags, variables and keys of the configuration file.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde::Deserialize;

use super::file::{http_address, listen_address, listen_addresses, one_or_many};
use super::secret::Secret;
use super::units::{LogLevel, Size, Span};
use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::proxy_protocol::Network;

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

    /// Clients that may come in: those of these networks (ADDRESS/BITS), of Unix sockets (localhost), or all (*). Of who
    /// begins with a PROXY header, the address that it tells counts [default: *]
    #[arg(long, value_name = "NETWORK", value_delimiter = ',', env = "SPILLWAY_ALLOW")]
    #[serde(deserialize_with = "one_or_many")]
    pub allow: Option<Vec<Network>>,

    /// How many sessions there may be at a time, in a route those of the route; whoever comes then is refused with error
    /// 1040 [default: as many as --memory has room for]
    #[arg(long, value_name = "NUMBER", env = "SPILLWAY_MAX_SESSIONS")]
    pub max_sessions: Option<u32>,

    /// Directory for what does not fit into memory [default: /var/tmp]
    #[arg(long, value_name = "DIR", env = "SPILLWAY_SPOOL_DIR")]
    pub spool_dir: Option<PathBuf>,

    /// Disk space for all sessions together, in a route for those of the route [default: no limit but --spool-min-free]
    #[arg(long, value_name = "SIZE", env = "SPILLWAY_SPOOL_MAX")]
    pub spool_max: Option<Size>,

    /// Disk space that is left free for others [default: 1GiB]
    #[arg(long, value_name = "SIZE", env = "SPILLWAY_SPOOL_MIN_FREE")]
    pub spool_min_free: Option<Size>,

    /// Compression of what is spooled to disk: off, lz4, or zstd, which makes less of it and takes more CPU
    /// [default: off]
    #[arg(long, value_name = "MODE", env = "SPILLWAY_SPOOL_COMPRESS", hide_possible_values = true)]
    pub spool_compress: Option<SpoolCompress>,

    /// Encrypt what is spooled to disk, with a key for each session that is kept in memory only
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL", env = "SPILLWAY_SPOOL_ENCRYPT")]
    pub spool_encrypt: Option<bool>,

    /// How fast a session takes results off its server at most, in bytes a second (10MiB), to spare a busy server or a
    /// shared line [default: as fast as they come]
    #[arg(long, value_name = "RATE", env = "SPILLWAY_DRAIN_LIMIT")]
    pub drain_limit: Option<Size>,

    /// The same for all sessions together [default: as fast as they come]
    #[arg(long, value_name = "RATE", env = "SPILLWAY_DRAIN_LIMIT_TOTAL")]
    pub drain_limit_total: Option<Size>,

    /// Memory for the backlog of one session [default: 16MiB]
    #[arg(long, value_name = "SIZE", env = "SPILLWAY_MEMORY_PER_SESSION")]
    pub memory_per_session: Option<Size>,

    /// Memory for the backlogs of all sessions together [default: 256MiB]
    #[arg(long, value_name = "SIZE", env = "SPILLWAY_MEMORY")]
    pub memory: Option<Size>,

    /// How long a session's thread may stay awake for the next small packet, instead of sleeping at once; 0 to sleep
    /// always [default: 200us, with a single core 0]
    #[arg(long, value_name = "TIME", env = "SPILLWAY_BUSY_POLL")]
    pub busy_poll: Option<Span>,

    /// Time between signs of life on an idle server session, at most a third of the server's shortest idle timeout
    /// [default: 10s]
    #[arg(long, value_name = "TIME", env = "SPILLWAY_KEEPALIVE")]
    pub keepalive: Option<Span>,

    /// How long the server session of an idle client is kept alive after its last byte [default: 12h]
    #[arg(long, value_name = "TIME", env = "SPILLWAY_KEEPALIVE_FOR")]
    pub keepalive_for: Option<Span>,

    /// Who checks the client's password: the server, to which it is passed on, or Spillway, which logs in by itself with
    /// credentials of its own [default: passthrough]
    #[arg(long, value_name = "MODE", env = "SPILLWAY_AUTH")]
    pub auth: Option<AuthMode>,

    /// Option file with user and password, readable by its owner alone, for --auth stored
    #[arg(long, value_name = "FILE", env = "SPILLWAY_CREDENTIALS")]
    pub credentials: Option<PathBuf>,

    /// User for --auth stored; its password is taken from SPILLWAY_PASSWORD or the configuration file
    #[arg(long, value_name = "NAME", env = "SPILLWAY_USER")]
    pub user: Option<String>,

    /// The password of `user`. No flag: others could read it in the list of processes.
    #[arg(skip)]
    pub password: Option<Secret>,

    /// What `run` found in the client's own options, for where none of the three above is given.
    #[arg(skip)]
    #[serde(skip)]
    pub clients_own: Option<Arc<Credentials>>,

    /// TLS towards the clients [default: preferred with a certificate, required with --tls-client-ca, otherwise off]
    #[arg(long, value_name = "MODE", env = "SPILLWAY_TLS")]
    pub tls: Option<ClientTlsMode>,

    /// Certificate for the clients, with its chain, in PEM
    #[arg(long, value_name = "FILE", env = "SPILLWAY_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,

    /// Key of --tls-cert, in PEM
    #[arg(long, value_name = "FILE", env = "SPILLWAY_TLS_KEY")]
    pub tls_key: Option<PathBuf>,

    /// Make a certificate at start, and log its fingerprint
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL", env = "SPILLWAY_TLS_SELF_SIGNED")]
    pub tls_self_signed: Option<bool>,

    /// CA certificates, in PEM, by which the clients' certificates are checked
    #[arg(long, value_name = "FILE", env = "SPILLWAY_TLS_CLIENT_CA")]
    pub tls_client_ca: Option<PathBuf>,

    /// Whether clients that use TLS must have a certificate of --tls-client-ca [default: required]
    #[arg(long, value_name = "MODE", env = "SPILLWAY_TLS_CLIENT_CERT")]
    pub tls_client_cert: Option<ClientCertMode>,

    /// TLS towards the server [default: preferred, or verify-ca with --upstream-tls-ca]
    #[arg(long, value_name = "MODE", env = "SPILLWAY_UPSTREAM_TLS")]
    pub upstream_tls: Option<UpstreamTlsMode>,

    /// CA certificates by which the server's is checked: a PEM file, or a directory of them
    /// [default: the system's]
    #[arg(long, value_name = "PATH", env = "SPILLWAY_UPSTREAM_TLS_CA")]
    pub upstream_tls_ca: Option<PathBuf>,

    /// Certificate that the server is shown, with its chain, in PEM
    #[arg(long, value_name = "FILE", env = "SPILLWAY_UPSTREAM_TLS_CERT")]
    pub upstream_tls_cert: Option<PathBuf>,

    /// Key of --upstream-tls-cert, in PEM
    #[arg(long, value_name = "FILE", env = "SPILLWAY_UPSTREAM_TLS_KEY")]
    pub upstream_tls_key: Option<PathBuf>,

    /// The oldest version of TLS that may be used towards the server [default: 1.2]
    #[arg(long, value_name = "VERSION", env = "SPILLWAY_UPSTREAM_TLS_MIN_VERSION")]
    pub upstream_tls_min_version: Option<TlsVersion>,

    /// The server's RSA key, in PEM, by which passwords are encrypted where the way to it is not safe
    #[arg(long, value_name = "FILE", env = "SPILLWAY_UPSTREAM_SERVER_PUBLIC_KEY")]
    pub upstream_server_public_key: Option<PathBuf>,

    /// Ask the server for its RSA key also where others could give theirs instead
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL", env = "SPILLWAY_GET_SERVER_PUBLIC_KEY")]
    pub get_server_public_key: Option<bool>,

    /// Let a client's password go on in clear where the way to the server is less safe than the client's
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL", env = "SPILLWAY_ALLOW_CLEARTEXT")]
    pub allow_cleartext: Option<bool>,

    /// Compression towards the server: off, zlib, or zstd (MySQL's servers only), if the server offers it
    /// [default: off]
    #[arg(long, value_name = "MODE", env = "SPILLWAY_UPSTREAM_COMPRESSION", hide_possible_values = true)]
    pub upstream_compression: Option<UpstreamCompression>,

    /// How long a client may wait for its login, all attempts to reach the server together [default: 60s]
    #[arg(long, value_name = "TIME", env = "SPILLWAY_HANDSHAKE_TIMEOUT")]
    pub handshake_timeout: Option<Span>,

    /// How long the resolver may take for the server's name [default: 15s]
    #[arg(long, value_name = "TIME", env = "SPILLWAY_RESOLVE_TIMEOUT")]
    pub resolve_timeout: Option<Span>,

    /// How long the connection to one address of the server may take [default: 10s]
    #[arg(long, value_name = "TIME", env = "SPILLWAY_CONNECT_TIMEOUT")]
    pub connect_timeout: Option<Span>,

    /// How long the server may take to greet [default: 30s]
    #[arg(long, value_name = "TIME", env = "SPILLWAY_GREETING_TIMEOUT")]
    pub greeting_timeout: Option<Span>,

    /// How long the server may take for each of its packets in the login [default: 20s]
    #[arg(long, value_name = "TIME", env = "SPILLWAY_AUTH_TIMEOUT")]
    pub auth_timeout: Option<Span>,

    /// How long the host of a server or a client may answer nothing that it is sent, before the session is given up. A
    /// client that is slow, or stands still, answers [default: 120s]
    #[arg(long, value_name = "TIME", env = "SPILLWAY_PEER_TIMEOUT")]
    pub peer_timeout: Option<Span>,

    /// How long a client may take for its own part of the login, TLS included [default: 60s]
    #[arg(long, value_name = "TIME", env = "SPILLWAY_LOGIN_TIMEOUT")]
    pub login_timeout: Option<Span>,

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

    /// Tell the server whom each connection is made for, by a PROXY header (version 2): it must take these from
    /// Spillway's host (MariaDB: proxy_protocol_networks)
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL", env = "SPILLWAY_UPSTREAM_PROXY_PROTOCOL")]
    pub upstream_proxy_protocol: Option<bool>,

    /// Clients that begin with a PROXY header (version 1 or 2), and must: those of these networks (ADDRESS/BITS), of
    /// Unix sockets (localhost), or all (*)
    #[arg(long, value_name = "NETWORK", value_delimiter = ',', env = "SPILLWAY_PROXY_PROTOCOL_NETWORKS")]
    #[serde(deserialize_with = "one_or_many")]
    pub proxy_protocol_networks: Option<Vec<Network>>,

    /// Serve metrics for Prometheus at /metrics of this address, with /healthz and /readyz; port 0 takes a free one
    /// [default: nowhere]
    #[arg(long, value_name = "ADDR:PORT", env = "SPILLWAY_METRICS", value_parser = Endpoint::parse_http)]
    #[serde(deserialize_with = "http_address")]
    pub metrics: Option<Endpoint>,

    /// Serve a web page of the running sessions on this address, which may be that of --metrics. Its password is taken
    /// from SPILLWAY_WEB_PASSWORD or the configuration file; without one only on loopback [default: nowhere]
    #[arg(long, value_name = "ADDR:PORT", env = "SPILLWAY_WEB", value_parser = Endpoint::parse_http)]
    #[serde(deserialize_with = "http_address")]
    pub web: Option<Endpoint>,

    /// The password of the web page. No flag, as above.
    #[arg(skip)]
    pub web_password: Option<Secret>,

    /// Serve a console for operators at ADDR:PORT or unix:PATH: mysql -u admin … -e 'SHOW SESSIONS'. Its password is
    /// taken from SPILLWAY_CONSOLE_PASSWORD or the configuration file; without one only on loopback or a socket
    /// [default: nowhere]
    #[arg(long, value_name = "ADDR", env = "SPILLWAY_CONSOLE", value_parser = Endpoint::parse_listen)]
    #[serde(deserialize_with = "listen_address")]
    pub console: Option<Endpoint>,

    /// The password of the console. No flag, as above.
    #[arg(skip)]
    pub console_password: Option<Secret>,

    /// What to log: error, warn, info, debug or trace, for all or by module [default: info for
    /// serve, warn for run, error for check]
    #[arg(long, value_name = "LEVEL", env = "SPILLWAY_LOG_LEVEL")]
    pub log_level: Option<LogLevel>,

    /// How to log: a line an event for people, or an object of JSON a line for programs [default: human]
    #[arg(long, value_name = "FORMAT", env = "SPILLWAY_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,

    /// Configuration file in TOML; its keys are these options with _ for -. For serve it may have several routes
    #[arg(long, value_name = "FILE", env = "SPILLWAY_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
}

/// Who checks the client's password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// The server
    Passthrough,
    /// Spillway
    Stored,
}

/// TLS towards the clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ClientTlsMode {
    /// Not offered.
    Off,
    /// Offered.
    Preferred,
    /// Clients without it are refused, but for those that come over a Unix socket.
    Required,
}

/// Certificates of the clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ClientCertMode {
    /// A client may have none; the one that it has must be good.
    Optional,
    /// A client must have one.
    Required,
}

/// TLS towards the server, in the words of MySQL's clients. The later ones ask for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum UpstreamTlsMode {
    /// Never.
    Off,
    /// Where the server offers it, and it is reached over the network.
    Preferred,
    /// Always.
    Required,
    /// Always, and the server's certificate must be of a known CA.
    VerifyCa,
    /// The same, and the certificate must be for the name by which the server is reached.
    VerifyIdentity,
}

/// Compression towards the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamCompression {
    /// None.
    Off,
    /// By zlib.
    Zlib,
    /// By zstd.
    Zstd,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// For programs.
    Json,
}

/// Compression of the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum SpoolCompress {
    /// None.
    Off,
    /// By LZ4.
    Lz4,
    /// By zstd.
    Zstd,
}

/// Versions of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, ValueEnum)]
pub enum TlsVersion {
    /// RFC 5246.
    #[value(name = "1.2")]
    #[serde(rename = "1.2")]
    V12,
    /// RFC 8446.
    #[value(name = "1.3")]
    #[serde(rename = "1.3")]
    V13,
}
