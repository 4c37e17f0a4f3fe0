//! HAProxy: one process with a thread for each core (its default), in TCP mode with splicing.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use spillway_tests::client;

use super::Product;

/// Debian's package.
pub(super) struct HAProxy;

impl Product for HAProxy {
    fn name(&self) -> &'static str {
        "HAProxy"
    }

    fn command(&self, dir: &Path, address: SocketAddr, server: SocketAddr) -> Result<Command> {
        let file = dir.join("haproxy.cfg");
        fs::write(&file, config(address, server))?;
        let mut command = client::clean(program());
        // In the foreground, and no warnings.
        command.args(["-db", "-q", "-f"]).arg(file);
        Ok(command)
    }

    fn version(&self) -> Command {
        let mut command = client::clean(program());
        command.arg("-v");
        command
    }

    fn is_port_taken(&self, said: &str) -> bool {
        said.contains("cannot bind socket")
    }
}

/// Time limits as for a backup: a client may be silent for long.
fn config(address: SocketAddr, server: SocketAddr) -> String {
    format!(
        "defaults
    mode tcp
    option splice-auto
    timeout connect 10s
    timeout client 1h
    timeout server 1h

listen bench
    bind {address}
    server mariadb {server}
"
    )
}

/// Debian has it where it is not on everybody's path.
fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|dir| dir.join("haproxy"))
        .find(|file| file.is_file())
        .unwrap_or_else(|| "haproxy".into())
}
