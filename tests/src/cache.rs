//! What the scripts fetched into the user's cache directory.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use crate::client;

/// The directory that `scripts/sid NAME` or `scripts/drivers` fills.
pub(crate) fn dir(name: &str) -> PathBuf {
    // Like the shell, which takes an empty variable for none.
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable(&format!("SPILLWAY_{}", name.to_uppercase())).unwrap_or_else(|| {
        variable("XDG_CACHE_HOME")
            .unwrap_or_else(|| variable("HOME").unwrap_or_default().join(".cache"))
            .join("spillway")
            .join(name)
    })
}

/// A program below `usr` of what `scripts/sid NAME` unpacked, run by the loader and with the libraries that came with
/// it.
pub(crate) fn unpacked(name: &str, program: &str) -> Command {
    let root = dir(name);
    let mut command = client::clean(root.join("loader"));
    command.arg("--library-path").arg(root.join("libraries")).arg(root.join("usr").join(program));
    // The machine's file is meant for another release of the library.
    command.env("OPENSSL_CONF", "/dev/null");
    command
}
