//! The program under test, built from the sources as they are now.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use anyhow::{Context as _, Result, bail};

/// The path of `spillway`, built once in this process, so that no test runs a stale one.
///
/// # Panics
/// Where it does not build: there is nothing to test then.
pub fn spillway_bin() -> &'static Path {
    // The error is kept, so that each test tells the reason, and not only the first.
    static BUILT: LazyLock<Result<PathBuf>> = LazyLock::new(build);
    match &*BUILT {
        Ok(path) => path,
        Err(error) => panic!("building spillway: {error:#}"),
    }
}

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn build() -> Result<PathBuf> {
    let own = env::current_exe()?;
    // Wherever this very program was built (`target/debug/deps/…`), be it by CARGO_TARGET_DIR or by --target-dir.
    let target = own
        .ancestors()
        .find(|dir| dir.join("CACHEDIR.TAG").is_file())
        .with_context(|| format!("{} is in no cargo target directory", own.display()))?;
    let release = own.ancestors().any(|dir| dir.file_name().is_some_and(|name| name == "release"));
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(["build", "--quiet", "-p", "spillway", "--bin", "spillway", "--target-dir"])
        .arg(target)
        .current_dir(workspace());
    if release {
        command.arg("--release");
    }
    let output = command.output().context("starting cargo")?;
    if !output.status.success() {
        bail!("cargo: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(target.join(if release { "release" } else { "debug" }).join("spillway"))
}
