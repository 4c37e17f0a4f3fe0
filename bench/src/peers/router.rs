//! MySQL Router from the directory that `scripts/sid mysqlrouter` fills: a static route, bytes passed on as they are.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use spillway_tests::{cache, client};

use super::Product;

/// The unpacked package.
pub(super) struct Router;

impl Product for Router {
    fn name(&self) -> &'static str {
        "MySQL Router"
    }

    fn command(&self, dir: &Path, address: SocketAddr, server: SocketAddr) -> Result<Command> {
        let file = dir.join("router.conf");
        fs::write(&file, config(dir, address, server))?;
        let mut command = program();
        command.arg("--config").arg(file);
        Ok(command)
    }

    fn version(&self) -> Command {
        let mut command = program();
        command.arg("--version");
        command
    }

    fn is_port_taken(&self, said: &str) -> bool {
        said.contains("Address already in use")
    }
}

/// TLS is the client's and the server's own affair: with any other mode Router would look for it in a server that may
/// have none. It logs to stderr.
fn config(dir: &Path, address: SocketAddr, server: SocketAddr) -> String {
    let plugins = cache::dir(CACHE).join("usr/lib/mysqlrouter/plugin");
    let (plugins, dir) = (plugins.display(), dir.display());
    let (ip, port) = (address.ip(), address.port());
    format!(
        "[DEFAULT]
plugin_folder={plugins}
runtime_folder={dir}
config_folder={dir}
data_folder={dir}
logging_folder=

[logger]
level=WARNING

[routing:bench]
bind_address={ip}
bind_port={port}
destinations={server}
routing_strategy=first-available
protocol=classic
client_ssl_mode=PASSTHROUGH
server_ssl_mode=AS_CLIENT
"
    )
}

/// By its own loader. Its plugins look for their common libraries where a package would have put them.
fn program() -> Command {
    let root = cache::dir(CACHE);
    let libraries = ["libraries", "usr/lib/mysql-router"].map(|dir| root.join(dir).display().to_string());
    let mut command = client::clean(root.join("loader"));
    command.arg("--library-path").arg(libraries.join(":")).arg(root.join("usr/bin/mysqlrouter"));
    // The machine's file is meant for another release of the library.
    command.env("OPENSSL_CONF", "/dev/null");
    command
}

/// What `scripts/sid` calls it.
const CACHE: &str = "mysqlrouter";
