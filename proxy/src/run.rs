//! `spillway run -- mysqldump …`: runs an unmodified client through a private Spillway.
//!
//! ```text
//!  command ──► Plan ──► upstream, argv            (what the client would do by itself, and what it is told instead)
//!                │
//!  BlockedSignals, SocketDir ──► private proxy ──► Child::spawn ──► Child::wait ──► ClientExit
//! ```
//!
//! The client's own `--help` and `--print-defaults` tell how it reads its options and what its option files say, so
//! that nothing about the syntax is guessed. Of the user's arguments such a helper run is given only those that choose
//! the option files: a client may act on the others before it looks at `--help` (`-r FILE` truncates FILE, the last
//! backup perhaps).

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

mod builtin_socket;
mod capture;
mod child;
mod credentials;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod help;
mod left_out;
mod log_target;
mod mydumper;
mod option_files;
mod options;
mod outcome;
mod private_proxy;
mod program;
mod progress;
mod scan;
mod signals;
mod socket_dir;
mod tls;
mod upstream;

pub use child::{Child, ClientExit};
pub use credentials::UnknownAccount;
pub use error::{QueryProblem, RunError};
pub use left_out::LeftOut;
pub use log_target::{LogTarget, LogWriter};
pub use outcome::{Outcome, ReportFile, RunOptions, SummaryMode, open_stderr};
pub use private_proxy::{Screen, run_client};
pub use signals::BlockedSignals;
pub use socket_dir::SocketDir;
pub use tls::TlsDemandError;

use crate::config::{ConfigError, Settings, UpstreamCompression};
use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::session::Proxy;
use credentials::{Login, login_name};
use options::OptionTable;
use program::{Family, Program};
use scan::{Given, Origin, Scan};
use tls::{Dialect, TlsDemand};

/// What `run` will do: which server to reach, and how to start the client so that it reaches Spillway instead.
pub struct Plan {
    upstream: Endpoint,
    account: Result<Credentials, UnknownAccount>,
    program: Program,
    args: Vec<OsString>,
    /// Places in `args`.
    options_left_out: Vec<usize>,
    insert_at: usize,
    knows_protocol: bool,
    switch_off_tls: Vec<&'static str>,
    tls: TlsDemand,
    server_key: ServerKey,
    compression: Option<UpstreamCompression>,
    left_out: LeftOut,
}

/// The server's RSA key, as the client's options have it.
struct ServerKey {
    /// `server-public-key-path`
    file: Option<PathBuf>,
    /// `get-server-public-key`
    is_fetched: bool,
}

impl ServerKey {
    fn read(given: &[Given]) -> Self {
        let last = |name: &str| given.iter().rfind(|given| given.name == name);
        Self {
            file: last("server-public-key-path").and_then(Given::text).map(PathBuf::from),
            is_fetched: last("get-server-public-key").is_some_and(Given::is_on),
        }
    }
}

/// The compression that the client asks for. mydumper's `--compress` is about its files.
fn asked_compression(family: Family, given: &[Given]) -> Option<UpstreamCompression> {
    let switch = match family {
        Family::MyGetopt => "compress",
        Family::GOption => "compress-protocol",
    };
    let last = |name: &str| given.iter().rfind(|given| given.name == name);
    let first = last("compression-algorithms").and_then(Given::text).map(|list| {
        let list = list.to_string_lossy().to_ascii_lowercase();
        list.split(',').next().unwrap_or_default().trim().to_owned()
    });
    match first.as_deref() {
        Some("zlib") => Some(UpstreamCompression::Zlib),
        Some("zstd") => Some(UpstreamCompression::Zstd),
        Some(_) => None,
        None => last(switch).filter(|given| given.is_on()).map(|_| UpstreamCompression::Zlib),
    }
}

impl Plan {
    /// Makes a plan for the command behind `--`. The upstream is the server that the client would reach by itself,
    /// unless `upstream` names one.
    ///
    /// Asks the client for its help and its option files, which takes some milliseconds; call it before the async
    /// runtime starts.
    pub fn from_command(command: &[OsString], upstream: Option<Endpoint>) -> Result<Self, RunError> {
        let (command, args) = command.split_first().ok_or(RunError::NoCommand)?;
        let program = Program::identify(command)?;
        let Told { table, scan, given } = ask(&program, args)?;
        if let Some(option) = scan.missing {
            return Err(RunError::MissingValue { option });
        }
        let env = |name: &str| std::env::var_os(name);
        let dialect = Dialect::of(&program, &table);
        let tls = TlsDemand::read(&given, dialect, env("HOME").as_deref())?;
        if let Some(option) = tls::fixed(dialect, &table, &given) {
            let (option, least) = (option.name.clone(), tls.least());
            return Err(TlsDemandError::Fixed { option, client: program.name, least }.into());
        }
        let connection = upstream::Connection { program: &program, table: &table, given: &given, env: &env };
        connection.check_overridable()?;
        let upstream = upstream.map_or_else(|| connection.upstream(), Ok)?;
        let login = Login { family: program.family, given: &given, env: &env, login_name: &login_name };
        let account = login.credentials();
        let compression = asked_compression(program.family, &given);
        let left_out = LeftOut::read(program.name, &given);
        Ok(Self {
            upstream,
            account,
            program,
            args: args.to_vec(),
            options_left_out: scan.about_tls,
            insert_at: scan.insert_at,
            knows_protocol: table.exact("protocol").is_some(),
            switch_off_tls: tls::switch_off(dialect, &table, &given),
            tls,
            server_key: ServerKey::read(&given),
            compression,
            left_out,
        })
    }

    /// The server to reach.
    pub fn upstream(&self) -> &Endpoint {
        &self.upstream
    }

    /// The account that the client would use by itself.
    ///
    /// # Errors
    /// [`RunError::Account`] if only the client knows, or comes to know, the password.
    pub fn credentials(&self) -> Result<Credentials, RunError> {
        self.account.clone().map_err(|reason| RunError::Account { program: self.program.name, reason })
    }

    /// Makes what the private proxy's sessions share. What the client's options ask of TLS is added to `settings`, as
    /// the way to the server is Spillway's now: the stricter one of the two holds. So is what they say of the server's
    /// RSA key and of compression, where `settings` say nothing. The private socket has no TLS and but one
    /// client, so certificates for the clients and who may come in, which a file for `serve` may say, are not looked at.
    ///
    /// # Errors
    /// [`RunError::Tls`] if the connection would be weaker than the client asks for; [`RunError::TlsFiles`] and
    /// [`RunError::Settings`] for a setting that cannot be used.
    pub fn proxy(&self, settings: Settings) -> Result<Proxy, RunError> {
        let mut settings = Settings {
            allow: None,
            max_sessions: None,
            tls: None,
            tls_cert: None,
            tls_key: None,
            tls_self_signed: None,
            tls_client_ca: None,
            tls_client_cert: None,
            ..settings
        };
        // What the client would encrypt over the network, it sends in clear over the private socket.
        if settings.upstream_server_public_key.is_none() {
            settings.upstream_server_public_key = self.server_key.file.clone();
        }
        settings.get_server_public_key.get_or_insert(self.server_key.is_fetched);
        settings.upstream_compression = settings.upstream_compression.or(self.compression);
        self.tls.join(&mut settings)?;
        settings.proxy().map_err(|error| match error {
            ConfigError::Tls(problem) if self.tls.concerns_files() => {
                RunError::TlsFiles { client: self.program.name, problem: Box::new(problem) }
            }
            error => RunError::Settings(error),
        })
    }

    /// Tables that the client leaves out on purpose.
    pub fn left_out(&self) -> &LeftOut {
        &self.left_out
    }

    /// The name of the client, for messages: `mysqldump`.
    pub fn client(&self) -> &'static str {
        self.program.name
    }

    /// The command with which the client reaches the proxy that listens on `socket`: the user's, and behind its last
    /// option (before a `--`, behind which options would be taken for table names) those that override the server and
    /// switch TLS off, in place of what it says of TLS: the socket's directory keeps others out.
    pub fn argv(&self, socket: &Path) -> Vec<OsString> {
        let kept = |range: std::ops::Range<usize>| {
            range
                .filter(|index| !self.options_left_out.contains(index))
                .filter_map(|index| self.args.get(index).cloned())
        };
        let mut argv = vec![self.program.command.clone()];
        argv.extend(kept(0..self.insert_at));
        argv.extend(self.overrides(socket));
        argv.extend(kept(self.insert_at..self.args.len()));
        argv
    }

    /// The socket stands last: with MariaDB's clients the last of `--protocol`, `--port` and `--socket` counts.
    fn overrides(&self, socket: &Path) -> Vec<OsString> {
        let mut path = OsString::from("--socket=");
        path.push(socket);
        let mut options: Vec<OsString> = self.switch_off_tls.iter().map(OsString::from).collect();
        options.push("--host=localhost".into());
        if self.knows_protocol {
            options.push("--protocol=socket".into());
        }
        options.push(path);
        options
    }
}

/// Without the arguments, among which a password may stand.
impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut plan = f.debug_struct("Plan");
        plan.field("program", &self.program)
            .field("upstream", &self.upstream)
            .field("account", &self.account);
        plan.finish_non_exhaustive()
    }
}

/// What the client tells of itself, and what it is told.
struct Told {
    table: OptionTable,
    scan: Scan,
    /// The option files' options, then those of the command line.
    given: Vec<Given>,
}

fn ask(program: &Program, args: &[OsString]) -> Result<Told, RunError> {
    let (table, scan, mut given) = match program.family {
        Family::MyGetopt => {
            let table = learn(program, &["--no-defaults", "--help"], help::parse)?;
            let given = option_files::read(program, &table, args)?;
            let scan = scan::scan(args, &table, Origin::CommandLine);
            (table, scan, given)
        }
        Family::GOption => {
            let table = learn(program, &["--help"], mydumper::parse)?;
            let scan = mydumper::scan(args, &table);
            let given = option_files::read_for_mydumper(program, &table, &scan)?;
            (table, scan, given)
        }
    };
    given.extend(scan.given.iter().cloned());
    Ok(Told { table, scan, given })
}

/// Has the client explain its options.
fn learn(
    program: &Program,
    query: &[&str],
    parse: fn(&str) -> Result<OptionTable, QueryProblem>,
) -> Result<OptionTable, RunError> {
    let query: Vec<OsString> = query.iter().map(OsString::from).collect();
    let captured = capture::capture(&program.command, &query)?;
    let table = match captured.status.success() {
        true => parse(&String::from_utf8_lossy(&captured.stdout)),
        false => Err(QueryProblem::Failed(captured.status.to_string())),
    };
    table.map_err(|problem| RunError::Query { command: capture::describe(&program.command, &query), problem })
}

#[cfg(test)]
mod tests;
