//! Names that resolve badly: a resolver that fails, is late or dead costs no dump. And a choice of servers.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};
use spillway_tests::dns::Mode;
use spillway_tests::fault::{Action, Direction};
use spillway_tests::process::{self, Finished, Running};
use spillway_tests::{Dns, Endpoint, Fault, Server, Spillway, client, mysql9, run, wait_until};

fn server() -> &'static Server {
    static SERVER: LazyLock<Server> = LazyLock::new(|| {
        let server = Server::start(&[]).and_then(|server| server.sql(SCRIPT).map(|()| server));
        server.unwrap_or_else(|error| panic!("the server: {error:#}"))
    });
    &SERVER
}

#[test]
fn a_resolver_that_fails_every_second_time_costs_no_dump() -> Result<()> {
    // MySQL's client, as MariaDB's asks the resolver again by itself.
    let server = mysql9::start(&[])?;
    server.sql(SCRIPT)?;
    let dump = |endpoint: &Endpoint, more: &[&str]| {
        let mut command = mysql9::dumper("mysqldump", endpoint);
        command.args(["--single-transaction", "--no-tablespaces"]).args(more).arg("test");
        command
    };
    let expected = process::run(&mut dump(&server.tcp(), &[]), LIMIT)?.success()?;
    let dns = Dns::start(NAME, Ipv4Addr::LOCALHOST)?;
    dns.set(Mode::FailEverySecond);
    for attempt in 0..4 {
        let by_name = dump(&server.tcp(), &[&format!("--host={NAME}")]);
        let direct = process::run(&mut client::wrap(&dns.prefix(), &by_name), LIMIT)?;
        if attempt % 2 == 0 {
            ensure!(direct.stderr.contains("2005") && direct.stderr.contains(NAME), "{attempt}: {direct:?}");
        } else {
            assert_same(&expected, &direct).with_context(|| format!("direct, {attempt}"))?;
        }
    }

    dns.set(Mode::FailEverySecond);
    let spillway = spillway_asking(&dns, &server, &[])?;
    for number in 1..=6 {
        let through = process::run(&mut dump(spillway.endpoint(), &[]), LIMIT)?;
        assert_same(&expected, &through)
            .with_context(|| format!("dump {number}\n{}", spillway.log().tail()))?;
    }
    // The first look-up failed before there was an answer to remember, the third when there was one.
    spillway.wait_for_log("phase=\"resolve\"", LIMIT)?;
    spillway.wait_for_log("last good answer", LIMIT)?;
    Ok(())
}

#[test]
fn the_last_good_answer_outlives_the_resolver() -> Result<()> {
    let dns = Dns::start(NAME, Ipv4Addr::LOCALHOST)?;
    let spillway = spillway_asking(&dns, server(), &[])?;
    let expected = process::run(&mut dump(&server().tcp()), LIMIT)?.success()?;
    assert_same(&expected, &process::run(&mut dump(spillway.endpoint()), LIMIT)?)?;
    for mode in [Mode::Fail, Mode::Dead] {
        dns.set(mode);
        let mut by_name = mysql9::dumper("mysqldump", &server().tcp());
        by_name.args([&format!("--host={NAME}"), "test"]);
        let mut direct = Running::start(&mut client::wrap(&dns.prefix(), &by_name))?;
        let before = dns.queries();
        for number in 1..=3 {
            let through = process::run(&mut dump(spillway.endpoint()), LIMIT)?;
            assert_same(&expected, &through)
                .and_then(|()| assert_quick(&through))
                .with_context(|| format!("{mode:?}, dump {number}\n{}", spillway.log().tail()))?;
        }
        ensure!(dns.queries() > before, "{mode:?}: the name was not looked up");
        if mode == Mode::Dead {
            ensure!(direct.ended()?.is_none(), "a direct client ended");
        } else {
            let direct = direct.finish(LIMIT)?;
            ensure!(direct.stderr.contains("2005"), "{direct:?}");
        }
    }
    Ok(())
}

#[test]
fn a_late_answer_is_waited_for_once() -> Result<()> {
    let dns = Dns::start(NAME, Ipv4Addr::LOCALHOST)?;
    dns.set(Mode::Late(LATE));
    let spillway = spillway_asking(&dns, server(), &[])?;
    let expected = process::run(&mut dump(&server().tcp()), LIMIT)?.success()?;
    let first = process::run(&mut dump(spillway.endpoint()), LIMIT)?;
    assert_same(&expected, &first).with_context(|| spillway.log().tail())?;
    ensure!(first.took >= LATE, "the first took {:?}", first.took);
    for number in 2..=4 {
        let next = process::run(&mut dump(spillway.endpoint()), LIMIT)?;
        assert_same(&expected, &next)
            .and_then(|()| assert_quick(&next))
            .with_context(|| format!("dump {number}\n{}", spillway.log().tail()))?;
    }
    ensure!(dns.queries() > 1, "the name was not looked up again");
    Ok(())
}

#[test]
fn a_name_without_an_address_is_an_error_within_the_budget() -> Result<()> {
    let dns = Dns::start(NAME, Ipv4Addr::LOCALHOST)?;
    let upstream = format!("{NAME}:{}", server().port());
    for (mode, least) in [(Mode::NoSuchName, 2), (Mode::Fail, 2), (Mode::Dead, 1)] {
        dns.set(mode);
        let spillway = spillway_asking(&dns, server(), &["--handshake-timeout=2s"])?;
        let failed = process::run(&mut dump(spillway.endpoint()), LIMIT)?;
        let said = &failed.stderr;
        ensure!(!failed.status.success() && failed.took < Duration::from_secs(10), "{mode:?}: {failed:?}");
        for part in ["spillway:", "2003", &upstream] {
            ensure!(said.contains(part), "{mode:?}: no {part:?}: {said}");
        }
        let attempts: u32 = said
            .split(" attempt")
            .next()
            .and_then(|before| before.rsplit(' ').next()?.parse().ok())
            .with_context(|| format!("{mode:?}: no number of attempts: {said}"))?;
        ensure!(attempts >= least, "{mode:?}: {said}");
    }
    Ok(())
}

#[test]
fn a_dead_server_is_passed_over() -> Result<()> {
    // Bound and not listening: it refuses, and nobody else gets the port.
    let dead = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    dead.bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    let dead_address = dead.local_addr()?.as_socket().context("no address")?;
    let mut direct = client::dumper("mysqldump", &Endpoint::Tcp(dead_address));
    let direct = process::run(direct.arg("test"), LIMIT)?;
    ensure!(direct.stderr.contains("2002") || direct.stderr.contains("2003"), "{direct:?}");

    let alive = Fault::start(server().address())?;
    let spillway = Spillway::to(&format!("{dead_address},{}", alive.address())).start()?;
    let expected = process::run(&mut dump(&server().tcp()), LIMIT)?.success()?;
    for number in 1..=4 {
        let through = process::run(&mut dump(spillway.endpoint()), LIMIT)?;
        assert_same(&expected, &through)
            .with_context(|| format!("dump {number}\n{}", spillway.log().tail()))?;
        spillway.wait_for_session_end(number, LIMIT)?;
        ensure!(alive.connections() == number, "{} connections in {number} dumps", alive.connections());
        // Only the first dump has tried it.
        let failed = spillway.log().matching("an attempt to reach the server failed");
        ensure!(
            failed.len() == 1 && failed[0].contains(&dead_address.to_string()),
            "dump {number}: {failed:#?}"
        );
    }
    Ok(())
}

#[test]
fn the_server_that_was_reached_last_is_tried_first() -> Result<()> {
    let (first, second) = (Fault::start(server().address())?, Fault::start(server().address())?);
    let spillway = Spillway::to(&format!("{},{}", first.address(), second.address())).start()?;
    let expected = process::run(&mut dump(&server().tcp()), LIMIT)?.success()?;
    let fail = |fault: &Fault| fault.arm_next(usize::MAX, Direction::FromServer, 0, Action::Reset);
    // What is broken before a dump, and how many connections each has got after it.
    for (number, (change, connections)) in [
        (None, [1, 0]),
        (Some((&first, &second)), [2, 1]),
        (None, [2, 2]),
        (Some((&second, &first)), [3, 3]),
        (None, [4, 3]),
    ]
    .into_iter()
    .enumerate()
    {
        if let Some((broken, healthy)) = change {
            healthy.heal();
            fail(broken);
        }
        let through = process::run(&mut dump(spillway.endpoint()), LIMIT)?;
        assert_same(&expected, &through)
            .with_context(|| format!("dump {number}\n{}", spillway.log().tail()))?;
        let got = [first.connections(), second.connections()];
        ensure!(got == connections, "dump {number}: {got:?}\n{}", spillway.log().tail());
    }
    Ok(())
}

#[test]
fn run_heals_a_look_up_that_fails() -> Result<()> {
    let dns = Dns::start(NAME, Ipv4Addr::LOCALHOST)?;
    dns.set(Mode::FailEverySecond);
    let expected = process::run(&mut dump(&server().tcp()), LIMIT)?.success()?;
    let through = process::run(&mut run_asking(&dns, &[], &dump(&server().tcp()))?, LIMIT)?;
    assert_same(&expected, &through)?;
    assert_quick(&through)?;
    ensure!(dns.queries() == 2, "{} look-ups", dns.queries());
    Ok(())
}

#[test]
fn run_ends_although_a_failed_clients_look_up_hangs() -> Result<()> {
    let dns = Dns::start(NAME, Ipv4Addr::LOCALHOST)?;
    dns.set(Mode::Dead);
    let options = ["--handshake-timeout=2s"];
    let failed = process::run(&mut run_asking(&dns, &options, &dump(&server().tcp()))?, LIMIT)?;
    ensure!(failed.code() == 2 && failed.stderr.contains("spillway:"), "{failed:?}");
    ensure!(dns.queries() == 1, "{} look-ups", dns.queries());
    assert_quick(&failed)
}

#[test]
fn run_ends_although_a_look_up_hangs_that_nobody_needs() -> Result<()> {
    let dns = Dns::start(NAME, Ipv4Addr::LOCALHOST)?;
    let mut mysql = client::dumper("mysql", &server().tcp());
    mysql.args(["--batch", "--skip-column-names", "--unbuffered"]);
    let mut running = Running::start(run_asking(&dns, &[], &mysql)?.stdin(Stdio::piped()))?;
    let mut stdin = running.child.stdin.take().context("no stdin")?;
    wait_until(LIMIT, "the first look-up", || dns.queries() == 1)?;
    server().wait_for_thread(LIMIT, "the first session", |thread| thread.user == "dump")?;
    dns.set(Mode::Dead);
    // Another connection, which is made with the last good answer.
    stdin.write_all(b"\\r\nSELECT 7;\n")?;
    wait_until(LIMIT, "the second look-up", || dns.queries() == 2)?;
    drop(stdin);
    let finished = running.finish(LIMIT)?.success()?;
    ensure!(finished.text().lines().last() == Some("7"), "{finished:?}");
    assert_quick(&finished)
}

#[test]
fn serve_ends_although_a_look_up_hangs() -> Result<()> {
    let dns = Dns::start(NAME, Ipv4Addr::LOCALHOST)?;
    dns.set(Mode::Dead);
    let mut spillway = spillway_asking(&dns, server(), &["--handshake-timeout=1s"])?;
    let failed = process::run(&mut dump(spillway.endpoint()), LIMIT)?;
    ensure!(failed.stderr.contains("spillway:"), "{failed:?}");
    spillway.signal(Signal::SIGTERM)?;
    let asked = Instant::now();
    ensure!(spillway.wait_for_end(LIMIT)?.success(), "{}", spillway.log().tail());
    ensure!(asked.elapsed() < QUICK, "took {:?} to stop\n{}", asked.elapsed(), spillway.log().tail());
    Ok(())
}

/// A proxy that knows `server` by its name, and asks `dns` for it.
fn spillway_asking(dns: &Dns, server: &Server, options: &[&str]) -> Result<Spillway> {
    let upstream = format!("{NAME}:{}", server.port());
    Spillway::to(&upstream).wrapper(&dns.prefix()).options(options).start()
}

/// `spillway run OPTIONS -- COMMAND`, to the server by its name.
fn run_asking(dns: &Dns, options: &[&str], command: &Command) -> Result<Command> {
    let upstream = format!("--upstream={NAME}:{}", server().port());
    // What a small client has for the spool is never used.
    let mut run = run::command(&std::env::temp_dir(), &[&[upstream.as_str()], options].concat());
    run.arg(command.get_program()).args(command.get_args());
    Ok(client::wrap(&dns.prefix(), &run))
}

fn dump(endpoint: &Endpoint) -> Command {
    let mut command = client::dumper("mysqldump", endpoint);
    command.args(["--single-transaction", "test"]);
    command
}

fn assert_same(expected: &Finished, got: &Finished) -> Result<()> {
    ensure!(got.status.success(), "{}: {}", got.status, got.stderr);
    let [expected, got] = [expected, got].map(|finished| client::normalised(&finished.stdout));
    let difference = client::difference(&expected, &got);
    ensure!(difference.is_none(), "{}", difference.unwrap_or_default());
    Ok(())
}

fn assert_quick(finished: &Finished) -> Result<()> {
    ensure!(finished.took < QUICK, "took {:?}", finished.took);
    Ok(())
}

const NAME: &str = "db.test";
const SCRIPT: &str = "
CREATE TABLE test.small (id INT PRIMARY KEY, text VARCHAR(100));
INSERT INTO test.small VALUES (1, 'one'), (2, 'two'), (3, 'größer');
";
/// How late a late answer is.
const LATE: Duration = Duration::from_secs(10);
/// A look-up that is waited for takes longer: 10 s where it is late, 15 or 30 s where no answer comes.
const QUICK: Duration = Duration::from_secs(8);
const LIMIT: Duration = Duration::from_secs(60);
