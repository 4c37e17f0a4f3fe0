//! The programs that are measured.

use std::env;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};

/// The `spillway` to measure: `$SPILLWAY_BIN`, or the one that was built beside this very program.
pub fn spillway() -> Result<PathBuf> {
    if let Some(path) = env::var_os("SPILLWAY_BIN") {
        let path = PathBuf::from(path);
        return path.canonicalize().with_context(|| format!("SPILLWAY_BIN={}", path.display()));
    }
    let beside = env::current_exe()?.with_file_name("spillway");
    ensure!(beside.is_file(), "{} is missing; build it: cargo build --release -p spillway", beside.display());
    Ok(beside)
}

/// Finds the server and client programs, or says how to get them.
pub fn check_mariadb() -> Result<()> {
    let path = env::var_os("PATH").unwrap_or_default();
    // Debian has the server where it is not on everybody's path.
    let dirs: Vec<PathBuf> = env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/usr/libexec"].map(PathBuf::from))
        .collect();
    for (program, package) in PROGRAMS {
        if !dirs.iter().any(|dir| dir.join(program).is_file()) {
            bail!(
                "{program} is not installed. Run scripts/setup, which installs the Debian packages that are \
                 missing, or: apt-get install --no-install-recommends {package}"
            );
        }
    }
    Ok(())
}

const PROGRAMS: [(&str, &str); 4] = [
    ("mariadbd", "mariadb-server"),
    ("mariadb-install-db", "mariadb-server"),
    ("mysql", "mariadb-client"),
    ("mysqldump", "mariadb-client"),
];
