//! With stored credentials a lost server connection is replaced, as long as the session holds nothing but
//! settings; and they are on the new connection what they were on the old.

use std::sync::LazyLock;
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use spillway_tests::fault::{Action, Direction};
use spillway_tests::log::field;
use spillway_tests::raw::End;
use spillway_tests::server::{PASSWORD, USER};
use spillway_tests::stored::assert_lost;
use spillway_tests::wire::{capability, command};
use spillway_tests::{Raw, Server, Stored};

fn server() -> &'static Server {
    static SERVER: LazyLock<Server> =
        LazyLock::new(|| start().unwrap_or_else(|error| panic!("the server: {error:#}")));
    &SERVER
}

fn start() -> Result<Server> {
    let server = Server::start(&[])?;
    server.sql("CREATE DATABASE shop; CREATE TABLE test.t (id INT PRIMARY KEY);")?;
    Ok(server)
}

/// A command of a session.
#[derive(Clone, Copy, Debug)]
enum Step {
    Query(&'static str),
    InitDb(&'static str),
    Reset,
}
use Step::{InitDb, Query};

impl Step {
    fn command(self) -> (u8, &'static [u8]) {
        match self {
            Query(text) => (command::QUERY, text.as_bytes()),
            InitDb(name) => (command::INIT_DB, name.as_bytes()),
            Self::Reset => (command::RESET_CONNECTION, b""),
        }
    }

    fn run(self, raw: &mut Raw) -> Result<()> {
        let (command, body) = self.command();
        raw.run(command, body)?.ok().with_context(|| format!("{self:?}"))
    }
}

const DATABASE: &str = "SELECT DATABASE()";
const SQL_MODE: &str = "SELECT @@sql_mode";
const CHARSETS: &str = "SELECT CONCAT_WS(' ', @@character_set_client, @@character_set_connection, \
                        @@character_set_results, @@collation_connection)";

/// Steps, and a query whose value they change.
const SETTINGS: &[(&[Step], &str)] = &[
    (&[Query("SET SESSION sql_mode = 'ANSI'")], SQL_MODE),
    (&[Query("set local sql_mode := \"ANSI_QUOTES\"")], SQL_MODE),
    (&[Query("SET @@sql_mode=''")], SQL_MODE),
    (&[Query("SET @@session.sql_mode = 'ANSI', max_error_count = 7")], "SELECT @@max_error_count"),
    (&[Query("SET @@local.max_error_count=7")], "SELECT @@max_error_count"),
    (&[Query("SET unique_checks = OFF, SESSION foreign_key_checks = FALSE")], "SELECT @@foreign_key_checks"),
    (&[Query("SET max_statement_time = 12.5")], "SELECT @@max_statement_time"),
    (&[Query("SET character_set_results = NULL")], "SELECT IFNULL(@@character_set_results, 'none')"),
    (&[Query("SET character_set_client = latin1")], CHARSETS),
    (&[Query("SET NAMES latin1")], CHARSETS),
    (&[Query("set names 'utf8mb4' collate 'utf8mb4_bin'")], CHARSETS),
    (&[Query("/*!40100 SET @@SQL_MODE='' */")], SQL_MODE),
    (&[Query("/*!40103 SET TIME_ZONE='+00:00' */")], "SELECT @@time_zone"),
    (&[Query("/*!40101 SET NAMES binary*/")], CHARSETS),
    (&[Query("/*M!100100 SET @@MAX_STATEMENT_TIME=3.000000 */")], "SELECT @@max_statement_time"),
    (&[Query("set optimizer_switch='semijoin=off'")], "SELECT @@optimizer_switch"),
    (&[Query("USE shop")], DATABASE),
    (&[Query("use `shop`")], DATABASE),
    (&[Query("/*!40100 USE `shop` */")], DATABASE),
    (&[InitDb("shop")], DATABASE),
    // What only a newer server does: this one takes it, and does nothing.
    (&[Query("USE shop"), Query("/*!999999 USE `test` */")], DATABASE),
    // Several, whose order matters.
    (&[Query("USE mysql"), Query("USE shop")], DATABASE),
    (&[InitDb("mysql"), Query("USE test"), InitDb("shop")], DATABASE),
    (&[Query("SET sql_mode = 'ANSI'"), Query("SET sql_mode = 'NO_ZERO_DATE'")], SQL_MODE),
    (&[Query("SET NAMES latin1"), Query("SET character_set_results = utf8mb4")], CHARSETS),
    (&[Query("SET character_set_results = utf8mb4"), Query("SET NAMES latin1")], CHARSETS),
    (&[Query("USE shop"), Query("SET sql_mode = 'ANSI'"), Query("SET NAMES latin1")], SQL_MODE),
    (
        &[Query("set optimizer_switch='semijoin=off'"), Query("set optimizer_switch='mrr=on'")],
        "SELECT @@optimizer_switch",
    ),
];

#[test]
fn what_was_set_is_set_on_the_new_connection() -> Result<()> {
    let stored = Stored::start(server().address(), &[])?;
    for (steps, shown) in SETTINGS {
        let mut direct = Raw::login(server().address())?;
        let before = direct.value(shown)?;
        let mut raw = stored.login()?;
        for step in *steps {
            step.run(&mut direct)?;
            step.run(&mut raw)?;
        }
        let expected = direct.value(shown)?;
        ensure!(expected != before, "{steps:?} changes nothing");
        for action in [Action::Cut, Action::Reset] {
            let line = stored.heal(&mut raw, action)?;
            ensure!(field(&line, "settings")? == steps.len() as u64, "{steps:?}: {line}");
        }
        let value = raw.value(shown)?;
        ensure!(value == expected, "{steps:?}: {value} and not {expected}");
    }
    Ok(())
}

#[test]
fn what_changes_nothing_is_no_obstacle() -> Result<()> {
    let stored = Stored::start(server().address(), &[])?;
    let mut raw = stored.login()?;
    stored.heal(&mut raw, Action::Cut).context("no command at all")?;
    for statement in [
        "SET sql_mode = 'ANSI'",
        "SET sql_mode = DEFAULT",
        "SELECT @@version_comment LIMIT 1",
        "select @@session.sql_mode, @@global.sql_mode as g",
        "SHOW GLOBAL VARIABLES LIKE 'x'",
        "SHOW VARIABLES LIKE 'gtid\\_mode'",
    ] {
        raw.query(statement)?;
        stored.heal(&mut raw, Action::Reset).context(statement)?;
    }
    let value = Raw::login(server().address())?.value(SQL_MODE)?;
    ensure!(raw.value(SQL_MODE)? == value, "not the default");
    Ok(())
}

#[test]
fn session_init_comes_before_the_settings() -> Result<()> {
    let init = ["--session-init", "SET SESSION net_write_timeout = 12345"];
    let stored = Stored::start(server().address(), &init)?;
    let mut raw = stored.login()?;
    let line = stored.heal(&mut raw, Action::Cut)?;
    ensure!(field(&line, "settings")? == 0 && field(&line, "attempts")? == 1, "{line}");
    ensure!(raw.value("SELECT @@net_write_timeout")? == "12345", "not set anew");
    raw.execute("SET net_write_timeout = 777")?;
    let line = stored.heal(&mut raw, Action::Reset)?;
    ensure!(field(&line, "settings")? == 1, "{line}");
    ensure!(raw.value("SELECT @@net_write_timeout")? == "777", "the client's own setting is the last");
    Ok(())
}

/// Settings in each form that an answer can be lost in.
const IN_FLIGHT: [(Step, &str, &str); 3] = [
    (Query("SET max_error_count = 7"), "SELECT @@max_error_count", "7"),
    (Query("/*!40100 USE `shop` */"), DATABASE, "shop"),
    (InitDb("shop"), DATABASE, "shop"),
];

/// An OK without any text.
const OK_SIZE: u64 = 11;

#[test]
fn a_setting_that_is_lost_on_its_way_is_sent_again() -> Result<()> {
    let stored = Stored::start(server().address(), &[])?;
    let fault = &stored.fault;
    for (step, shown, value) in IN_FLIGHT {
        let size = step.command().1.len() as u64 + 5;
        let directions = [(Direction::FromServer, OK_SIZE), (Direction::ToServer, size)];
        for (direction, total) in directions {
            for after in 0..total {
                let action = if after % 2 == 0 { Action::Cut } else { Action::Reset };
                let case = || format!("{step:?}: {action:?} after {after} bytes {direction:?}");
                let mut raw = stored.login()?;
                // Its answer is the sign that Spillway's own commands are answered.
                raw.execute("SET sql_mode = 'ANSI'")?;
                let (index, healed) = (fault.connections() - 1, stored.healed());
                fault.arm_in(direction, after, action);
                step.run(&mut raw).with_context(case)?;
                ensure!(fault.suffered(index) == Some(action), "{}: no fault", case());
                ensure!(raw.value(SQL_MODE)?.contains("ANSI"), "{}: the setting before it", case());
                ensure!(raw.value(shown)? == value, "{}: not set", case());
                // One answer only: all that came since was in its order.
                stored.wait_healed(healed + 1).with_context(case)?;
                ensure!(fault.connections() == index + 2, "{}: {} connections", case(), fault.connections());
            }
        }
    }
    Ok(())
}

/// What was counted over the connection that is lost stays counted.
#[test]
fn many_rows_before_a_setting_that_is_lost_are_no_obstacle() -> Result<()> {
    let stored = Stored::start(server().address(), &[])?;
    let mut raw = stored.login()?;
    raw.query("SHOW VARIABLES LIKE 'max%'")?;
    stored.fault.arm(3, Action::Reset);
    raw.execute("SET max_error_count = 7")?;
    stored.wait_healed(1)?;
    ensure!(raw.value("SELECT @@max_error_count")? == "7");
    Ok(())
}

/// One is lost while a setting is under way, and of those that follow so many are, each after so many bytes.
fn lose_in_a_row(direction: Direction, more: usize, step_by: usize) -> Result<()> {
    let stored = Stored::start(server().address(), &[])?;
    let fault = &stored.fault;
    let mut raw = stored.login()?;
    for step in [Query("SET sql_mode = 'ANSI'"), InitDb("shop")] {
        step.run(&mut raw)?;
    }
    fault.arm(3, Action::Reset);
    raw.execute("SET max_error_count = 7")?;
    stored.wait_healed(1)?;
    // All that comes over a new connection; numbers in the answers may be shorter next time.
    let total = fault.passed_in(fault.connections() - 1, direction).saturating_sub(16);
    ensure!(total > 200, "only {total} bytes");
    drop(raw);
    for after in (0..total).step_by(step_by) {
        let action = if after % 2 == 0 { Action::Cut } else { Action::Reset };
        let case = || format!("{more} times {action:?} after {after} bytes {direction:?}");
        let mut raw = stored.login()?;
        for step in [Query("SET sql_mode = 'ANSI'"), InitDb("shop")] {
            step.run(&mut raw)?;
        }
        let first = fault.connections() - 1;
        fault.arm_next(more, direction, after, action);
        fault.arm(3, Action::Reset);
        raw.execute("SET max_error_count = 7").with_context(case)?;
        ensure!(raw.value("SELECT @@max_error_count")? == "7", "{}", case());
        ensure!(raw.value(SQL_MODE)?.contains("ANSI"), "{}", case());
        ensure!(raw.value(DATABASE)? == "shop", "{}", case());
        let lost = (first..fault.connections()).filter(|&index| fault.suffered(index).is_some());
        ensure!(lost.count() == more + 1, "{}: not all of the faults came", case());
    }
    Ok(())
}

#[test]
fn a_setting_outlives_many_connections() -> Result<()> {
    thread::scope(|scope| {
        let workers = [
            (Direction::FromServer, 1, 11),
            (Direction::ToServer, 1, 11),
            (Direction::FromServer, 4, 131),
            (Direction::ToServer, 4, 131),
        ]
        .map(|(direction, more, step)| scope.spawn(move || lose_in_a_row(direction, more, step)));
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| anyhow!("a worker panicked"))?)
    })
}

/// Resets a session, and gives what it is in then: its database and its SQL mode.
fn after_reset(
    raw: &mut Raw,
    steps: &[Step],
    lose: impl FnOnce(&mut Raw) -> Result<()>,
) -> Result<[String; 2]> {
    for step in steps {
        step.run(raw)?;
    }
    lose(raw)?;
    Ok([raw.value(SQL_MODE)?, raw.value(DATABASE)?])
}

#[test]
fn a_reset_wipes_all_but_the_database() -> Result<()> {
    let stored = Stored::start(server().address(), &[])?;
    let ansi = Query("SET sql_mode = 'ANSI'");
    let default = Raw::login(server().address())?.value(SQL_MODE)?;
    for (steps, database, settings) in [
        (&[ansi, Step::Reset][..], "test", 0),
        (&[Query("USE shop"), ansi, Step::Reset], "shop", 1),
        (&[InitDb("mysql"), InitDb("shop"), ansi, Step::Reset, Step::Reset], "shop", 1),
        (&[Query("/*!40100 USE `shop` */"), ansi, Step::Reset], "shop", 1),
        (&[Query("\x0bUSE shop"), ansi, Step::Reset], "shop", 1),
        // What only a newer server does.
        (&[Query("USE shop"), Query("/*!999999 USE `test` */"), Step::Reset], "shop", 1),
        (&[Query("USE shop"), Step::Reset, Query("USE test")], "test", 1),
    ] {
        let expected = [default.clone(), database.to_owned()];
        let direct = after_reset(&mut Raw::login(server().address())?, steps, |_| Ok(()))?;
        ensure!(direct == expected, "{steps:?}: the server itself gives {direct:?}");
        let healed = after_reset(&mut stored.login()?, steps, |raw| {
            let line = stored.heal(raw, Action::Cut)?;
            ensure!(raw.value("SELECT @@net_write_timeout")? == "86400", "session-init was wiped");
            ensure!(field(&line, "settings")? >= settings, "{line}");
            Ok(())
        });
        let healed = healed.with_context(|| format!("{steps:?}"))?;
        ensure!(healed == expected, "{steps:?}: {healed:?}");
    }
    Ok(())
}

#[test]
fn a_reset_on_its_way_is_not_sent_again() -> Result<()> {
    let stored = Stored::start(server().address(), &[])?;
    let mut raw = stored.login()?;
    raw.execute("SET sql_mode = 'ANSI'")?;
    stored.fault.arm(4, Action::Cut);
    let error = raw.run(command::RESET_CONNECTION, b"")?.err()?;
    ensure!(error.code == 2013 && stored.healed() == 0, "{error:?}");
    Ok(())
}

#[test]
fn the_same_user_in_another_database() -> Result<()> {
    let stored = Stored::start(server().address(), &[])?;
    let default = Raw::login(server().address())?.value(SQL_MODE)?;
    for (login, database, expected) in
        [(Some("test"), "shop", "shop"), (Some("test"), "", "NULL"), (None, "shop", "shop")]
    {
        let mut raw = Raw::login_with(stored.spillway.address()?, capability::USUAL, login)?;
        raw.execute("SET sql_mode = 'ANSI'")?;
        raw.execute("USE mysql")?;
        stored.heal(&mut raw, Action::Cut)?;
        raw.change_user(USER, PASSWORD, database)?.ok()?;
        let line = stored.heal(&mut raw, Action::Reset)?;
        ensure!(field(&line, "settings")? == 0, "{line}");
        ensure!(raw.value(SQL_MODE)? == default, "the mode is kept");
        ensure!(raw.value(DATABASE)? == expected, "from {login:?} to {database:?}");
    }
    Ok(())
}

#[test]
fn another_user_is_refused_and_changes_nothing() -> Result<()> {
    let stored = Stored::start(server().address(), &[])?;
    let mut raw = stored.login()?;
    raw.execute("SET max_error_count = 7")?;
    let error = raw.change_user("root", "", "shop")?.err()?;
    ensure!(error.code == 1045 && error.message.starts_with("spillway:"), "{error:?}");
    stored.heal(&mut raw, Action::Cut)?;
    ensure!(raw.value("SELECT @@max_error_count")? == "7", "it was wiped");
    ensure!(raw.value(DATABASE)? == "test", "not the database of the login");
    Ok(())
}

/// The server wipes the session before it looks at what it is to be then.
#[test]
fn a_user_change_that_fails_leaves_no_settings() -> Result<()> {
    let stored = Stored::start(server().address(), &[])?;
    for (password, database, code) in [(PASSWORD, "nowhere", 1049), ("wrong", "shop", 1045)] {
        let fail = |raw: &mut Raw| -> Result<String> {
            raw.execute("SET max_error_count = 7")?;
            let End::Err(error) = raw.change_user(USER, password, database)? else {
                return Err(anyhow!("it was let in"));
            };
            ensure!(error.code == code, "{error:?}");
            Ok(error.message)
        };
        let mut direct = Raw::login(server().address())?;
        fail(&mut direct)?;
        ensure!(direct.value("SELECT @@max_error_count")? != "7", "the server itself keeps it");
        let mut raw = stored.login()?;
        fail(&mut raw)?;
        stored.lose_for_good(Action::Cut)?;
        assert_lost(&mut raw, "SELECT @@max_error_count")?;
    }
    Ok(())
}
