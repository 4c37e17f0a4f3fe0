//! What the scripts fetched into the user's cache directory.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::client;
use crate::process;

/// The directory that `scripts/sid NAME` or `scripts/drivers` fills.
pub fn dir(name: &str) -> PathBuf {
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

/// The same as a file of the program's own name in `dir`: `spillway run` knows clients by their names.
pub(crate) fn script(name: &str, program: &str, dir: &Path) -> Result<String> {
    let command = unpacked(name, program);
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let words: String = words.map(|word| format!(" '{}'", word.to_string_lossy())).collect();
    let path = dir.join(Path::new(program).file_name().context("no file name")?);
    // Written by another process: one that we wrote ourselves could be open in a child that another test forks just
    // now, and not be executable then ("text file busy").
    let mut writer = client::clean("sh");
    writer.args(["-c", "cat > \"$0\" && chmod +x \"$0\""]).arg(&path);
    let text = format!("#!/bin/sh\nOPENSSL_CONF=/dev/null exec{words} \"$@\"\n");
    process::run_with_input(&mut writer, text.as_bytes(), LIMIT)?.success()?;
    Ok(path.display().to_string())
}

const LIMIT: Duration = Duration::from_secs(60);
