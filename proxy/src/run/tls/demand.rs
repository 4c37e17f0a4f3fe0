//! What the client's options ask of TLS.
//!
//! Built-in defaults do not count, what the user wrote does. All rules were tried with MariaDB's clients 10.11 and
//! 11.8, MySQL's 9.7 and mydumper 0.10; what is told of others was read in their sources.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use super::super::error::RunError;
use super::super::scan::{Given, Origin};
use super::options::{Says, meaning};
use crate::config::{TlsVersion, UpstreamTlsMode};

/// Whose rules hold for a client's options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Clients that know `ssl-mode`. Those of 5.7 have `ssl` and `ssl-verify-server-cert` beside it.
    MySql,
    /// Clients that know `ssl`, and older ones of MySQL.
    MariaDb {
        /// They check the server's certificate unless they are told not to: those since 11.4.
        verifies: bool,
    },
    /// mydumper and myloader, and the library that reads option files for them.
    MyDumper,
}

/// What the options of a client ask of TLS on the way to the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsDemand {
    /// How strict it must be at least; nothing is asked where there is none.
    pub(crate) mode: Option<UpstreamTlsMode>,
    /// The option that says so, as in `ssl-mode=REQUIRED`.
    pub(crate) because: String,
    /// MariaDB's clients since 11.4 leave the name in the certificate alone where the server is on the same host.
    pub(crate) any_name_if_local: bool,
    /// Nothing is asked, but MariaDB's clients since 11.4 insist on TLS by default, also with a server on the same host,
    /// where that is of no use.
    pub(crate) insists_by_default: bool,
    /// MySQL's clients check no certificate without a CA.
    pub(crate) needs_ca: bool,
    /// CA certificates: a file.
    pub(crate) ca: Option<PathBuf>,
    /// CA certificates: a directory.
    pub(crate) ca_directory: Option<PathBuf>,
    /// The client's certificate.
    pub(crate) certificate: Option<PathBuf>,
    /// Its key.
    pub(crate) key: Option<PathBuf>,
    /// The oldest version that may be used.
    pub(crate) min_version: Option<TlsVersion>,
    /// The name that the server is to be told.
    pub(crate) server_name: Option<String>,
    /// Options that Spillway cannot follow, and why.
    pub(crate) unkept: Vec<(String, &'static str)>,
}

/// A strictness, and the option that asks for it.
#[derive(Clone, Copy)]
struct Asked<'a> {
    mode: UpstreamTlsMode,
    by: &'a Given,
}

/// The options that say something of TLS, in their order.
struct Options<'a>(Vec<(Says, &'a Given)>);

impl TlsDemand {
    /// Reads a client's options; `home` is its home directory, for which MySQL's clients take a `~`.
    ///
    /// # Errors
    /// [`RunError::BadValue`] for what the client would not take either.
    pub(crate) fn read(given: &[Given], dialect: Dialect, home: Option<&OsStr>) -> Result<Self, RunError> {
        let options = Options(given.iter().filter_map(|by| Some((meaning(&by.name)?, by))).collect());
        let asked = match dialect {
            Dialect::MySql => options.mysql()?,
            Dialect::MariaDb { verifies } => options.mariadb(verifies),
            Dialect::MyDumper => options.mydumper()?,
        };
        let withdrawn = options.last(Says::Verified).is_some_and(|by| !by.is_on());
        let home = home.filter(|_| dialect == Dialect::MySql);
        let mut demand = Self {
            mode: asked.map(|asked| asked.mode),
            because: asked.map(|asked| shown(asked.by)).unwrap_or_default(),
            insists_by_default: dialect == Dialect::MariaDb { verifies: true }
                && asked.is_none()
                && !withdrawn,
            ..Self::default()
        };
        if demand.mode == Some(UpstreamTlsMode::Off) {
            return Ok(demand); // What else is asked is asked of nothing.
        }
        demand.ca = options.path(Says::Ca, home)?;
        demand.ca_directory = options.path(Says::CaDirectory, home)?;
        demand.certificate = options.path(Says::Certificate, home)?;
        demand.key = options.path(Says::Key, home)?;
        demand.any_name_if_local = dialect == Dialect::MariaDb { verifies: true } && !options.verified();
        demand.needs_ca = dialect == Dialect::MySql;
        demand.min_version = options.min_version(dialect)?;
        demand.server_name = options.text(Says::ServerName);
        demand.unkept = options.unkept();
        Ok(demand)
    }
}

impl<'a> Options<'a> {
    /// `ssl-mode` stands above all others; without it a CA asks for a check of the certificate. The rest (`ssl-cert`,
    /// `ssl-cipher` …) only counts where there is TLS.
    fn mysql(&self) -> Result<Option<Asked<'a>>, RunError> {
        let mut asked: Option<Asked<'a>> = None;
        let mut is_explicit = false;
        for &(says, by) in &self.0 {
            let so_far = asked.map(|asked| asked.mode);
            let mode = match says {
                Says::Mode => {
                    is_explicit = true;
                    parse_mode(by)?
                }
                Says::Enabled if !by.is_on() => UpstreamTlsMode::Off,
                Says::Enabled => {
                    so_far.map_or(UpstreamTlsMode::Required, |mode| mode.max(UpstreamTlsMode::Required))
                }
                Says::Verified if by.is_on() => UpstreamTlsMode::VerifyIdentity,
                Says::Verified if so_far == Some(UpstreamTlsMode::VerifyIdentity) => {
                    UpstreamTlsMode::VerifyCa
                }
                Says::Ca | Says::CaDirectory if !is_explicit => UpstreamTlsMode::VerifyCa,
                _ => continue,
            };
            asked = Some(Asked { mode, by });
        }
        Ok(asked)
    }

    /// Every option for TLS turns it on, and a later `--skip-ssl` off again. With a CA the certificate is checked. An
    /// `ssl-verify-server-cert` asks for TLS and a check of the name, whatever `ssl` says; since 11.4, `--skip-ssl`
    /// withdraws that, too, and the name is checked with any CA.
    fn mariadb(&self, verifies: bool) -> Option<Asked<'a>> {
        let turns_on =
            |says: Says| !matches!(says, Says::Verified | Says::Versions | Says::Nothing | Says::Mode);
        let enabled = self.0.iter().rfind(|(says, _)| turns_on(*says)).copied();
        let is_off = enabled.is_some_and(|(says, by)| says == Says::Enabled && !by.is_on());
        let verified = self.last(Says::Verified).filter(|by| by.is_on() && !(verifies && is_off));
        let (_, by) = enabled.or_else(|| verified.map(|by| (Says::Verified, by)))?;
        let anchor = self.last(Says::Ca).or_else(|| self.last(Says::CaDirectory));
        let asked = match (verified, self.last(Says::Fingerprint), anchor) {
            (Some(by), _, _) => Asked { mode: UpstreamTlsMode::VerifyIdentity, by },
            (None, _, _) if is_off => Asked { mode: UpstreamTlsMode::Off, by },
            (None, Some(by), _) => Asked { mode: UpstreamTlsMode::VerifyCa, by },
            (None, None, Some(by)) if verifies => Asked { mode: UpstreamTlsMode::VerifyIdentity, by },
            (None, None, Some(by)) => Asked { mode: UpstreamTlsMode::VerifyCa, by },
            (None, None, None) => Asked { mode: UpstreamTlsMode::Required, by },
        };
        Some(asked)
    }

    /// What the options do depends on the library that mydumper was built with, which cannot be seen: each counts for
    /// what it may mean, and the strictest decides. Only a DISABLED of its own command line without `--ssl` withdraws
    /// the others.
    fn mydumper(&self) -> Result<Option<Asked<'a>>, RunError> {
        let mut asked: Vec<Asked<'a>> = Vec::new();
        for &(says, by) in &self.0 {
            let mode = match says {
                Says::Mode => parse_mode(by)?,
                Says::Enabled if !by.is_on() => UpstreamTlsMode::Off,
                Says::Verified if self.last(Says::Verified) != Some(by) || !by.is_on() => continue,
                Says::Verified => UpstreamTlsMode::VerifyIdentity,
                Says::Ca | Says::CaDirectory | Says::Fingerprint => UpstreamTlsMode::VerifyCa,
                Says::Versions | Says::Nothing => continue,
                _ => UpstreamTlsMode::Required,
            };
            asked.push(Asked { mode, by });
        }
        let own = |asked: &&Asked<'a>| asked.by.origin == Origin::CommandLine;
        let last_mode = asked.iter().filter(own).rfind(|asked| meaning(&asked.by.name) == Some(Says::Mode));
        if let Some(off) = last_mode.filter(|asked| asked.mode == UpstreamTlsMode::Off)
            && !self.0.iter().any(|(says, by)| *says == Says::Enabled && by.is_on())
        {
            return Ok(Some(*off));
        }
        Ok(asked.into_iter().max_by_key(|asked| asked.mode))
    }

    fn last(&self, wanted: Says) -> Option<&'a Given> {
        self.0.iter().rfind(|(says, _)| *says == wanted).map(|&(_, by)| by)
    }

    fn verified(&self) -> bool {
        self.last(Says::Verified).is_some_and(Given::is_on)
    }

    fn text(&self, wanted: Says) -> Option<String> {
        Some(self.last(wanted)?.text()?.to_string_lossy().into_owned())
    }

    fn path(&self, wanted: Says, home: Option<&OsStr>) -> Result<Option<PathBuf>, RunError> {
        let Some(by) = self.last(wanted) else { return Ok(None) };
        let Some(path) = by.text() else {
            return Err(bad(by, "names no file: give its path, or drop the option"));
        };
        Ok(Some(match (path.as_bytes().strip_prefix(b"~/"), home) {
            (Some(rest), Some(home)) => PathBuf::from(home).join(OsString::from_vec(rest.to_vec())),
            _ => PathBuf::from(path),
        }))
    }

    /// A list of versions says which are too old. What it leaves out at the other end is not kept: a newer version is
    /// no weaker. Where it names only versions that Spillway does not speak, as they are broken, 1.2 is the oldest.
    fn min_version(&self, dialect: Dialect) -> Result<Option<TlsVersion>, RunError> {
        let Some(by) = self.last(Says::Versions) else { return Ok(None) };
        let list = by.value.as_deref().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let mut names = list.split(',').map(str::trim);
        let has = |version: &str| list.contains(version);
        if has("tlsv1.0") || has("tlsv1.1") || has("tlsv1.2") || names.any(|name| name == "tlsv1") {
            Ok(Some(TlsVersion::V12))
        } else if has("tlsv1.3") {
            Ok(Some(TlsVersion::V13))
        } else if dialect == Dialect::MySql {
            Err(bad(by, "names no version of TLS: use TLSv1.2, TLSv1.3 or both"))
        } else {
            Ok(None) // MariaDB's library passes over what it does not know.
        }
    }

    fn unkept(&self) -> Vec<(String, &'static str)> {
        let why = |says: Says| match says {
            Says::Unkept(why) => Some(why),
            Says::Fingerprint => Some(FINGERPRINT),
            _ => None,
        };
        let counts = |by: &Given| by.is_on() && by.text().is_some() || by.value.is_none();
        let unkept = self.0.iter().filter(|(_, by)| counts(by));
        unkept.filter_map(|&(says, by)| Some((by.name.clone(), why(says)?))).collect()
    }
}

const FINGERPRINT: &str = "Spillway knows certificates by their CA, which may be the certificate itself";

/// MySQL's clients take any case, and the beginning of a name if no other begins so.
pub(super) fn parse_mode(by: &Given) -> Result<UpstreamTlsMode, RunError> {
    let text = by.value.as_deref().unwrap_or_default().to_string_lossy().to_ascii_uppercase();
    let mut begin = MODES.iter().filter(|(name, _)| !text.is_empty() && name.starts_with(&text));
    match (begin.next(), begin.next()) {
        (Some((_, mode)), None) => Ok(*mode),
        _ => Err(bad(by, "is no mode: use DISABLED, PREFERRED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY")),
    }
}

const MODES: [(&str, UpstreamTlsMode); 5] = [
    ("DISABLED", UpstreamTlsMode::Off),
    ("PREFERRED", UpstreamTlsMode::Preferred),
    ("REQUIRED", UpstreamTlsMode::Required),
    ("VERIFY_CA", UpstreamTlsMode::VerifyCa),
    ("VERIFY_IDENTITY", UpstreamTlsMode::VerifyIdentity),
];

/// The option as the user wrote it, but for abbreviations; with its value where that is what asks.
fn shown(by: &Given) -> String {
    match by.text() {
        Some(value) if by.name == "ssl-mode" => format!("ssl-mode={}", value.to_string_lossy()),
        _ => by.name.clone(),
    }
}

fn bad(by: &Given, problem: &'static str) -> RunError {
    let value = by.value.as_deref().unwrap_or_default().to_string_lossy().into_owned();
    RunError::BadValue { option: by.name.clone(), value, problem }
}
