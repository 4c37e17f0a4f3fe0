//! Certificates for TLS, right ones and all kinds of wrong ones, as files.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use spillway_tests::certificates::{Authority, Leaf, self_signed};
//!
//! let authority = Authority::new("The tests' authority")?;
//! let good = authority.issue(&Leaf::server())?;
//! let server = spillway_tests::Server::start(&[&good.option("ssl-cert"), &good.option("ssl-key")])?;
//! let ca = format!("--ssl-ca={}", authority.file().display());
//!
//! let expired = authority.issue(&Leaf::server().expired())?;
//! let elsewhere = authority.issue(&Leaf::server().names(&["elsewhere.invalid"]))?;
//! let unknown = Authority::new("Nobody knows it")?.issue(&Leaf::server())?;
//! let alone = self_signed(&Leaf::server())?;
//! # Ok(())
//! # }
//! ```

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, date_time_ymd,
};

use crate::leash::Leash;

/// What signs certificates. Its file is what goes into `--ssl-ca` and the like.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// The certificates between the root and what this signs: its own, if it is not the root.
    chain: String,
    files: Arc<Files>,
    file: PathBuf,
}

impl Authority {
    /// A root of this name. Two of the same name are still two: each has a key of its own.
    pub fn new(name: &str) -> Result<Self> {
        let issuer = CertifiedIssuer::self_signed(authority(name), KeyPair::generate()?)?;
        let files = Arc::new(Files::new()?);
        let file = files.write("ca.pem", &issuer.pem(), 0o644)?;
        Ok(Self { issuer, chain: String::new(), files, file })
    }

    /// An authority that this one vouches for. What it issues brings its certificate along, and who is to check that
    /// needs the root's file; [`Authority::file`] is that of the new one.
    pub fn intermediate(&self, name: &str) -> Result<Self> {
        let issuer = CertifiedIssuer::signed_by(authority(name), KeyPair::generate()?, &self.issuer)?;
        let files = Arc::new(Files::new()?);
        let file = files.write("ca.pem", &issuer.pem(), 0o644)?;
        let chain = issuer.pem() + &self.chain;
        Ok(Self { issuer, chain, files, file })
    }

    /// The file with its certificate.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Signs what `leaf` describes, with a new key.
    pub fn issue(&self, leaf: &Leaf) -> Result<Certificate> {
        let key = leaf.key()?;
        let certificate = leaf.params()?.signed_by(&key, &self.issuer)?;
        Certificate::write(&self.files, &certificate, &self.chain, &key)
    }
}

/// A certificate that vouches for itself.
pub fn self_signed(leaf: &Leaf) -> Result<Certificate> {
    let key = leaf.key()?;
    let certificate = leaf.params()?.self_signed(&key)?;
    Certificate::write(&Arc::new(Files::new()?), &certificate, "", &key)
}

/// What is to be in a certificate.
#[derive(Clone, Debug)]
pub struct Leaf {
    name: String,
    names: Vec<String>,
    years: [i32; 2],
    usage: ExtendedKeyUsagePurpose,
    rsa: bool,
}

impl Leaf {
    /// A server's, valid now, for `localhost`, 127.0.0.1 and ::1, with a key on P-256.
    pub fn server() -> Self {
        Self {
            name: "spillway test server".to_owned(),
            names: ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec(),
            years: VALID,
            usage: ExtendedKeyUsagePurpose::ServerAuth,
            rsa: false,
        }
    }

    /// A client's with this common name, valid now.
    pub fn client(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            names: Vec::new(),
            usage: ExtendedKeyUsagePurpose::ClientAuth,
            ..Self::server()
        }
    }

    /// For these host names and addresses only.
    pub fn names(mut self, names: &[&str]) -> Self {
        self.names = names.iter().map(|&name| name.to_owned()).collect();
        self
    }

    /// No longer valid.
    pub fn expired(mut self) -> Self {
        self.years = [2001, 2002];
        self
    }

    /// Not valid yet.
    pub fn not_yet_valid(mut self) -> Self {
        self.years = [2098, 2099];
        self
    }

    /// With an RSA key of 2048 bits.
    pub fn rsa(mut self) -> Self {
        self.rsa = true;
        self
    }

    fn key(&self) -> Result<KeyPair> {
        let algorithm = if self.rsa { &PKCS_RSA_SHA256 } else { &PKCS_ECDSA_P256_SHA256 };
        KeyPair::generate_for(algorithm).context("making a key")
    }

    fn params(&self) -> Result<CertificateParams> {
        let mut params = CertificateParams::new(self.names.clone()).context("names")?;
        params.distinguished_name = common_name(&self.name);
        [params.not_before, params.not_after] = self.years.map(|year| date_time_ymd(year, 1, 1));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if self.rsa {
            params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
        }
        params.extended_key_usages = vec![self.usage.clone()];
        // Python's strict checks want it.
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }
}

/// A certificate and its key, as files that are there as long as this, or anything of the same [`Authority`], is.
#[derive(Clone, Debug)]
pub struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    der: Vec<u8>,
    files: Arc<Files>,
}

impl Certificate {
    /// The file with the certificate and those between it and the root, in PEM.
    pub fn cert(&self) -> &Path {
        &self.cert
    }

    /// The file with the private key (PKCS#8 in PEM, mode 0600).
    pub fn key(&self) -> &Path {
        &self.key
    }

    /// The certificate itself in DER, for fingerprints.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// An option with the path: of the key where the option's name ends in `key` (`ssl-key`, `tls-key`), else of the
    /// certificate (`--ssl-cert=…`).
    pub fn option(&self, name: &str) -> String {
        let path = if name.ends_with("key") { &self.key } else { &self.cert };
        format!("--{name}={}", path.display())
    }

    /// Puts another certificate into the place of this one, in the same files, as someone does who renews it.
    pub fn replace_with(&self, other: &Self) -> Result<()> {
        for (from, to) in [(&other.cert, &self.cert), (&other.key, &self.key)] {
            fs::copy(from, to).with_context(|| to.display().to_string())?;
        }
        Ok(())
    }

    /// A file beside the others with this text, such as a broken certificate; it lives as long as they do.
    pub fn beside(&self, name: &str, text: &str) -> Result<PathBuf> {
        self.files.write(name, text, 0o600)
    }

    fn write(
        files: &Arc<Files>,
        certificate: &rcgen::Certificate,
        chain: &str,
        key: &KeyPair,
    ) -> Result<Self> {
        let name = files.count.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            cert: files.write(&format!("{name}-cert.pem"), &(certificate.pem() + chain), 0o644)?,
            key: files.write(&format!("{name}-key.pem"), &key.serialize_pem(), 0o600)?,
            der: certificate.der().to_vec(),
            files: Arc::clone(files),
        })
    }
}

/// A directory that is gone when nobody needs it any more, or with the test process.
#[derive(Debug)]
struct Files {
    _leash: Leash,
    dir: tempfile::TempDir,
    /// How many certificates have a name in it.
    count: AtomicUsize,
}

impl Files {
    fn new() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("spillway-certificates-").tempdir()?;
        Ok(Self { _leash: Leash::new(None, Some(dir.path()))?, dir, count: AtomicUsize::new(0) })
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> Result<PathBuf> {
        let path = self.dir.path().join(name);
        let mut open = fs::File::options();
        open.write(true).create_new(true).mode(mode);
        open.open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .with_context(|| path.display().to_string())?;
        Ok(path)
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    [params.not_before, params.not_after] = VALID.map(|year| date_time_ymd(year, 1, 1));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

/// From the first of January of one year to that of the other.
const VALID: [i32; 2] = [2020, 2100];
