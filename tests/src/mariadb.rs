//! The machine's own MariaDB.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::client;
use crate::process;
use crate::server::{PASSWORD, Server, USER, user_option};
use crate::template::Template;

/// See [`Server::start`]; `prefix` is what runs the server elsewhere, on `ip`.
pub(crate) fn start(ip: Ipv4Addr, prefix: &[OsString], options: &[&str]) -> Result<Server> {
    static TEMPLATE: LazyLock<Template> = LazyLock::new(|| {
        Template::make(install).unwrap_or_else(|error| panic!("no data directory: {error:#}"))
    });
    let program = program()?;
    let server = Server::launch(&TEMPLATE, ip, || {
        let mut command = client::wrapped(prefix, &program);
        command.arg("--no-defaults").args(LAYOUT).args(OPTIONS).args(user_option()).args(options);
        command
    })?;
    create_account(&server)?;
    Ok(server)
}

/// Creates the account of the tests and the database `test`.
pub(crate) fn create_account(server: &Server) -> Result<()> {
    server.sql(&format!(
        "CREATE USER {USER}@'%' IDENTIFIED VIA mysql_native_password USING PASSWORD('{}');
         GRANT ALL PRIVILEGES ON *.* TO {USER}@'%' WITH GRANT OPTION;
         CREATE DATABASE test;",
        PASSWORD.replace('\'', "''")
    ))
}

fn install(dir: &Path) -> Result<()> {
    // A MariaDB that starts removes other ones' temporary tables from the directory that both have for them.
    let temporary = tempfile::tempdir()?;
    let mut install = Command::new("mariadb-install-db");
    install
        .env("TMPDIR", temporary.path())
        .arg("--no-defaults")
        .arg(format!("--datadir={}", dir.display()))
        .args(["--auth-root-authentication-method=normal", "--skip-test-db"])
        .args(LAYOUT)
        .args(user_option());
    process::run(&mut install, LIMIT)?.success().context("mariadb-install-db")?;
    Ok(())
}

/// Where the server program is; Debian has it in a directory that is not on everybody's path.
fn program() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/usr/libexec"].map(PathBuf::from))
        .map(|dir| dir.join("mariadbd"))
        .find(|file| file.is_file())
        .context("no MariaDB server (mariadbd) found: run scripts/setup; these tests are never skipped")
}

/// Without these a server would not find itself in the data directory.
pub(crate) const LAYOUT: [&str; 4] = [
    "--innodb-log-file-size=64M", // less, and InnoDB refuses the zoo's 40 MB row
    "--innodb-data-file-path=ibdata1:12M:autoextend",
    "--innodb-flush-method=nosync", // a test's data needs to survive nothing
    "--aria-log-file-size=8M",
];
/// What makes a server small and quick.
pub(crate) const OPTIONS: [&str; 15] = [
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--skip-log-bin",
    "--performance-schema=OFF",
    "--character-set-server=utf8mb4",
    "--collation-server=utf8mb4_general_ci",
    "--max-allowed-packet=1G",
    "--max-connections=300",
    "--key-buffer-size=8M",
    "--innodb-buffer-pool-size=32M",
    "--innodb-log-buffer-size=2M",
    "--innodb-flush-log-at-trx-commit=2",
    // Statistics that the server gathers in the background would make two dumps of all databases differ.
    "--innodb-stats-persistent=OFF",
    "--innodb-buffer-pool-dump-at-shutdown=OFF",
    "--local-infile=ON",
];
const LIMIT: Duration = Duration::from_secs(60);
