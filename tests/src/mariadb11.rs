//! MariaDB 11, server and clients, from the directory that `scripts/sid` fills.
//!
//! The server is a [`Server`] like the one of 10.11, with the same account. What differs:
//!
//! - it has TLS without being told so, with a certificate that it signs itself;
//! - its clients want TLS over TCP, and a certificate that they can check or that the password proves; [`command`]
//!   leaves that as it is, [`plain`] switches it off;
//! - it has the plugins `ed25519`, `parsec` and `caching_sha2_password`, which [`PLUGINS`] load.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::cache;
use crate::client::{self, Endpoint};
use crate::mariadb;
use crate::process;
use crate::server::{Server, user_option};
use crate::template::Template;

/// Starts a MariaDB 11 with `options` added to the harness's own (which make it small and quick, without binary log).
pub fn start(options: &[&str]) -> Result<Server> {
    static TEMPLATE: LazyLock<Template> = LazyLock::new(|| {
        Template::make(bootstrap).unwrap_or_else(|error| panic!("no data directory: {error:#}"))
    });
    let server = Server::launch(&TEMPLATE, Ipv4Addr::LOCALHOST, || {
        let mut command = mariadbd();
        command.args(mariadb::OPTIONS).args(options);
        command
    })?;
    mariadb::create_account(&server)?;
    Ok(server)
}

/// Server options that load the plugins for which accounts have to ask.
pub const PLUGINS: [&str; 3] = [
    "--plugin-load-add=auth_ed25519",
    "--plugin-load-add=auth_parsec",
    "--plugin-load-add=auth_mysql_sha2", // caching_sha2_password
];

/// `mariadb`, `mariadb-dump`, `mariadb-binlog` … bound for `endpoint`, without an account.
pub fn command(program: &str, endpoint: &Endpoint) -> Command {
    let mut command = unpacked(&format!("bin/{program}"));
    let libraries = cache::dir("mariadb11").join("libraries");
    command.arg("--no-defaults").args(endpoint.options(program));
    command.arg(format!("--plugin-dir={}", libraries.join("libmariadb3/plugin").display()));
    command
}

/// As [`command`], without TLS.
pub fn plain(program: &str, endpoint: &Endpoint) -> Command {
    let mut command = command(program, endpoint);
    command.arg("--skip-ssl");
    command
}

/// As [`plain`], with the account of the tests.
pub fn dumper(program: &str, endpoint: &Endpoint) -> Command {
    let mut command = plain(program, endpoint);
    command.args(client::account());
    command
}

/// `mariadb`, `mariadb-dump` … as a file in `dir`.
pub fn script(program: &str, dir: &Path) -> Result<String> {
    cache::script("mariadb11", &format!("bin/{program}"), dir)
}

/// What `mariadb-install-db` does; that is a script, and finds no programs here.
fn bootstrap(dir: &Path) -> Result<()> {
    let share = cache::dir("mariadb11").join("usr/share/mariadb");
    let mut script = b"CREATE DATABASE mysql;\nUSE mysql;\nSET @auth_root_socket = NULL;\n".to_vec();
    for name in [
        "mariadb_system_tables.sql",
        "mariadb_performance_tables.sql",
        "mariadb_system_tables_data.sql",
        "maria_add_gis_sp_bootstrap.sql",
        "mariadb_sys_schema.sql",
    ] {
        let path = share.join(name);
        script.extend(fs::read(&path).with_context(|| path.display().to_string())?);
    }
    fs::create_dir(dir)?;
    // A MariaDB that starts removes other ones' temporary tables from the directory that both have for them.
    let temporary = tempfile::tempdir()?;
    let mut command = mariadbd();
    command.args(["--bootstrap", "--log-warnings=0", "--max-allowed-packet=8M"]);
    command
        .arg(format!("--datadir={}", dir.display()))
        .arg(format!("--tmpdir={}", temporary.path().display()));
    process::run_with_input(&mut command, &script, LIMIT)?.success().context("mariadbd --bootstrap")?;
    Ok(())
}

fn mariadbd() -> Command {
    let usr = cache::dir("mariadb11").join("usr");
    let mut command = unpacked("sbin/mariadbd");
    command
        .arg("--no-defaults")
        .args(user_option())
        .arg(format!("--basedir={}", usr.display()))
        .arg(format!("--lc-messages-dir={}", usr.join("share/mariadb").display()))
        .arg(format!("--character-sets-dir={}", usr.join("share/mariadb/charsets").display()))
        .arg(format!("--plugin-dir={}", usr.join("lib/mysql/plugin").display()))
        .args(mariadb::LAYOUT);
    command
}

fn unpacked(program: &str) -> Command {
    cache::unpacked("mariadb11", program)
}

const LIMIT: Duration = Duration::from_secs(60);
