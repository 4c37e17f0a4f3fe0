//! TLS towards the clients.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{CertificateParams, KeyPair};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::{NoClientAuth, WebPkiClientVerifier};
use tracing::{info, warn};

use super::files::{TlsError, read_certificates, read_key, read_roots};
use super::provider;
use super::verify::dates_problem;

/// The certificate that clients are shown.
pub(crate) enum OwnCertificate {
    /// Read from files. The key may be in the same file.
    Files {
        certificate: PathBuf,
        key: PathBuf,
    },
    SelfSigned(Arc<SelfSigned>),
}

/// A certificate of Spillway's own making, with its key.
pub(crate) struct SelfSigned {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl SelfSigned {
    /// A new certificate for this host, known to nobody.
    ///
    /// # Errors
    /// [`TlsError::Setup`] if the library cannot make one.
    pub(crate) fn make() -> Result<Self, TlsError> {
        let failed = |error: rcgen::Error| TlsError::Setup(error.to_string());
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        names.extend(nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()));
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = CertificateParams::new(names).map_err(failed)?.self_signed(&key).map_err(failed)?;
        Ok(Self {
            certificate: certificate.into(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        })
    }
}

/// Without the key.
impl std::fmt::Debug for SelfSigned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SelfSigned").finish_non_exhaustive()
    }
}

/// How the clients' own certificates are checked.
pub(crate) struct ClientCertificates {
    pub(crate) ca: PathBuf,
    pub(crate) required: bool,
}

/// Where all of it comes from.
pub(crate) struct ClientTlsFiles {
    pub(crate) own: OwnCertificate,
    pub(crate) clients: Option<ClientCertificates>,
}

/// TLS as clients are offered it.
#[derive(Debug)]
pub(crate) struct ClientTls {
    /// Whether clients on the network must use it.
    pub(crate) required: bool,
    pub(crate) identity: Arc<Identity>,
}

/// What a client that begins TLS is shown.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) config: Arc<ServerConfig>,
    /// SHA-256 of the certificate.
    pub(crate) fingerprint: [u8; 32],
    /// What is wrong with its dates.
    dates_problem: Option<&'static str>,
}

impl ClientTls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] if one of them cannot be used.
    pub(crate) fn new(files: &ClientTlsFiles, required: bool) -> Result<Self, TlsError> {
        let identity = files.read()?;
        files.tell(&identity);
        Ok(Self { required, identity: Arc::new(identity) })
    }
}

impl ClientTlsFiles {
    fn read(&self) -> Result<Identity, TlsError> {
        let setup = |error: tokio_rustls::rustls::Error| TlsError::Setup(error.to_string());
        let verifier = match &self.clients {
            None => Arc::new(NoClientAuth),
            Some(ClientCertificates { ca, required }) => {
                let roots = Arc::new(read_roots("--tls-client-ca", ca)?);
                let builder = WebPkiClientVerifier::builder_with_provider(roots, provider());
                let builder = if *required { builder } else { builder.allow_unauthenticated() };
                builder.build().map_err(|error| TlsError::Setup(error.to_string()))?
            }
        };
        let (chain, key) = match &self.own {
            OwnCertificate::Files { certificate, key } => {
                (read_certificates("--tls-cert", certificate)?, read_key("--tls-key", key)?)
            }
            OwnCertificate::SelfSigned(made) => (vec![made.certificate.clone()], made.key.clone_key()),
        };
        let own = chain.first().cloned().unwrap_or_else(|| CertificateDer::from_slice(&[]));
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.map_err(setup)?.with_client_cert_verifier(verifier);
        let config = builder.with_single_cert(chain, key).map_err(|source| match &self.own {
            OwnCertificate::Files { certificate, key } => TlsError::KeyPair {
                option: "--tls-cert",
                certificate: certificate.clone(),
                key: key.clone(),
                source: Box::new(source),
            },
            OwnCertificate::SelfSigned(_) => setup(source),
        })?;
        let (fingerprint, dates_problem) = (fingerprint(&own), dates_problem(&own));
        Ok(Identity { config: Arc::new(config), fingerprint, dates_problem })
    }

    /// Tells the log by what the clients can recognise the certificate.
    fn tell(&self, identity: &Identity) {
        let sha256 = in_hex(&identity.fingerprint);
        match &self.own {
            OwnCertificate::Files { certificate, .. } => {
                info!(certificate = %certificate.display(), sha256, "certificate for the clients");
            }
            OwnCertificate::SelfSigned(_) => info!(sha256, "self-signed certificate for the clients"),
        }
        if let Some(problem) = identity.dates_problem {
            warn!(sha256, problem, "clients that check the certificate will refuse it");
        }
    }
}

fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest(&SHA256, certificate).as_ref());
    fingerprint
}

/// `AB:CD:…`, as OpenSSL and the clients write it.
fn in_hex(bytes: &[u8]) -> String {
    bytes.iter().enumerate().fold(String::new(), |mut text, (i, byte)| {
        let _ = write!(text, "{}{byte:02X}", if i == 0 { "" } else { ":" });
        text
    })
}
