//! Drivers of other languages, from the directory that `scripts/drivers` fills, and programs in `tests/clients` for them.

use std::path::PathBuf;
use std::process::Command;

use crate::cache;
use crate::client;

/// `tests/clients/NAME` as a program of a Python that has PyMySQL and mysql-connector.
pub fn python(name: &str) -> Command {
    let mut command = client::clean(cache::dir("drivers").join("bin/python"));
    // Nothing of the user's own.
    command.arg("-I").arg(program(name));
    command
}

/// `tests/clients/NAME` as a program of a Node that has mysql2.
pub fn node(name: &str) -> Command {
    let root = cache::dir("drivers");
    let mut command = client::clean(root.join("bin/node"));
    command.arg(program(name)).env("NODE_PATH", root.join("node_modules")).env_remove("NODE_OPTIONS");
    command
}

fn program(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}
