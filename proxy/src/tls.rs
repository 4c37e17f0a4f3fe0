//! TLS: the certificates of either side, and what is asked of the peer's.
//!
//! Both sides are independent of each other: `ClientTls` is what clients are offered, `UpstreamTls` what servers are
//! asked for. Their files are read at start; SIGHUP makes both anew.

mod clients;
mod files;
mod upstream;
mod verify;

use std::sync::Arc;

use tokio_rustls::rustls;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;

pub(crate) use clients::{
    ClientCertificates, ClientTls, ClientTlsFiles, Identity, OwnCertificate, SelfSigned,
};
pub use files::TlsError;
pub(crate) use upstream::{TlsFailure, UpstreamTls, UpstreamTlsFiles};

fn provider() -> Arc<CryptoProvider> {
    Arc::new(default_provider())
}

/// What TLS says went wrong, if it was TLS and not the socket.
pub(crate) fn tls_error(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}
