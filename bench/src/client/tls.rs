//! TLS for the raw client.

use std::net::{IpAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// A stream under TLS with the server at `ip`, whose certificate has to be of the authority in this file. The handshake
/// comes with the first bytes that are sent.
pub(super) fn connect(
    stream: TcpStream,
    ip: IpAddr,
    authority: &Path,
) -> Result<StreamOwned<ClientConnection, TcpStream>> {
    let file = || authority.display().to_string();
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authority).with_context(file)? {
        roots.add(certificate.with_context(file)?).with_context(file)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(StreamOwned::new(ClientConnection::new(Arc::new(config), ServerName::from(ip))?, stream))
}
