//! Where a lost server connection is not replaced, though Spillway could log in: the session holds more than
//! settings, a command was on its way that must not be sent twice, or what answers is not the same server.

use std::io::Write as _;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use spillway_tests::fault::{Action, Direction};
use spillway_tests::raw::Head;
use spillway_tests::server::USER;
use spillway_tests::stored::{assert_answer_lost, assert_lost};
use spillway_tests::wire::command;
use spillway_tests::{Fault, Raw, Server, Stored, raw, wait_until};

fn server() -> &'static Server {
    static SERVER: LazyLock<Server> =
        LazyLock::new(|| start(&[]).unwrap_or_else(|error| panic!("the server: {error:#}")));
    &SERVER
}

fn start(options: &[&str]) -> Result<Server> {
    let server = Server::start(options)?;
    server.sql("CREATE TABLE test.t (id INT PRIMARY KEY);")?;
    Ok(server)
}

#[test]
fn what_is_no_setting_is_never_sent_again() -> Result<()> {
    let stored = Stored::start(server().address(), &[])?;
    let fault = &stored.fault;
    for statement in [
        "SELECT 1",
        "SELECT @@version",
        "SET @@sql_mode=''; SET @@sql_mode=''",
        "SET sql_mode='' ; ",
        "DO 1",
        "SET @a = 1",
        "SET GLOBAL max_error_count = 64",
    ] {
        for (direction, after, action) in [
            (Direction::FromServer, 0, Action::Cut),
            (Direction::FromServer, 0, Action::Reset),
            (Direction::FromServer, 4, Action::Cut),
            (Direction::ToServer, 0, Action::Reset),
            (Direction::ToServer, 1, Action::Cut),
            (Direction::ToServer, 6, Action::Reset),
        ] {
            let case = || format!("{statement}: {action:?} after {after} bytes {direction:?}");
            let mut raw = stored.login()?;
            raw.execute("SET sql_mode = 'ANSI'")?;
            let index = fault.connections() - 1;
            fault.arm_in(direction, after, action);
            let started = Instant::now();
            assert_lost(&mut raw, statement).with_context(case)?;
            // Far from --handshake-timeout.
            ensure!(started.elapsed() < Duration::from_secs(5), "{}: {:?}", case(), started.elapsed());
            ensure!(fault.suffered(index) == Some(action), "{}: no fault", case());
            ensure!(fault.connections() == index + 1, "{}: a new connection", case());
        }
    }
    ensure!(stored.healed() == 0, "healed");
    Ok(())
}

#[test]
fn settings_before_it_do_not_go_again_either() -> Result<()> {
    let stored = Stored::start(server().address(), &[])?;
    let mut raw = stored.login()?;
    raw.execute("SET sql_mode = 'ANSI'")?;
    stored.fault.arm_in(Direction::ToServer, 0, Action::Cut);
    // At once, so that Spillway knows of both before it loses the connection.
    let both = [&b"\x18\0\0\0\x03SET max_error_count = 7"[..], b"\x09\0\0\0\x03SELECT 1"].concat();
    raw.stream().write_all(&both)?;
    raw.restart_sequence();
    assert_answer_lost(&mut raw)?;
    ensure!(stored.healed() == 0 && stored.fault.connections() == 2, "a new connection");
    Ok(())
}

/// What ends healing, and how it is answered.
enum Ender {
    Query(&'static str),
    Fails(&'static str, u16),
    Command(u8, &'static [u8]),
}

#[test]
fn what_ends_healing() -> Result<()> {
    let stored = Stored::start(server().address(), &[])?;
    let deep = ["SET max_error_count = 7"; 65].map(Ender::Query);
    let mut cases: Vec<Vec<Ender>> = [
        "SELECT 1",
        "SHOW TABLES",
        "SHOW STATUS LIKE 'Uptime'",
        "SELECT @@last_insert_id",
        "SELECT @@pseudo_thread_id",
        "SELECT CONNECTION_ID()",
        "SHOW WARNINGS",
        "SET @a = 1",
        "SET sql_mode = @@global.sql_mode",
        "SET sql_mode = CONCAT('ANSI', '')",
        "START TRANSACTION",
        "BEGIN",
        "SET autocommit = 0",
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "LOCK TABLES t READ",
        "SET GLOBAL max_error_count = 64",
        "PREPARE p FROM 'DO 1'",
        "CREATE TEMPORARY TABLE temporary (id INT)",
        "SET timestamp = 1",
        "SET sql_mode = ''; SET sql_mode = 'ANSI'",
        "/* a comment */ SET sql_mode = ''",
        "DO 1",
    ]
    .into_iter()
    .map(|statement| vec![Ender::Query(statement)])
    .collect();
    cases.extend([
        vec![Ender::Fails("SET sql_mode = 'no such mode'", 1231)],
        vec![Ender::Fails("SET no_such_variable = 1", 1193)],
        vec![Ender::Fails("USE nowhere", 1049)],
        vec![Ender::Command(command::STMT_PREPARE, b"DO 1")],
        vec![Ender::Command(command::PING, b"")],
        deep.into(),
    ]);
    for case in cases {
        let mut raw = stored.login()?;
        raw.execute("SET sql_mode = 'ANSI'")?;
        for ender in &case {
            match ender {
                Ender::Query(statement) => run_all(&mut raw, statement)?,
                Ender::Fails(statement, code) => {
                    let Head::End(end) = raw.start(statement)? else { continue };
                    ensure!(end.err()?.code == *code, "{statement}");
                }
                Ender::Command(command, body) => {
                    raw.send(*command, body)?;
                    ensure!(raw.packet()?.first() == Some(&0), "command {command}");
                }
            }
        }
        let name = match case.last() {
            Some(Ender::Query(statement) | Ender::Fails(statement, _)) => (*statement).to_owned(),
            Some(Ender::Command(command, _)) => format!("command {command}"),
            None => String::new(),
        };
        let connections = stored.fault.connections();
        stored.lose_for_good(Action::Cut).with_context(|| name.clone())?;
        let message = assert_lost(&mut raw, "SET sql_mode = ''").context(name.clone())?;
        ensure!(message.contains("lost while the session was idle"), "{name}: {message}");
        ensure!(stored.fault.connections() == connections, "{name}: a new connection");
    }
    ensure!(stored.healed() == 0, "healed");
    Ok(())
}

/// Runs one or two statements, whatever they give.
fn run_all(raw: &mut Raw, statement: &str) -> Result<()> {
    let mut head = raw.start(statement)?;
    loop {
        let end = match head {
            Head::End(end) => end,
            Head::Columns(_) => raw.rows(|_| ())?,
        };
        let more = end.more();
        end.ok().with_context(|| statement.to_owned())?;
        if !more {
            return Ok(());
        }
        head = raw.head()?;
    }
}

#[test]
fn a_server_without_autocommit_ends_it_at_the_login() -> Result<()> {
    let server = start(&["--autocommit=0"])?;
    let stored = Stored::start(server.address(), &[])?;
    let mut raw = stored.login()?;
    raw.execute("SET sql_mode = 'ANSI'")?;
    stored.lose_for_good(Action::Cut)?;
    assert_lost(&mut raw, "SET sql_mode = ''")?;
    Ok(())
}

/// Loses the connection with a session that could be healed, and has it fail for a reason.
fn assert_not_replaced(
    stored: &Stored,
    raw: &mut Raw,
    reason: &str,
    lose: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let started = Instant::now();
    lose()?;
    let message = assert_lost(raw, "SET max_error_count = 7")?;
    ensure!(message.contains("no new one could take its place") && message.contains(reason), "{message}");
    ensure!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    ensure!(stored.healed() == 0, "healed");
    Ok(())
}

#[test]
fn another_server_at_the_address() -> Result<()> {
    let other = start(&["--server-id=2"])?;
    let stored = Stored::start(server().address(), &[])?;
    let mut raw = stored.login()?;
    raw.execute("SET sql_mode = 'ANSI'")?;
    stored.fault.lead_to(other.address());
    assert_not_replaced(&stored, &mut raw, "another server answers at its address", || {
        stored.lose(Action::Cut)
    })?;

    // Also where a command waits for it.
    stored.fault.lead_to(server().address());
    let mut raw = stored.login()?;
    raw.execute("SET sql_mode = 'ANSI'")?;
    stored.fault.lead_to(other.address());
    stored.fault.arm_in(Direction::ToServer, 3, Action::Reset);
    assert_not_replaced(&stored, &mut raw, "another server answers at its address", || Ok(()))
}

/// A command that waits for the new connection is not tried out on a stranger.
#[test]
fn another_server_gets_no_command() -> Result<()> {
    let other = start(&["--server-id=3"])?;
    let mut stored = Stored::start(server().address(), &[])?;
    let address = stored.fault.address();
    let mut raw = stored.login()?;
    raw.execute("SET sql_mode = 'ANSI'")?;
    stored.fault = Fault::start(server().address())?;
    stored.spillway.wait_for_log("and can go on", LIMIT)?;
    raw.send(command::QUERY, b"CREATE TABLE test.written_to_a_stranger (id INT)")?;
    stored.spillway.wait_for_log("phase=\"connect\"", LIMIT)?;
    stored.fault = Fault::start_at(address, other.address())?;
    let message = assert_answer_lost(&mut raw)?;
    ensure!(message.contains("another server answers at its address"), "{message}");
    // Its connection is gone, with all that it was sent.
    other.wait_for_no_thread(LIMIT, "Spillway's connection to end", |thread| thread.user == USER)?;
    ensure!(other.query("SHOW TABLES FROM test LIKE 'written%'")?.is_empty(), "it was executed there");
    Ok(())
}

/// Nor does it go to a database that was not meant.
#[test]
fn a_setting_that_is_refused_now() -> Result<()> {
    server().sql("CREATE DATABASE passing")?;
    let mut stored = Stored::start(server().address(), &[])?;
    let address = stored.fault.address();
    let mut raw = stored.login()?;
    raw.execute("USE passing")?;
    server().sql("DROP DATABASE passing")?;
    stored.fault = Fault::start(server().address())?;
    stored.spillway.wait_for_log("and can go on", LIMIT)?;
    raw.send(command::QUERY, b"CREATE TABLE written_to_another_database (id INT)")?;
    stored.spillway.wait_for_log("phase=\"connect\"", LIMIT)?;
    stored.fault = Fault::start_at(address, server().address())?;
    let message = assert_answer_lost(&mut raw)?;
    ensure!(message.contains("1049"), "{message}");
    server().wait_for_no_thread(LIMIT, "its connection to end", |thread| {
        thread.info.contains("another_database")
    })?;
    ensure!(server().query("SHOW TABLES FROM test LIKE 'written%'")?.is_empty(), "it was executed there");
    Ok(())
}

fn uptime(server: &Server) -> Result<u64> {
    let rows = server.query(
        "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'Uptime'",
    )?;
    Ok(rows.first().context("no uptime")?.parse()?)
}

#[test]
fn a_restarted_server() -> Result<()> {
    let mut server = start(&[])?;
    let stored = Stored::start(server.address(), &[])?;
    let mut raw = stored.login()?;
    raw.execute("SET sql_mode = 'ANSI'")?;
    // Seconds are all that a server tells.
    wait_until(LIMIT, "an uptime that differs", || uptime(&server).is_ok_and(|seconds| seconds >= 6))?;
    server.restart()?;
    assert_not_replaced(&stored, &mut raw, "the server was restarted", || Ok(()))
}

#[test]
fn another_version() -> Result<()> {
    let stored = Stored::start(server().address(), &["--handshake-timeout=2s"])?;
    let mut raw = stored.login()?;
    raw.execute("SET sql_mode = 'ANSI'")?;
    let mut greeting = raw::greeting_packet(server().address())?;
    let at = greeting.windows(6).position(|bytes| bytes == b"-Maria").context("no version")?;
    greeting[at - 1] ^= 1;
    stored.fault.greet_with(Some(greeting));
    let reason = "its version or capabilities are not those that the client was told";
    assert_not_replaced(&stored, &mut raw, reason, || stored.lose(Action::Cut))
}

#[test]
fn a_server_that_stays_away() -> Result<()> {
    let mut stored = Stored::start(server().address(), &["--handshake-timeout=2s"])?;
    let address = stored.fault.address();
    let mut raw = stored.login()?;
    raw.execute("SET sql_mode = 'ANSI'")?;
    // Cuts all connections, and lets none in.
    stored.fault = Fault::start(server().address())?;
    let started = Instant::now();
    let message = assert_lost(&mut raw, "SET max_error_count = 7")?;
    ensure!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    for part in ["no new one could take its place", "attempts in", "onnection refused", &address.to_string()]
    {
        ensure!(message.contains(part), "no {part:?}: {message}");
    }
    Ok(())
}

#[test]
fn a_server_that_comes_back_in_time() -> Result<()> {
    let mut stored = Stored::start(server().address(), &[])?;
    let address = stored.fault.address();
    let mut raw = stored.login()?;
    raw.execute("SET sql_mode = 'ANSI'")?;
    stored.fault = Fault::start(server().address())?;
    raw.send(command::QUERY, b"SET max_error_count = 7")?;
    stored.spillway.log().wait_for_nth("phase=\"connect\"", 3, LIMIT)?;
    stored.fault = Fault::start_at(address, server().address())?;
    raw.end()?.ok()?;
    ensure!(
        raw.value("SELECT @@max_error_count")? == "7" && raw.value("SELECT @@sql_mode")?.contains("ANSI")
    );
    let line = stored.wait_healed(1)?;
    ensure!(spillway_tests::log::field(&line, "attempts")? >= 4, "{line}");
    Ok(())
}

/// A server that ends each session behind its login is not asked as often as the network allows.
#[test]
fn a_server_that_always_hangs_up() -> Result<()> {
    let stored = Stored::start(server().address(), &["--handshake-timeout=2s"])?;
    let mut raw = stored.login()?;
    raw.execute("SET sql_mode = 'ANSI'")?;
    let (login, before) = (stored.fault.handshake(1)?, stored.fault.connections());
    stored.fault.arm_next(usize::MAX, Direction::FromServer, login.total(Direction::FromServer), Action::Cut);
    assert_not_replaced(&stored, &mut raw, "attempts in", || stored.lose(Action::Cut))?;
    let connections = stored.fault.connections() - before;
    ensure!((3..30).contains(&connections), "{connections} connections");
    Ok(())
}

/// A new connection that falls silent behind its login is one more attempt that failed.
#[test]
fn a_server_that_falls_silent_behind_the_login() -> Result<()> {
    let stored = Stored::start(server().address(), &["--auth-timeout=1s"])?;
    let mut raw = stored.login()?;
    raw.execute("SET sql_mode = 'ANSI'")?;
    let login = stored.fault.handshake(1)?.total(Direction::FromServer);
    stored.fault.arm_next(1, Direction::FromServer, login, Action::BlackHole);
    stored.heal(&mut raw, Action::Cut)?;
    stored.spillway.wait_for_log("phase=\"setup\"", LIMIT)?;
    ensure!(raw.value("SELECT @@sql_mode")?.contains("ANSI"), "not set anew");
    Ok(())
}

const LIMIT: Duration = Duration::from_secs(60);
