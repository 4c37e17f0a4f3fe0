//! `mbuffer`, the buffer that people put into a dump's pipe today.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use spillway_tests::client;
use spillway_tests::leash::Leash;

use crate::machine;

/// A file for its backlog, on the disk that Spillway's spool is on by default. Dropping it removes the file.
#[derive(Debug)]
pub struct Mbuffer {
    file: PathBuf,
    _leash: Leash,
    _dir: tempfile::TempDir,
}

impl Mbuffer {
    /// Nothing is started yet.
    pub fn new() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("spillway-mbuffer-").tempdir_in(SPOOL_DIR)?;
        let leash = Leash::new(None, Some(dir.path()))?;
        Ok(Self { file: dir.path().join("buffer"), _leash: leash, _dir: dir })
    }

    /// The program with room for so many bytes, which all come to lie in the file: it has one buffer, of a size fixed at
    /// the start, in memory or in a file.
    pub fn command(&self, bytes: u64) -> Command {
        let mut command = client::clean("mbuffer");
        command
            .args(["-q", "-s", "1M", "-m", &format!("{}M", bytes.div_ceil(1 << 20)), "-T"])
            .arg(&self.file);
        command
    }
}

/// Its version; an error where it is not installed.
pub fn version() -> Result<String> {
    let version = machine::version("mbuffer", "--version")?;
    Ok(version.trim_start_matches("version ").to_owned())
}

/// The default of `--spool-dir`.
const SPOOL_DIR: &str = "/var/tmp";
