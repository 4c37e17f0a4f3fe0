//! Certificates and keys, in PEM.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tracing::warn;

/// TLS cannot be set up as it is asked for. Exit code 78.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{option} {}: {source}", path.display())]
    Unreadable {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{option} {}: {problem}", path.display())]
    Unfit {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// A certificate and a key that do not belong together.
    #[error(
        "{option} {}: cannot be used with the key in {}: {source}; give the key that the certificate was made for",
        certificate.display(),
        key.display()
    )]
    KeyPair {
        /// The option that names the certificate.
        option: &'static str,
        /// Its file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What TLS says of them.
        source: Box<tokio_rustls::rustls::Error>,
    },
    /// The system has no CA certificates.
    #[error(
        "no CA certificates are installed on this system ({0}): install ca-certificates, or name the server's CA by \
         --upstream-tls-ca"
    )]
    NoRoots(String),
    /// TLS itself refuses.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

impl TlsError {
    /// The option that names the file with which something is wrong.
    pub(crate) fn option(&self) -> Option<&'static str> {
        match self {
            Self::Unreadable { option, .. } | Self::Unfit { option, .. } | Self::KeyPair { option, .. } => {
                Some(*option)
            }
            Self::NoRoots(_) | Self::Setup(_) => None,
        }
    }
}

/// The certificates of a file, the peer's own first.
pub(super) fn read_certificates(
    option: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |error| pem_failed(option, path, error, "no certificate in it: it must be in PEM");
    let certificates = CertificateDer::pem_file_iter(path).map_err(failed)?;
    let certificates = certificates.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    if certificates.is_empty() {
        return Err(failed(PemError::NoItemsFound));
    }
    Ok(certificates)
}

/// The key of a file.
pub(super) fn read_key(option: &'static str, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let missing = "no private key in it: it must be in PEM, and not encrypted";
    let key = PrivateKeyDer::from_pem_file(path).map_err(|error| pem_failed(option, path, error, missing))?;
    if std::fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o004 != 0) {
        warn!(option, path = %path.display(), "everybody on this host can read the private key: take that right away");
    }
    Ok(key)
}

fn pem_failed(option: &'static str, path: &Path, error: PemError, missing: &str) -> TlsError {
    let path = path.to_owned();
    match error {
        PemError::Io(source) => TlsError::Unreadable { option, path, source },
        PemError::NoItemsFound => TlsError::Unfit { option, path, problem: missing.to_owned() },
        // What it says may have a line of the file in it, and that may be a key's.
        _ => TlsError::Unfit { option, path, problem: "is damaged: it is no whole PEM file".to_owned() },
    }
}

/// The CA certificates of a file, or of all files of a directory.
pub(super) fn read_roots(option: &'static str, path: &Path) -> Result<RootCertStore, TlsError> {
    let unreadable = |source| TlsError::Unreadable { option, path: path.to_owned(), source };
    let mut roots = RootCertStore::empty();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).map_err(unreadable)? {
            let file = entry.map_err(unreadable)?.path();
            // Such directories also hold links by hash, and revocation lists.
            if let Ok(certificates) = read_certificates(option, &file) {
                roots.add_parsable_certificates(certificates);
            }
        }
    } else {
        for certificate in read_certificates(option, path)? {
            roots.add(certificate).map_err(|error| {
                let problem = format!("holds a certificate that is none: {error}");
                TlsError::Unfit { option, path: path.to_owned(), problem }
            })?;
        }
    }
    if roots.is_empty() {
        let problem = "no CA certificate in it: it must hold some, in PEM".to_owned();
        return Err(TlsError::Unfit { option, path: path.to_owned(), problem });
    }
    Ok(roots)
}

/// The CA certificates of the system.
pub(super) fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
        return Err(TlsError::NoRoots(why));
    }
    Ok(roots)
}
