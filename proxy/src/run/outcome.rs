//! What `run` tells of a dump when it is over: the summary line, and the report.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use clap::{Args, ValueEnum};
use indicatif::{HumanBytes, HumanCount};
use tempfile::NamedTempFile;

use super::log_target::is_same_file;
use super::{ClientExit, Plan, RunError};
use crate::report::{FORMAT, Report, Summary, VERSION};
use crate::session::Proxy;

/// Options of `run` alone.
#[derive(Args, Clone, Debug, Default)]
pub struct RunOptions {
    /// Neither progress nor summary
    #[arg(long, short)]
    pub quiet: bool,

    /// When to write one line about the dump to stderr at its end: always, tty (where stderr is a terminal) or never.
    /// Where stderr is the dump's own file, it goes to the log file, if always is given [default: always]
    #[arg(long, value_name = "WHEN", env = "SPILLWAY_SUMMARY", hide_possible_values = true)]
    pub summary: Option<SummaryMode>,

    /// Write a report in JSON: each table's rows, bytes and checksum, times, warnings, the binary log position;
    /// `spillway verify` compares another server by it
    #[arg(long, value_name = "FILE", env = "SPILLWAY_REPORT")]
    pub report: Option<PathBuf>,

    /// Append what the command writes to stderr to this file. Without it, it goes to Spillway's own stderr or, where
    /// that is the dump's own file, to the log file
    #[arg(long, value_name = "FILE", env = "SPILLWAY_STDERR")]
    pub stderr: Option<PathBuf>,

    /// Exit with status 75 if the dump went through with warnings
    #[arg(long, env = "SPILLWAY_STRICT")]
    pub strict: bool,
}

/// When the summary is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SummaryMode {
    /// Always
    Always,
    /// Where stderr is a terminal
    Tty,
    /// Never
    Never,
}

/// A dump that is over.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// When the client was started.
    pub began: (Instant, SystemTime),
    /// How long it ran.
    pub took: Duration,
    /// How it ended.
    pub exit: ClientExit,
}

/// A report's file, made before the dump begins: a place that cannot be written is known at once, and a reader never
/// sees half a report.
#[derive(Debug)]
pub struct ReportFile {
    path: PathBuf,
    file: NamedTempFile,
}

impl ReportFile {
    /// Makes a file of mode 0600 beside `path`, which it will replace.
    ///
    /// # Errors
    /// [`RunError::Report`] if there is no such directory, or it cannot be written.
    pub fn create(path: &Path) -> Result<Self, RunError> {
        let failed = |source| RunError::Report { path: path.to_owned(), source };
        if let Ok(there) = File::open(path) {
            // Neither a device nor the dump is to be replaced.
            refuse_the_dump(&there).map_err(failed)?;
            if !there.metadata().is_ok_and(|metadata| metadata.is_file()) {
                return Err(failed(io::Error::other("it is no regular file")));
            }
        }
        let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let file = tempfile::Builder::new()
            .prefix(".spillway-report-")
            .tempfile_in(directory.unwrap_or_else(|| Path::new(".")))
            .map_err(failed)?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Writes the report and puts it in its place.
    ///
    /// # Errors
    /// [`RunError::Report`].
    pub fn write(mut self, report: &Report) -> Result<(), RunError> {
        let written = serde_json::to_writer_pretty(&mut self.file, report)
            .map_err(io::Error::from)
            .and_then(|()| self.file.write_all(b"\n"))
            .and_then(|()| self.file.as_file().sync_all())
            .and_then(|()| self.file.persist(&self.path).map_err(io::Error::from));
        written.map(drop).map_err(|source| RunError::Report { path: self.path, source })
    }
}

/// Opens the file for the client's stderr.
///
/// # Errors
/// [`RunError::Stderr`].
pub fn open_stderr(path: &Path) -> Result<OwnedFd, RunError> {
    let opened = File::options().append(true).create(true).open(path);
    let opened = opened.and_then(|file| refuse_the_dump(&file).map(|()| file.into()));
    opened.map_err(|source| RunError::Stderr { path: path.to_owned(), source })
}

/// Nothing but the client writes into the file that stdout is.
fn refuse_the_dump(file: &File) -> io::Result<()> {
    let is_regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
    match is_regular && is_same_file(&io::stdout(), file) {
        true => Err(io::Error::other("it is the dump's own file (stdout)")),
        false => Ok(()),
    }
}

impl Outcome {
    fn summary(&self, proxy: &Proxy) -> Summary {
        let (totals, book) = (proxy.sessions.totals(), proxy.ledger.book());
        let since = |then: Option<Instant>| then.map(|then| (then - self.began.0).as_secs_f64());
        Summary {
            seconds: self.took.as_secs_f64(),
            server_released_seconds: since(book.last_table_drained.or(book.last_drained)),
            client_done_seconds: since(book.last_fed),
            backlog_peak: book.backlog_peak,
            login_attempts: book.login_attempts,
            logins: book.logins,
            tables: 0,
            rows: totals.rows,
            bytes: totals.fed,
        }
    }

    /// The report.
    pub fn report(&self, plan: &Plan, proxy: &Proxy) -> Report {
        let summary = Summary { tables: proxy.ledger.tables_read() as u64, ..self.summary(proxy) };
        let book = proxy.ledger.book().clone();
        Report {
            format: FORMAT.to_owned(),
            version: VERSION,
            spillway: env!("CARGO_PKG_VERSION").to_owned(),
            began: humantime::format_rfc3339_seconds(self.began.1).to_string(),
            client: plan.client().to_owned(),
            exit_status: self.exit.code(),
            upstream: plan.upstream().to_string(),
            server_version: book.server_version,
            summary,
            positions: book.positions,
            settings: book.settings,
            statements: book.entries,
            statements_left_out: book.left_out,
            warnings: book.warnings,
        }
    }

    /// The summary in one line.
    pub fn line(&self, plan: &Plan, proxy: &Proxy) -> String {
        let tables = proxy.ledger.tables_read();
        let summary = self.summary(proxy);
        let Summary { rows, bytes, backlog_peak, logins, login_attempts, .. } = summary;
        let time = |seconds: Option<f64>| seconds.map_or_else(|| "never".to_owned(), shown_seconds);
        let released = time(summary.server_released_seconds);
        let done = time(summary.client_done_seconds);
        let warnings = match proxy.ledger.warnings() {
            0 => String::new(),
            1 => ", 1 WARNING".to_owned(),
            many => format!(", {many} WARNINGS"),
        };
        format!(
            "{}: {} in {}{warnings}: {} table{}, {} rows, {}; the server was free after {released}, the client had all \
             after {done}, peak backlog {}; {logins} login{} in {login_attempts} attempt{}",
            plan.client(),
            self.exit,
            shown_seconds(self.took.as_secs_f64()),
            HumanCount(tables as u64),
            plural(tables as u64),
            HumanCount(rows),
            HumanBytes(bytes),
            HumanBytes(backlog_peak),
            plural(logins),
            plural(login_attempts),
        )
    }
}

fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// `0.4s`, `12s`, `2m 5s`.
fn shown_seconds(seconds: f64) -> String {
    if seconds < 10.0 {
        return format!("{seconds:.1}s");
    }
    humantime::format_duration(Duration::from_secs(seconds.round() as u64)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        assert_eq!(shown_seconds(0.04), "0.0s");
        assert_eq!(shown_seconds(9.94), "9.9s");
        assert_eq!(shown_seconds(125.2), "2m 5s");
    }
}
