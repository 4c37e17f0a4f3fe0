//! Faults told honestly: a backend that is lost in the middle of a result is an error to the client, after all that
//! was drained; a client that leaves ends its backend at once; SIGTERM lets running sessions end.

use std::net::TcpStream;
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use spillway_tests::fault::Action;
use spillway_tests::process::{self, Finished, Running};
use spillway_tests::raw::{End, Head, LONGEST_PIECE};
use spillway_tests::sink::Held;
use spillway_tests::wire::{ErrPacket, command};
use spillway_tests::{Endpoint, Fault, Raw, Server, Spillway, client, data, wait_until};

fn server() -> &'static Server {
    static SERVER: LazyLock<Server> =
        LazyLock::new(|| loaded_server().unwrap_or_else(|error| panic!("the server: {error:#}")));
    &SERVER
}

fn loaded_server() -> Result<Server> {
    let server = Server::start(&[])?;
    data::report::load(&server, "report", 160 << 20)?;
    Ok(server)
}

/// A proxy to the server with a fault between them.
fn faulty() -> Result<(Fault, Spillway)> {
    let fault = Fault::start(server().address())?;
    let spillway = Spillway::to(&fault.address()).start()?;
    Ok((fault, spillway))
}

#[test]
fn a_lost_connection_fails_the_dump() -> Result<()> {
    for action in [Action::Cut, Action::Reset] {
        for force in [&[][..], &["--force"]] {
            let (fault, spillway) = faulty()?;
            fault.arm(10_000_000, action);
            let mut command = dump(spillway.endpoint());
            let dump = process::run(command.args(force), LIMIT)?;
            let assert = if force.is_empty() { assert_lost_and_incomplete } else { assert_lost };
            assert(&dump).with_context(|| format!("{action:?} {force:?}"))?;
            // A RST makes the kernel drop what it had not delivered; before a FIN all of it comes.
            if action == Action::Cut {
                ensure!(dump.stdout.len() > 9_000_000, "only {} bytes were fed", dump.stdout.len());
            }
        }
    }
    Ok(())
}

#[test]
fn what_was_drained_comes_first_and_whole() -> Result<()> {
    let statement = "SELECT seq, REPEAT('x', 3000) AS text FROM seq_1_to_100";
    let mut direct = Raw::login(server().address())?;
    direct.send(command::QUERY, statement.as_bytes())?;
    let mut packets = Vec::new();
    // Count, two columns, EOF, rows, EOF.
    while packets.len() < 1 + 2 + 1 + 100 + 1 {
        packets.push(direct.packet()?);
    }
    let total: usize = packets.iter().map(|packet| packet.len() + 4).sum();

    // Before the first byte; in a header, behind it, behind a packet; in the columns; in and between rows; at the end.
    let behind_columns: usize = packets[..4].iter().map(|packet| packet.len() + 4).sum();
    let row = packets[4].len() + 4;
    for cut in [
        0,
        2,
        4,
        5,
        50,
        behind_columns,
        behind_columns + 3,
        behind_columns + row,
        behind_columns + row + 100,
        behind_columns + 5 * row + 4,
        total - 9,
        total - 1,
    ] {
        let (fault, spillway) = faulty()?;
        let mut raw = Raw::login(spillway.address()?)?;
        ensure!(raw.value("SELECT 1")? == "1", "a first answer");
        fault.arm(u64::try_from(cut)?, Action::Cut);
        raw.send(command::QUERY, statement.as_bytes())?;
        let mut left = cut;
        for expected in packets.iter().take_while(|packet| {
            let whole = left >= packet.len() + 4;
            left = left.saturating_sub(packet.len() + 4);
            whole
        }) {
            ensure!(
                raw.packet().with_context(|| format!("cut at {cut}"))? == *expected,
                "cut at {cut}: a packet differs"
            );
        }
        let last = raw.packet().with_context(|| format!("cut at {cut}: no ERR packet"))?;
        assert_2013(&ErrPacket::parse(&last)?)?;
        raw.expect_closed(LIMIT).with_context(|| format!("cut at {cut}"))?;
    }
    Ok(())
}

#[test]
fn no_error_hides_in_a_row_of_many_packets() -> Result<()> {
    let (fault, spillway) = faulty()?;
    let mut raw = Raw::login(spillway.address()?)?;
    ensure!(raw.value("SELECT 1")? == "1", "a first answer");
    fault.arm(25_000_000, Action::Stall);
    ensure!(raw.start("SELECT REPEAT('x', 40000000)")? == Head::Columns(1), "no columns");
    // The first piece has been fed, so nothing but the end of the connection is honest now: an ERR packet would be
    // read as the rest of the row.
    ensure!(raw.packet()?.len() == LONGEST_PIECE, "the first piece");
    fault.strike(Action::Cut);
    let error = raw.packet().expect_err("the row cannot have been complete");
    let error = format!("{error:#}");
    ensure!(error.contains("closed") || error.contains("reset"), "{error}");
    spillway.wait_for_session_end(1, LIMIT)?;
    Ok(())
}

#[test]
fn a_killed_connection_fails_the_dump() -> Result<()> {
    for force in [&[][..], &["--force"]] {
        let spillway = Spillway::to(&server().tcp()).options(&SMALL_SPOOL).start()?;
        let held = HeldDump::start(server(), &spillway, force)?;
        let id = held.thread;
        server().sql(&format!("KILL {id}"))?;
        server().wait_for_no_thread(LIMIT, "the thread to be killed", |thread| thread.id == id)?;
        held.assert_lost_after_drained().with_context(|| format!("{force:?}"))?;
    }
    Ok(())
}

#[test]
fn a_killed_server_fails_the_dump() -> Result<()> {
    for force in [&[][..], &["--force"]] {
        let server = loaded_server()?;
        let spillway = Spillway::to(&server.tcp()).options(&SMALL_SPOOL).start()?;
        let held = HeldDump::start(&server, &spillway, force)?;
        server.kill_9()?;
        held.assert_lost_after_drained().with_context(|| format!("{force:?}"))?;
    }
    Ok(())
}

#[test]
fn a_connection_killed_while_idle_is_told_to_the_next_command() -> Result<()> {
    let spillway = Spillway::to(&server().tcp()).start()?;
    let mut raw = Raw::login(spillway.address()?)?;
    let id = raw.value("SELECT CONNECTION_ID()")?;
    server().sql(&format!("KILL {id}"))?;
    server().wait_for_no_thread(LIMIT, "the thread to be killed", |thread| thread.id.to_string() == id)?;
    let Head::End(End::Err(error)) = raw.start("SELECT 1")? else {
        anyhow::bail!("an answer from a dead session")
    };
    // What the server said when it killed the session (1927), or that it is gone.
    ensure!([1927, 2013].contains(&error.code), "{error:?}");
    raw.expect_closed(LIMIT)
}

#[test]
fn a_client_that_leaves_ends_its_backend() -> Result<()> {
    // With a backlog, while the server works, and while it is idle.
    for (statement, read_head) in [
        ("SELECT REPEAT('x', 1000000) FROM seq_1_to_100", true),
        ("SELECT SLEEP(60)", false),
        ("SET @idle = 1", true),
    ] {
        let (fault, spillway) = faulty()?;
        let mut raw = Raw::login(spillway.address()?)?;
        raw.send(command::QUERY, statement.as_bytes())?;
        if read_head {
            raw.head()?;
        } else {
            server()
                .wait_for_thread(LIMIT, "the statement to run", |thread| thread.info.contains(statement))?;
        }
        let left = Instant::now();
        drop(raw);
        let closed = fault.wait_closed_by_proxy(0, LIMIT).with_context(|| statement.to_owned())?;
        let after = closed.saturating_duration_since(left);
        ensure!(after < Duration::from_secs(1), "{statement}: closed only after {after:?}");
    }
    Ok(())
}

#[test]
fn a_killed_dump_ends_its_query() -> Result<()> {
    let spillway = Spillway::to(&server().tcp()).options(&SMALL_SPOOL).start()?;
    let held = HeldDump::start(server(), &spillway, &[])?;
    let id = held.thread;
    process::send(held.running.pid(), Signal::SIGKILL)?;
    server().wait_for_no_thread(Duration::from_secs(5), "the query to end", |thread| thread.id == id)
}

#[test]
fn a_term_signal_lets_sessions_end() -> Result<()> {
    let mut spillway = Spillway::to(&server().tcp()).start()?;
    let expected = process::run(&mut dump(&server().tcp()), LIMIT)?.success()?;
    let mut running = Running::start(&mut dump(spillway.endpoint()))?;
    let held = Held::after(running.child.stdout.take().context("no stdout")?, 1000)?;
    spillway.signal(Signal::SIGTERM)?;
    let address = spillway.address()?;
    wait_until(LIMIT, "new sessions to be refused", || TcpStream::connect(address).is_err())?;
    ensure!(spillway.is_running()?, "it left its session alone");
    let draining = held.release();
    running.finish(LIMIT)?.success()?;
    let difference =
        client::difference(&client::normalised(&expected.stdout), &client::normalised(&draining.finish()?));
    ensure!(difference.is_none(), "{}", difference.unwrap_or_default());
    let status = spillway.wait_for_end(Duration::from_secs(5))?;
    ensure!(status.success(), "{status}");
    Ok(())
}

#[test]
fn a_second_term_signal_ends_at_once() -> Result<()> {
    let mut spillway = Spillway::to(&server().tcp()).start()?;
    let mut running = Running::start(&mut dump(spillway.endpoint()))?;
    let held = Held::after(running.child.stdout.take().context("no stdout")?, 1000)?;
    spillway.signal(Signal::SIGTERM)?;
    let address = spillway.address()?;
    wait_until(LIMIT, "the first signal to be seen", || TcpStream::connect(address).is_err())?;
    spillway.signal(Signal::SIGTERM)?;
    spillway.wait_for_end(Duration::from_secs(5))?;
    let draining = held.release();
    let dump = running.finish(LIMIT)?;
    ensure!(!dump.status.success(), "a dump that was cut off ended well");
    draining.finish()?;
    Ok(())
}

#[test]
fn the_grace_of_a_term_signal_ends() -> Result<()> {
    let mut spillway = Spillway::to(&server().tcp()).options(&["--shutdown-grace", "1s"]).start()?;
    let mut raw = Raw::login(spillway.address()?)?;
    spillway.signal(Signal::SIGTERM)?;
    spillway.wait_for_end(Duration::from_secs(10))?;
    ensure!(raw.start("SELECT 1").is_err() || raw.start("SELECT 1").is_err(), "an answer from nowhere");
    Ok(())
}

#[test]
fn a_server_that_is_down_is_an_error_with_a_code() -> Result<()> {
    let fault = Fault::start(server().address())?;
    let nowhere = fault.address();
    drop(fault);
    let spillway = Spillway::to(&nowhere).options(&["--handshake-timeout=2s"]).start()?;
    let mut mysql = client::dumper("mysql", spillway.endpoint());
    mysql.args(["--connect-timeout=20", "-e", "SELECT 1"]);
    let finished = process::run(&mut mysql, LIMIT)?;
    ensure!(finished.code() == 1, "{finished:?}");
    ensure!(finished.stderr.contains("2003") || finished.stderr.contains("2013"), "{}", finished.stderr);
    ensure!(finished.stderr.contains("spillway:"), "{}", finished.stderr);
    Ok(())
}

/// A dump whose sink is held, and whose server waits for room in the proxy's small spool: in the middle of its result,
/// and it stays there.
struct HeldDump {
    running: Running,
    held: Held,
    thread: u64,
}

impl HeldDump {
    fn start(server: &Server, spillway: &Spillway, options: &[&str]) -> Result<Self> {
        // Other tests dump the same table at the same time: the proxy's port tells whose query it is.
        let mark = format!("{0} = {0}", spillway.address()?.port());
        let mut command = dump(spillway.endpoint());
        let mut running = Running::start(command.arg(format!("--where={mark}")).args(options))?;
        let held = Held::after(running.child.stdout.take().context("no stdout")?, 1000)?;
        let thread =
            server.wait_for_thread(LIMIT, "the dump's query", |thread| thread.info.contains(&mark))?;
        wait_until(LIMIT, "the spool to be full", || {
            spillway.spool_space().is_ok_and(|space| space >= 3 << 20)
        })?;
        Ok(Self { running, held, thread: thread.id })
    }

    fn assert_lost_after_drained(self) -> Result<()> {
        let draining = self.held.release();
        let mut dump = self.running.finish(LIMIT)?;
        dump.stdout = draining.finish()?;
        assert_lost(&dump)?;
        ensure!(dump.stdout.len() > SMALL_SPOOL_SIZE, "only {} bytes were fed", dump.stdout.len());
        Ok(())
    }
}

fn dump(endpoint: &Endpoint) -> Command {
    let mut command = client::dumper("mysqldump", endpoint);
    command.args(["--single-transaction", "report"]);
    command
}

fn assert_lost(dump: &Finished) -> Result<()> {
    ensure!(!dump.status.success(), "the dump ended well");
    ensure!(dump.stderr.contains("2013") && dump.stderr.contains("spillway:"), "stderr: {}", dump.stderr);
    Ok(())
}

/// As [`assert_lost`]; and the dump does not say that it is complete. (With --force it does, directly as well.)
fn assert_lost_and_incomplete(dump: &Finished) -> Result<()> {
    let end = &dump.stdout[dump.stdout.len().saturating_sub(200)..];
    ensure!(!String::from_utf8_lossy(end).contains("Dump completed"), "the dump says that it is complete");
    assert_lost(dump)
}

fn assert_2013(error: &ErrPacket) -> Result<()> {
    ensure!(
        error.code == 2013 && error.state == "HY000" && error.message.starts_with("spillway:"),
        "{error:?}"
    );
    Ok(())
}

const SMALL_SPOOL: [&str; 4] = ["--memory-per-session", "1MiB", "--spool-max", "4MiB"];
const SMALL_SPOOL_SIZE: usize = 4 << 20;
const LIMIT: Duration = Duration::from_secs(60);
