//! Settings of TLS, made into what both sides use.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::ConfigError;
use super::settings::{ClientCertMode, ClientTlsMode, Settings, TlsVersion, UpstreamTlsMode};
use crate::common::Common;
use crate::tls::{
    ClientCertificates, ClientTls, ClientTlsFiles, OwnCertificate, UpstreamTls, UpstreamTlsFiles,
};

impl Settings {
    /// What holds where `--tls` is not given.
    pub(super) fn default_tls(&self) -> ClientTlsMode {
        let has_own = self.tls_cert.is_some() || self.tls_self_signed == Some(true);
        let must_prove =
            self.tls_client_ca.is_some() && self.tls_client_cert != Some(ClientCertMode::Optional);
        match (has_own, must_prove) {
            (false, _) => ClientTlsMode::Off,
            (true, false) => ClientTlsMode::Preferred,
            // A certificate can be demanded only of who uses TLS.
            (true, true) => ClientTlsMode::Required,
        }
    }

    /// TLS towards the clients, if it is offered.
    pub(super) fn client_tls(&self, common: &Common) -> Result<Option<Arc<ClientTls>>, ConfigError> {
        let self_signed = self.tls_self_signed.unwrap_or(false);
        let own = match (&self.tls_cert, &self.tls_key, self_signed) {
            (Some(_), _, true) => return Err(ConfigError::TwoCertificates),
            (None, Some(_), _) => return Err(without("--tls-key", "--tls-cert")),
            (Some(certificate), key, false) => Some(OwnCertificate::Files {
                certificate: certificate.clone(),
                key: key.as_ref().unwrap_or(certificate).clone(),
            }),
            (None, None, true) => Some(OwnCertificate::SelfSigned(common.self_signed()?)),
            (None, None, false) => None,
        };
        let clients = match (&self.tls_client_ca, self.tls_client_cert) {
            (None, Some(_)) => return Err(without("--tls-client-cert", "--tls-client-ca")),
            (None, None) => None,
            (Some(ca), mode) => {
                Some(ClientCertificates { ca: ca.clone(), required: mode != Some(ClientCertMode::Optional) })
            }
        };
        let must_prove = clients.as_ref().is_some_and(|clients| clients.required);
        match (own, self.tls.unwrap_or_else(|| self.default_tls())) {
            (Some(_), ClientTlsMode::Preferred) if must_prove => Err(ConfigError::ClientsWithoutTls),
            (None, ClientTlsMode::Preferred | ClientTlsMode::Required) => Err(ConfigError::NoCertificate),
            (None, ClientTlsMode::Off) if clients.is_some() => Err(without("--tls-client-ca", "--tls-cert")),
            (_, ClientTlsMode::Off) => Ok(None),
            (Some(own), mode) => {
                let required = mode == ClientTlsMode::Required;
                Ok(Some(Arc::new(ClientTls::new(&ClientTlsFiles { own, clients }, required)?)))
            }
        }
    }

    /// What holds where `--upstream-tls` is not given: whoever names a CA wants it asked.
    pub(super) fn default_upstream_tls(&self) -> UpstreamTlsMode {
        match self.upstream_tls_ca {
            Some(_) => UpstreamTlsMode::VerifyCa,
            None => UpstreamTlsMode::Preferred,
        }
    }

    /// TLS towards the servers.
    pub(super) fn upstream_tls(&self) -> Result<UpstreamTls, ConfigError> {
        let mode = self.upstream_tls.unwrap_or_else(|| self.default_upstream_tls());
        if mode < UpstreamTlsMode::VerifyCa && self.upstream_tls_ca.is_some() {
            return Err(ConfigError::UnusedCa);
        }
        let own = match (&self.upstream_tls_cert, &self.upstream_tls_key) {
            (None, Some(_)) => return Err(without("--upstream-tls-key", "--upstream-tls-cert")),
            (None, None) => None,
            (Some(certificate), key) => Some(pair(certificate, key.as_deref())),
        };
        Ok(UpstreamTls::new(&UpstreamTlsFiles {
            mode,
            min_version: self.upstream_tls_min_version.unwrap_or(TlsVersion::V12),
            ca: self.upstream_tls_ca.clone(),
            own,
        })?)
    }
}

/// Files of certificate and key; one file may hold both.
fn pair(certificate: &Path, key: Option<&Path>) -> (PathBuf, PathBuf) {
    (certificate.to_owned(), key.unwrap_or(certificate).to_owned())
}

fn without(option: &'static str, needed: &'static str) -> ConfigError {
    ConfigError::Without { option, needed }
}
