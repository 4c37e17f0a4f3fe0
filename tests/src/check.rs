//! `spillway check` as a command.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::binary::spillway_bin;
use crate::client;
use crate::process::{self, Finished};
use crate::spillway::SpoolOn;

/// How `spillway check` is to be run.
#[derive(Debug)]
pub struct Check {
    upstream: String,
    spool: SpoolOn,
    spool_dir: Option<PathBuf>,
    wrapper: Vec<OsString>,
    options: Vec<String>,
}

impl Check {
    /// One of `upstream` (a [`Endpoint`](crate::Endpoint), a socket address, or text as `--upstream` takes it).
    pub fn of(upstream: &(impl ToString + ?Sized)) -> Self {
        Self {
            upstream: upstream.to_string(),
            spool: SpoolOn::Disk,
            spool_dir: None,
            wrapper: Vec::new(),
            options: Vec::new(),
        }
    }

    /// Adds options.
    pub fn options(mut self, options: &[&str]) -> Self {
        self.options.extend(options.iter().map(|&option| option.to_owned()));
        self
    }

    /// Spools there and not on disk.
    pub fn spool(mut self, spool: SpoolOn) -> Self {
        self.spool = spool;
        self
    }

    /// Spools into this directory and not into one of its own.
    pub fn spool_dir(mut self, dir: &Path) -> Self {
        self.spool_dir = Some(dir.to_owned());
        self
    }

    /// Runs it by way of these words, such as [`Dns::prefix`](crate::Dns::prefix).
    pub fn wrapper(mut self, prefix: &[OsString]) -> Self {
        self.wrapper.extend_from_slice(prefix);
        self
    }

    /// Runs it to its end.
    pub fn run(self) -> Result<Finished> {
        let own = tempfile::Builder::new().prefix("spillway-spool-").tempdir()?;
        let spool = self.spool_dir.as_deref().unwrap_or_else(|| own.path());
        let mut prefix = self.wrapper;
        prefix.extend(self.spool.prefix(spool));
        let mut command = client::wrapped(&prefix, spillway_bin());
        command.args(["check", "--upstream", &self.upstream, "--spool-dir"]).arg(spool);
        command.args(&self.options);
        // How much is written is a matter of time only.
        for (option, value) in [("--spool-min-free", "0"), ("--spool-max", "8MiB")] {
            if !self.options.iter().any(|given| given.starts_with(option)) {
                command.args([option, value]);
            }
        }
        process::run(&mut command, LIMIT)
    }
}

const LIMIT: Duration = Duration::from_secs(60);
