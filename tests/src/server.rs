//! Private servers, of MariaDB 10.11 here, of others in [`mysql9`](crate::mysql9) and [`mariadb11`](crate::mariadb11).

use std::ffi::{OsStr, OsString};
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
use crate::mariadb;
use crate::netns::Netns;
use crate::process::{self, Finished, Running};
use crate::template::Template;
use crate::wait::wait_for;

/// The account that clients use over TCP: all privileges, `mysql_native_password` (MySQL 9: `caching_sha2_password`).
pub const USER: &str = "dump";
/// Its password; it has characters that a careless shell or option file parser would trip over.
pub const PASSWORD: &str = "Sp1ll'way #8";

/// A server of the test's own, on 127.0.0.1 (or in a [`Netns`]) and a Unix socket. Dropping it kills it and removes
/// its data; so does the end of the test process, whatever ends it.
#[derive(Debug)]
pub struct Server {
    running: Running,
    /// What runs it.
    words: Vec<OsString>,
    _leash: Leash,
    root: tempfile::TempDir,
    address: SocketAddr,
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
    /// Starts a MariaDB with `options` added to the harness's own (which make it small and quick, without binary log).
    pub fn start(options: &[&str]) -> Result<Self> {
        mariadb::start(Ipv4Addr::LOCALHOST, &[], options)
    }

    /// As [`Server::start`], in a network of its own; there it looks up its clients' host names.
    pub fn start_in(netns: &Netns, options: &[&str]) -> Result<Self> {
        let bind = format!("--bind-address={}", netns.inside());
        let mut all = vec![bind.as_str(), "--skip-name-resolve=OFF"];
        all.extend(options);
        mariadb::start(netns.inside(), &netns.prefix(), &all)
    }

    /// As [`Server::start`], with a binary log (`--master-data`, `mysqlbinlog`).
    pub fn start_with_binlog(options: &[&str]) -> Result<Self> {
        let mut all = vec!["--log-bin=binlog", "--server-id=1", "--binlog-format=ROW", "--sync-binlog=0"];
        all.extend(options);
        Self::start(&all)
    }

    /// Starts what `command` gives, which says all but where the data and the sockets are, on a copy of `template`; it
    /// listens on `ip`.
    pub(crate) fn launch(template: &Template, ip: Ipv4Addr, command: impl Fn() -> Command) -> Result<Self> {
        let root = tempfile::Builder::new().prefix("spillway-server-").tempdir()?;
        let leash = Leash::new(None, Some(root.path()))?;
        template.copy_to(&root.path().join("data"))?;
        let (running, words, port) = launch(root.path(), command)?;
        Ok(Self { running, words, _leash: leash, root, address: SocketAddr::from((ip, port)) })
    }

    /// Its TCP port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Its TCP address.
    pub fn address(&self) -> SocketAddr {
        self.address
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

    /// Runs statements as root through MariaDB's `mysql` client.
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

    /// What counts towards `max_connect_errors`, of all hosts; takes `--performance-schema=ON`.
    pub fn connect_errors(&self) -> Result<u64> {
        let rows =
            self.query("SELECT IFNULL(SUM(sum_connect_errors), 0) FROM performance_schema.host_cache")?;
        Ok(rows.first().context("no row")?.parse()?)
    }

    /// Kills the server as a power failure would (SIGKILL) and waits until its port is dead.
    pub fn kill_9(&self) -> Result<()> {
        process::send(self.pid(), Signal::SIGKILL)?;
        wait_for(START_LIMIT, "the killed server's port to close", || {
            Ok(TcpStream::connect(self.address()).is_err().then_some(()))
        })
    }

    /// Kills it and starts it again, with the same data at the same address.
    pub fn restart(&mut self) -> Result<()> {
        self.kill_9()?;
        self.running.wait(START_LIMIT)?;
        let log = File::options().append(true).open(self.root.path().join("log"))?;
        let mut command =
            client::wrapped(&self.words[..self.words.len() - 1], &self.words[self.words.len() - 1]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.running = Running::start_as_is(&mut command)?;
        wait_for(START_LIMIT, "the server to start again", || match self.running.ended()? {
            Some(status) => bail!("the server ended with {status}:\n{}", self.log()),
            None => Ok(UnixStream::connect(self.socket()).is_ok().then_some(())),
        })
    }

    /// The server's own log.
    pub fn log(&self) -> String {
        read_log(self.root.path())
    }
}

/// The option without which no server runs as root.
pub(crate) fn user_option() -> Option<&'static str> {
    nix::unistd::getuid().is_root().then_some("--user=root")
}

fn launch(root: &Path, command: impl Fn() -> Command) -> Result<(Running, Vec<OsString>, u16)> {
    std::fs::create_dir_all(root.join("tmp"))?;
    for _ in 0..PORT_TRIES {
        // Free now; another may take it before the server does, which then ends and the next number is tried.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let log = File::create(root.join("log"))?;
        let mut command = command();
        command
            .arg(format!("--datadir={}", root.join("data").display()))
            // A server that starts deletes the temporary tables that it finds, its neighbours' too.
            .arg(format!("--tmpdir={}", root.join("tmp").display()))
            .arg(format!("--socket={}", root.join("s").display()))
            .arg(format!("--pid-file={}", root.join("pid").display()))
            .arg(format!("--port={port}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut running = Running::start_as_is(&mut command)?;
        // It opens the TCP port first, so with its own socket there, the port is its own, too.
        let ended = wait_for(START_LIMIT, "the server to start", || {
            if let Some(status) = running.ended()? {
                return Ok(Some(Some(status)));
            }
            Ok(UnixStream::connect(root.join("s")).is_ok().then_some(None))
        });
        match ended.with_context(|| read_log(root))? {
            None => {
                let words = [command.get_program()].into_iter().chain(command.get_args());
                return Ok((running, words.map(OsStr::to_owned).collect(), port));
            }
            Some(_) if read_log(root).contains("already in use") => continue,
            Some(status) => bail!("the server ended with {status}:\n{}", read_log(root)),
        }
    }
    bail!("no free port in {PORT_TRIES} tries")
}

fn read_log(root: &Path) -> String {
    std::fs::read_to_string(root.join("log")).unwrap_or_else(|error| format!("(no log: {error})"))
}

fn start_of(script: &[u8]) -> String {
    String::from_utf8_lossy(&script[..script.len().min(300)]).into_owned()
}

const PORT_TRIES: usize = 20;
const START_LIMIT: Duration = Duration::from_secs(60);
const LOAD_LIMIT: Duration = Duration::from_secs(120);
