//! The PROXY protocol towards the server: it goes by the client's address, and not by Spillway's, on whatever
//! connection a client's commands arrive.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use spillway_tests::fault::{Action, Direction};
use spillway_tests::process::{self, Finished};
use spillway_tests::raw::{End, connect_from};
use spillway_tests::server::{PASSWORD, USER};
use spillway_tests::stored::credentials;
use spillway_tests::wire::{NATIVE, proxy_header};
use spillway_tests::{Endpoint, Fault, Raw, Server, Spillway, Stored, client, mysql9, run};

/// Takes headers from this machine, and has accounts that only two hosts have which are none of this machine's.
fn server() -> &'static Server {
    static SERVER: LazyLock<Server> =
        LazyLock::new(|| start().unwrap_or_else(|error| panic!("the server: {error:#}")));
    &SERVER
}

fn start() -> Result<Server> {
    let server = Server::start(&["--proxy-protocol-networks=127.0.0.1,localhost"])?;
    server.sql(&format!(
        "CREATE USER {FAR}@'192.0.2.7' IDENTIFIED VIA mysql_native_password USING PASSWORD('{0}');
         CREATE USER {FAR}@'2001:db8::7' IDENTIFIED VIA mysql_native_password USING PASSWORD('{0}');
         USE test;
         CREATE TABLE small (id INT PRIMARY KEY, text VARCHAR(100));
         INSERT INTO small SELECT seq, REPEAT('x', 50) FROM seq_1_to_10000;",
        PASSWORD.replace('\'', "''")
    ))?;
    Ok(server)
}

/// The user of the far hosts.
const FAR: &str = "far";
const FAR_V4: &str = "192.0.2.7:4711";
const FAR_V6: &str = "[2001:db8::7]:4711";
/// Not the address that Spillway connects from.
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const TO_SERVER: [&str; 1] = ["--upstream-proxy-protocol"];

/// What the header says of this connection.
fn header_of(client: &TcpStream) -> Result<Vec<u8>> {
    Ok(proxy_header(Some((client.local_addr()?, client.peer_addr()?))))
}

/// What a client from `source` would be announced with.
fn far_header(source: &str) -> Result<Vec<u8>> {
    let source: SocketAddr = source.parse()?;
    let destination = if source.is_ipv4() { "198.51.100.1:3306" } else { "[2001:db8::1]:3306" };
    Ok(proxy_header(Some((source, destination.parse()?))))
}

fn log_in(stream: TcpStream, user: &str) -> Result<(Raw, End)> {
    let mut raw = Raw::over(stream)?;
    let end = raw.log_in(NATIVE, user, PASSWORD, None)?;
    Ok((raw, end))
}

/// A client whose connection begins with this header.
fn log_in_behind(header: &[u8], address: SocketAddr, user: &str) -> Result<(Raw, End)> {
    let mut stream = connect_from(Ipv4Addr::LOCALHOST, address)?;
    stream.write_all(header)?;
    log_in(stream, user)
}

/// `USER()`, and what SHOW PROCESSLIST has for the host.
const WHO: &str =
    "SELECT CONCAT(USER(), ' ', host) FROM information_schema.processlist WHERE id = CONNECTION_ID()";

#[test]
fn without_it_the_server_sees_spillway() -> Result<()> {
    let spillway = Spillway::to(&server().tcp()).start()?;
    let (mut raw, end) = log_in(connect_from(OTHER, spillway.address()?)?, USER)?;
    end.ok()?;
    ensure!(raw.value("SELECT USER()")? == format!("{USER}@127.0.0.1"), "{}", raw.value(WHO)?);
    Ok(())
}

#[test]
fn with_it_the_server_sees_the_client() -> Result<()> {
    let credentials = credentials()?;
    let path = credentials.path().display().to_string();
    for options in [&[][..], &["--auth=stored", "--credentials", &path]] {
        for upstream in [server().tcp(), server().unix()] {
            let spillway = Spillway::to(&upstream)
                .options(&TO_SERVER)
                .options(&["--allow-socket-upstream"])
                .options(options)
                .start()?;
            let stream = connect_from(OTHER, spillway.address()?)?;
            let from = stream.local_addr()?;
            let (mut raw, end) = log_in(stream, USER)?;
            end.ok()?;
            let who = raw.value(WHO)?;
            ensure!(who == format!("{USER}@{OTHER} {from}"), "{upstream} {options:?}: {who}");
        }
    }
    Ok(())
}

#[test]
fn a_client_of_a_unix_socket_has_no_address_but_spillways() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let listen = format!("unix:{}", dir.path().join("s").display());
    for (upstream, host) in [(server().tcp(), "127.0.0.1"), (server().unix(), "localhost")] {
        let spillway = Spillway::to(&upstream).options(&TO_SERVER).listen(&listen).start()?;
        let mut mysql = client::dumper("mysql", spillway.endpoint());
        let said = process::run(mysql.args(["-N", "-e", "SELECT USER()"]), LIMIT)?.success()?;
        ensure!(said.text().trim() == format!("{USER}@{host}"), "{upstream}: {}", said.text());
    }
    Ok(())
}

#[test]
fn run_tells_the_server_that_the_connection_is_its_own() -> Result<()> {
    let fault = Fault::start(server().address())?;
    let arguments = run::arguments("mysqldump", &Endpoint::Tcp(fault.address()), &["test"]);
    run::to_end(&["--upstream-proxy-protocol"], &arguments)?.success()?;
    ensure!(fault.head(0, Direction::ToServer).starts_with(&proxy_header(None)), "no header");
    Ok(())
}

#[test]
fn a_chain_of_two_tells_the_server_of_the_client() -> Result<()> {
    let expected = process::run(&mut dump(&server().tcp()), LIMIT)?.success()?;
    let near = Spillway::to(&server().tcp())
        .options(&TO_SERVER)
        .options(&["--proxy-protocol-networks=127.0.0.1"])
        .start()?;
    let far = Spillway::to(near.endpoint()).options(&TO_SERVER).start()?;
    let stream = connect_from(OTHER, far.address()?)?;
    let from = stream.local_addr()?;
    let (mut raw, end) = log_in(stream, USER)?;
    end.ok()?;
    ensure!(raw.value(WHO)? == format!("{USER}@{OTHER} {from}"), "{}", raw.value(WHO)?);
    let line = near.wait_for_log("session started", LIMIT)?;
    ensure!(line.contains(&format!("client=\"{from}\" via=\"127.0.0.1:")), "{line}");
    assert_same(&expected, &process::run(&mut dump(far.endpoint()), LIMIT)?)
}

#[test]
fn what_a_client_is_announced_with_is_what_the_server_sees() -> Result<()> {
    let spillway = Spillway::to(&server().tcp())
        .options(&TO_SERVER)
        .options(&["--proxy-protocol-networks=127.0.0.1"])
        .start()?;
    // Not by its own address.
    let (_, end) = log_in(TcpStream::connect(server().address())?, FAR)?;
    ensure!(end.clone().err()?.code == 1045, "{end:?}");
    for source in [FAR_V4, FAR_V6] {
        let (mut raw, end) = log_in_behind(&far_header(source)?, spillway.address()?, FAR)?;
        end.ok().context(source)?;
        let address: SocketAddr = source.parse()?;
        let who = raw.value(WHO)?;
        ensure!(who == format!("{FAR}@{0} {0}:4711", address.ip()), "{who}");
        let line = spillway.wait_for_log(&format!("client=\"{source}\" via=\"127.0.0.1:"), LIMIT)?;
        ensure!(line.contains("session started"), "{line}");
    }
    let (_, end) = log_in_behind(&far_header("192.0.2.8:4711")?, spillway.address()?, FAR)?;
    let error = end.err()?;
    ensure!(error.code == 1045 && error.message.contains("192.0.2.8"), "{error:?}");
    Ok(())
}

#[test]
fn a_replaced_login_is_announced_as_the_first_was() -> Result<()> {
    let fault = Fault::start(server().address())?;
    let spillway = Spillway::to(&fault.address())
        .options(&TO_SERVER)
        .options(&["--proxy-protocol-networks=127.0.0.1"])
        .start()?;
    let header = far_header(FAR_V4)?;
    // Not within the header: MariaDB takes it whole or says at once that it is none, and one segment carries it.
    let before = [(Direction::ToServer, 0)].into_iter();
    let behind = (0..80).step_by(20).map(|more| (Direction::ToServer, header.len() as u64 + more));
    // All of it within the login: the greeting has more than 100 bytes, and the response more than 80.
    let from_server = (0..100).step_by(23).map(|after| (Direction::FromServer, after));
    for (direction, after) in before.chain(behind).chain(from_server) {
        for action in [Action::Cut, Action::Reset] {
            let first = fault.connections();
            fault.arm_next(1, direction, after, action);
            let (mut raw, end) = log_in_behind(&header, spillway.address()?, FAR)?;
            let context = || format!("{direction:?} {after} {action:?}");
            end.ok().with_context(context)?;
            let who = raw.value(WHO).with_context(context)?;
            ensure!(who == format!("{FAR}@192.0.2.7 {FAR_V4}"), "{who}: {}", context());
            ensure!(fault.suffered(first) == Some(action), "not hit: {}", context());
            ensure!(fault.connections() > first + 1, "not replaced: {}", context());
            for index in first..fault.connections() {
                let head = fault.head(index, Direction::ToServer);
                let both = head.len().min(header.len());
                ensure!(head[..both] == header[..both], "connection {index}: {}", context());
            }
        }
    }
    Ok(())
}

#[test]
fn a_replaced_session_is_announced_as_the_first_was() -> Result<()> {
    let stored = Stored::start(server().address(), &TO_SERVER)?;
    let stream = connect_from(OTHER, stored.spillway.address()?)?;
    let (from, header) = (stream.local_addr()?, header_of(&stream)?);
    let (mut raw, end) = log_in(stream, USER)?;
    end.ok()?;
    let head = |index| stored.fault.head(index, Direction::ToServer);
    // Spillway learns by a login of its own what to greet the client with.
    ensure!(stored.fault.connections() == 2, "{} connections", stored.fault.connections());
    ensure!(head(0).starts_with(&proxy_header(None)), "the login of Spillway's own");
    ensure!(head(1).starts_with(&header), "the first connection");
    for (healed, action) in [Action::Cut, Action::Reset].into_iter().enumerate() {
        stored.heal(&mut raw, action)?;
        ensure!(head(healed + 2).starts_with(&header), "the connection after a {action:?}");
    }
    ensure!(raw.value(WHO)? == format!("{USER}@{OTHER} {from}"), "{}", raw.value(WHO)?);
    Ok(())
}

#[test]
fn the_handshake_of_a_client_that_leaves_is_ended_behind_a_header() -> Result<()> {
    let fault = Fault::start(server().address())?;
    let spillway = Spillway::to(&fault.address()).options(&TO_SERVER).start()?;
    let stream = connect_from(OTHER, spillway.address()?)?;
    let header = header_of(&stream)?;
    drop(Raw::over(stream)?);
    fault.wait_closed_by_proxy(0, LIMIT)?;
    let head = fault.head(0, Direction::ToServer);
    ensure!(head.starts_with(&header), "no header");
    let text = String::from_utf8_lossy(&head[header.len()..]).into_owned();
    ensure!(text.contains("spillway-nobody"), "{text}");
    ensure!(fault.head(0, Direction::FromServer).windows(5).any(|bytes| bytes == b"#2800"), "not refused");
    Ok(())
}

#[test]
fn a_server_that_takes_no_header_says_so_at_once() -> Result<()> {
    let listed = Server::start(&["--proxy-protocol-networks=192.0.2.0/24"])?;
    let unaware = mysql9::start(&[])?;
    let credentials = credentials()?;
    let path = credentials.path().display().to_string();
    let stored: &[&str] = &["--auth=stored", "--credentials", &path];
    for (server, code, words) in [(&listed, 1130, "Proxy header is not accepted"), (&unaware, 1156, "")] {
        for options in [&[][..], stored] {
            let spillway = Spillway::to(&server.tcp()).options(&TO_SERVER).options(options).start()?;
            // Its words may come before the answer to the greeting is written, or after.
            for _ in 0..10 {
                let error = match Raw::connect(spillway.address()?) {
                    Ok(mut raw) => raw.log_in(NATIVE, USER, PASSWORD, None)?.err()?,
                    Err(error) if options == stored => {
                        ensure!(format!("{error:#}").contains(&code.to_string()), "{error:#}");
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                ensure!(error.code == code && error.message.contains(words), "{error:?}");
            }
            let more = spillway.log().matching("an attempt to reach the server failed");
            ensure!(more.is_empty(), "it was tried again: {more:#?}");
            if code == 1156 && options.is_empty() {
                spillway.wait_for_log("--upstream-proxy-protocol", LIMIT)?;
            }
        }
    }
    Ok(())
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
