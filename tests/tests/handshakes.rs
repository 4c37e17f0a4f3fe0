//! Failed handshakes heal: wherever a login is cut, reset or stalled, an unmodified dump goes on as if nothing had been.

use std::net::TcpListener;
use std::process::Command;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use spillway_tests::fault::{Action, Direction};
use spillway_tests::handshakes::{Case, DIGITS, Matrix, Verdict, every_offset};
use spillway_tests::process::{self, Running};
use spillway_tests::raw::{End, greeting_packet};
use spillway_tests::server::{PASSWORD, USER};
use spillway_tests::stored::credentials;
use spillway_tests::wire::NATIVE;
use spillway_tests::{Endpoint, Fault, Raw, Server, Spillway, client};

fn server() -> &'static Server {
    static SERVER: LazyLock<Server> =
        LazyLock::new(|| start().unwrap_or_else(|error| panic!("the server: {error:#}")));
    &SERVER
}

/// `switched` is an account whose plugin is not the server's default.
fn start() -> Result<Server> {
    let server = Server::start(&["--plugin-load-add=auth_ed25519"])?;
    server.sql(&format!(
        "CREATE USER switched@'%' IDENTIFIED VIA ed25519 USING PASSWORD('{}');
         GRANT ALL PRIVILEGES ON *.* TO switched@'%';
         USE test;
         CREATE TABLE small (id INT PRIMARY KEY, text VARCHAR(100));
         INSERT INTO small SELECT seq, REPEAT('x', 50) FROM seq_1_to_100;",
        PASSWORD.replace('\'', "''")
    ))?;
    Ok(server)
}

fn dump(endpoint: &Endpoint) -> Command {
    let mut command = client::dumper("mysqldump", endpoint);
    command.args(["--single-transaction", "test"]);
    command
}

fn dump_switched(endpoint: &Endpoint) -> Command {
    let mut command = client::command("mysqldump", endpoint);
    command.args(["--user=switched", &format!("--password={PASSWORD}"), "--single-transaction", "test"]);
    command
}

/// Short limits: a stall costs so much at each attempt. What is stalled by a busy machine is tried again, as well.
const QUICK: [&str; 2] = ["--greeting-timeout=500ms", "--auth-timeout=500ms"];

/// A login's bytes, by direction.
struct Login {
    from_server: u64,
    to_server: u64,
}

fn learn(client: &dyn Fn(&Endpoint) -> Command) -> Result<Login> {
    let fault = Fault::start(server().address())?;
    process::run(&mut client(&Endpoint::Tcp(fault.address())), LIMIT)?.success()?;
    let login = fault.handshake(0)?;
    // So much of the response is there in any case.
    let to_server = login.total(Direction::ToServer) - DIGITS;
    Ok(Login { from_server: login.total(Direction::FromServer), to_server })
}

fn matrix<'a>(
    client: &'a (dyn Fn(&Endpoint) -> Command + Sync),
    options: &'a [&'a str],
    expected: &'a [u8],
) -> Matrix<'a> {
    Matrix { server: server().address(), options, client, expected }
}

fn direct(client: &dyn Fn(&Endpoint) -> Command) -> Result<Vec<u8>> {
    let finished = process::run(&mut client(&server().tcp()), LIMIT)?.success()?;
    Ok(client::normalised(&finished.stdout))
}

/// All offsets of both directions once, and a part of them several times and with stalls.
fn cases(login: &Login) -> Vec<Case> {
    let (cuts, stall) = ([Action::Cut, Action::Reset], [Action::BlackHole]);
    let mut cases = Vec::new();
    for (direction, total) in
        [(Direction::FromServer, login.from_server), (Direction::ToServer, login.to_server)]
    {
        cases.extend(every_offset(1, direction, total, &cuts));
        // Of a second connection the client's answer is shorter, or goes another way.
        let total = total - if direction == Direction::ToServer { 40 } else { 0 };
        let some = |step: usize, times, actions: &[Action]| {
            every_offset(times, direction, total, actions)
                .into_iter()
                .skip(step / 2)
                .step_by(step)
                .collect::<Vec<_>>()
        };
        cases.extend(some(7, 2, &[Action::Reset, Action::Cut]));
        cases.extend(some(13, 1, &stall));
        cases.extend(some(41, 2, &stall));
        cases.extend(some(29, 5, &cuts));
    }
    cases
}

#[test]
fn direct_clients_die_of_each_fault() -> Result<()> {
    let fault = Fault::start(server().address())?;
    let login = learn(&dump)?;
    for (direction, total) in
        [(Direction::FromServer, login.from_server), (Direction::ToServer, login.to_server)]
    {
        for after in [0, total / 2, total - 1] {
            for action in [Action::Cut, Action::Reset] {
                fault.arm_next(1, direction, after, action);
                let finished = process::run(&mut dump(&Endpoint::Tcp(fault.address())), LIMIT)?;
                ensure!(!finished.status.success(), "{direction:?} {after} {action:?}: the dump survived");
                ensure!(
                    finished.stderr.contains("2013") || finished.stderr.contains("2002"),
                    "{}",
                    finished.stderr
                );
            }
        }
    }
    Ok(())
}

#[test]
fn every_offset_heals_in_passthrough() -> Result<()> {
    let expected = direct(&dump)?;
    matrix(&dump, &QUICK, &expected).run(&cases(&learn(&dump)?), |_| Verdict::Right)
}

#[test]
fn every_offset_heals_for_an_account_of_another_plugin() -> Result<()> {
    let expected = direct(&dump_switched)?;
    let some: Vec<_> = cases(&learn(&dump_switched)?).into_iter().step_by(3).collect();
    matrix(&dump_switched, &QUICK, &expected).run(&some, |_| Verdict::Right)
}

#[test]
fn every_offset_heals_with_stored_credentials() -> Result<()> {
    let expected = direct(&dump)?;
    let credentials = credentials()?;
    let path = credentials.path().display().to_string();
    let options = [&QUICK[..], &["--auth=stored", "--credentials", &path]].concat();
    let some: Vec<_> = cases(&learn(&dump)?).into_iter().step_by(2).collect();
    matrix(&dump, &options, &expected).run(&some, |_| Verdict::Right)
}

/// Half of all connections break at a random point of the login.
#[test]
fn two_hundred_dumps_over_a_wavering_network() -> Result<()> {
    let expected = direct(&dump)?;
    let credentials = credentials()?;
    let path = credentials.path().display().to_string();
    let total = learn(&dump)?.from_server;
    let dumps_a_seed = 10;
    thread::scope(|scope| {
        let seeds: Vec<_> = (1..=20)
            .map(|seed| {
                let (path, expected) = (&path, &expected);
                scope.spawn(move || -> Result<()> {
                    let fault = Fault::start(server().address())?;
                    let spillway = Spillway::to(&fault.address())
                        .options(&["--auth=stored", "--credentials", path])
                        .start()?;
                    fault.arm_random(seed, 0.5, 0..total);
                    for number in 0..dumps_a_seed {
                        let finished = process::run(&mut dump(spillway.endpoint()), LIMIT)?;
                        let context = || format!("dump {number} of seed {seed}: {}", finished.stderr);
                        ensure!(finished.status.success(), "{}", context());
                        let difference = client::difference(expected, &client::normalised(&finished.stdout));
                        ensure!(difference.is_none(), "{}: {difference:?}", context());
                    }
                    let hit =
                        (0..fault.connections()).filter(|&index| fault.suffered(index).is_some()).count();
                    ensure!(hit > 0, "only {hit} connections were hit");
                    Ok(())
                })
            })
            .collect();
        for seed in seeds {
            seed.join().map_err(|_| anyhow::anyhow!("a worker panicked"))??;
        }
        Ok(())
    })
}

#[test]
fn a_server_that_comes_late_is_waited_for() -> Result<()> {
    // A port that is free for the moment.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let spillway = Spillway::to(&address).start()?;
    let started = Instant::now();
    let running = Running::start(&mut dump(spillway.endpoint()))?;
    spillway.wait_for_log("phase=\"connect\"", LIMIT)?;
    // The pause is the fault.
    thread::sleep(Duration::from_secs(20));
    let _late = Fault::start_at(address, server().address())?;
    let finished = running.finish(LIMIT)?.success()?;
    ensure!(started.elapsed() >= Duration::from_secs(20), "the server was there too early");
    let difference = client::difference(&direct(&dump)?, &client::normalised(&finished.stdout));
    ensure!(difference.is_none(), "{difference:?}");
    let line = spillway.wait_for_log("reached the server in the end", LIMIT)?;
    ensure!(line.contains("attempts="), "{line}");
    Ok(())
}

#[test]
fn a_server_that_stays_away_is_an_error_within_the_budget() -> Result<()> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let spillway = Spillway::to(&address).options(&["--handshake-timeout=2s"]).start()?;
    let started = Instant::now();
    let finished = process::run(&mut dump(spillway.endpoint()), LIMIT)?;
    ensure!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    ensure!(!finished.status.success(), "the dump ended well");
    for part in ["spillway:", "2003", "attempts in", "onnection refused", &address.to_string()] {
        ensure!(finished.stderr.contains(part), "no {part:?}: {}", finished.stderr);
    }
    Ok(())
}

#[test]
fn a_login_that_cannot_be_healed_is_an_error_within_the_budget() -> Result<()> {
    let fault = Fault::start(server().address())?;
    let spillway = Spillway::to(&fault.address()).options(&["--handshake-timeout=2s"]).start()?;
    let login = learn(&dump)?;
    fault.arm_next(100, Direction::FromServer, login.from_server - 1, Action::Cut);
    let finished = process::run(&mut dump(spillway.endpoint()), LIMIT)?;
    ensure!(!finished.status.success(), "the dump ended well");
    for part in ["spillway:", "2013", "attempts in", "logging in to"] {
        ensure!(finished.stderr.contains(part), "no {part:?}: {}", finished.stderr);
    }
    Ok(())
}

#[test]
fn a_client_that_takes_one_switch_is_told_when_it_was_used_up() -> Result<()> {
    let fault = Fault::start(server().address())?;
    let spillway = Spillway::to(&fault.address()).start()?;
    // The harness's own client claims no library: for all Spillway knows, it takes one AuthSwitchRequest.
    let log_in = |plugin: &str| -> Result<End> {
        Raw::connect(spillway.address()?)?.log_in(plugin, USER, PASSWORD, None)
    };
    log_in("another")?.ok()?;
    let login = fault.handshake(0)?;
    let (greeting, switch) = (login.greeting(), login.auth_switch().context("no AuthSwitchRequest")?);

    fault.arm_next(1, Direction::FromServer, greeting + switch - 1, Action::Cut);
    log_in("another")?.ok().context("lost before the client had its AuthSwitchRequest")?;

    let before = fault.connections();
    fault.arm_next(1, Direction::FromServer, greeting + switch + 1, Action::Cut);
    let End::Err(error) = log_in("another")? else { bail!("a client that was asked three times") };
    ensure!(error.code == 2013 && error.message.starts_with("spillway:"), "{error:?}");
    ensure!(fault.connections() == before + 1, "attempts that lead nowhere");
    Ok(())
}

/// A server that greets and then loses each login is no reason not to try the next one.
#[test]
fn another_upstream_has_its_turn_after_a_login_that_was_lost() -> Result<()> {
    let login = learn(&dump)?;
    let credentials = credentials()?;
    let path = credentials.path().display().to_string();
    for options in [&[][..], &["--auth=stored", "--credentials", &path]] {
        let (broken, healthy) = (Fault::start(server().address())?, Fault::start(server().address())?);
        broken.arm_next(usize::MAX, Direction::FromServer, login.from_server - 1, Action::Cut);
        let upstreams = format!("{},{}", broken.address(), healthy.address());
        let spillway = Spillway::to(&upstreams).options(options).start()?;
        for _ in 0..3 {
            process::run(&mut dump(spillway.endpoint()), LIMIT)?.success()?;
        }
        ensure!(
            broken.connections() == 1,
            "{options:?}: {} attempts at the broken one",
            broken.connections()
        );
    }
    Ok(())
}

/// An answer that is under way to a server that shuts down must not be taken for the answer to the next one.
#[test]
fn a_server_that_shuts_down_while_the_client_answers() -> Result<()> {
    let fault = Fault::start(server().address())?;
    let spillway = Spillway::to(&fault.address()).start()?;
    let mut last_words = greeting_packet(server().address())?;
    let switch = b"\xfemysql_native_password\0abcdefghijklmnopqrst\0";
    let shutdown = b"\xff\x1d\x04#08S01Server shutdown in progress";
    for (number, payload) in [(2, &switch[..]), (3, &shutdown[..])] {
        last_words.extend([u8::try_from(payload.len())?, 0, 0, number]);
        last_words.extend(payload);
    }
    fault.greet_with(Some(last_words));
    let running = Running::start(&mut dump(spillway.endpoint()))?;
    spillway.wait_for_log("1053", LIMIT)?;
    fault.greet_with(None);
    let finished = running.finish(LIMIT)?.success()?;
    let difference = client::difference(&direct(&dump)?, &client::normalised(&finished.stdout));
    ensure!(difference.is_none(), "{difference:?}");
    Ok(())
}

/// A server waits 10 s for a client, and then counts its silence against Spillway's host.
#[test]
fn a_client_that_is_slow_to_answer_is_given_another_connection() -> Result<()> {
    let fault = Fault::start(server().address())?;
    let spillway = Spillway::to(&fault.address()).start()?;
    let mut slow = Raw::connect(spillway.address()?)?;
    fault.wait_closed_by_proxy(0, LIMIT)?;
    slow.log_in(NATIVE, USER, PASSWORD, None)?.ok()?;
    ensure!(slow.value("SELECT 1")? == "1" && fault.connections() == 2, "{}", fault.connections());
    Ok(())
}

#[test]
fn a_wrong_password_is_one_attempt_and_the_servers_own_words() -> Result<()> {
    let fault = Fault::start(server().address())?;
    let spillway = Spillway::to(&fault.address()).start()?;
    let mut command = client::command("mysqldump", spillway.endpoint());
    let finished = process::run(command.args(["--user=dump", "--password=wrong", "test"]), LIMIT)?;
    ensure!(finished.stderr.contains("1045") && !finished.stderr.contains("spillway"), "{}", finished.stderr);
    ensure!(fault.connections() == 1, "{} attempts", fault.connections());
    Ok(())
}

#[test]
fn with_stored_credentials_a_wrong_password_costs_the_server_nothing() -> Result<()> {
    let credentials = credentials()?;
    let path = credentials.path().display().to_string();
    let fault = Fault::start(server().address())?;
    let spillway =
        Spillway::to(&fault.address()).options(&["--auth=stored", "--credentials", &path]).start()?;
    process::run(&mut dump(spillway.endpoint()), LIMIT)?.success()?;
    let before = fault.connections();
    for account in [
        ["--user=dump", "--password=wrong"],
        ["--user=root", "--password=wrong"],
        ["--user=dump", "--skip-password"],
    ] {
        let mut command = client::command("mysqldump", spillway.endpoint());
        let finished = process::run(command.args(account).arg("test"), LIMIT)?;
        ensure!(finished.stderr.contains("1045"), "{account:?}: {}", finished.stderr);
    }
    ensure!(fault.connections() == before, "the server was reached");
    Ok(())
}

#[test]
fn too_many_connections_pass() -> Result<()> {
    let server = Server::start(&["--max-connections=10", "--extra-port=0"])?;
    let spillway = Spillway::to(&server.tcp()).start()?;
    let mut crowd = Vec::new();
    while let Ok(raw) = Raw::login(server.address()) {
        crowd.push(raw);
    }
    let mut mysql = client::dumper("mysql", &server.tcp());
    let refused = process::run(mysql.args(["-e", "SELECT 1"]), LIMIT)?;
    ensure!(refused.stderr.contains("1040"), "{}", refused.stderr);

    let mut mysql = client::dumper("mysql", spillway.endpoint());
    let running = Running::start(mysql.args(["-e", "SELECT 1"]))?;
    spillway.wait_for_log("1040", LIMIT)?;
    drop(crowd);
    running.finish(LIMIT)?.success()?;
    Ok(())
}

const LIMIT: Duration = Duration::from_secs(60);
