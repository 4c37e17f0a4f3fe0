//! How the server's certificate is checked.

use std::sync::Arc;

use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{WebPkiServerVerifier, verify_server_name};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::files::TlsError;
use super::provider;

/// Takes any certificate, also one of the first version, which MySQL's manual makes and webpki does not read: as the
/// clients do where they are to encrypt and not to check. Whoever can put himself between the two can also sign with a
/// key of his own, so the signature is not looked at.
#[derive(Debug)]
pub(super) struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// What webpki calls a CA's own certificate in a server's place.
const CA_AS_SERVER: &str = "CaUsedAsEndEntity";

/// Checks that a CA vouches for the certificate, and the name in it if that is wanted.
///
/// The certificate may also be that of the CA itself: OpenSSL's self-signed ones are of that kind, and webpki, unlike the
/// clients, takes no server for a CA.
#[derive(Debug)]
pub(super) struct ByCa {
    verifier: Arc<WebPkiServerVerifier>,
    roots: Arc<RootCertStore>,
    any_name: bool,
}

impl ByCa {
    /// # Errors
    /// [`TlsError::Setup`] if the roots are of no use.
    pub(super) fn new(roots: RootCertStore, any_name: bool) -> Result<Self, TlsError> {
        let roots = Arc::new(roots);
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), provider()).build();
        let verifier = verifier.map_err(|error| TlsError::Setup(error.to_string()))?;
        Ok(Self { verifier, roots, any_name })
    }

    /// Whether this is a CA's own certificate: then whoever has its key is the CA.
    fn is_root(&self, certificate: &CertificateDer<'_>) -> bool {
        let mut alone = RootCertStore::empty();
        let _ = alone.add(certificate.clone().into_owned());
        alone.roots.first().is_some_and(|anchor| self.roots.roots.contains(anchor))
    }
}

impl ServerCertVerifier for ByCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = match self.verifier.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            // Its dates were looked at before, its name was not.
            Err(Error::InvalidCertificate(CertificateError::Other(problem)))
                if problem.to_string() == CA_AS_SERVER && self.is_root(end_entity) =>
            {
                let certificate = ParsedCertificate::try_from(end_entity)?;
                verify_server_name(&certificate, name).map(|()| ServerCertVerified::assertion())
            }
            verified => verified,
        };
        match verified {
            // The name is looked at when all else was found good.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.any_name => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Whether a certificate of one's own is out of date, or before it.
pub(super) fn dates_problem(certificate: &CertificateDer<'static>) -> Option<&'static str> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).ok()?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build().ok()?;
    let name = ServerName::try_from("localhost").ok()?;
    match verifier.verify_server_cert(certificate, &[], &name, &[], UnixTime::now()) {
        Err(Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => Some("it has expired"),
        Err(Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        )) => Some("it is not valid yet"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};

    use super::*;

    /// A self-signed certificate for `localhost`, of the kind that `openssl req -x509` makes.
    fn self_signed(years: [i32; 2], is_ca: IsCa) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.is_ca = is_ca;
        [params.not_before, params.not_after] = years.map(|year| date_time_ymd(year, 1, 1));
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().into()
    }

    /// Whether `shown` is taken for `name` where `known` is the CA, in the year 2026.
    fn verify(
        shown: &CertificateDer<'_>,
        known: &CertificateDer<'static>,
        name: &str,
        any_name: bool,
    ) -> Result<(), Error> {
        let mut roots = RootCertStore::empty();
        roots.add(known.clone()).unwrap();
        let verifier = ByCa::new(roots, any_name).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(56 * 365 * 86400));
        let name = ServerName::try_from(name).unwrap();
        verifier.verify_server_cert(shown, &[], &name, &[], now).map(|_| ())
    }

    #[test]
    fn a_self_signed_certificate_may_be_its_own_ca() {
        for is_ca in [IsCa::Ca(BasicConstraints::Unconstrained), IsCa::ExplicitNoCa, IsCa::NoCa] {
            let own = self_signed([2020, 2100], is_ca);
            assert_eq!(verify(&own, &own, "localhost", false), Ok(()));
            assert_eq!(verify(&own, &own, "db1", true), Ok(()));
            let error = verify(&own, &own, "db1", false).unwrap_err().to_string();
            assert!(error.contains("not valid for name"), "{error}");

            let other = self_signed([2020, 2100], is_ca);
            assert!(verify(&other, &own, "localhost", true).is_err(), "another one of the same name");
            for years in [[2020, 2021], [2090, 2100]] {
                let out_of_date = self_signed(years, is_ca);
                let error = verify(&out_of_date, &out_of_date, "localhost", true).unwrap_err().to_string();
                assert!(error.contains("expired") || error.contains("not valid yet"), "{error}");
            }
        }
    }
}
