//! The PROXY protocol from the clients' side: who has to begin with a header, what is taken for one, and what becomes
//! of a client whose header is none.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use spillway_tests::log::field;
use spillway_tests::process;
use spillway_tests::raw::connect_from;
use spillway_tests::server::{PASSWORD, USER};
use spillway_tests::wire::{NATIVE, proxy_header};
use spillway_tests::{Fault, Raw, Server, Spillway, client, spillway_bin};

fn server() -> &'static Server {
    static SERVER: LazyLock<Server> =
        LazyLock::new(|| Server::start(&[]).unwrap_or_else(|error| panic!("the server: {error:#}")));
    &SERVER
}

/// In the network that has to begin with a header, and not.
const LISTED: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const NETWORK: &str = "--proxy-protocol-networks=192.0.2.0/24,127.0.1.0/24";

fn far_header() -> Vec<u8> {
    let [source, destination] = [[192, 0, 2, 7], [198, 51, 100, 1]].map(|ip| SocketAddr::from((ip, 3306)));
    proxy_header(Some((source, destination)))
}

/// Version 2 with this length behind the first 16 bytes.
fn header_of_length(len: u16) -> Vec<u8> {
    let mut header = far_header();
    header[14..16].copy_from_slice(&len.to_be_bytes());
    header
}

/// A client from there whose connection begins with this.
fn log_in(own: Ipv4Addr, address: SocketAddr, header: &[u8]) -> Result<Raw> {
    let mut stream = connect_from(own, address)?;
    stream.write_all(header)?;
    let mut raw = Raw::over(stream)?;
    raw.log_in(NATIVE, USER, PASSWORD, None)?.ok()?;
    Ok(raw)
}

#[test]
fn headers_of_both_versions_are_taken() -> Result<()> {
    let spillway = Spillway::to(&server().tcp()).options(&[NETWORK]).start()?;
    let tlv = [&header_of_length(12 + 1003)[..], &[4, 3, 0xe8], &[b'x'; 1000]].concat();
    let line = |text: &str| format!("PROXY {text}\r\n").into_bytes();
    let (far, own) = ("client=\"192.0.2.7:3306\" via=\"127.0.1.1:", "client=\"127.0.1.1:");
    for (number, (header, shown)) in [
        (far_header(), far),
        (tlv, far),
        (line("TCP4 192.0.2.7 198.51.100.1 3306 3306"), far),
        (line("TCP6 2001:db8::7 2001:db8::1 4711 3306"), "client=\"[2001:db8::7]:4711\" via=\"127.0.1.1:"),
        // A proxy's own connections, and those of which it knows nothing.
        (proxy_header(None), own),
        (line("UNKNOWN"), own),
    ]
    .into_iter()
    .enumerate()
    {
        let mut raw = log_in(LISTED, spillway.address()?, &header)?;
        ensure!(raw.value("SELECT 'in'")? == "in", "no answer");
        let line = spillway.log().wait_for_nth("session started", number + 1, LIMIT)?;
        ensure!(line.contains(shown), "{shown} expected: {line}");
    }
    Ok(())
}

#[test]
fn a_header_may_come_byte_by_byte_and_with_what_follows() -> Result<()> {
    let spillway = Spillway::to(&server().tcp())
        .options(&["--proxy-protocol-networks=*", "--auth=passthrough"])
        .start()?;
    for header in [far_header(), b"PROXY TCP4 192.0.2.7 198.51.100.1 3306 3306\r\n".to_vec()] {
        let mut stream = connect_from(LISTED, spillway.address()?)?;
        for byte in &header[..header.len() - 1] {
            stream.write_all(&[*byte])?;
        }
        // A client that speaks before it is greeted: its bytes are the login's, not the header's.
        stream.write_all(&[header[header.len() - 1], 40, 0, 0, 1, b'x'])?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        ensure!(answer.get(4) == Some(&10), "no greeting: {answer:?}");
    }
    Ok(())
}

#[test]
fn clients_from_elsewhere_need_no_header_and_may_not_have_one() -> Result<()> {
    let spillway = Spillway::to(&server().tcp()).options(&[NETWORK]).start()?;
    let mut raw = log_in(OTHER, spillway.address()?, &[])?;
    // Whoever is not trusted cannot pretend.
    for header in [far_header(), b"PROXY TCP4 192.0.2.7 198.51.100.1 3306 3306\r\n".to_vec()] {
        ensure!(log_in(OTHER, spillway.address()?, &header).is_err(), "it was taken");
    }
    ensure!(raw.value("SELECT 'undisturbed'")? == "undisturbed", "another session");
    ensure!(!spillway.log().lines().iter().any(|line| line.contains("192.0.2.7")), "it was believed");
    Ok(())
}

#[test]
fn what_is_no_header_costs_the_server_nothing_and_disturbs_nobody() -> Result<()> {
    let fault = Fault::start(server().address())?;
    let spillway = Spillway::to(&fault.address()).options(&[NETWORK]).start()?;
    let mut other = log_in(OTHER, spillway.address()?, &[])?;
    let before = fault.connections();
    let cut = |len: usize| far_header()[..len].to_vec();
    let cases = [
        ("http", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), "first bytes"),
        ("zeroes", vec![0; 64], "first bytes"),
        ("one byte", cut(1), "closed within"),
        ("a piece of the signature", cut(11), "closed within"),
        ("no length", cut(14), "closed within"),
        ("a piece of the addresses", cut(20), "closed within"),
        ("a length that lies", header_of_length(13), "closed within"),
        ("a length that is too short", header_of_length(11), "version 2"),
        ("a length without bounds", header_of_length(0xffff), "65535"),
        ("an unknown version", [&far_header()[..12], &[0x31, 0x11, 0, 0]].concat(), "version 2"),
        ("an endless line", [b"PROXY TCP4 ".as_slice(), &[b'1'; 1 << 20]].concat(), "107"),
        ("a name", b"PROXY TCP4 db1 198.51.100.1 1 2\r\n".to_vec(), "version 1"),
    ];
    for (number, (name, bytes, words)) in cases.into_iter().enumerate() {
        let mut stream = connect_from(LISTED, spillway.address()?)?;
        // It may be shut out before all of it is written.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        assert_closed_without_a_word(stream).context(name)?;
        let line = spillway.log().wait_for_nth("no PROXY header", number + 1, LIMIT)?;
        let told = line.contains("WARN") && line.contains("127.0.1.1:") && line.contains(words);
        ensure!(told && line.contains("--proxy-protocol-networks"), "{name}: {line}");
    }
    ensure!(fault.connections() == before, "the server was reached");
    ensure!(other.value("SELECT 'undisturbed'")? == "undisturbed", "another session");
    log_in(LISTED, spillway.address()?, &far_header()).context("a good one")?;
    let memory = spillway.peak_memory()?;
    ensure!(memory < 64 << 20, "{memory} bytes of memory");
    Ok(())
}

#[test]
fn who_keeps_silent_is_shut_out_in_time() -> Result<()> {
    let fault = Fault::start(server().address())?;
    let spillway = Spillway::to(&fault.address()).options(&[NETWORK]).start()?;
    // Clients that wait to be greeted, and one that has begun.
    let started = Instant::now();
    let mut silent =
        (0..50).map(|_| connect_from(LISTED, spillway.address()?)).collect::<Result<Vec<_>>>()?;
    silent[0].write_all(&far_header()[..20])?;
    log_in(OTHER, spillway.address()?, &[]).context("a client from elsewhere")?;
    log_in(LISTED, spillway.address()?, &far_header()).context("one with a header")?;
    let reached = fault.connections();
    for stream in silent {
        assert_closed_without_a_word(stream)?;
    }
    ensure!(started.elapsed() >= HEADER_LIMIT, "after {:?}", started.elapsed());
    ensure!(fault.connections() == reached, "the server was reached");
    let line = spillway.wait_for_log("no PROXY header", LIMIT)?;
    ensure!(line.contains("within 5 s"), "{line}");
    Ok(())
}

#[test]
fn clients_without_a_login_are_counted_by_their_own_address() -> Result<()> {
    let fault = Fault::start(server().address())?;
    let spillway = Spillway::to(&fault.address()).options(&[NETWORK]).start()?;
    // Whoever only looks whether the port is open, is a probe like others, and not worth a warning.
    drop(connect_from(LISTED, spillway.address()?)?);
    let line = spillway.log().wait_for("left without a login", LIMIT)?;
    ensure!(line.contains("INFO") && line.contains("127.0.1.1"), "{line}");
    ensure!(fault.connections() == 0, "the server was reached");
    let mut stream = connect_from(LISTED, spillway.address()?)?;
    stream.write_all(&far_header())?;
    drop(Raw::over(stream)?);
    let line = spillway.log().wait_for_nth("left without a login", 2, LIMIT)?;
    ensure!(line.contains("192.0.2.7") && field(&line, "times")? == 1, "{line}");
    ensure!(spillway.log().matching("WARN").is_empty(), "{:#?}", spillway.log().matching("WARN"));
    Ok(())
}

#[test]
fn unix_sockets_are_the_network_localhost() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let socket = dir.path().join("s");
    let listen = format!("unix:{}", socket.display());
    for networks in ["localhost", "10.0.0.0/8,localhost", "*"] {
        let spillway = Spillway::to(&server().tcp())
            .options(&["--proxy-protocol-networks", networks])
            .listen(&listen)
            .start()?;
        let greeting = greeting_over(&socket, &far_header())?;
        ensure!(greeting.get(4) == Some(&10), "{networks}: no greeting: {greeting:?}");
        let no_header = greeting_over(&socket, b"GET / HTTP/1.0\r\n\r\n")?;
        ensure!(no_header.is_empty(), "{networks}: {no_header:?}");
        spillway.wait_for_log("no PROXY header", LIMIT)?;
    }
    let spillway = Spillway::to(&server().tcp())
        .options(&["--proxy-protocol-networks=0.0.0.0/0,::/0"])
        .listen(&listen)
        .start()?;
    let mut mysql = client::dumper("mysql", spillway.endpoint());
    process::run(mysql.args(["-e", "SELECT 1"]), LIMIT)?.success()?;
    Ok(())
}

/// A proxy of Spillway's own user passes on clients who are not.
#[test]
fn the_uid_of_another_proxy_opens_no_socket_upstream() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let socket = dir.path().join("s");
    let spillway = Spillway::to(&server().unix())
        .options(&["--proxy-protocol-networks=localhost"])
        .listen(&format!("unix:{}", socket.display()))
        .start()?;
    for header in [far_header(), proxy_header(None)] {
        let answer = greeting_over(&socket, &header)?;
        ensure!(answer.get(4..7) == Some(&[0xff, 0xa2, 6]), "no error 1698: {answer:?}");
    }
    spillway.wait_for_log("only for clients of spillway's own uid", LIMIT)?;
    Ok(())
}

#[test]
fn networks_that_are_none() -> Result<()> {
    for network in ["10.0.0.0/33", "db1", "10.0.0.1,", "10.0.0.0/255.0.0.0"] {
        let mut command = client::clean(spillway_bin());
        command.args(["serve", "--upstream=127.0.0.1", "--listen=127.0.0.1:0", "--proxy-protocol-networks"]);
        let finished = process::run(command.arg(network), LIMIT)?;
        ensure!(finished.code() == 2 && finished.stdout.is_empty(), "{finished:?}");
        let wrong = network.rsplit(',').next().unwrap_or_default();
        ensure!(finished.stderr.contains(&format!("`{wrong}` is no network")), "{}", finished.stderr);
    }
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(&file, "upstream = 'db1'\nproxy_protocol_networks = ['10.0.0.0/8', 'there']\n")?;
    let mut command = client::clean(spillway_bin());
    command.args(["serve", "--config"]).arg(file.path());
    let finished = process::run(&mut command, LIMIT)?;
    ensure!(finished.code() == 78, "{finished:?}");
    ensure!(finished.stderr.contains("line 2") && finished.stderr.contains("`there`"), "{}", finished.stderr);
    Ok(())
}

/// What Spillway says to a client of its Unix socket that begins with `bytes`, and then only listens for the first
/// packet.
fn greeting_over(socket: &Path, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(bytes)?;
    let mut answer = vec![0; 4096];
    let size = match stream.read(&mut answer) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
        read => read?,
    };
    answer.truncate(size);
    Ok(answer)
}

fn assert_closed_without_a_word(mut stream: TcpStream) -> Result<()> {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        // What was not read is answered so.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        read => drop(read.context("it is not closed")?),
    }
    ensure!(answer.is_empty(), "{}", answer.escape_ascii());
    Ok(())
}

/// How long a header may take.
const HEADER_LIMIT: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(60);
