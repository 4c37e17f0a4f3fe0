//! `--console`: what operators see and do by the clients that they have.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use spillway_tests::process::{self, Finished, Running};
use spillway_tests::sink::Held;
use spillway_tests::{
    Endpoint, Raw, Server, Spillway, client, data, drivers, mariadb11, mysql9, spillway_bin, wait_until,
};

/// A server with a table that is long enough to be looked at while it is dumped.
fn server() -> &'static Server {
    static SERVER: LazyLock<Server> = LazyLock::new(|| {
        let server = Server::start(&[]).unwrap_or_else(|error| panic!("{error:#}"));
        data::report::load(&server, "test", 40 << 20).unwrap_or_else(|error| panic!("{error:#}"));
        server
    });
    &SERVER
}

fn start(options: &[&str]) -> Result<Spillway> {
    Spillway::to(&server().tcp()).options(&["--console", "127.0.0.1:0"]).options(options).start()
}

/// A client of the console.
fn admin(mut client: Command, statement: &str) -> Result<Finished> {
    process::run(client.args(["--user=admin", "--table", "--execute", statement]), LIMIT)
}

fn say(spillway: &Spillway, statement: &str) -> Result<String> {
    Ok(admin(client::command("mysql", &spillway.console()?), statement)?.success()?.text())
}

/// A value of SHOW STATUS.
fn status(spillway: &Spillway, name: &str) -> Result<String> {
    let mut mysql = client::command("mysql", &spillway.console()?);
    mysql.args(["--user=admin", "--batch", "--skip-column-names"]);
    let text = process::run(mysql.args(["--execute", &format!("SHOW STATUS LIKE '{name}'")]), LIMIT)?;
    let text = text.success()?.text();
    Ok(text.split_whitespace().nth(1).with_context(|| format!("{name}: {text:?}"))?.to_owned())
}

/// A dump that has read its first bytes and then stands still, drained whole.
struct Dump {
    running: Running,
    held: Held,
}

impl Dump {
    fn start(spillway: &Spillway) -> Result<Self> {
        let mut mysqldump = client::dumper("mysqldump", spillway.endpoint());
        let mut running = Running::start(mysqldump.args(["--single-transaction", "test"]))?;
        let held = Held::after(running.child.stdout.take().context("no stdout")?, 1000)?;
        wait_until(LIMIT, "a backlog", || {
            let backlog = status(spillway, "Backlog").ok().and_then(|text| text.parse::<u64>().ok());
            backlog.is_some_and(|backlog| backlog > 20 << 20)
        })?;
        Ok(Self { running, held })
    }

    fn finish(self) -> Result<(Finished, Vec<u8>)> {
        let draining = self.held.release();
        let finished = self.running.finish(LIMIT)?;
        Ok((finished, draining.finish()?))
    }
}

#[test]
fn each_statement_in_each_client() -> Result<()> {
    let spillway = start(&[])?;
    let console = spillway.console()?;
    let dump = Dump::start(&spillway)?;
    let mysql9 = || {
        let mut mysql = mysql9::command("mysql", &console);
        mysql.arg(mysql9::plugin_dir());
        mysql
    };
    let clients: [(&str, &dyn Fn() -> Command); 3] = [
        ("MariaDB 10.11", &|| client::command("mysql", &console)),
        ("MariaDB 11", &|| mariadb11::plain("mariadb", &console)),
        ("MySQL 9", &mysql9),
    ];
    let upstream = server().tcp().to_string();
    for (name, client) in clients {
        for (statement, parts) in [
            (
                "SHOW SESSIONS",
                &["| id   |", "| mysqldump |", "| feeding |", "| test.", upstream.as_str()][..],
            ),
            ("show spool;", &["| all ", "| session 1 ", &spillway.spool_dir().display().to_string()]),
            ("SHOW ROUTES", &["| default |", &spillway.endpoint().to_string(), &upstream, "| passthrough |"]),
            ("SHOW UPSTREAMS", &[&upstream, "| YES       |        1 | reached   | NULL       |"]),
            ("SHOW STATUS", &["| Variable_name ", "| Sessions_running | 1 ", "| Draining         | NO "]),
            ("SHOW STATUS LIKE 'sess%'", &["| Sessions  "]),
            (
                "SHOW VARIABLES LIKE 'memory%'",
                &["| memory             | 256MiB |", "| memory_per_session | 16MiB  |"],
            ),
            ("SHOW HELP", &["| SHOW SESSIONS ", "| DRAIN "]),
            ("SELECT @@version_comment LIMIT 1", &["console of spillway"]),
        ] {
            let text =
                admin(client(), statement)?.success().with_context(|| format!("{name}: {statement}"))?.text();
            for part in parts {
                ensure!(text.contains(part), "{name}: {statement}: {part:?} is not in\n{text}");
            }
        }
        for (statement, error) in [
            ("KILL 4711", "ERROR 1094 (HY000)"),
            ("SHOW TABLES", "ERROR 1064 (42000)"),
            ("PREPARE p FROM 'x'", "SHOW HELP lists what there is"),
        ] {
            let finished = admin(client(), statement)?;
            ensure!(finished.code() == 1 && finished.stderr.contains(error), "{name}: {finished:?}");
        }
        admin(client(), "SET NAMES utf8mb4; SET autocommit=0; USE whatever; COMMIT")?.success()?;
    }
    let (finished, _) = dump.finish()?;
    finished.success()?;
    Ok(())
}

#[test]
fn columns_have_their_types() -> Result<()> {
    let spillway = start(&[])?;
    let dump = Dump::start(&spillway)?;
    let Endpoint::Tcp(console) = spillway.console()? else { unreachable!() };
    let mut pymysql = drivers::python("console.py");
    pymysql.args(["--host", &console.ip().to_string(), "--port", &console.port().to_string()]);
    pymysql.args([
        "SHOW SESSIONS",
        "SHOW SPOOL",
        "SHOW STATUS",
        "SHOW ROUTES",
        "SHOW WARNINGS",
        "SELECT 1",
        "nonsense",
    ]);
    let text = process::run(&mut pymysql, LIMIT)?.success()?.text();
    // 8 is LONGLONG, 253 VAR_STRING.
    for line in [
        "SHOW SESSIONS gives 1",
        "  id 8 int",
        "  program 253 str",
        "  subject 253 str",
        "  backlog 8 int",
        "  lead_ms 8 int",
        "SHOW SPOOL gives 2",
        "  scope 253 str",
        "  disk_free 8 int",
        "  disk_limit 8",
        "  Value 253 str",
        "  sessions 8 int",
        "SHOW WARNINGS gives 0",
        "  Code 8",
        "  1 8 int",
        "nonsense error 1064 spillway: no statement of the console: 'nonsense'; SHOW HELP lists what there is",
    ] {
        ensure!(text.lines().any(|other| other == line), "{line:?} is not in\n{text}");
    }
    dump.finish()?.0.success()?;
    Ok(())
}

#[test]
fn prepared_statements_are_refused() -> Result<()> {
    let spillway = start(&[])?;
    let Endpoint::Tcp(console) = spillway.console()? else { unreachable!() };
    let mut raw = Raw::connect(console)?;
    raw.log_in(spillway_tests::wire::NATIVE, "admin", "", Some("whatever"))?.ok()?;
    let error = raw.run(spillway_tests::wire::command::STMT_PREPARE, b"SHOW STATUS")?.err()?;
    ensure!(error.code == 1295, "{error:?}");
    // Commands that opensrv-mysql would answer with OK.
    for command in [0x11, 0x09, 0x0c, 0x1b, 0xff] {
        let error = raw.run(command, b"admin\0")?.err()?;
        ensure!(error.code == 1047, "{command}: {error:?}");
    }
    for command in [spillway_tests::wire::command::PING, spillway_tests::wire::command::RESET_CONNECTION] {
        raw.run(command, b"")?.ok()?;
    }
    ensure!(raw.query("SHOW STATUS LIKE 'sessions'")?.len() == 1, "the connection goes on");
    Ok(())
}

#[test]
fn kill_ends_a_dump_loudly() -> Result<()> {
    let spillway = start(&[])?;
    let dump = Dump::start(&spillway)?;
    let another = Dump::start(&spillway)?;
    say(&spillway, "KILL 1")?;
    spillway.wait_for_session_end(1, LIMIT)?;
    let (finished, text) = dump.finish()?;
    ensure!(!finished.status.success() && !finished.stderr.is_empty(), "{finished:?}");
    ensure!(!String::from_utf8_lossy(&text).contains("-- Dump completed"), "the dump looks complete");
    let (finished, text) = another.finish()?;
    finished.success()?;
    ensure!(String::from_utf8_lossy(&text).contains("-- Dump completed"), "the other dump is not complete");
    Ok(())
}

#[test]
fn drain_lets_nobody_in_and_running_dumps_finish() -> Result<()> {
    let mut spillway = start(&[])?;
    let dump = Dump::start(&spillway)?;
    let address = spillway.address()?;
    ensure!(status(&spillway, "Draining")? == "NO", "drains already");
    for _ in 0..2 {
        say(&spillway, "DRAIN")?;
        ensure!(status(&spillway, "Draining")? == "YES", "does not drain");
    }
    wait_until(LIMIT, "the listener to be closed", || TcpStream::connect(address).is_err())?;
    ensure!(status(&spillway, "Sessions_running")? == "1", "the dump is gone");
    let (finished, text) = dump.finish()?;
    finished.success()?;
    ensure!(String::from_utf8_lossy(&text).contains("-- Dump completed"), "the dump is not complete");
    spillway.wait_for_session_end(1, LIMIT)?;
    ensure!(status(&spillway, "Sessions_running")? == "0" && spillway.is_running()?, "the process goes on");
    spillway.signal(Signal::SIGTERM)?;
    ensure!(spillway.wait_for_end(LIMIT)?.success(), "{}", spillway.log().tail());
    Ok(())
}

#[test]
fn the_password_is_checked_and_never_shown() -> Result<()> {
    let spillway = Spillway::to(&server().tcp())
        .wrapper(&["env".into(), format!("SPILLWAY_CONSOLE_PASSWORD={SECRET}").into()])
        .options(&["--console", "0.0.0.0:0", "--log-level", "trace"])
        .start()?;
    let Endpoint::Tcp(address) = spillway.console()? else { unreachable!() };
    let console = Endpoint::Tcp((std::net::Ipv4Addr::LOCALHOST, address.port()).into());
    let log_in = |mut client: Command, user: &str, password: &str| {
        client.arg(format!("--user={user}")).arg(format!("--password={password}"));
        process::run(client.args(["--execute", "SHOW VARIABLES"]), LIMIT)
    };
    let mysql9 = || {
        let mut mysql = mysql9::command("mysql", &console);
        mysql.arg(mysql9::plugin_dir());
        mysql
    };
    for client in [&|| client::command("mysql", &console), &mysql9 as &dyn Fn() -> Command] {
        let text = log_in(client(), "admin", SECRET)?.success()?.text();
        ensure!(text.contains("console") && !text.contains(SECRET), "{text}");
        for (user, password, using) in
            [("admin", "wrong", "YES"), ("admin", "", "NO"), ("root", SECRET, "YES"), ("", "", "NO")]
        {
            let finished = log_in(client(), user, password)?;
            let said = format!("(using password: {using})");
            ensure!(finished.stderr.contains("ERROR 1045 (28000)"), "{user} {password}: {finished:?}");
            ensure!(finished.stderr.contains(&said), "{user} {password}: {finished:?}");
        }
    }
    let log = spillway.log().lines().join("\n");
    ensure!(log.contains("refused a login to the console"), "{log}");
    ensure!(!log.contains(SECRET), "the log has the password");
    Ok(())
}

#[test]
fn a_socket_is_for_its_owner_alone() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("console");
    let mut spillway =
        Spillway::to(&server().tcp()).options(&["--console", &format!("unix:{}", path.display())]).start()?;
    ensure!(say(&spillway, "SHOW SESSIONS")?.is_empty(), "there are sessions");
    ensure!(fs::metadata(&path)?.permissions().mode() & 0o777 == 0o600, "its mode");
    spillway.signal(Signal::SIGTERM)?;
    ensure!(spillway.wait_for_end(LIMIT)?.success() && !path.exists(), "the socket is left");
    Ok(())
}

#[test]
fn settings_that_cannot_be_used() -> Result<()> {
    let spool = tempfile::tempdir()?;
    let serve = |console: &str, password: Option<&str>| {
        let mut command = client::clean(spillway_bin());
        command.args(["serve", "--upstream", "127.0.0.1:1", "--listen", "127.0.0.1:0", "--spool-dir"]);
        command.arg(spool.path()).args(["--console", console]);
        command.envs(password.map(|password| ("SPILLWAY_CONSOLE_PASSWORD", password)));
        process::run(&mut command, LIMIT)
    };
    let taken = server().tcp().to_string();
    for (console, password, part) in [
        ("0.0.0.0:0", None, "SPILLWAY_CONSOLE_PASSWORD"),
        ("[::]:0", Some(""), "SPILLWAY_CONSOLE_PASSWORD"),
        (taken.as_str(), None, "Address already in use"),
        ("unix:/no/such/place", None, "/no/such/place"),
    ] {
        let finished = serve(console, password)?;
        ensure!(finished.code() == 78 && finished.stderr.contains(part), "{console}: {finished:?}");
        ensure!(finished.stderr.trim_end().lines().count() == 1, "{console}: {}", finished.stderr);
    }
    Ok(())
}

const SECRET: &str = "s3cret of the console";
const LIMIT: Duration = Duration::from_secs(60);
