//! Private MariaDB servers.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;

use crate::client::{self, Endpoint};
use crate::leash::Leash;
use crate::process::{self, Finished, Running};
use crate::template;
use crate::wait::wait_for;

/// The account that clients use over TCP: all privileges, `mysql_native_password`.
pub const USER: &str = "dump";
/// Its password; it has characters that a careless shell or option file parser would trip over.
pub const PASSWORD: &str = "Sp1ll'way #8";

/// A MariaDB server of the test's own, on 127.0.0.1 and a Unix socket. Dropping it kills it and removes its data; so
/// does the end of the test process, whatever ends it.
#[derive(Debug)]
pub struct Server {
    running: Running,
    _leash: Leash,
    root: tempfile::TempDir,
    port: u16,
}

/// A line of `SHOW FULL PROCESSLIST`.
#[derive(Clone, Debug)]
pub struct Thread {
    /// The connection id.
    pub id: u64,
    /// The account's user name.
    pub user: String,
    /// The current database, empty where there is none.
    pub database: String,
    /// `Query`, `Sleep`, `Statistics`, …
    pub command: String,
    /// What the thread does, such as `Writing to net`.
    pub state: String,
    /// The statement, empty where there is none.
    pub info: String,
}

impl Server {
    /// Starts a server with `options` added to the harness's own (which make it small and quick, without binary log).
    pub fn start(options: &[&str]) -> Result<Self> {
        let root = tempfile::Builder::new().prefix("spillway-server-").tempdir()?;
        let leash = Leash::new(None, Some(root.path()))?;
        template::copy_to(&root.path().join("data"))?;
        let (running, port) = launch(root.path(), options)?;
        let server = Self { running, _leash: leash, root, port };
        server.sql(&format!(
            "CREATE USER {USER}@'%' IDENTIFIED VIA mysql_native_password USING PASSWORD('{}');
             GRANT ALL PRIVILEGES ON *.* TO {USER}@'%' WITH GRANT OPTION;
             CREATE DATABASE test;",
            PASSWORD.replace('\'', "''")
        ))?;
        Ok(server)
    }

    /// As [`Server::start`], with a binary log (`--master-data`, `mysqlbinlog`).
    pub fn start_with_binlog(options: &[&str]) -> Result<Self> {
        let mut all = vec!["--log-bin=binlog", "--server-id=1", "--binlog-format=ROW", "--sync-binlog=0"];
        all.extend(options);
        Self::start(&all)
    }

    /// Its TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its TCP address.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Its TCP address as clients take it.
    pub fn tcp(&self) -> Endpoint {
        Endpoint::Tcp(self.address())
    }

    /// Its Unix socket as clients take it.
    pub fn unix(&self) -> Endpoint {
        Endpoint::Unix(self.socket())
    }

    /// The path of its Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.root.path().join("s")
    }

    /// The number of the server process.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Runs statements as root through the `mysql` client.
    pub fn sql(&self, statements: &str) -> Result<()> {
        self.run_sql(statements.as_bytes())?;
        Ok(())
    }

    /// As [`Server::sql`], for scripts that are no UTF-8 or have `DELIMITER` lines.
    pub fn run_sql(&self, script: &[u8]) -> Result<Finished> {
        let mut mysql = client::command("mysql", &self.unix());
        mysql.args(["--user=root", "--batch", "--skip-column-names", "--binary-mode"]);
        mysql.args(["--max-allowed-packet=1G", "--default-character-set=utf8mb4"]);
        process::run_with_input(&mut mysql, script, LOAD_LIMIT)?
            .success()
            .with_context(|| format!("statements: {}", start_of(script)))
    }

    /// The rows that a statement gives, fields divided by tabs, each as `mysql --batch --raw` shows it.
    pub fn query(&self, statement: &str) -> Result<Vec<String>> {
        let mut mysql = client::command("mysql", &self.unix());
        mysql.args(["--user=root", "--batch", "--raw", "--skip-column-names", "--execute", statement]);
        let finished =
            process::run(&mut mysql, LOAD_LIMIT)?.success().with_context(|| statement.to_owned())?;
        Ok(finished.text().lines().map(str::to_owned).collect())
    }

    /// The threads of the server that belong to clients, this call's own left out.
    pub fn processlist(&self) -> Result<Vec<Thread>> {
        let rows = self.query(
            "SELECT id, user, IFNULL(db, ''), command, IFNULL(state, ''), REPLACE(IFNULL(LEFT(info, 200), ''), '\\n', ' ')
             FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND user <> 'system user'",
        )?;
        rows.iter()
            .map(|row| {
                let mut fields = row.splitn(6, '\t').map(str::to_owned);
                let mut field = || fields.next().with_context(|| format!("processlist row {row:?}"));
                Ok(Thread {
                    id: field()?.parse()?,
                    user: field()?,
                    database: field()?,
                    command: field()?,
                    state: field()?,
                    info: field()?,
                })
            })
            .collect()
    }

    /// Waits for a thread for which `wanted` holds.
    pub fn wait_for_thread(
        &self,
        limit: Duration,
        what: &str,
        wanted: impl Fn(&Thread) -> bool,
    ) -> Result<Thread> {
        wait_for(limit, what, || Ok(self.processlist()?.into_iter().find(&wanted)))
    }

    /// Waits until no thread is left for which `unwanted` holds.
    pub fn wait_for_no_thread(
        &self,
        limit: Duration,
        what: &str,
        unwanted: impl Fn(&Thread) -> bool,
    ) -> Result<()> {
        wait_for(limit, what, || Ok((!self.processlist()?.iter().any(&unwanted)).then_some(())))
    }

    /// Kills the server as a power failure would (SIGKILL) and waits until its port is dead.
    pub fn kill_9(&self) -> Result<()> {
        process::send(self.pid(), Signal::SIGKILL)?;
        wait_for(START_LIMIT, "the killed server's port to close", || {
            Ok(TcpStream::connect(self.address()).is_err().then_some(()))
        })
    }

    /// The server's own log.
    pub fn log(&self) -> String {
        read_log(self.root.path())
    }
}

fn launch(root: &Path, options: &[&str]) -> Result<(Running, u16)> {
    std::fs::create_dir_all(root.join("tmp"))?;
    for _ in 0..PORT_TRIES {
        // Free now; another may take it before the server does, which then ends and the next number is tried.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let log = File::create(root.join("log"))?;
        let mut command = Command::new(program()?);
        command
            .arg("--no-defaults")
            .arg(format!("--datadir={}", root.join("data").display()))
            // A server that starts deletes the temporary tables that it finds, its neighbours' too.
            .arg(format!("--tmpdir={}", root.join("tmp").display()))
            .arg(format!("--socket={}", root.join("s").display()))
            .arg(format!("--pid-file={}", root.join("pid").display()))
            .arg(format!("--port={port}"))
            .args(template::LAYOUT)
            .args(OPTIONS)
            .args(options)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        if nix::unistd::getuid().is_root() {
            command.arg("--user=root");
        }
        let mut running = Running::start_as_is(&mut command)?;
        // It opens the TCP port first, so with its own socket there, the port is its own, too.
        let ended = wait_for(START_LIMIT, "the server to start", || {
            if let Some(status) = running.ended()? {
                return Ok(Some(Some(status)));
            }
            Ok(UnixStream::connect(root.join("s")).is_ok().then_some(None))
        });
        match ended.with_context(|| read_log(root))? {
            None => return Ok((running, port)),
            Some(_) if read_log(root).contains("already in use") => continue,
            Some(status) => bail!("the server ended with {status}:\n{}", read_log(root)),
        }
    }
    bail!("no free port in {PORT_TRIES} tries")
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

fn read_log(root: &Path) -> String {
    std::fs::read_to_string(root.join("log")).unwrap_or_else(|error| format!("(no log: {error})"))
}

fn start_of(script: &[u8]) -> String {
    String::from_utf8_lossy(&script[..script.len().min(300)]).into_owned()
}

const OPTIONS: [&str; 15] = [
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
const PORT_TRIES: usize = 20;
const START_LIMIT: Duration = Duration::from_secs(60);
const LOAD_LIMIT: Duration = Duration::from_secs(120);
