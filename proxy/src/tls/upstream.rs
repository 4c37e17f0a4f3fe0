//! TLS towards the server.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{CertificateError, ClientConfig, Error, SupportedProtocolVersion};

use super::files::{TlsError, read_certificates, read_key, read_roots, system_roots};
use super::verify::{AnyCertificate, ByCa};
use super::{provider, tls_error};
use crate::config::{TlsVersion, UpstreamTlsMode};

/// Where all of it comes from.
#[derive(Debug)]
pub(crate) struct UpstreamTlsFiles {
    pub(crate) mode: UpstreamTlsMode,
    pub(crate) min_version: TlsVersion,
    /// A file or a directory; the system's roots without it.
    pub(crate) ca: Option<PathBuf>,
    /// Certificate and key that the server is shown.
    pub(crate) own: Option<(PathBuf, PathBuf)>,
}

/// TLS as servers are asked for it.
#[derive(Debug)]
pub(crate) struct UpstreamTls {
    mode: UpstreamTlsMode,
    config: Option<Arc<ClientConfig>>,
}

impl UpstreamTls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] if one of them cannot be used.
    pub(crate) fn new(files: &UpstreamTlsFiles) -> Result<Self, TlsError> {
        Ok(Self { mode: files.mode, config: files.read()? })
    }

    /// How strict it is.
    pub(crate) fn mode(&self) -> UpstreamTlsMode {
        self.mode
    }

    /// Whether the name in the server's certificate must be right.
    pub(crate) fn checks_name(&self) -> bool {
        self.mode == UpstreamTlsMode::VerifyIdentity
    }

    /// How TLS begins with a server, if it does.
    ///
    /// # Errors
    /// [`TlsFailure::NotOffered`] if it must begin and the server has none.
    pub(crate) fn wanted(
        &self,
        offered: bool,
        over_socket: bool,
    ) -> Result<Option<Arc<ClientConfig>>, TlsFailure> {
        match self.mode {
            UpstreamTlsMode::Off => Ok(None),
            UpstreamTlsMode::Preferred if over_socket || !offered => Ok(None),
            _ if !offered => Err(TlsFailure::NotOffered),
            _ => Ok(self.config.clone()),
        }
    }
}

impl UpstreamTlsFiles {
    fn read(&self) -> Result<Option<Arc<ClientConfig>>, TlsError> {
        if self.mode == UpstreamTlsMode::Off {
            return Ok(None);
        }
        let setup = |error: Error| TlsError::Setup(error.to_string());
        let versions: &[&SupportedProtocolVersion] = match self.min_version {
            TlsVersion::V12 => &[&TLS13, &TLS12],
            TlsVersion::V13 => &[&TLS13],
        };
        let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions);
        let builder = builder.map_err(setup)?.dangerous();
        let builder = builder.with_custom_certificate_verifier(self.verifier()?);
        let config = match &self.own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = read_certificates("--upstream-tls-cert", certificate)?;
                let with_key = builder.with_client_auth_cert(chain, read_key("--upstream-tls-key", key)?);
                with_key.map_err(|source| TlsError::KeyPair {
                    option: "--upstream-tls-cert",
                    certificate: certificate.clone(),
                    key: key.clone(),
                    source: Box::new(source),
                })?
            }
        };
        Ok(Some(Arc::new(config)))
    }

    fn verifier(&self) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
        if self.mode < UpstreamTlsMode::VerifyCa {
            return Ok(Arc::new(AnyCertificate));
        }
        let roots = match &self.ca {
            Some(path) => read_roots("--upstream-tls-ca", path)?,
            None => system_roots()?,
        };
        Ok(Arc::new(ByCa::new(roots, self.mode < UpstreamTlsMode::VerifyIdentity)?))
    }
}

/// Why TLS with a server did not come about, other than by a lost connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsFailure {
    #[error(
        "the server offers no TLS, and it is demanded (--upstream-tls, or the options of run's command, or by default its client, if that is of MariaDB 11.4 or later: --skip-ssl does without): turn it on there (ssl_cert, ssl_key)"
    )]
    NotOffered,
    #[error(
        "{0} is no name that a certificate can have: name the server otherwise, or use --upstream-tls verify-ca"
    )]
    NoName(String),
    #[error("{error}; {}", advice(.error))]
    Failed { error: Box<Error> },
}

impl TlsFailure {
    /// What TLS says; the error itself where it was the socket.
    pub(crate) fn of(error: io::Error) -> Result<Self, io::Error> {
        tls_error(&error).cloned().map_or(Err(error), |error| Ok(Self::Failed { error: Box::new(error) }))
    }
}

/// What to do.
fn advice(error: &Error) -> &'static str {
    match error {
        Error::InvalidCertificate(error) => match error {
            CertificateError::UnknownIssuer => {
                "if the server's certificate is right, name its CA by --upstream-tls-ca"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "name the server as its certificate does (in subjectAltName), or check the CA only by --upstream-tls \
                 verify-ca"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "renew the server's certificate, and see that the clocks are right"
            }
            _ => {
                "give the server a certificate of version 3 that the CA has signed, or name its own, if it has signed \
                 itself, by --upstream-tls-ca"
            }
        },
        Error::AlertReceived(_) => {
            "the server's error log may say why; it may want a certificate (--upstream-tls-cert)"
        }
        _ => "see which versions of TLS the server speaks (tls_version); --upstream-tls off does without",
    }
}
