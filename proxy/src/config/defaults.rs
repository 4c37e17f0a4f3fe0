//! What holds where nothing is said.

use std::num::NonZero;
use std::path::PathBuf;
use std::thread::available_parallelism;
use std::time::Duration;

use super::settings::{
    AuthMode, ClientCertMode, LogFormat, Settings, SpoolCompress, TlsVersion, UpstreamCompression,
};
use super::units::{LogLevel, Size, Span};
use crate::backend::limits::Limits;
use crate::endpoint::Endpoint;
use crate::proxy_protocol::Network;

pub(super) const MEMORY: Size = Size(256 << 20);
pub(super) const MEMORY_PER_SESSION: Size = Size(16 << 20);
pub(super) const SPOOL_MIN_FREE: Size = Size(1 << 30);
pub(super) const KEEPALIVE: Duration = Duration::from_secs(10);
pub(super) const KEEPALIVE_FOR: Duration = Duration::from_secs(12 * 3600);
pub(super) const SHUTDOWN_GRACE: Duration = Duration::from_secs(3600);

pub(super) fn listen() -> Vec<Endpoint> {
    vec![Endpoint::Tcp { host: "127.0.0.1".to_owned(), port: 3307 }]
}

pub(super) fn spool_dir() -> PathBuf {
    PathBuf::from("/var/tmp")
}

/// With a single core nobody could bring the packet that is waited for.
pub(super) fn busy_poll() -> Duration {
    match available_parallelism().map(NonZero::get) {
        Ok(cores) if cores > 1 => Duration::from_micros(200),
        _ => Duration::ZERO,
    }
}

/// The statement that keeps a server from ending a dump even where the spool is full: its own limit for a client that
/// does not read, raised to a day.
pub(super) fn session_init() -> Vec<String> {
    vec!["SET SESSION net_write_timeout = 86400".to_owned()]
}

impl Settings {
    /// What holds for `serve` where these settings say nothing. What has no value here has none without a setting.
    pub(super) fn defaults(&self) -> Self {
        let Limits { resolve, connect, greeting, auth, handshake, login, peer } = Limits::default();
        Self {
            listen: Some(listen()),
            log_level: Some(LogLevel::default()),
            log_format: Some(LogFormat::Human),
            shutdown_grace: Some(Span(SHUTDOWN_GRACE)),
            allow: Some(vec![Network::Any]),
            busy_poll: Some(Span(busy_poll())),
            memory: Some(MEMORY),
            memory_per_session: Some(MEMORY_PER_SESSION),
            spool_dir: Some(spool_dir()),
            spool_min_free: Some(SPOOL_MIN_FREE),
            spool_compress: Some(SpoolCompress::Off),
            spool_encrypt: Some(false),
            session_init: Some(session_init()),
            keepalive: Some(Span(KEEPALIVE)),
            keepalive_for: Some(Span(KEEPALIVE_FOR)),
            handshake_timeout: Some(Span(handshake)),
            resolve_timeout: Some(Span(resolve)),
            connect_timeout: Some(Span(connect)),
            greeting_timeout: Some(Span(greeting)),
            auth_timeout: Some(Span(auth)),
            peer_timeout: Some(Span(peer)),
            login_timeout: Some(Span(login)),
            auth: Some(AuthMode::Passthrough),
            get_server_public_key: Some(false),
            allow_cleartext: Some(false),
            allow_socket_upstream: Some(false),
            proxy_protocol_networks: Some(Vec::new()),
            tls: Some(self.default_tls()),
            tls_self_signed: Some(false),
            tls_client_cert: self.tls_client_ca.as_ref().map(|_| ClientCertMode::Required),
            upstream_tls: Some(self.default_upstream_tls()),
            upstream_tls_min_version: Some(TlsVersion::V12),
            upstream_compression: Some(UpstreamCompression::Off),
            upstream_proxy_protocol: Some(false),
            ..Self::default()
        }
    }
}
