//! Writes what is made from the definition of the command line:
//!
//! ```sh
//! cargo run -p spillway --example docs -- reference FILE    # docs/configuration.md
//! cargo run -p spillway --example docs -- man DIR           # man pages
//! cargo run -p spillway --example docs -- completions DIR   # for bash, zsh and fish
//! ```
//!
//! `make docs` and `make man` do. No part of it is in the program.

mod man;
mod reference;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use clap_complete::Shell;
use spillway::cli::Cli;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [what, target] = arguments.as_slice() else { bail!(USAGE) };
    let target = Path::new(target);
    match what.to_str() {
        Some("reference") => fs::write(target, reference::render(&Cli::definition()))
            .with_context(|| target.display().to_string()),
        Some("man") => into_dir(target, man::write),
        Some("completions") => into_dir(target, completions),
        _ => bail!(USAGE),
    }
}

fn into_dir(dir: &Path, write: impl Fn(&Path) -> std::io::Result<()>) -> anyhow::Result<()> {
    let written = fs::create_dir_all(dir).and_then(|()| write(dir));
    written.with_context(|| dir.display().to_string())
}

fn completions(dir: &Path) -> std::io::Result<()> {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Cli::definition(), "spillway", dir)?;
    }
    Ok(())
}

const USAGE: &str = "usage: docs reference FILE | man DIR | completions DIR";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completions_know_the_options() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        completions(dir.path())?;
        for file in ["spillway.bash", "_spillway", "spillway.fish"] {
            let script = fs::read_to_string(dir.path().join(file))?;
            for word in ["serve", "run", "spool-dir", "zstd"] {
                assert!(script.contains(word), "{file}: {word}");
            }
        }
        Ok(())
    }
}
