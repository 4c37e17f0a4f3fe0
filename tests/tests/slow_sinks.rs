//! The failure to reproduce: a sink slower than `net_write_timeout` ends a direct dump with error 2013. Each scenario
//! shows that first, so that the fault is known to be there, and then that the same dump through Spillway is complete.
//!
//! The proxy runs without its session-init statement here: it is the spool that has to save the dump, not a longer
//! timeout.

use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use spillway_tests::process::{self, Finished, Running};
use spillway_tests::server::{PASSWORD, USER};
use spillway_tests::sink::{Gzip, StallingFile};
use spillway_tests::{Endpoint, Server, Spillway, cc, client, data, log};

/// One server for all; each scenario has a proxy and a database of its own.
struct Setting {
    server: &'static Server,
    spillway: Spillway,
}

fn server() -> &'static Server {
    static SERVER: LazyLock<Server> = LazyLock::new(|| {
        Server::start(&["--net-write-timeout=1"]).unwrap_or_else(|error| panic!("{error:#}"))
    });
    &SERVER
}

#[test]
fn a_client_that_sleeps_between_rows() -> Result<()> {
    let setting = Setting::start()?;
    let rows = data::report::load(setting.server, "sleepy", TABLE_SIZE)?;
    let dir = tempfile::tempdir()?;
    let program = cc::compile("use_result", dir.path())?;
    let fetch = |endpoint: &Endpoint| -> Result<Finished> {
        let Endpoint::Tcp(address) = endpoint else { anyhow::bail!("a TCP client") };
        let mut command = Command::new(&program);
        command.args([address.ip().to_string(), address.port().to_string(), USER.into(), PASSWORD.into()]);
        // Six rows with half a second before each: three times as long as the server waits.
        command.args(["SELECT * FROM sleepy.test", "6", "500"]);
        process::run(&mut command, LIMIT)
    };

    let direct = fetch(&setting.server.tcp())?;
    ensure!(direct.code() == 1 && direct.stderr.contains("ERROR 2013"), "directly: {direct:?}");

    let through = fetch(setting.spillway.endpoint())?.success()?;
    ensure!(through.text().starts_with(&format!("{rows} rows, ")), "{}", through.text());
    setting.assert_drained_ahead()
}

#[test]
fn a_dump_into_a_slow_gzip() -> Result<()> {
    let setting = Setting::start()?;
    let expected = setting.load("slow_gzip")?;

    let (direct, _) =
        setting.dump_into_gzip("slow_gzip", &setting.server.tcp(), Setting::wait_until_given_up)?;
    assert_lost(&direct)?;

    let (through, dump) = setting.dump_into_gzip("slow_gzip", setting.spillway.endpoint(), Setting::hold)?;
    through.success()?;
    assert_equal(&expected, &dump)?;
    setting.assert_drained_ahead()
}

#[test]
fn a_dump_to_a_file_that_stalls() -> Result<()> {
    let setting = Setting::start()?;
    let expected = setting.load("stalling_file")?;

    let (direct, _) =
        setting.dump_into_file("stalling_file", &setting.server.tcp(), Setting::wait_until_given_up)?;
    assert_lost(&direct)?;

    let (through, dump) =
        setting.dump_into_file("stalling_file", setting.spillway.endpoint(), Setting::hold)?;
    through.success()?;
    assert_equal(&expected, &dump)?;
    setting.assert_drained_ahead()
}

impl Setting {
    fn start() -> Result<Self> {
        let server = server();
        let spillway = Spillway::to(&server.tcp()).options(&["--session-init", ""]).start()?;
        Ok(Self { server, spillway })
    }

    /// Fills the database; gives its dump as a fast sink takes it.
    fn load(&self, database: &str) -> Result<Vec<u8>> {
        data::report::load(self.server, database, TABLE_SIZE)?;
        let dump = process::run(&mut dump(&self.server.tcp(), database), LIMIT)?.success()?;
        Ok(client::normalised(&dump.stdout))
    }

    /// `mysqldump | gzip` with a gzip that does nothing until `stalled` returns.
    fn dump_into_gzip(
        &self,
        database: &str,
        endpoint: &Endpoint,
        stalled: impl Fn(&Self, &str) -> Result<()>,
    ) -> Result<(Finished, Vec<u8>)> {
        let mut running = Running::start(&mut dump(endpoint, database))?;
        let gzip = Gzip::stopped(running.child.stdout.take().context("no stdout")?)?;
        stalled(self, database)?;
        gzip.release()?;
        let finished = running.finish(LIMIT)?;
        Ok((finished, gzip.finish(LIMIT)?))
    }

    /// `mysqldump > file` with a file that takes nothing until `stalled` returns.
    fn dump_into_file(
        &self,
        database: &str,
        endpoint: &Endpoint,
        stalled: impl Fn(&Self, &str) -> Result<()>,
    ) -> Result<(Finished, Vec<u8>)> {
        let dir = tempfile::tempdir()?;
        let file = StallingFile::create(dir.path())?;
        let output = std::fs::OpenOptions::new().write(true).open(file.path())?;
        let mut command = dump(endpoint, database);
        let running = Running::start_as_is(command.stdout(output).stderr(Stdio::piped()))?;
        // The command holds a copy of the file: the sink would never see its end.
        drop(command);
        stalled(self, database)?;
        let draining = file.release();
        let finished = running.finish(LIMIT)?;
        Ok((finished, draining.finish()?))
    }

    /// Directly: the sink stays stalled until the server has closed the dump's connection.
    fn wait_until_given_up(&self, database: &str) -> Result<()> {
        self.server.wait_for_thread(LIMIT, "the dump's session", |thread| thread.database == database)?;
        self.server.wait_for_no_thread(LIMIT, "the server to give up", |thread| thread.database == database)
    }

    /// Through Spillway: it stays stalled for three times as long as the server would wait; and by then the server is
    /// done with the query.
    fn hold(&self, database: &str) -> Result<()> {
        sleep(3 * NET_WRITE_TIMEOUT);
        self.server.wait_for_thread(LIMIT, "the dump's session", |thread| thread.database == database)?;
        self.server.wait_for_no_thread(LIMIT, "the query to end", |thread| {
            thread.database == database && thread.command == "Query"
        })
    }

    /// The session that ended had (nearly) the whole table waiting for the client.
    fn assert_drained_ahead(&self) -> Result<()> {
        let line = self.spillway.wait_for_session_end(1, LIMIT)?;
        ensure!(log::field(&line, "backlog_peak")? > TABLE_SIZE / 10 * 8, "{line}");
        ensure!(log::field(&line, "drained")? == log::field(&line, "fed")?, "{line}");
        Ok(())
    }
}

fn dump(endpoint: &Endpoint, database: &str) -> Command {
    let mut command = client::dumper("mysqldump", endpoint);
    command.args([database, "test"]);
    command
}

fn assert_lost(dump: &Finished) -> Result<()> {
    ensure!(
        !dump.status.success() && dump.stderr.contains("2013"),
        "directly it has to fail with error 2013: {} {}",
        dump.status,
        dump.stderr
    );
    Ok(())
}

fn assert_equal(expected: &[u8], dump: &[u8]) -> Result<()> {
    let difference = client::difference(expected, &client::normalised(dump));
    ensure!(difference.is_none(), "{}", difference.unwrap_or_default());
    Ok(())
}

/// More than the buffers of two sockets and a pipe can hold.
const TABLE_SIZE: u64 = 64 << 20;
/// As the server is started with.
const NET_WRITE_TIMEOUT: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(60);
