//! A server that bars hosts (`max_connect_errors`) does not bar Spillway's, whatever clients and network do.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use spillway_tests::fault::{Action, Direction};
use spillway_tests::log::field;
use spillway_tests::process::{self, Finished};
use spillway_tests::raw::connect_from;
use spillway_tests::server::Thread;
use spillway_tests::stored::credentials;
use spillway_tests::{Endpoint, Fault, Netns, Raw, Server, Spillway, client, wait_until};

#[test]
fn probes_do_not_bar_the_host() -> Result<()> {
    let (_netns, server) = strict_server("--max-connect-errors=2")?;
    bar(&server)?;
    let barred = process::run(&mut dump(&server.tcp()), LIMIT)?;
    ensure!(!barred.status.success() && barred.stderr.contains("1129"), "{barred:?}");
    server.sql("FLUSH HOSTS")?;

    let spillway = Spillway::to(&server.tcp()).options(&["--log-level=debug"]).start()?;
    for (number, probe) in PROBES.into_iter().enumerate() {
        for _ in 0..TIMES {
            probe(spillway.address()?)?;
        }
        wait_for_leavers(&spillway, (number + 1) * TIMES)?;
        wait_for_silence(&server)?;
        let errors = server.connect_errors()?;
        ensure!(errors == 0, "probe {number}: {errors} errors\n{}", spillway.log().lines().join("\n"));
    }
    process::run(&mut dump(spillway.endpoint()), LIMIT)?.success()?;
    Ok(())
}

/// The connection to the server is complete in the same moment in which the client is found to have left.
#[test]
fn a_probe_that_leaves_as_the_server_is_reached_does_not_count() -> Result<()> {
    let (netns, server) = strict_server("--max-connect-errors=2")?;
    let credentials = credentials()?;
    let path = credentials.path().display().to_string();
    for options in [&[][..], &["--auth=stored", "--credentials", &path]] {
        let spillway =
            Spillway::to(&server.tcp()).options(&["--log-level=debug"]).options(options).start()?;
        netns.cut_off()?;
        let probe = TcpStream::connect(spillway.address()?)?;
        wait_until(LIMIT, "the connection under way", || is_under_way(server.address()).unwrap_or_default())?;
        spillway.signal(Signal::SIGSTOP)?;
        wait_until(LIMIT, "the proxy to stand still", || is_stopped(spillway.pid()).unwrap_or_default())?;
        drop(probe);
        netns.reconnect()?;
        server.wait_for_thread(LIMIT, "the connection to be there", is_in_handshake)?;
        spillway.signal(Signal::SIGCONT)?;
        wait_for_leavers(&spillway, 1)?;
        wait_for_silence(&server)?;
        let errors = server.connect_errors()?;
        ensure!(errors == 0, "{options:?}: {errors} errors\n{}", spillway.log().tail());
        process::run(&mut dump(spillway.endpoint()), LIMIT)?.success()?;
    }
    Ok(())
}

#[test]
fn with_stored_credentials_the_server_sees_no_probe() -> Result<()> {
    let (_netns, server) = strict_server("--max-connect-errors=2")?;
    let fault = Fault::start(server.address())?;
    let credentials = credentials()?;
    let path = credentials.path().display().to_string();
    let spillway = Spillway::to(&fault.address())
        .options(&["--log-level=debug", "--auth=stored", "--credentials", &path])
        .start()?;
    process::run(&mut dump(spillway.endpoint()), LIMIT)?.success()?;
    let before = fault.connections();
    for (number, probe) in PROBES.into_iter().enumerate() {
        for _ in 0..TIMES {
            probe(spillway.address()?)?;
        }
        wait_for_leavers(&spillway, (number + 1) * TIMES)?;
        ensure!(fault.connections() == before, "probe {number}: the server was reached");
    }
    process::run(&mut dump(spillway.endpoint()), LIMIT)?.success()?;
    ensure!(fault.connections() == before + 1, "a dump takes {} connections", fault.connections() - before);
    ensure!(server.connect_errors()? == 0, "{} errors", server.connect_errors()?);
    Ok(())
}

#[test]
fn a_wavering_network_does_not_bar_the_host() -> Result<()> {
    // One more than a dump needs: an error may be counted too late for the login that follows to wipe it out.
    let (_netns, server) = strict_server("--max-connect-errors=3")?;
    let fault = Fault::start(server.address())?;
    let expected = process::run(&mut dump(&Endpoint::Tcp(fault.address())), LIMIT)?.success()?;
    let login = fault.handshake(0)?;
    let (greeting, total) = (login.greeting(), login.total(Direction::FromServer));
    let places =
        [0, 1, 4, greeting / 2, greeting - 1, greeting, greeting + 1, greeting + 4, total - 2, total - 1];
    // Without Spillway the third is enough.
    for _ in 0..3 {
        fault.arm_next(1, Direction::FromServer, greeting / 2, Action::Cut);
        let cut = process::run(&mut dump(&Endpoint::Tcp(fault.address())), LIMIT)?;
        ensure!(cut.stderr.contains("2013"), "{cut:?}");
    }
    wait_until(LIMIT, "the errors to be counted", || {
        server.connect_errors().is_ok_and(|errors| errors == 3)
    })?;
    let barred = process::run(&mut dump(&Endpoint::Tcp(fault.address())), LIMIT)?;
    ensure!(barred.stderr.contains("1129"), "{barred:?}");
    server.sql("FLUSH HOSTS")?;

    let credentials = credentials()?;
    let path = credentials.path().display().to_string();
    for options in [&[][..], &["--auth=stored", "--credentials", &path]] {
        let spillway = Spillway::to(&fault.address()).options(options).start()?;
        for after in places {
            let first = fault.connections();
            fault.arm_next(1, Direction::FromServer, after, Action::Cut);
            let healed = process::run(&mut dump(spillway.endpoint()), LIMIT)?;
            let context = || format!("{options:?}, cut after {after}\n{}", spillway.log().lines().join("\n"));
            assert_same(&expected, &healed).with_context(context)?;
            ensure!(fault.suffered(first) == Some(Action::Cut), "not cut: {}", context());
            ensure!(server.connect_errors()? <= 1, "{} errors: {}", server.connect_errors()?, context());
        }
    }
    Ok(())
}

#[test]
fn a_host_that_is_barred_already_is_told_so_at_once() -> Result<()> {
    let (_netns, server) = strict_server("--max-connect-errors=2")?;
    let credentials = credentials()?;
    let path = credentials.path().display().to_string();
    for options in [&[][..], &["--auth=stored", "--credentials", &path]] {
        bar(&server)?;
        let direct = process::run(&mut dump(&server.tcp()), LIMIT)?;
        ensure!(direct.stderr.contains("1129") && direct.stderr.contains("is blocked"), "{direct:?}");
        let fault = Fault::start(server.address())?;
        let spillway = Spillway::to(&fault.address()).options(options).start()?;
        let through = process::run(&mut dump(spillway.endpoint()), LIMIT)?;
        ensure!(through.code() == direct.code(), "{through:?}");
        ensure!(through.stderr == direct.stderr, "{}\nand directly: {}", through.stderr, direct.stderr);
        ensure!(fault.connections() == 1, "{options:?}: {} attempts", fault.connections());
        let line = spillway.wait_for_log("FLUSH HOSTS", LIMIT)?;
        ensure!(line.contains("1129") && line.contains("WARN"), "{line}");
        server.sql("FLUSH HOSTS")?;
        process::run(&mut dump(spillway.endpoint()), LIMIT)?.success()?;
    }
    Ok(())
}

#[test]
fn probes_are_counted_by_peer() -> Result<()> {
    let server = Server::start(&[])?;
    let spillway = Spillway::to(&server.tcp()).start()?;
    let told = || spillway.log().matching("left without a login");
    for number in 1..=TIMES {
        PROBES[number % PROBES.len()](spillway.address()?)?;
    }
    let tenth = spillway.log().wait_for_nth("left without a login", 2, LIMIT)?;
    for (line, times) in [(&told()[0], 1), (&tenth, 10)] {
        ensure!(line.contains("INFO") && field(line, "times")? == times, "{line}");
        ensure!(has_peer(line, Ipv4Addr::LOCALHOST), "{line}");
    }
    // Another host is counted by itself; one that logs in is no probe.
    let other = Ipv4Addr::new(127, 0, 0, 2);
    drop(connect_from(other, spillway.address()?)?);
    let line = spillway.log().wait_for_nth("left without a login", 3, LIMIT)?;
    ensure!(field(&line, "times")? == 1 && has_peer(&line, other), "{line}");
    process::run(&mut dump(spillway.endpoint()), LIMIT)?.success()?;
    spillway.wait_for_session_end(1, LIMIT)?;
    ensure!(told().len() == 3, "{:#?}", told());
    Ok(())
}

type Probe = fn(SocketAddr) -> Result<()>;

/// What load balancers, monitors and port scanners do: at once, behind the greeting, and with the beginning of a
/// response of 40 bytes.
const PROBES: [Probe; 3] = [
    |address| TcpStream::connect(address).map(drop).map_err(Into::into),
    |address| Raw::connect(address).map(drop),
    |address| Ok(Raw::connect(address)?.stream().write_all(&[40, 0, 0, 1, 1, 2, 3])?),
];
const TIMES: usize = 10;

/// A server that bars a host after so many failed handshakes in a row, and shows how many there were.
fn strict_server(limit: &str) -> Result<(Netns, Server)> {
    let netns = Netns::new()?;
    let server = Server::start_in(&netns, &["--performance-schema=ON", limit])?;
    Ok((netns, server))
}

/// Is as careless a client as it takes.
fn bar(server: &Server) -> Result<()> {
    for count in 1..=2 {
        drop(Raw::connect(server.address())?);
        wait_until(LIMIT, "it to be counted", || {
            server.connect_errors().is_ok_and(|errors| errors == count)
        })?;
    }
    Ok(())
}

/// Waits until so many clients have left before they had logged in, and Spillway is done with them.
fn wait_for_leavers(spillway: &Spillway, count: usize) -> Result<()> {
    spillway.log().wait_for_nth("no session", count, LIMIT)?;
    Ok(())
}

/// Waits until the server has no connection that is not logged in.
fn wait_for_silence(server: &Server) -> Result<()> {
    server.wait_for_no_thread(LIMIT, "the handshakes to end", is_in_handshake)
}

fn is_in_handshake(thread: &Thread) -> bool {
    thread.user == "unauthenticated user"
}

/// Whether a connection from this machine to `address` waits for its first answer.
fn is_under_way(address: SocketAddr) -> Result<bool> {
    let SocketAddr::V4(address) = address else { bail!("{address} is no IPv4 address") };
    // See proc_net_tcp.rst in the kernel's documentation; 02 is SYN_SENT.
    let ip = u32::from_ne_bytes(address.ip().octets());
    let row = format!("{ip:08X}:{:04X} 02 ", address.port());
    Ok(fs::read_to_string("/proc/net/tcp")?.contains(&row))
}

fn is_stopped(pid: u32) -> Result<bool> {
    let stopped = |status: String| status.lines().any(|line| line.starts_with("State:\tT"));
    fs::read_dir(format!("/proc/{pid}/task"))?
        .map(|task| Ok(stopped(fs::read_to_string(task?.path().join("status"))?)))
        .try_fold(true, |all, one: Result<bool>| Ok(all && one?))
}

fn has_peer(line: &str, peer: Ipv4Addr) -> bool {
    [format!("peer={peer}"), format!("peer=\"{peer}\"")].iter().any(|field| line.contains(field))
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

const LIMIT: Duration = Duration::from_secs(60);
