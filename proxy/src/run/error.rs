//! What keeps `run` from starting the client, and the exit status it ends with then.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::credentials::UnknownAccount;
use super::program;
use super::tls::TlsDemandError;
use crate::config::ConfigError;
use crate::listener::ListenError;
use crate::tls::TlsError;

/// Why the client was not started, or cannot be waited for.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Nothing stands behind `--`.
    #[error("there is no command to run: give one, as in `spillway run -- mysqldump --all-databases`")]
    NoCommand,
    /// A program whose options we cannot read.
    #[error(
        "`{program}` is no client that `run` knows ({}): start `spillway serve` and give the program its address \
         instead",
        program::known_names()
    )]
    UnknownProgram {
        /// The command as given.
        program: String,
    },
    /// The program is not there.
    #[error("cannot run `{program}`: command not found; check the spelling and PATH")]
    NotFound {
        /// The command as given.
        program: String,
    },
    /// The program is there and cannot be executed.
    #[error("cannot run `{program}`: {source}; check its permissions and that it is built for this machine")]
    NotExecutable {
        /// The command as given.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// A helper run (`--help`, `--print-defaults`) did not end or said too much.
    #[error("`{command}` {problem}: run it by hand to see why, Spillway learns the client's options from it")]
    Query {
        /// The helper command.
        command: String,
        /// What is wrong with its answer.
        problem: QueryProblem,
    },
    /// The client cannot read its option files.
    #[error("`{command}` could not read the client's option files: {detail}")]
    OptionFiles {
        /// The helper command.
        command: String,
        /// What it wrote to stderr.
        detail: String,
    },
    /// The program that reads the option files for mydumper is missing.
    #[error(
        "`my_print_defaults` is needed to read the option files of `{program}`: install it (Debian: \
         mariadb-client-core)"
    )]
    NoPrintDefaults {
        /// The command as given.
        program: String,
    },
    /// What the client asks of TLS cannot be had.
    #[error(transparent)]
    Tls(#[from] TlsDemandError),
    /// Files for TLS cannot be used, and the client's options have their part in it.
    #[error("{problem} (so say the options of `{client}`, where Spillway's own leave it to them)")]
    TlsFiles {
        /// The name of the client.
        client: &'static str,
        /// What is wrong, by the names of Spillway's options.
        problem: Box<TlsError>,
    },
    /// The threads that sessions run on cannot be started.
    #[error(
        "cannot start threads for the proxy: {0}; is the limit of processes (ulimit -u) or of open files too low?"
    )]
    Threads(#[source] io::Error),
    /// A setting of Spillway's own cannot be used.
    #[error(transparent)]
    Settings(ConfigError),
    /// Spillway is to know the account, and does not.
    #[error(
        "`--auth stored` needs the account of `{program}`, and {reason}: name a file with user and password by \
         --credentials, or leave --auth stored out"
    )]
    Account {
        /// The name of the client.
        program: &'static str,
        /// Why it is not known.
        reason: UnknownAccount,
    },
    /// An option at the end has no value: what `run` adds would be taken for it.
    #[error("option `{option}` needs a value and is the last one: give it its value")]
    MissingValue {
        /// The option as given.
        option: String,
    },
    /// An option has a value that the client would not take either, or that we cannot follow.
    #[error("`--{option}={value}` {problem}")]
    BadValue {
        /// Name of the option without its dashes.
        option: String,
        /// Its value.
        value: String,
        /// What is wrong with it and what to do.
        problem: &'static str,
    },
    /// No place for the private socket.
    #[error(
        "cannot make a private directory for the socket in {}: {source}; set TMPDIR to a short path that can be \
         written",
        .parent.display()
    )]
    SocketDir {
        /// Where it was tried last.
        parent: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No pipe for the client's stderr.
    #[error(
        "cannot make a pipe for the client's stderr: {0}; is the limit of open files (ulimit -n) too low?"
    )]
    Pipe(#[source] io::Error),
    /// The report cannot be written.
    #[error("--report {}: {source}; name a file in a directory that can be written", .path.display())]
    Report {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file for the client's stderr cannot be written.
    #[error("--stderr {}: {source}; name a file that can be written", .path.display())]
    Stderr {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The private socket cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Setting up, reading or passing on signals failed.
    #[error("cannot {action}: {source}; this is a fault of the system or of Spillway, please report it")]
    Signals {
        /// What was being done.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The client cannot be waited for.
    #[error(
        "cannot wait for the client: {source}; this is a fault of the system or of Spillway, please report it"
    )]
    Wait {
        /// What the system said.
        source: io::Error,
    },
    /// A signal came before the client was started.
    #[error("ended by signal {signal} before the client was started")]
    Interrupted {
        /// Number of the signal.
        signal: i32,
    },
}

/// What is wrong with the answer to a helper run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryProblem {
    /// It did not end.
    #[error("did not end within {} s", .0.as_secs())]
    Slow(Duration),
    /// It wrote more than any client does.
    #[error("wrote more than {0} bytes")]
    Long(u64),
    /// It ended with an error.
    #[error("ended with {0}")]
    Failed(String),
    /// It does not list an option that every known client has.
    #[error("lists no option `--{0}`")]
    Unreadable(&'static str),
    /// Its output cannot be read.
    #[error("cannot be read: {0}")]
    Io(String),
}

impl RunError {
    /// The exit status of `spillway run` for this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoCommand
            | Self::UnknownProgram { .. }
            | Self::MissingValue { .. }
            | Self::BadValue { .. } => EXIT_USAGE,
            Self::Query { .. }
            | Self::OptionFiles { .. }
            | Self::NoPrintDefaults { .. }
            | Self::Tls(_)
            | Self::TlsFiles { .. }
            | Self::Settings(_)
            | Self::Account { .. }
            | Self::SocketDir { .. } => EXIT_CONFIG,
            Self::Report { .. } | Self::Stderr { .. } => EXIT_CANNOT_CREATE,
            Self::Pipe(_) | Self::Listen(_) | Self::Threads(_) | Self::Signals { .. } | Self::Wait { .. } => {
                EXIT_INTERNAL
            }
            Self::NotExecutable { .. } => EXIT_NOT_EXECUTABLE,
            Self::NotFound { .. } => EXIT_NOT_FOUND,
            Self::Interrupted { signal } => super::child::code_of_signal(*signal),
        }
    }

    /// The error for a program that could not be spawned.
    pub(crate) fn spawn(program: String, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { program },
            _ => Self::NotExecutable { program, source },
        }
    }
}

const EXIT_USAGE: u8 = 2;
/// A file that is to be written cannot be (EX_CANTCREAT).
const EXIT_CANNOT_CREATE: u8 = 73;
const EXIT_INTERNAL: u8 = 70; // EX_SOFTWARE of sysexits.h
const EXIT_CONFIG: u8 = 78; // EX_CONFIG of sysexits.h
const EXIT_NOT_EXECUTABLE: u8 = 126; // as shells do
const EXIT_NOT_FOUND: u8 = 127; // as shells do
