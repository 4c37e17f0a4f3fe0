//! The faults of the connection phase themselves, without the proxy: each is shown to be there with direct clients.

use std::io::{ErrorKind, Read as _};
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use spillway_tests::fault::{Action, Direction};
use spillway_tests::process::{self, Finished};
use spillway_tests::raw::End;
use spillway_tests::server::{PASSWORD, USER};
use spillway_tests::wire::command;
use spillway_tests::{Endpoint, Fault, Raw, Server, client, wait_until};

fn server() -> &'static Server {
    static SERVER: LazyLock<Server> =
        LazyLock::new(|| Server::start(&[]).unwrap_or_else(|error| panic!("the server: {error:#}")));
    &SERVER
}

#[test]
fn a_login_is_taken_apart() -> Result<()> {
    let fault = Fault::start(server().address())?;
    drop(Raw::login(fault.address())?);
    let plain = fault.handshake(0)?;
    ensure!(plain.packets.len() == 3 && plain.auth_switch().is_none(), "{plain:?}");
    drop(switched(&fault)?);
    let switched = fault.handshake(1)?;
    ensure!(switched.packets.len() == 5 && switched.auth_switch().is_some(), "{switched:?}");
    // Nothing else came over these connections, so the packets are all that passed.
    for (index, login) in [plain, switched].iter().enumerate() {
        let switch = login.auth_switch().unwrap_or_default();
        ensure!(login.greeting() + switch + login.end() == login.total(Direction::FromServer), "{login:?}");
        ensure!(login.total(Direction::FromServer) == fault.passed(index), "{login:?}");
        ensure!(login.ends(Direction::FromServer)[0] == login.greeting(), "{login:?}");
        fault.wait_closed_by_proxy(index, LIMIT)?;
        ensure!(login.total(Direction::ToServer) == fault.passed_in(index, Direction::ToServer), "{login:?}");
    }
    let finished = mysql(&fault)?.success()?;
    ensure!(finished.text() == "1\n", "{finished:?}");
    ensure!(fault.handshake(2)?.packets.len() == 3, "{:?}", fault.handshake(2)?);
    ensure!(fault.passed(2) > fault.handshake(2)?.total(Direction::FromServer), "no result");
    Ok(())
}

#[test]
fn each_byte_of_a_login_can_be_the_last() -> Result<()> {
    let fault = Fault::start(server().address())?;
    drop(switched(&fault)?);
    let login = fault.handshake(0)?;
    for direction in [Direction::FromServer, Direction::ToServer] {
        for after in 0..login.total(direction) {
            let action = if after % 2 == 0 { Action::Cut } else { Action::Reset };
            assert_lost(&fault, direction, after, action)
                .with_context(|| format!("{action:?} after {after} bytes {direction:?}"))?;
        }
    }
    let at_once = fault.connections();
    fault.arm_next(1, Direction::FromServer, 0, Action::Cut);
    ensure!(Raw::connect(fault.address()).is_err(), "a greeting");
    ensure!(fault.suffered(at_once) == Some(Action::Cut), "{:?}", fault.suffered(at_once));
    ensure!(fault.passed_in(at_once, Direction::ToServer) == 0, "the server was reached");
    drop(switched(&fault)?);
    Ok(())
}

fn assert_lost(fault: &Fault, direction: Direction, after: u64, action: Action) -> Result<()> {
    let index = fault.connections();
    fault.arm_next(1, direction, after, action);
    ensure!(switched(fault).is_err(), "the login succeeded");
    ensure!(fault.suffered(index) == Some(action), "{:?}", fault.suffered(index));
    ensure!(fault.passed_in(index, direction) == after, "{}", fault.passed_in(index, direction));
    Ok(())
}

#[test]
fn so_many_connections_suffer_and_no_more() -> Result<()> {
    let fault = Fault::start(server().address())?;
    fault.arm_next(3, Direction::FromServer, 10, Action::Cut);
    for index in 0..5 {
        let finished = mysql(&fault)?;
        ensure!(finished.status.success() == (index >= 3), "connection {index}: {finished:?}");
        if index < 3 {
            ensure!(finished.stderr.contains("2013"), "connection {index}: {finished:?}");
            ensure!(fault.passed(index) == 10, "connection {index}: {} bytes", fault.passed(index));
        }
    }
    // What the one before has used up is not counted for the next: two connections at a time, each cut by itself.
    fault.arm_next(2, Direction::FromServer, 20, Action::Reset);
    let both = [Raw::connect(fault.address()), Raw::connect(fault.address())];
    ensure!(both.iter().all(Result::is_err), "{both:?}");
    ensure!((5..7).all(|index| fault.passed(index) == 20), "{} and {}", fault.passed(5), fault.passed(6));
    fault.arm_next(usize::MAX, Direction::FromServer, 0, Action::Reset);
    ensure!(Raw::connect(fault.address()).is_err(), "a greeting");
    fault.heal();
    drop(Raw::login(fault.address())?);
    Ok(())
}

#[test]
fn chance_strikes_the_same_connections_again() -> Result<()> {
    let mut fates = Vec::new();
    for seed in [7, 7, 8] {
        let fault = Fault::start(server().address())?;
        fault.arm_random(seed, 0.5, 5..60);
        for index in 0..40 {
            let greeted = Raw::connect(fault.address()).is_ok();
            ensure!(greeted == fault.suffered(index).is_none(), "connection {index}");
        }
        let of = |index| fault.suffered(index).map(|action| (action, fault.passed(index)));
        fates.push((0..40).map(of).collect::<Vec<_>>());
    }
    ensure!(fates[0] == fates[1], "the same seed: {fates:?}");
    ensure!(fates[0] != fates[2], "another seed: {fates:?}");
    let struck: Vec<_> = fates[0].iter().flatten().collect();
    ensure!((10..30).contains(&struck.len()), "{struck:?}");
    ensure!(struck.iter().all(|(_, passed)| (5..60).contains(passed)), "{struck:?}");
    for action in [Action::Cut, Action::Reset] {
        ensure!(struck.iter().any(|fate| fate.0 == action), "no {action:?}: {struck:?}");
    }
    Ok(())
}

#[test]
fn a_black_hole_stays_open_and_swallows() -> Result<()> {
    let greeting = greeting_size()?;
    for (direction, after, passed) in [
        (Direction::FromServer, 0, 0),
        (Direction::FromServer, 10, 10),
        (Direction::FromServer, greeting, greeting),
        (Direction::ToServer, 0, greeting),
        (Direction::ToServer, 20, greeting),
    ] {
        let fault = Fault::start(server().address())?;
        fault.arm_next(1, direction, after, Action::BlackHole);
        let mut mysql = client::dumper("mysql", &Endpoint::Tcp(fault.address()));
        let mut running = process::Running::start(mysql.args(["-e", "SELECT 1"]))?;
        wait_until(LIMIT, "the black hole", || fault.suffered(0) == Some(Action::BlackHole))?;
        wait_until(LIMIT, "the bytes before it", || fault.passed(0) == passed)?;
        // Longer than a relay takes to pass anything on, or to close.
        std::thread::sleep(Duration::from_millis(100));
        ensure!(running.ended()?.is_none(), "{direction:?} {after}: the client ended");
        ensure!(fault.passed(0) == passed, "{direction:?} {after}: {} bytes", fault.passed(0));
        ensure!(fault.closed_by_proxy(0).is_none(), "{direction:?} {after}: the client left");
        running.end();
        fault.wait_closed_by_proxy(0, LIMIT)?;
    }
    Ok(())
}

#[test]
fn a_black_hole_outlives_the_server_side() -> Result<()> {
    let fault = Fault::start(server().address())?;
    let mut raw = Raw::login(fault.address())?;
    fault.strike(Action::BlackHole);
    let id = raw.greeting().id;
    server().sql(&format!("KILL {id}"))?;
    server().wait_for_no_thread(LIMIT, "the thread to be killed", |thread| thread.id == u64::from(id))?;
    raw.send(command::PING, &[])?;
    raw.set_limit(Duration::from_millis(100))?;
    let mut stream = raw.stream();
    let error = stream.read(&mut [0; 1]).err().context("the end, or a byte")?;
    ensure!(error.kind() == ErrorKind::WouldBlock, "{error}");
    Ok(())
}

#[test]
fn bytes_to_the_server_stall_and_heal() -> Result<()> {
    let fault = Fault::start(server().address())?;
    fault.arm_next(1, Direction::ToServer, 30, Action::Stall);
    let mut mysql = client::dumper("mysql", &Endpoint::Tcp(fault.address()));
    let mut running = process::Running::start(mysql.args(["-N", "-e", "SELECT 1"]))?;
    wait_until(LIMIT, "the first 30 bytes", || fault.passed_in(0, Direction::ToServer) == 30)?;
    ensure!(running.ended()?.is_none(), "the client ended");
    fault.heal();
    ensure!(running.finish(LIMIT)?.success()?.text() == "1\n", "no answer");
    Ok(())
}

#[test]
fn a_relay_opens_where_it_is_told_and_closes_for_good() -> Result<()> {
    let fault = Fault::start(server().address())?;
    let address = fault.address();
    let mut open = Raw::login(address)?;
    drop(fault);
    ensure!(open.value("SELECT 1").is_err(), "an answer through a relay that is gone");
    let finished =
        process::run(client::dumper("mysql", &Endpoint::Tcp(address)).args(["-e", "SELECT 1"]), LIMIT)?;
    ensure!(finished.stderr.contains("2002") || finished.stderr.contains("2003"), "{finished:?}");
    let fault = Fault::start_at(address, server().address())?;
    drop(Raw::login(address)?);
    ensure!(fault.connections() == 1, "{} connections", fault.connections());
    Ok(())
}

fn greeting_size() -> Result<u64> {
    let fault = Fault::start(server().address())?;
    drop(Raw::login(fault.address())?);
    Ok(fault.handshake(0)?.greeting())
}

/// A login in which the server asks the client to switch to another plugin.
fn switched(fault: &Fault) -> Result<Raw> {
    let mut raw = Raw::connect(fault.address())?;
    match raw.log_in("mysql_old_password_of_nobody", USER, PASSWORD, Some("test"))? {
        End::Ok { .. } => Ok(raw),
        End::Err(error) => anyhow::bail!("{error:?}"),
    }
}

fn mysql(fault: &Fault) -> Result<Finished> {
    let mut mysql = client::dumper("mysql", &Endpoint::Tcp(fault.address()));
    process::run(mysql.args(["-N", "-e", "SELECT 1"]), LIMIT)
}

const LIMIT: Duration = Duration::from_secs(60);
