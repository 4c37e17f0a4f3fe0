//! How each client is called.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::{Client, Compression};
use crate::client::{self, Endpoint, normalised};
use crate::data::common::DATABASE;
use crate::server::PASSWORD;
use crate::{drivers, mariadb11, mysql9, process};

/// A way to a server, or to Spillway, and an account there.
#[derive(Clone, Debug)]
pub struct Access<'a> {
    /// Where.
    pub endpoint: &'a Endpoint,
    /// The account; its password is [`PASSWORD`].
    pub user: &'a str,
    /// With TLS, checked by this CA's certificate; else without.
    pub ca: Option<&'a Path>,
    /// What to ask for.
    pub compression: Compression,
    /// Whether a client that has `mysql_native_password` as a file is told where.
    pub native: bool,
}

/// A dump by mysql_async, which only the tests themselves have.
pub type RustDump = fn(&Access<'_>) -> Result<Vec<u8>>;

/// All of the database that `client` sees, as bytes that are the same each time.
pub(super) fn dump(client: Client, access: &Access<'_>, rust: RustDump) -> Result<Vec<u8>> {
    let mut command = match client {
        Client::MysqlAsync => return rust(access),
        Client::Mydumper => return mydumper(access),
        Client::Mysqldump10 => {
            mariadb(client::command("mysqldump", access.endpoint), access, "--ssl-verify-server-cert")
        }
        Client::MariadbDump11 => {
            mariadb(mariadb11::command("mariadb-dump", access.endpoint), access, "--ssl")
        }
        Client::Mysqldump9 => mysql(access),
        Client::PyMySql => python("pymysql", access),
        Client::Connector => python("connector", access),
        Client::Mysql2 => node(access),
    };
    let finished = process::run(&mut command, LIMIT)?.success()?;
    Ok(normalised(&finished.stdout))
}

/// A dump program of MariaDB's; `strict` is what makes it refuse a server without TLS or with a wrong certificate.
fn mariadb(mut command: Command, access: &Access<'_>, strict: &str) -> Command {
    command.args(account(access));
    match access.ca {
        Some(ca) => command.arg(format!("--ssl-ca={}", ca.display())).arg(strict),
        None => command.arg("--skip-ssl"),
    };
    if access.compression != Compression::Off {
        command.arg("--compress");
    }
    command.args(OPTIONS);
    command
}

fn mysql(access: &Access<'_>) -> Command {
    let mut command = mysql9::command("mysqldump", access.endpoint);
    command.args(account(access)).arg("--get-server-public-key");
    if access.native {
        command.arg(mysql9::plugin_dir());
    }
    if let Some(ca) = access.ca {
        command.arg("--ssl-mode=VERIFY_IDENTITY").arg(format!("--ssl-ca={}", ca.display()));
    }
    // No other is taken in its place.
    command.arg(match access.compression {
        Compression::Off => "--compression-algorithms=uncompressed",
        Compression::Zlib => "--compression-algorithms=zlib",
        Compression::Zstd => "--compression-algorithms=zstd",
    });
    command.arg("--set-gtid-purged=OFF").args(OPTIONS);
    command
}

/// It writes files.
fn mydumper(access: &Access<'_>) -> Result<Vec<u8>> {
    let dir = tempfile::Builder::new().prefix("spillway-mydumper-").tempdir()?;
    let mut command = client::command("mydumper", access.endpoint);
    command.args(account(access)).arg(format!("--database={DATABASE}"));
    command.arg(format!("--outputdir={}", dir.path().display()));
    // Nobody changes anything, and a global lock would meet those of the dumps beside it.
    command.args(["--no-locks", "--threads=2", "--routines", "--triggers", "--verbose=1"]);
    if let Some(ca) = access.ca {
        command.arg("--ssl").arg(format!("--ca={}", ca.display()));
    }
    if access.compression != Compression::Off {
        command.arg("--compress-protocol");
    }
    process::run(&mut command, LIMIT)?.success()?;
    let mut files = Vec::new();
    for entry in fs::read_dir(dir.path())? {
        files.push(entry?.path());
    }
    files.sort();
    let mut dump = Vec::new();
    for path in files {
        let name = path.file_name().context("a file without a name")?.to_string_lossy().into_owned();
        // When it was begun and ended.
        if name != "metadata" {
            dump.extend(format!("== {name}\n").into_bytes());
            dump.extend(fs::read(&path)?);
        }
    }
    if dump.is_empty() {
        bail!("mydumper wrote no file");
    }
    Ok(dump)
}

fn python(driver: &str, access: &Access<'_>) -> Command {
    let mut command = drivers::python("dump.py");
    command.arg(driver);
    match access.endpoint {
        Endpoint::Tcp(address) => {
            command.arg(format!("--host={}", address.ip())).arg(format!("--port={}", address.port()))
        }
        Endpoint::Unix(path) => command.arg(format!("--socket={}", path.display())),
    };
    command.args(account(access));
    if let Some(ca) = access.ca {
        command.arg(format!("--ca={}", ca.display()));
    }
    if access.compression != Compression::Off {
        command.arg("--compress");
    }
    command.arg(DATABASE);
    command
}

/// Its options are the driver's own, as `name=value`.
fn node(access: &Access<'_>) -> Command {
    let mut command = drivers::node("dump.js");
    match access.endpoint {
        Endpoint::Tcp(address) => {
            command.arg(format!("host={}", address.ip())).arg(format!("port={}", address.port()))
        }
        Endpoint::Unix(path) => command.arg(format!("socketPath={}", path.display())),
    };
    command.args([
        format!("user={}", access.user),
        format!("password={PASSWORD}"),
        format!("database={DATABASE}"),
    ]);
    if let Some(ca) = access.ca {
        command.arg(format!("ca={}", ca.display()));
    }
    if access.compression != Compression::Off {
        command.arg("compress=yes");
    }
    command
}

fn account(access: &Access<'_>) -> [String; 2] {
    [format!("--user={}", access.user), format!("--password={PASSWORD}")]
}

const OPTIONS: [&str; 6] =
    ["--max-allowed-packet=1G", "--single-transaction", "--routines", "--triggers", "--databases", DATABASE];
/// For one dump; it takes a fraction of a second.
const LIMIT: Duration = Duration::from_secs(60);
