//! An empty data directory, made once and copied for each server.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::leash::Leash;
use crate::process;

/// Copies the empty data directory to `target`, which must not be there yet.
pub fn copy_to(target: &Path) -> Result<()> {
    static TEMPLATE: LazyLock<Template> =
        LazyLock::new(|| Template::make().unwrap_or_else(|error| panic!("no data directory: {error:#}")));
    let mut copy = Command::new("cp");
    copy.args(["-a", "--reflink=auto"]).arg(&TEMPLATE.dir).arg(target);
    process::run(&mut copy, LIMIT)?.success().context("copying the data directory")?;
    Ok(())
}

/// The options without which a server would not find itself in the data directory; each server is started with them.
pub(crate) const LAYOUT: [&str; 4] = [
    "--innodb-log-file-size=64M", // less, and InnoDB refuses the zoo's 40 MB row
    "--innodb-data-file-path=ibdata1:12M:autoextend",
    "--innodb-flush-method=nosync", // a test's data needs to survive nothing
    "--aria-log-file-size=8M",
];

struct Template {
    dir: PathBuf,
    _leash: Leash,
}

impl Template {
    fn make() -> Result<Self> {
        let root = tempfile::Builder::new().prefix("spillway-template-").tempdir()?.keep();
        let leash = Leash::new(None, Some(&root))?;
        let dir = root.join("data");
        let mut install = Command::new("mariadb-install-db");
        install
            .arg("--no-defaults")
            .arg(format!("--datadir={}", dir.display()))
            .args(["--auth-root-authentication-method=normal", "--skip-test-db"])
            .args(LAYOUT);
        if nix::unistd::getuid().is_root() {
            install.arg("--user=root");
        }
        process::run(&mut install, LIMIT)?.success().context("mariadb-install-db")?;
        Ok(Self { dir, _leash: leash })
    }
}

const LIMIT: Duration = Duration::from_secs(60);
