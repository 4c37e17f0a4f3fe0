//! Hosts that fall silent, on either side and at every stage of a dump; lines that are slow; and that a client that stands
//! still is none of these.

use std::net::SocketAddr;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use spillway_tests::process::{self, Finished, Running};
use spillway_tests::server::USER;
use spillway_tests::sink::Held;
use spillway_tests::{Endpoint, Netns, Raw, Server, Spillway, client, data};

/// A server on another host.
fn far_server(bytes: u64) -> Result<(Netns, Server)> {
    let netns = Netns::new()?;
    let server = Server::start_in(&netns, &[])?;
    data::report::load(&server, "report", bytes)?;
    Ok((netns, server))
}

/// Clients on another host, of a proxy that listens for them.
fn far_clients(server: &Server) -> Result<(Netns, Spillway)> {
    let netns = Netns::new()?;
    let listen = SocketAddr::from((netns.outside(), 0));
    let spillway = Spillway::to(&server.tcp()).listen(&listen.to_string()).options(&QUICK).start()?;
    Ok((netns, spillway))
}

fn near_server() -> Result<Server> {
    let server = Server::start(&[])?;
    data::report::load(&server, "report", SIZE)?;
    Ok(server)
}

#[test]
fn a_dump_without_spillway_hangs() -> Result<()> {
    let (netns, server) = far_server(SIZE)?;
    let mut running = Running::start(&mut dump(&server.tcp()))?;
    let held = Held::after(running.child.stdout.take().context("no stdout")?, 1_000_000)?;
    netns.cut_off()?;
    let _draining = held.release();
    sleep(PEER_TIMEOUT * 2);
    ensure!(running.ended()?.is_none(), "the fault is not there");
    Ok(())
}

#[test]
fn a_server_falls_silent_in_a_result() -> Result<()> {
    let (netns, server) = far_server(SIZE)?;
    // So that the server still sends when it falls silent.
    let slow = [&QUICK[..], &["--drain-limit", "2MiB"]].concat();
    let spillway = Spillway::to(&server.tcp()).options(&slow).start()?;
    let mut running = Running::start(&mut dump(spillway.endpoint()))?;
    let held = Held::after(running.child.stdout.take().context("no stdout")?, 1_000_000)?;
    netns.cut_off()?;
    let began = Instant::now();
    let output = held.release();
    let finished = running.finish(LIMIT)?;
    assert_failed(&finished, &output.finish()?)?;
    ensure!(began.elapsed() < PEER_TIMEOUT * 5, "after {:?}", began.elapsed());
    Ok(())
}

#[test]
fn a_server_falls_silent_behind_a_result() -> Result<()> {
    let (netns, server) = far_server(SIZE)?;
    let spillway = Spillway::to(&server.tcp()).options(&QUICK).start()?;
    let mut running = Running::start(&mut dump(spillway.endpoint()))?;
    let held = Held::after(running.child.stdout.take().context("no stdout")?, 1_000_000)?;
    server.wait_for_no_thread(LIMIT, "the query to end while the sink stalls", |thread| {
        thread.user == USER && thread.command == "Query"
    })?;
    netns.cut_off()?;
    spillway.wait_for_log("lost the server", LIMIT)?;
    // What was drained is fed all the same; then comes the error.
    let output = held.release();
    let finished = running.finish(LIMIT)?;
    let output = output.finish()?;
    assert_failed(&finished, &output)?;
    ensure!(output.len() as u64 > SIZE * 9 / 10, "{} bytes", output.len());
    Ok(())
}

#[test]
fn a_server_falls_silent_in_a_login() -> Result<()> {
    let (netns, server) = far_server(1 << 20)?;
    let spillway =
        Spillway::to(&server.tcp()).options(&QUICK).options(&["--handshake-timeout", "3s"]).start()?;
    netns.cut_off()?;
    let finished = process::run(&mut dump(spillway.endpoint()), LIMIT)?;
    assert_failed(&finished, &finished.stdout)?;
    // And one that is in time: the client sees nothing of the silence.
    let spillway = Spillway::to(&server.tcp()).options(&["--connect-timeout", "1s"]).start()?;
    let running = Running::start(&mut dump(spillway.endpoint()))?;
    spillway.wait_for_log("an attempt to reach the server failed", LIMIT)?;
    netns.reconnect()?;
    running.finish(LIMIT)?.success().map(drop)
}

#[test]
fn a_client_falls_silent_in_a_result() -> Result<()> {
    let server = near_server()?;
    let (netns, spillway) = far_clients(&server)?;
    let mut running = Running::start(&mut client::wrap(&netns.prefix(), &dump(spillway.endpoint())))?;
    let held = Held::after(running.child.stdout.take().context("no stdout")?, 1_000_000)?;
    netns.cut_off()?;
    let _draining = held.release();
    let line = spillway.wait_for_session_end(1, LIMIT)?;
    ensure!(line.contains("has answered nothing"), "{line}");
    server.wait_for_no_thread(LIMIT, "the server to be free", |thread| thread.user == USER)
}

#[test]
fn a_client_falls_silent_between_statements() -> Result<()> {
    let server = near_server()?;
    let (netns, spillway) = far_clients(&server)?;
    let mut idle = client::dumper("mysql", spillway.endpoint());
    let mut idle = Running::start(
        client::wrap(&netns.prefix(), idle.args(["-N", "-n", "-e", "SELECT 1; \\! sleep 60"]))
            .stdin(std::process::Stdio::null()),
    )?;
    let _first = Held::after(idle.child.stdout.take().context("no stdout")?, 2)?;
    netns.cut_off()?;
    spillway.wait_for_session_end(1, LIMIT)?;
    server.wait_for_no_thread(LIMIT, "the server to be free", |thread| thread.user == USER)
}

#[test]
fn a_client_that_stands_still_is_not_silent() -> Result<()> {
    let server = near_server()?;
    let expected = process::run(&mut dump(&server.tcp()), LIMIT)?.success()?.stdout;
    let (netns, spillway) = far_clients(&server)?;
    let mut running = Running::start(&mut client::wrap(&netns.prefix(), &dump(spillway.endpoint())))?;
    let held = Held::after(running.child.stdout.take().context("no stdout")?, 1000)?;
    sleep(PEER_TIMEOUT * 3);
    let output = held.release();
    running.finish(LIMIT)?.success().with_context(|| spillway.log().tail())?;
    assert_equal(&expected, &output.finish()?)
}

#[test]
fn lines_that_are_slow() -> Result<()> {
    let (netns, server) = far_server(SIZE)?;
    let expected = process::run(&mut dump(&server.tcp()), LIMIT)?.success()?.stdout;
    let options = [&QUICK[..], &["--memory-per-session", "64KiB"]].concat();
    let clients = Netns::new()?;
    let listen = SocketAddr::from((clients.outside(), 0));
    let spillway = Spillway::to(&server.tcp()).listen(&listen.to_string()).options(&options).start()?;
    for (slow_server, slow_client) in [(Some(100), None), (None, Some(50))] {
        for (netns, speed) in [(&netns, slow_server), (&clients, slow_client)] {
            speed.map_or(Ok(()), |speed| netns.limit_speed(speed))?;
        }
        let dump = client::wrap(&clients.prefix(), &dump(spillway.endpoint()));
        let finished = Running::start(&mut { dump })?.finish(LIMIT)?.success()?;
        assert_equal(&expected, &finished.stdout)?;
    }
    Ok(())
}

#[test]
fn a_host_that_comes_back_in_time_was_never_gone() -> Result<()> {
    let (netns, server) = far_server(1 << 20)?;
    let spillway = Spillway::to(&server.tcp()).options(&["--peer-timeout", "60s"]).start()?;
    let mut raw = Raw::login(spillway.address()?)?;
    netns.cut_off()?;
    raw.send(spillway_tests::wire::command::PING, &[])?;
    sleep(Duration::from_secs(1));
    netns.reconnect()?;
    raw.set_limit(LIMIT)?;
    raw.end()?.ok()
}

fn dump(endpoint: &Endpoint) -> Command {
    let mut command = client::dumper("mysqldump", endpoint);
    command.args(["--single-transaction", "report"]);
    command
}

fn assert_failed(finished: &Finished, output: &[u8]) -> Result<()> {
    ensure!(finished.code() != 0, "the dump ended well");
    ensure!(
        !String::from_utf8_lossy(output).contains("-- Dump completed"),
        "the dump says that it is complete"
    );
    Ok(())
}

fn assert_equal(expected: &[u8], output: &[u8]) -> Result<()> {
    let difference = client::difference(&client::normalised(expected), &client::normalised(output));
    ensure!(difference.is_none(), "{}", difference.unwrap_or_default());
    Ok(())
}

const QUICK: [&str; 4] = ["--peer-timeout", "3s", "--keepalive", "1s"];
/// The one of [`QUICK`].
const PEER_TIMEOUT: Duration = Duration::from_secs(3);
const SIZE: u64 = 12 << 20;
const LIMIT: Duration = Duration::from_secs(60);
