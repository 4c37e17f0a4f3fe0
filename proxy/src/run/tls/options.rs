//! The options by which clients say something of TLS: the one table of their names.

/// What an option says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    /// How strict the connection is to be, in one word.
    Mode,
    /// TLS, yes or no.
    Enabled,
    /// Whether the server's certificate is checked, and its name.
    Verified,
    /// A file with CA certificates.
    Ca,
    /// A directory with CA certificates.
    CaDirectory,
    /// The client's certificate.
    Certificate,
    /// Its key.
    Key,
    /// The versions of TLS that may be used.
    Versions,
    /// The one certificate that the server may have. Spillway cannot ask for that.
    Fingerprint,
    /// The name that the server is told.
    ServerName,
    /// A TLS session to be taken up again. That is only quicker.
    Session,
    /// What Spillway cannot do: why, and what it does instead.
    Unkept(&'static str),
    /// Nothing that would make a connection weaker if it were passed over.
    Nothing,
}

/// What the option of this name, without dashes in front, says of TLS, if it says anything.
pub(crate) fn meaning(name: &str) -> Option<Says> {
    let known = OPTIONS.iter().find(|(known, _)| *known == name).map(|&(_, says)| says);
    // The clients get new ones.
    known.or_else(|| (name.starts_with("ssl-") || name.starts_with("tls-")).then_some(Says::Unkept(UNKNOWN)))
}

const UNKNOWN: &str = "this version of Spillway does not know it";
const CIPHERS: &str =
    "Spillway chooses among its own ciphers, all of them with forward secrecy and authenticated";
const REVOKED: &str = "Spillway does not look at revocation lists";
const PASSPHRASE: &str = "Spillway reads no encrypted keys";
const FIPS: &str = "Spillway has no FIPS mode";
const KEY_EXCHANGE: &str = "Spillway chooses the key exchange by itself";

/// MySQL's clients (`ssl-mode` and all that begin with `ssl-` or `tls-`), MariaDB's (`ssl`, `ssl-…`, `tls-version`),
/// mydumper's (without `ssl-`), and what MariaDB's client library reads for mydumper from option files (`ssl-enforce`,
/// `tls-…`).
pub(super) const OPTIONS: [(&str, Says); 42] = [
    ("ssl-mode", Says::Mode),
    ("ssl", Says::Enabled),
    ("ssl-enforce", Says::Enabled),
    ("tls-enforce", Says::Enabled),
    ("ssl-verify-server-cert", Says::Verified),
    ("tls-verify-peer", Says::Verified),
    ("ssl-ca", Says::Ca),
    ("tls-ca", Says::Ca),
    ("ca", Says::Ca),
    ("ssl-capath", Says::CaDirectory),
    ("tls-capath", Says::CaDirectory),
    ("capath", Says::CaDirectory),
    ("ssl-cert", Says::Certificate),
    ("tls-cert", Says::Certificate),
    ("cert", Says::Certificate),
    ("ssl-key", Says::Key),
    ("tls-key", Says::Key),
    ("key", Says::Key),
    ("tls-version", Says::Versions),
    ("ssl-fp", Says::Fingerprint),
    ("tls-fp", Says::Fingerprint),
    ("ssl-fplist", Says::Fingerprint),
    ("ssl-fp-list", Says::Fingerprint),
    ("tls-fplist", Says::Fingerprint),
    ("tls-sni-servername", Says::ServerName),
    ("ssl-session-data", Says::Session),
    ("ssl-session-data-continue-on-failed-reuse", Says::Nothing),
    ("use-pqc-sign", Says::Nothing),
    ("ssl-cipher", Says::Unkept(CIPHERS)),
    ("tls-cipher", Says::Unkept(CIPHERS)),
    ("tls-cipher-strength", Says::Unkept(CIPHERS)),
    ("tls-ciphersuites", Says::Unkept(CIPHERS)),
    ("cipher", Says::Unkept(CIPHERS)),
    ("ssl-crl", Says::Unkept(REVOKED)),
    ("tls-crl", Says::Unkept(REVOKED)),
    ("ssl-crlpath", Says::Unkept(REVOKED)),
    ("tls-crlpath", Says::Unkept(REVOKED)),
    ("ssl-passphrase", Says::Unkept(PASSPHRASE)),
    ("tls-passphrase", Says::Unkept(PASSPHRASE)),
    ("ssl-fips-mode", Says::Unkept(FIPS)),
    ("tls-kex", Says::Unkept(KEY_EXCHANGE)),
    ("force-pqc", Says::Unkept(KEY_EXCHANGE)),
];
