//! TLS of the client's own options: asked of the way to the server instead, and switched off on the private socket.
//!
//! ```text
//! Given ──► TlsDemand ──► join ──► Settings (upstream_tls …)
//! OptionTable ──► switch_off ──► argv
//! ```

mod demand;
mod join;
mod options;

use super::options::OptionTable;
use super::program::{Family, Program};
use super::scan::{Given, Origin};
use crate::config::UpstreamTlsMode;
pub(crate) use demand::{Dialect, TlsDemand};
pub use join::TlsDemandError;
use options::Says;

/// Whether an option of this name says something of TLS.
pub(crate) fn is_about_tls(name: &str) -> bool {
    options::meaning(name).is_some()
}

/// The names of all options that are known to say something of TLS.
pub(crate) fn tls_options() -> impl Iterator<Item = &'static str> {
    options::OPTIONS.iter().map(|(name, _)| *name)
}

impl Dialect {
    /// The rules of a client with this help.
    pub(crate) fn of(program: &Program, table: &OptionTable) -> Self {
        match program.family {
            Family::GOption => Self::MyDumper,
            Family::MyGetopt if table.exact("ssl-mode").is_some() => Self::MySql,
            Family::MyGetopt => {
                let verifies =
                    table.defaults.get("ssl-verify-server-cert").is_some_and(|value| value == "TRUE");
                Self::MariaDb { verifies }
            }
        }
    }
}

/// The options that switch TLS off, whatever option files say, as far as the client knows them.
///
/// Always given: MariaDB's clients since 11.4 refuse a plain Unix socket by default (tried with 11.8), and MySQL's do
/// where a file has `ssl-mode=REQUIRED`. `--skip-ssl` alone does not suffice for MariaDB's before 11.4: an
/// `ssl-verify-server-cert` still asks for TLS.
pub(crate) fn switch_off(dialect: Dialect, table: &OptionTable, given: &[Given]) -> Vec<&'static str> {
    let knows = |name: &str| table.exact(name).is_some();
    let mut options = Vec::new();
    match dialect {
        Dialect::MySql => options.push("--ssl-mode=DISABLED"),
        Dialect::MariaDb { .. } => {
            options.extend(knows("ssl").then_some("--skip-ssl"));
            options.extend(knows("ssl-verify-server-cert").then_some("--skip-ssl-verify-server-cert"));
        }
        Dialect::MyDumper => options.extend(table.disables_tls.then_some("--ssl-mode=DISABLED")),
    }
    // Else the client ends because it cannot take up its TLS session again.
    let resumes = given.iter().any(|given| options::meaning(&given.name) == Some(Says::Session));
    options.extend((resumes && knows(CONTINUE)).then_some("--ssl-session-data-continue-on-failed-reuse"));
    options
}

/// The option of a file that makes mydumper ask for TLS on the private socket, too: nothing withdraws it.
///
/// MariaDB's library insists on TLS where the certificate is to be checked, and MySQL's where a mode says so.
pub(crate) fn fixed<'a>(dialect: Dialect, table: &OptionTable, given: &'a [Given]) -> Option<&'a Given> {
    let insists = |given: &&Given| match options::meaning(&given.name) {
        Some(Says::Verified) => given.value.is_some() && given.is_on(),
        Some(Says::Fingerprint) => given.text().is_some(),
        Some(Says::Mode) => {
            table.disables_tls
                && demand::parse_mode(given).is_ok_and(|mode| mode >= UpstreamTlsMode::Required)
        }
        _ => false,
    };
    let files = given.iter().filter(|given| given.origin == Origin::OptionFile);
    files.filter(|_| dialect == Dialect::MyDumper).find(insists)
}

const CONTINUE: &str = "ssl-session-data-continue-on-failed-reuse";

#[cfg(test)]
mod tests;
