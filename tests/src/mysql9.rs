//! MySQL 9, server and clients, from the directory that `scripts/sid` fills.
//!
//! The server is a [`Server`] like MariaDB's, with the same account. But the account's plugin is
//! `caching_sha2_password` (there is no `mysql_native_password` any more), with two ways to log in:
//!
//! - *fast*, by scramble, while the server has the password in its cache. [`start`] logs in once over the Unix socket to
//!   put it there; `FLUSH PRIVILEGES` and changes of the account throw it out.
//! - *full*, with the password itself, which clients send in clear over a Unix socket, and over TCP encrypted with the
//!   server's RSA key. MySQL's programs ask for the key only with `--get-server-public-key`, MariaDB's do so unasked.
//!
//! The server has no certificates and so no TLS; the option `--auto-generate-certs=ON` makes them.

use std::ffi::OsString;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::cache;
use crate::client::{self, Endpoint};
use crate::netns::Netns;
use crate::process;
use crate::server::{PASSWORD, Server, USER, user_option};
use crate::template::Template;

/// Starts a MySQL 9 with `options` added to the harness's own (which make it small and quick, without binary log).
pub fn start(options: &[&str]) -> Result<Server> {
    start_on(Ipv4Addr::LOCALHOST, &[], options)
}

/// As [`start`], in a network of its own; there, too, it looks up no host names.
pub fn start_in(netns: &Netns, options: &[&str]) -> Result<Server> {
    let bind = format!("--bind-address={}", netns.inside());
    let mut all = vec![bind.as_str()];
    all.extend(options);
    start_on(netns.inside(), &netns.prefix(), &all)
}

/// `prefix` is what runs the server elsewhere, on `ip`.
fn start_on(ip: Ipv4Addr, prefix: &[OsString], options: &[&str]) -> Result<Server> {
    static TEMPLATE: LazyLock<Template> = LazyLock::new(|| {
        Template::make(initialize).unwrap_or_else(|error| panic!("no data directory: {error:#}"))
    });
    let server = Server::launch(&TEMPLATE, ip, || {
        let mut command = client::wrap(prefix, &mysqld());
        command.args(OPTIONS).args(options);
        command
    })?;
    // It opens its socket before it has read all of its options, and may end over them only now.
    cache_password(&server).with_context(|| server.log())?;
    Ok(server)
}

/// Has the server cache the account's password.
pub fn cache_password(server: &Server) -> Result<()> {
    let mut login = dumper("mysql", &server.unix());
    process::run(login.args(["--execute", "DO 0"]), LIMIT)?.success().context("caching the password")?;
    Ok(())
}

/// MySQL's own `mysql`, `mysqldump`, `mysqlbinlog` … bound for `endpoint`, without an account and without TLS.
pub fn command(program: &str, endpoint: &Endpoint) -> Command {
    let mut command = unpacked(&format!("bin/{program}"));
    command.arg("--no-defaults").args(endpoint.options(program)).arg("--ssl-mode=DISABLED");
    command
}

/// As [`command`], with the account of the tests.
pub fn dumper(program: &str, endpoint: &Endpoint) -> Command {
    let mut command = command(program, endpoint);
    command.args(client::account());
    command
}

/// MySQL's own `mysql`, `mysqldump` … as a file in `dir`.
pub fn script(program: &str, dir: &Path) -> Result<String> {
    cache::script("mysql9", &format!("bin/{program}"), dir)
}

fn initialize(dir: &Path) -> Result<()> {
    let statements = dir.with_extension("sql");
    fs::write(
        &statements,
        format!(
            "CREATE USER {USER}@'%' IDENTIFIED WITH caching_sha2_password BY '{}';\n\
             GRANT ALL PRIVILEGES ON *.* TO {USER}@'%' WITH GRANT OPTION;\n\
             CREATE DATABASE test;\n",
            PASSWORD.replace('\'', "''")
        ),
    )?;
    let mut command = mysqld();
    command
        .args(OPTIONS)
        .arg("--initialize-insecure")
        .arg(format!("--init-file={}", statements.display()))
        .arg(format!("--datadir={}", dir.display()));
    process::run(&mut command, LIMIT)?.success().context("mysqld --initialize-insecure")?;
    Ok(())
}

fn mysqld() -> Command {
    let usr = cache::dir("mysql9").join("usr");
    let mut command = unpacked("sbin/mysqld");
    command
        .arg("--no-defaults")
        .args(user_option())
        .arg(format!("--basedir={}", usr.display()))
        .arg(format!("--lc-messages-dir={}", usr.join("share/mysql").display()))
        .arg(format!("--character-sets-dir={}", usr.join("share/mysql/charsets").display()))
        .arg(plugin_dir());
    command
}

/// The option, of server and clients, that tells where the plugins are. An installed client knows where it finds
/// `mysql_native_password`; one that is not told cannot log in with it.
pub fn plugin_dir() -> String {
    format!("--plugin-dir={}", cache::dir("mysql9").join("usr/lib/mysql/plugin").display())
}

fn unpacked(program: &str) -> Command {
    cache::unpacked("mysql9", program)
}

const OPTIONS: [&str; 20] = [
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--skip-log-bin",
    "--mysqlx=OFF",
    "--performance-schema=OFF",
    "--event-scheduler=OFF",
    "--secure-file-priv=NULL", // else it wants a directory of the system to be there
    "--auto-generate-certs=OFF",
    "--max-allowed-packet=1G",
    "--max-connections=300",
    "--innodb-buffer-pool-size=32M",
    "--innodb-log-buffer-size=2M",
    "--innodb-flush-log-at-trx-commit=2",
    "--innodb-flush-method=nosync", // a test's data needs to survive nothing
    "--innodb-doublewrite=OFF",
    "--innodb-use-native-aio=OFF", // quicker here, and the kernel has but so many requests for all
    // Statistics that the server gathers in the background would make two dumps of all databases differ.
    "--innodb-stats-persistent=OFF",
    "--innodb-buffer-pool-dump-at-shutdown=OFF",
    "--innodb-buffer-pool-load-at-startup=OFF",
    "--local-infile=ON",
];
const LIMIT: Duration = Duration::from_secs(60);
