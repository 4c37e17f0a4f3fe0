//! Empty data directories, each made once and copied for each server.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::leash::Leash;
use crate::process;

/// An empty data directory, gone with the test process.
pub(crate) struct Template {
    dir: PathBuf,
    _leash: Leash,
}

impl Template {
    /// Makes one; `fill` has to create the directory that it is given.
    pub(crate) fn make(fill: impl FnOnce(&Path) -> Result<()>) -> Result<Self> {
        let root = tempfile::Builder::new().prefix("spillway-template-").tempdir()?.keep();
        let leash = Leash::new(None, Some(&root))?;
        let dir = root.join("data");
        fill(&dir)?;
        Ok(Self { dir, _leash: leash })
    }

    /// Copies it to `target`, which must not be there yet.
    pub(crate) fn copy_to(&self, target: &Path) -> Result<()> {
        let mut copy = Command::new("cp");
        copy.args(["-a", "--reflink=auto"]).arg(&self.dir).arg(target);
        process::run(&mut copy, LIMIT)?.success().context("copying the data directory")?;
        Ok(())
    }
}

const LIMIT: Duration = Duration::from_secs(60);
