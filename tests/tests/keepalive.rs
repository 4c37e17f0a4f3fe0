//! A backend that waits while its client works through the backlog stays alive, and its state as it was; and the
//! statements that the proxy sends of its own.

use std::sync::LazyLock;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use spillway_tests::raw::{End, Head};
use spillway_tests::server::USER;
use spillway_tests::wire::{capability, command};
use spillway_tests::{Raw, Server, Spillway};

/// A server that ends idle sessions after three seconds, inside a transaction or not.
fn impatient() -> &'static Server {
    static SERVER: LazyLock<Server> = LazyLock::new(|| {
        let options = ["--wait-timeout=3", "--interactive-timeout=3", "--idle-transaction-timeout=3"];
        Server::start(&options).unwrap_or_else(|error| panic!("{error:#}"))
    });
    &SERVER
}

fn patient() -> &'static Server {
    static SERVER: LazyLock<Server> =
        LazyLock::new(|| Server::start(&[]).unwrap_or_else(|error| panic!("{error:#}")));
    &SERVER
}

#[test]
fn a_client_that_needs_fifteen_seconds_for_a_table() -> Result<()> {
    let spillway = Spillway::to(&impatient().tcp()).start()?;
    let mut raw = Raw::login(spillway.address()?)?;
    raw.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")?;
    raw.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")?;
    ensure!(
        raw.start("SELECT seq, REPEAT('x', 1000) FROM seq_1_to_20000")? == Head::Columns(2),
        "no columns"
    );
    let mut rows = 0;
    let end = raw.rows(|_| {
        rows += 1;
        // Fifteen pauses, spread over the table.
        if rows % 1250 == 0 {
            sleep(Duration::from_secs(1));
        }
    })?;
    ensure!(rows == 20_000 && matches!(end, End::Ok { .. }), "{rows} rows, {end:?}");
    ensure!(raw.value("SELECT @@in_transaction")? == "1", "the snapshot is lost");
    Ok(())
}

#[test]
fn state_after_a_pause_is_what_it_is_directly() -> Result<()> {
    for server in [patient(), impatient()] {
        server.sql(
            "USE test; CREATE TABLE counted (id int PRIMARY KEY, v int) ENGINE=InnoDB;
             INSERT INTO counted SELECT seq, 0 FROM seq_1_to_9",
        )?;
    }

    // Directly the pause ends the session: the fault is there.
    let mut direct = Raw::login(impatient().address())?;
    let spillway = Spillway::to(&impatient().tcp()).start()?;
    let questions = ["SELECT ROW_COUNT()", "SELECT FOUND_ROWS()", "SHOW WARNINGS"];
    let pause = || sleep(Duration::from_secs(6));
    let statements = [
        "UPDATE test.counted SET v = v + 1 WHERE id <= 3",
        "SELECT SQL_CALC_FOUND_ROWS id FROM test.counted LIMIT 2",
        "SELECT CAST('7x' AS int)",
    ];
    // Each session has its own question, and all pauses are one.
    let mut sessions = Vec::new();
    for (statement, question) in statements.iter().zip(questions) {
        let mut expected = Raw::login(patient().address())?;
        run(&mut expected, statement)?;
        let expected = expected.query(question)?;
        let mut through = Raw::login(spillway.address()?)?;
        run(&mut through, statement)?;
        sessions.push((through, question, expected));
    }
    pause();
    ensure!(direct.value("SELECT 1").is_err(), "the server does not end idle sessions");
    for (mut through, question, expected) in sessions {
        let got = through.query(question)?;
        ensure!(got == expected, "{question}: {got:?}, directly {expected:?}");
    }
    Ok(())
}

#[test]
fn the_keepalive_ends() -> Result<()> {
    let spillway = Spillway::to(&impatient().tcp()).options(&["--keepalive-for", "1s"]).start()?;
    let mut raw = Raw::login(spillway.address()?)?;
    let id = raw.value("SELECT CONNECTION_ID()")?;
    impatient().wait_for_no_thread(LIMIT, "the server to end the idle session", |thread| {
        thread.user == USER && thread.id.to_string() == id
    })?;
    let Head::End(End::Err(error)) = raw.start("SELECT 1")? else {
        anyhow::bail!("an answer from a dead session")
    };
    ensure!(error.code == 2013 && error.message.starts_with("spillway:"), "{error:?}");
    raw.expect_closed(LIMIT)
}

#[test]
fn a_backlog_outlasts_the_keepalive() -> Result<()> {
    let spillway = Spillway::to(&impatient().tcp()).options(&["--keepalive-for", "1s"]).start()?;
    let mut raw = Raw::login(spillway.address()?)?;
    ensure!(raw.start("SELECT REPEAT('x', 1000) FROM seq_1_to_20000")? == Head::Columns(1), "no columns");
    sleep(Duration::from_secs(6));
    let mut rows = 0;
    raw.rows(|_| rows += 1)?;
    ensure!(rows == 20_000, "{rows} rows");
    ensure!(raw.value("SELECT 'next'")? == "next", "the next statement");
    Ok(())
}

#[test]
fn session_init_is_sent_by_default() -> Result<()> {
    let spillway = Spillway::to(&patient().tcp()).start()?;
    let mut raw = Raw::login(spillway.address()?)?;
    ensure!(raw.value("SELECT @@net_write_timeout")? == "86400", "the default statement");
    // This wipes it; it is there again before the next statement.
    raw.send(command::RESET_CONNECTION, b"")?;
    let answer = raw.message()?;
    ensure!(matches!(raw.end_of(&answer)?, End::Ok { .. }), "COM_RESET_CONNECTION");
    ensure!(raw.value("SELECT @@net_write_timeout")? == "86400", "after COM_RESET_CONNECTION");
    Ok(())
}

#[test]
fn session_init_may_be_empty() -> Result<()> {
    let spillway = Spillway::to(&patient().tcp()).options(&["--session-init", ""]).start()?;
    let mut raw = Raw::login(spillway.address()?)?;
    ensure!(raw.value("SELECT @@net_write_timeout")? == "60", "the server's own value");
    Ok(())
}

#[test]
fn a_refused_session_init_is_logged_and_no_more() -> Result<()> {
    let init = [
        "--session-init",
        "SET SESSION nonsense = 1",
        "--session-init",
        "SET SESSION net_read_timeout = 123",
    ];
    let spillway = Spillway::to(&patient().tcp()).options(&init).start()?;
    for capabilities in [capability::USUAL, capability::USUAL | capability::DEPRECATE_EOF] {
        let mut raw = Raw::login_with(spillway.address()?, capabilities, None)?;
        ensure!(raw.value("SELECT @@net_read_timeout")? == "123", "the statement after the refused one");
        ensure!(raw.query("SHOW WARNINGS")?.is_empty(), "warnings of the proxy's own statement");
    }
    spillway.wait_for_log("nonsense", LIMIT)?;
    Ok(())
}

fn run(raw: &mut Raw, statement: &str) -> Result<()> {
    match raw.start(statement)? {
        Head::End(End::Err(error)) => anyhow::bail!("{statement}: {error:?}"),
        Head::End(End::Ok { .. }) => {}
        Head::Columns(_) => drop(raw.rows(|_| ())?),
    }
    Ok(())
}

const LIMIT: Duration = Duration::from_secs(60);
