//! What keeps settings from being used.

use std::fmt;
use std::path::PathBuf;

use super::keys::key_of;
use super::units::Size;
use crate::credentials::CredentialsError;
use crate::endpoint::Endpoint;
use crate::listener::ListenError;
use crate::socket_activation::ActivationError;
use crate::tls::TlsError;

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
    /// Sockets were passed that do not go with the addresses.
    #[error(transparent)]
    Activation(#[from] ActivationError),
    /// The file is no configuration.
    #[error("{place}: {message}")]
    Malformed {
        /// Where the mistake is.
        place: Box<Place>,
        /// What is wrong.
        message: String,
    },
    /// What the file says cannot be used.
    #[error("{place}: {problem}")]
    InFile {
        /// Where it says so.
        place: Box<Place>,
        /// What is wrong.
        problem: Box<Self>,
    },
    /// Where to listen, or what to reach, is said for all routes at once.
    #[error("the file has routes, each with {key} of its own: drop --{key} (or SPILLWAY_{})", key.to_uppercase())]
    BesideRoutes {
        /// What is said.
        key: &'static str,
    },
    /// The same as in another route.
    #[error("{what} is also that of the route at line {line}: each needs its own")]
    Twice {
        /// What is the same.
        what: String,
        /// Where the other one begins.
        line: usize,
    },
    /// A route does not say where to listen.
    #[error("no address to listen on: add listen = \"ADDR:PORT\" to the route")]
    NoListen,
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
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
    /// The server's RSA key is of no use.
    #[error(
        "--upstream-server-public-key {}: {problem}; name the file that the server has as public_key.pem (SHOW STATUS \
         LIKE 'Caching_sha2_password_rsa_public_key' shows it, too)",
        path.display()
    )]
    ServerPublicKey {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
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
    /// Certificates and keys cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// TLS for the clients, and nothing to show them.
    #[error("--tls is on and there is no certificate: give --tls-cert and --tls-key, or --tls-self-signed")]
    NoCertificate,
    /// Two certificates for the clients.
    #[error("--tls-self-signed makes a certificate, and --tls-cert names another: drop one of the two")]
    TwoCertificates,
    /// An option that has no sense without another.
    #[error("{option} is of no use without {needed}: give that, too, or drop it")]
    Without {
        /// The option.
        option: &'static str,
        /// The other.
        needed: &'static str,
    },
    /// Clients could do without the certificate that they must have.
    #[error(
        "--tls preferred lets clients in without TLS, and so without the certificate of --tls-client-ca: make it \
         --tls required, or add --tls-client-cert optional"
    )]
    ClientsWithoutTls,
    /// A CA that nothing is checked by.
    #[error(
        "--upstream-tls-ca is given, and --upstream-tls says not to check the server's certificate: make it verify-ca \
         or verify-identity, or drop the CA"
    )]
    UnusedCa,
    /// The account's file cannot be used, or the configuration file holds a password and is open to others.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// Spillway is to know the account, and does not.
    #[error(
        "auth = stored, but no account is known: give --credentials FILE, or --user NAME and the password in \
         SPILLWAY_PASSWORD (or both in the configuration file)"
    )]
    NoCredentials,
    /// There is a user and no password.
    #[error(
        "a user is given and no password: set SPILLWAY_PASSWORD, empty if there is none, or password in the \
         configuration file, or name a file with both by --credentials"
    )]
    NoPassword,
    /// There is a password and no user.
    #[error(
        "a password is given and no user: name it with --user (or SPILLWAY_USER, or user in the configuration file)"
    )]
    NoUser,
    /// The account is named twice.
    #[error(
        "credentials are given twice: drop --credentials (SPILLWAY_CREDENTIALS), or --user and the password \
         (SPILLWAY_USER, SPILLWAY_PASSWORD); look into the configuration file, too"
    )]
    TwoAccounts,
    /// There is an account, and the client's own is used.
    #[error(
        "{0} is given, but the client's own password is passed on: add --auth stored (or SPILLWAY_AUTH, or auth in the \
         configuration file), or drop it"
    )]
    UnusedCredentials(&'static str),
}

impl ConfigError {
    /// The key of the file whose value is the problem, as far as it is that of one.
    pub(super) fn key(&self) -> Option<&'static str> {
        match self {
            Self::NoUpstream | Self::SocketUpstream { .. } => Some("upstream"),
            Self::SpoolDir { .. } => Some("spool_dir"),
            Self::ServerPublicKey { .. } => Some("upstream_server_public_key"),
            Self::TooSmall { option, .. } | Self::NoTime { option } | Self::Without { option, .. } => {
                key_of(option)
            }
            Self::Tls(error) => error.option().and_then(key_of),
            Self::NoCertificate | Self::ClientsWithoutTls => Some("tls"),
            Self::TwoCertificates => Some("tls_self_signed"),
            Self::UnusedCa => Some("upstream_tls_ca"),
            Self::Credentials(_) | Self::TwoAccounts => Some("credentials"),
            Self::NoCredentials => Some("auth"),
            Self::NoPassword => Some("user"),
            Self::NoUser => Some("password"),
            // The password's is no option.
            Self::UnusedCredentials(option) => key_of(option).or(Some("password")),
            Self::BesideRoutes { key } => Some(*key),
            Self::Listen(_) => Some("listen"),
            Self::Unreadable { .. }
            | Self::Malformed { .. }
            | Self::InFile { .. }
            | Self::Twice { .. }
            | Self::Activation(_)
            | Self::NoListen => None,
        }
    }
}

/// A place in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The name of the route, if it is in one that has a name.
    pub route: Option<String>,
    /// The key, if it is at one.
    pub key: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--config {}: line {}", self.path.display(), self.line)?;
        match (&self.route, &self.key) {
            (Some(route), Some(key)) => write!(f, ": route {route}, {key}"),
            (Some(route), None) => write!(f, ": route {route}"),
            (None, Some(key)) => write!(f, ": {key}"),
            (None, None) => Ok(()),
        }
    }
}
