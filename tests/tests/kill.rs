//! KILL through Spillway means the session whose client was told that connection id, whatever its id on the
//! server is by now, and never a stranger's.

use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use spillway_tests::fault::{Action, Direction};
use spillway_tests::process::{self, Running};
use spillway_tests::raw::{End, Head};
use spillway_tests::server::Thread;
use spillway_tests::stored::assert_lost;
use spillway_tests::wire::{ErrPacket, command};
use spillway_tests::{Fault, Raw, Server, Spillway, Stored, client, mysql9};

fn server() -> &'static Server {
    static SERVER: LazyLock<Server> =
        LazyLock::new(|| Server::start(&[]).unwrap_or_else(|error| panic!("the server: {error:#}")));
    &SERVER
}

/// A query that only a KILL ends. Gives the server's thread that runs it.
fn sleep_in(raw: &mut Raw, mark: &str) -> Result<Thread> {
    raw.send(command::QUERY, format!("SELECT SLEEP(600) AS {mark}").as_bytes())?;
    wait_for_sleep(server(), mark)
}

fn wait_for_sleep(server: &Server, mark: &str) -> Result<Thread> {
    server.wait_for_thread(LIMIT, "the query to run", |thread| thread.info.contains(mark))
}

/// The killer's command and its answer.
enum Kill {
    Query(String),
    ProcessKill(u32),
}

impl Kill {
    fn run(&self, raw: &mut Raw) -> Result<End> {
        match self {
            Self::Query(text) => raw.run(command::QUERY, text.as_bytes()),
            Self::ProcessKill(id) => raw.run(command::PROCESS_KILL, &id.to_le_bytes()),
        }
    }
}

/// The forms that end a query, and those that end a connection.
fn queries(id: u32) -> Vec<Kill> {
    ["KILL QUERY", "kill  query", "KILL SOFT QUERY", "KILL HARD QUERY"]
        .map(|words| Kill::Query(format!("{words} {id}")))
        .into()
}

fn connections(id: u32) -> Vec<Kill> {
    let mut kills: Vec<_> = ["KILL", "KILL CONNECTION", "KILL HARD CONNECTION"]
        .map(|words| Kill::Query(format!("{words} {id} ;")))
        .into();
    kills.push(Kill::ProcessKill(id));
    kills
}

fn assert_interrupted(victim: &mut Raw) -> Result<()> {
    let Head::End(End::Err(error)) = head_or_error(victim)? else { bail!("no error") };
    ensure!(error.code == 1317, "{error:?}");
    Ok(())
}

/// An error may come before or behind the columns.
fn head_or_error(raw: &mut Raw) -> Result<Head> {
    match raw.head()? {
        Head::Columns(_) => Ok(Head::End(raw.rows(|_| ())?)),
        end => Ok(end),
    }
}

/// Logs in a victim for each form of KILL, and has it killed.
fn each_form(login: &dyn Fn() -> Result<Raw>, killer: &mut Raw, mark: &str, honest: bool) -> Result<()> {
    let mut victim = login()?;
    for kill in queries(victim.greeting().id) {
        sleep_in(&mut victim, mark)?;
        kill.run(killer)?.ok()?;
        assert_interrupted(&mut victim)?;
    }
    ensure!(victim.value("SELECT 7")? == "7", "the victim's session is over");
    for form in 0..connections(0).len() {
        let mut victim = login()?;
        let thread = sleep_in(&mut victim, mark)?;
        connections(victim.greeting().id)[form].run(killer)?.ok()?;
        server().wait_for_no_thread(LIMIT, "the connection to end", |other| other.id == thread.id)?;
        match head_or_error(&mut victim) {
            Ok(Head::End(End::Err(_))) => victim.expect_closed(LIMIT)?,
            // The server itself says nothing sometimes.
            Err(_) if !honest => {}
            other => bail!("{other:?}"),
        }
    }
    Ok(())
}

#[test]
fn without_spillway() -> Result<()> {
    let login = || Raw::login(server().address());
    each_form(&login, &mut login()?, "direct", false)
}

#[test]
fn told_ids_mean_their_sessions() -> Result<()> {
    let stored = Stored::start(server().address(), &[])?;
    let login = || stored.login();
    each_form(&login, &mut login()?, "plain", true)
}

#[test]
fn told_ids_mean_their_sessions_over_new_connections() -> Result<()> {
    let stored = Stored::start(server().address(), &[])?;
    for form in 0..queries(0).len() + connections(0).len() {
        let mut victim = stored.login()?;
        stored.heal(&mut victim, Action::Cut)?;
        let id = victim.greeting().id;
        // Only now: its connection would have been struck as well.
        let mut killer = stored.login()?;
        let thread = sleep_in(&mut victim, "healed_once")?;
        ensure!(u64::from(id) != thread.id, "the client was told the server's own id");
        queries(id).into_iter().chain(connections(id)).nth(form).context("form")?.run(&mut killer)?.ok()?;
        if form < queries(0).len() {
            assert_interrupted(&mut victim)?;
            ensure!(victim.value("SELECT 7")? == "7", "the victim's session is over");
            continue;
        }
        server().wait_for_no_thread(LIMIT, "the connection to end", |other| other.id == thread.id)?;
        let Head::End(End::Err(_)) = head_or_error(&mut victim)? else { bail!("no error") };
        victim.expect_closed(LIMIT)?;
    }
    Ok(())
}

#[test]
fn the_id_of_an_ended_session_is_nobodys() -> Result<()> {
    let stored = Stored::start(server().address(), &[])?;
    let mut victim = stored.login()?;
    stored.heal(&mut victim, Action::Cut)?;
    let id = victim.greeting().id;
    drop(victim);
    stored.spillway.wait_for_session_end(1, LIMIT)?;
    let mut killer = stored.login()?;
    for kill in queries(id).into_iter().chain(connections(id)) {
        assert_unknown(&mut killer, &kill, "spillway:")?;
    }
    // In words that Spillway does not take apart, it is the server that knows nobody.
    assert_unknown(&mut killer, &Kill::Query(format!("KILL QUERY {id} /* him */")), "Unknown thread id")?;
    ensure!(killer.value("SELECT 7")? == "7", "the killer's session is over");
    Ok(())
}

fn assert_unknown(killer: &mut Raw, kill: &Kill, start: &str) -> Result<()> {
    let error: ErrPacket = kill.run(killer)?.err()?;
    ensure!(error.code == 1094 && error.message.starts_with(start), "{error:?}");
    Ok(())
}

#[test]
fn other_clients_of_the_server_can_be_killed() -> Result<()> {
    let stored = Stored::start(server().address(), &[])?;
    let mut killer = stored.login()?;
    each_form(&|| Raw::login(server().address()), &mut killer, "stranger", false)
}

#[test]
fn a_session_kills_itself() -> Result<()> {
    let stored = Stored::start(server().address(), &[])?;
    for login in [|_: &Stored| Raw::login(server().address()), Stored::login] {
        let mut raw = login(&stored)?;
        let id = raw.greeting().id;
        let error = Kill::Query(format!("KILL QUERY {id}")).run(&mut raw)?.err()?;
        ensure!(error.code == 1317, "{error:?}");
        ensure!(raw.value("SELECT 7")? == "7", "the session is over");
        let error = Kill::ProcessKill(id).run(&mut raw)?.err()?;
        ensure!([1317, 1927].contains(&error.code), "{error:?}");
        ensure!(raw.value("SELECT 7").is_err(), "the session goes on");
    }
    Ok(())
}

#[test]
fn in_passthrough_after_a_login_that_was_healed() -> Result<()> {
    let fault = Fault::start(server().address())?;
    let spillway = Spillway::to(&fault.address()).start()?;
    let login = || Raw::login(spillway.address()?);
    let mut killer = login()?;
    let total = fault.handshake(0)?.total(Direction::FromServer);
    let healed = || {
        let index = fault.connections();
        fault.arm_next(1, Direction::FromServer, total - 1, Action::Cut);
        let raw = login()?;
        ensure!(fault.suffered(index) == Some(Action::Cut), "no fault");
        Ok(raw)
    };
    let mut victim = healed()?;
    let thread = sleep_in(&mut victim, "first")?;
    ensure!(u64::from(victim.greeting().id) < thread.id, "the id of the last connection");
    Kill::Query(format!("KILL CONNECTION {}", victim.greeting().id)).run(&mut killer)?.ok()?;
    server().wait_for_no_thread(LIMIT, "the connection to end", |other| other.id == thread.id)?;

    each_form(&healed, &mut killer, "healed", true)?;
    each_form(&login, &mut killer, "untouched", true)?;

    let id = victim.greeting().id;
    drop(victim);
    let line = format!("server_connection={}", thread.id);
    spillway.wait_for_log(&line, LIMIT)?;
    spillway.wait_for_session_end(1, LIMIT)?;
    assert_unknown(&mut killer, &Kill::ProcessKill(id), "spillway:")
}

/// A person's Ctrl-C: the client opens a second connection and sends KILL QUERY with the id that it was told.
fn interrupt(server: &Server, mut command: Command) -> Result<()> {
    command.args(["-e", "SELECT 1 AS ctrl_c FROM (SELECT 1) AS t WHERE SLEEP(600)"]);
    let running = Running::start(&mut command)?;
    wait_for_sleep(server, "ctrl_c")?;
    process::send(running.pid(), Signal::SIGINT)?;
    server.wait_for_no_thread(LIMIT, "the query to end", |thread| thread.info.contains("ctrl_c"))?;
    let finished = running.finish(LIMIT)?;
    ensure!(finished.stderr.contains("1317"), "{}", finished.stderr);
    Ok(())
}

#[test]
fn ctrl_c_in_mariadbs_client() -> Result<()> {
    interrupt(server(), client::dumper("mysql", &server().tcp())).context("directly")?;
    let stored = Stored::start(server().address(), &[])?;
    interrupt(server(), client::dumper("mysql", stored.spillway.endpoint()))?;
    ensure!(stored.fault.connections() == 3, "no second connection");
    Ok(())
}

#[test]
fn ctrl_c_in_mysqls_client() -> Result<()> {
    let server = mysql9::start(&[])?;
    interrupt(&server, mysql9::dumper("mysql", &server.tcp())).context("directly")?;
    let stored = Stored::start(server.address(), &[])?;
    interrupt(&server, mysql9::dumper("mysql", stored.spillway.endpoint()))?;
    ensure!(stored.fault.connections() == 3, "no second connection");
    Ok(())
}

/// Nothing is lost with it but settings, and yet it is not to go on.
#[test]
fn a_killed_connection_is_not_replaced() -> Result<()> {
    let stored = Stored::start(server().address(), &[])?;
    for form in 0..connections(0).len() {
        let mut victim = stored.login()?;
        victim.execute("SET sql_mode = 'ANSI'")?;
        let mut killer = stored.login()?;
        let before = stored.fault.connections();
        connections(victim.greeting().id)[form].run(&mut killer)?.ok()?;
        let message = assert_lost(&mut victim, "SET sql_mode = ''")?;
        ensure!(stored.fault.connections() == before && stored.healed() == 0, "healed: {message}");
    }
    // The end of a query is none of a connection.
    let mut victim = stored.login()?;
    let mut killer = stored.login()?;
    Kill::Query(format!("KILL QUERY {}", victim.greeting().id)).run(&mut killer)?.ok()?;
    drop(killer);
    stored.spillway.wait_for_session_end(2 * connections(0).len() + 1, LIMIT)?;
    let before = stored.fault.connections();
    stored.fault.strike(Action::Cut);
    stored.spillway.wait_for_log("and can go on", LIMIT)?;
    ensure!(victim.value("SELECT @@version_comment")?.contains("Debian"), "no session");
    stored.wait_healed(1)?;
    ensure!(stored.fault.connections() == before + 1, "no new connection");
    Ok(())
}

const LIMIT: Duration = Duration::from_secs(60);
