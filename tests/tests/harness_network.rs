//! Networks with hosts, without the proxy: each fault is shown to be there with direct clients. And what a server makes
//! of a handshake that does not end in a login, which the proxy's design rests on.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use spillway_tests::netns::CLIENT_NAME;
use spillway_tests::process;
use spillway_tests::raw::End;
use spillway_tests::server::{PASSWORD, USER};
use spillway_tests::wire::{self, capability, command};
use spillway_tests::{Netns, Raw, Server, client, wait_until};

#[test]
fn a_careless_client_is_barred_until_hosts_are_flushed() -> Result<()> {
    let (netns, server) = counting_server("--max-connect-errors=2")?;
    let login = || {
        let mut mysql = client::dumper("mysql", &server.tcp());
        process::run(mysql.args(["-N", "-e", "SELECT SUBSTRING_INDEX(USER(), '@', -1)"]), LIMIT)
    };
    ensure!(login()?.success()?.text().trim() == CLIENT_NAME, "not called by its name");
    drop(Raw::connect(server.address())?);
    wait_until(LIMIT, "the first to be counted", || server.connect_errors().is_ok_and(|errors| errors == 1))?;
    drop(TcpStream::connect(server.address())?);
    wait_until(LIMIT, "the second to be counted", || {
        server.connect_errors().is_ok_and(|errors| errors == 2)
    })?;
    // As many as the setting says are enough.
    let barred = login()?;
    let host = netns.outside().to_string();
    ensure!(barred.stderr.contains("1129") && barred.stderr.contains(&host), "{barred:?}");
    let error = Raw::login(server.address()).err().context("not barred")?;
    ensure!(format!("{error:#}").contains("1129"), "{error:#}");
    server.sql("FLUSH HOSTS")?;
    login()?.success()?;
    Ok(())
}

#[test]
fn what_a_server_counts_against_a_host() -> Result<()> {
    let (_netns, server) = counting_server("--max-connect-errors=1000")?;
    let server = &server;
    let connect = || Raw::connect(server.address());
    // (b) A refused account, whatever the reason for it, is none.
    for (user, password, database) in
        [(USER, "wrong", None), ("nobody", "wrong", None), (USER, PASSWORD, Some("nowhere"))]
    {
        for plugin in [wire::NATIVE, "another"] {
            let mut raw = connect()?;
            let answer = raw.log_in(plugin, user, password, database)?;
            ensure!(matches!(answer, End::Err(_)), "{user} {database:?} {plugin}: logged in");
            ensure!(counts(server, raw)? == 0, "{user} {database:?} {plugin}");
        }
    }
    // Neither is a client that leaves before it hears whether it was let in.
    for password in [PASSWORD, "wrong"] {
        let mut raw = connect()?;
        let scramble = wire::native_scramble(password, &raw.greeting().salt);
        raw.write_packet(&wire::handshake_response(capability::USUAL, USER, &scramble, None))?;
        ensure!(counts(server, raw)? == 0, "a client that left early, password {password}");
    }

    // (c) Whatever is no answer is one, also when the client waits for what the server says to it.
    for bytes in [&b""[..], &[command::QUIT], b"abcdefghij", &[0xff; 200]] {
        let mut raw = connect()?;
        raw.write_packet(bytes)?;
        let error = raw.end()?.err()?;
        ensure!(error.code == 1043, "{bytes:?}: {error:?}");
        ensure!(counts(server, raw)? == 1, "{bytes:?}");
    }
    let mut raw = connect()?;
    raw.send(command::QUIT, &[])?;
    ensure!(counts(server, raw)? == 1, "COM_QUIT");
    let raw = connect()?;
    raw.stream().write_all(&[40, 0, 0, 1, 1, 2, 3])?;
    ensure!(counts(server, raw)? == 1, "an unfinished packet");

    // (d) So is an end without any answer: at once, behind the greeting, behind the wish for another plugin.
    drop(TcpStream::connect(server.address())?);
    wait_until(LIMIT, "it to be counted", || server.connect_errors().is_ok_and(|errors| errors == 1))?;
    server.sql("FLUSH HOSTS")?;
    ensure!(counts(server, connect()?)? == 1, "an end behind the greeting");
    let mut raw = connect()?;
    raw.write_packet(&wire::handshake_response_of("another", capability::USUAL, USER, &[0; 20], None))?;
    ensure!(raw.message()?.first() == Some(&0xfe), "no AuthSwitchRequest");
    ensure!(counts(server, raw)? == 1, "an end behind the AuthSwitchRequest");
    Ok(())
}

#[test]
fn what_makes_a_server_forget() -> Result<()> {
    let (_netns, server) = counting_server("--max-connect-errors=3")?;
    let connect = || Raw::connect(server.address());
    let early = connect()?;
    for count in 1..=2 {
        drop(connect()?);
        wait_until(LIMIT, "it to be counted", || {
            server.connect_errors().is_ok_and(|errors| errors == count)
        })?;
    }
    ensure!(matches!(connect()?.log_in(wire::NATIVE, USER, "wrong", None)?, End::Err(_)), "logged in");
    ensure!(server.connect_errors()? == 2, "a refused login: {}", server.connect_errors()?);
    // (a) A login does, but only of a connection that was made after the errors.
    let mut early = early;
    early.log_in(wire::NATIVE, USER, PASSWORD, None)?;
    ensure!(server.connect_errors()? == 2, "a login on an older connection: {}", server.connect_errors()?);
    drop(Raw::login(server.address())?);
    ensure!(server.connect_errors()? == 0, "a login: {}", server.connect_errors()?);
    // Sessions that are open, and handshakes under way, are not barred with their host.
    let mut late = connect()?;
    for count in 1..=3 {
        drop(connect()?);
        wait_until(LIMIT, "it to be counted", || {
            server.connect_errors().is_ok_and(|errors| errors == count)
        })?;
    }
    ensure!(connect().is_err(), "not barred");
    ensure!(matches!(late.log_in(wire::NATIVE, USER, PASSWORD, None)?, End::Ok { .. }), "no login");
    ensure!(early.value("SELECT 1")? == "1", "no answer");
    ensure!(connect().is_err(), "a login on an older connection freed the host");
    Ok(())
}

#[test]
fn a_network_falls_silent_and_comes_back() -> Result<()> {
    let (netns, server) = counting_server("--max-connect-errors=1000")?;
    let other = Netns::new()?;
    ensure!(other.inside() != netns.inside() && other.outside() != netns.outside(), "the same addresses");
    let mut raw = Raw::login(server.address())?;
    netns.cut_off()?;
    let error = TcpStream::connect_timeout(&server.address(), Duration::from_millis(300)).err();
    let error = error.context("a connection through a broken cable")?;
    ensure!(error.kind() == ErrorKind::TimedOut, "{error}");
    raw.send(command::PING, &[])?;
    raw.set_limit(Duration::from_millis(300))?;
    let silence = raw.stream().read(&mut [0; 1]).err().context("an answer, or the end")?;
    ensure!(silence.kind() == ErrorKind::WouldBlock, "{silence}");
    netns.reconnect()?;
    raw.set_limit(LIMIT)?;
    ensure!(matches!(raw.end()?, End::Ok { .. }), "no answer");
    drop(Raw::login(server.address())?);

    // An address of the machine's own as long as the card is there.
    let card = || UdpSocket::bind((netns.outside(), 0)).is_ok();
    ensure!(card(), "no such card");
    let gone = other.outside();
    drop(other);
    wait_until(LIMIT, "the card to go", || UdpSocket::bind((gone, 0)).is_err())?;
    ensure!(card(), "the wrong card went");
    Ok(())
}

#[test]
fn a_slow_line_takes_its_time() -> Result<()> {
    let netns = Netns::new()?;
    let server = Server::start_in(&netns, &[])?;
    netns.limit_speed(100)?;
    let mut raw = Raw::login(server.address())?;
    let (start, sent) = (Instant::now(), netns.sent()?);
    raw.value("SELECT REPEAT('x', 5000000)")?;
    // 0.4 s, less what the line lets pass at once.
    ensure!(start.elapsed() >= Duration::from_millis(380), "{:?}", start.elapsed());
    ensure!(netns.sent()? >= sent + 5_000_000, "{sent}, then {}", netns.sent()?);
    Ok(())
}

/// A server that counts failed handshakes, and shows how many.
fn counting_server(limit: &str) -> Result<(Netns, Server)> {
    let netns = Netns::new()?;
    let server = Server::start_in(&netns, &["--performance-schema=ON", limit])?;
    Ok((netns, server))
}

/// Closes a connection; gives by how much that, and all that was before, changed the server's count. The count is 0
/// again afterwards.
fn counts(server: &Server, raw: Raw) -> Result<u64> {
    let id = u64::from(raw.greeting().id);
    drop(raw);
    server.wait_for_no_thread(LIMIT, "the connection's thread to end", |thread| thread.id == id)?;
    let count = server.connect_errors()?;
    server.sql("FLUSH HOSTS")?;
    Ok(count)
}

const LIMIT: Duration = Duration::from_secs(60);
