//! Joins what the client's options ask of TLS with what Spillway itself is told: the stricter one holds.

use std::path::PathBuf;

use super::demand::TlsDemand;
use crate::config::{Settings, UpstreamTlsMode};
use crate::endpoint::Endpoint;

/// The client asks for what Spillway cannot give, or is told not to give. Exit code 78.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsDemandError {
    /// Spillway is told to do without TLS.
    #[error(
        "`--{option}` asks for TLS on the way to the server, and --upstream-tls off (or SPILLWAY_UPSTREAM_TLS, or \
         upstream_tls in the configuration file) forbids it: drop one of the two"
    )]
    Forbidden {
        /// Name of the client's option without its dashes, perhaps with its value.
        option: String,
    },
    /// The client restricts TLS in a way that Spillway does not know.
    #[error(
        "`--{option}` cannot be kept on the way to the server ({why}): drop it (command line and option files), or \
         tell Spillway itself how strict to be, with --upstream-tls {least} or more"
    )]
    Unkept {
        /// Name of the client's option without its dashes.
        option: String,
        /// What Spillway does instead.
        why: &'static str,
        /// The client's own strictness.
        least: &'static str,
    },
    /// The client would check the server's certificate by nothing.
    #[error(
        "`--{option}` asks for a check of the server's certificate and needs a CA: add --ssl-ca or --ssl-capath, or \
         give Spillway --upstream-tls-ca, or --upstream-tls {least} for those of the system"
    )]
    NoCa {
        /// Name of the client's option without its dashes, with its value.
        option: String,
        /// The client's own strictness.
        least: &'static str,
    },
    /// CA certificates in two places.
    #[error(
        "CA certificates are named twice, {} and {}, and Spillway reads them from one place: name that by \
         --upstream-tls-ca",
        file.display(),
        directory.display()
    )]
    TwoCas {
        /// The file.
        file: PathBuf,
        /// The directory.
        directory: PathBuf,
    },
    /// mydumper wants TLS on its way to Spillway, too.
    #[error(
        "`{option}` in an option file makes {client} ask for TLS on the private socket, too, which has none, and no \
         option withdraws it: take it out of the file, and give Spillway --upstream-tls {least} instead"
    )]
    Fixed {
        /// The option.
        option: String,
        /// The name of the client.
        client: &'static str,
        /// The client's own strictness.
        least: &'static str,
    },
}

impl TlsDemand {
    /// Adds to `settings` what the client's options ask for. What `settings` say themselves goes before where one
    /// cannot be called stricter than the other: files of certificates and keys.
    ///
    /// # Errors
    /// [`TlsDemandError`] if the connection would be weaker than the client asks for.
    pub(crate) fn join(&self, settings: &mut Settings) -> Result<(), TlsDemandError> {
        let asked = self.mode_towards(settings.upstream.as_deref().unwrap_or_default());
        let is_remote = !settings.upstream.iter().flatten().all(is_local);
        if self.insists_by_default && is_remote && settings.upstream_tls_ca.is_none() {
            // A default, which gives way to anything that was said.
            settings.upstream_tls.get_or_insert(UpstreamTlsMode::Required);
        }
        let ca_alone = settings.upstream_tls_ca.as_ref().map(|_| UpstreamTlsMode::VerifyCa);
        let own = settings.upstream_tls.or(ca_alone);
        if own < asked && asked >= Some(UpstreamTlsMode::Required) {
            if own == Some(UpstreamTlsMode::Off) {
                return Err(TlsDemandError::Forbidden { option: self.because.clone() });
            }
            self.check_kept(settings)?;
        }
        let mode = own.max(asked);
        settings.upstream_tls = mode;
        if mode == Some(UpstreamTlsMode::Off) {
            return Ok(());
        }
        if mode >= Some(UpstreamTlsMode::VerifyCa) && settings.upstream_tls_ca.is_none() {
            settings.upstream_tls_ca = self.trusted()?;
        }
        if settings.upstream_tls_cert.is_none() && settings.upstream_tls_key.is_none() {
            // The clients look for both in the one file that is named.
            settings.upstream_tls_cert = self.certificate.clone().or_else(|| self.key.clone());
            settings.upstream_tls_key = self.key.clone().or_else(|| self.certificate.clone());
        }
        settings.upstream_tls_min_version = settings.upstream_tls_min_version.max(self.min_version);
        Ok(())
    }

    /// Whether files must be there because of the client's options.
    pub(crate) fn concerns_files(&self) -> bool {
        let named =
            [&self.ca, &self.ca_directory, &self.certificate, &self.key].into_iter().any(Option::is_some);
        named || self.mode >= Some(UpstreamTlsMode::VerifyCa)
    }

    /// The strictness as an option of Spillway's.
    pub(crate) fn least(&self) -> &'static str {
        match self.mode {
            None | Some(UpstreamTlsMode::Preferred) => "preferred",
            Some(UpstreamTlsMode::Off) => "off",
            Some(UpstreamTlsMode::Required) => "required",
            Some(UpstreamTlsMode::VerifyCa) => "verify-ca",
            Some(UpstreamTlsMode::VerifyIdentity) => "verify-identity",
        }
    }

    fn mode_towards(&self, servers: &[Endpoint]) -> Option<UpstreamTlsMode> {
        let any_name = self.any_name_if_local && servers.iter().all(is_local);
        self.mode.map(|mode| if any_name { mode.min(UpstreamTlsMode::VerifyCa) } else { mode })
    }

    /// Refuses what would be lost. Whoever tells Spillway itself to be as strict has decided about it.
    fn check_kept(&self, settings: &Settings) -> Result<(), TlsDemandError> {
        let unkept = |option: &str, why| TlsDemandError::Unkept {
            option: option.to_owned(),
            why,
            least: self.least(),
        };
        if let Some((option, why)) = self.unkept.first() {
            return Err(unkept(option, why));
        }
        let servers = settings.upstream.as_deref().unwrap_or_default();
        let is_told = |name: &str| {
            servers.iter().all(|server| matches!(server, Endpoint::Tcp { host, .. } if host == name))
        };
        if self.server_name.as_deref().is_some_and(|name| !is_told(name)) {
            return Err(unkept(
                "tls-sni-servername",
                "Spillway tells the server the name by which it is reached",
            ));
        }
        let checks = self.mode >= Some(UpstreamTlsMode::VerifyCa);
        let has_ca = self.ca.is_some() || self.ca_directory.is_some() || settings.upstream_tls_ca.is_some();
        if checks && self.needs_ca && !has_ca {
            return Err(TlsDemandError::NoCa { option: self.because.clone(), least: self.least() });
        }
        Ok(())
    }

    fn trusted(&self) -> Result<Option<PathBuf>, TlsDemandError> {
        match (&self.ca, &self.ca_directory) {
            (Some(file), Some(directory)) => {
                Err(TlsDemandError::TwoCas { file: file.clone(), directory: directory.clone() })
            }
            (file, directory) => Ok(file.clone().or_else(|| directory.clone())),
        }
    }
}

/// As MariaDB's library sees it: 127.0.0.2 is another host.
fn is_local(server: &Endpoint) -> bool {
    match server {
        Endpoint::Unix(_) => true,
        Endpoint::Tcp { host, .. } => matches!(host.as_str(), "localhost" | "127.0.0.1" | "::1"),
    }
}
