//! Whatever comes over a connection to the console, at worst that connection ends: the others, the proxy and its dumps
//! go on.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Result, ensure};
use spillway_tests::raw::Head;
use spillway_tests::wire::{self, capability, command};
use spillway_tests::{Endpoint, Raw, Server, Spillway, wait_until};

fn server() -> &'static Server {
    static SERVER: LazyLock<Server> =
        LazyLock::new(|| Server::start(&[]).unwrap_or_else(|error| panic!("{error:#}")));
    &SERVER
}

/// A proxy with a session under way and a connection to its console, both of which are to survive.
struct Scene {
    spillway: Spillway,
    console: SocketAddr,
    session: Raw,
    onlooker: Raw,
}

impl Scene {
    fn start() -> Result<Self> {
        let spillway = Spillway::to(&server().tcp()).options(&["--console", "127.0.0.1:0"]).start()?;
        let Endpoint::Tcp(console) = spillway.console()? else { unreachable!() };
        let mut session = Raw::login(spillway.address()?)?;
        let head = session.start(&format!("SELECT seq, REPEAT('b', 1000) FROM seq_1_to_{ROWS}"))?;
        ensure!(head == Head::Columns(2), "no columns");
        let onlooker = log_in(console)?;
        Ok(Self { spillway, console, session, onlooker })
    }

    fn look(&mut self) -> Result<()> {
        let sessions = self.onlooker.query("SHOW SESSIONS")?;
        ensure!(sessions.len() == 1, "{sessions:?}");
        ensure!(log_in(self.console)?.query("SHOW SESSIONS")?.len() == 1, "a new connection");
        Ok(())
    }

    fn end(mut self) -> Result<()> {
        self.look()?;
        let mut rows = 0_u64;
        self.session.rows(|_| rows += 1)?.ok()?;
        ensure!(rows == ROWS, "{rows} rows");
        let log = self.spillway.log().lines().join("\n");
        ensure!(!log.contains("panicked"), "{log}");
        ensure!(self.spillway.is_running()?, "the proxy is gone");
        Ok(())
    }
}

fn log_in(console: SocketAddr) -> Result<Raw> {
    let mut raw = Raw::connect(console)?;
    raw.log_in(wire::NATIVE, "admin", "", None)?.ok()?;
    Ok(raw)
}

/// What comes until the console closes.
fn until_closed(stream: &mut TcpStream) -> Result<Vec<u8>> {
    stream.set_read_timeout(Some(LIMIT))?;
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => Err(error.into()),
        _ => Ok(bytes),
    }
}

fn packet(sequence: u8, payload: &[u8]) -> Result<Vec<u8>> {
    let mut packet = u32::try_from(payload.len())?.to_le_bytes()[..3].to_vec();
    packet.push(sequence);
    packet.extend_from_slice(payload);
    Ok(packet)
}

fn response() -> Vec<u8> {
    wire::handshake_response_of(wire::NATIVE, capability::USUAL, "admin", &[], None)
}

#[test]
fn garbage_instead_of_a_login() -> Result<()> {
    let mut scene = Scene::start()?;
    let mut noise = Vec::new();
    let mut state = 0x9e37_79b9_u32;
    for _ in 0..200 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        noise.push((state >> 24) as u8);
    }
    let mut cases =
        vec![noise.clone(), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), vec![0; 4000], vec![0xff; 4000]];
    // What is not a response in packets that are right.
    for len in [0, 1, 2, 4, 8, 31, 32, 33, 36, 60] {
        cases.push(packet(1, &noise[..len])?);
        cases.push(packet(1, &response()[..len.min(response().len())])?);
        cases.push(packet(1, &vec![0xff; len])?);
    }
    for case in cases {
        let mut stream = TcpStream::connect(scene.console)?;
        stream.write_all(&case)?;
        stream.shutdown(std::net::Shutdown::Write)?;
        until_closed(&mut stream)?;
        scene.look()?;
    }
    scene.end()
}

#[test]
fn packets_cut_anywhere_and_several_at_once() -> Result<()> {
    let mut scene = Scene::start()?;
    let mut raw = Raw::connect(scene.console)?;
    for byte in packet(1, &response())? {
        raw.write_bytes(&[byte])?;
    }
    raw.set_sequence(2);
    raw.end()?.ok()?;
    let show = packet(0, b"\x03SHOW SESSIONS")?;
    for byte in &show {
        raw.write_bytes(&[*byte])?;
    }
    let answer = |raw: &mut Raw| -> Result<()> {
        raw.set_sequence(1);
        ensure!(matches!(raw.head()?, Head::Columns(columns) if columns > 10), "no columns");
        let mut rows = 0;
        raw.rows(|_| rows += 1)?.ok()?;
        ensure!(rows == 1, "{rows} rows");
        Ok(())
    };
    answer(&mut raw)?;
    // In one piece, the last one cut in the middle.
    raw.write_bytes(&[&show[..], &show, &show, &show[..7]].concat())?;
    for _ in 0..3 {
        answer(&mut raw)?;
    }
    raw.write_bytes(&show[7..])?;
    answer(&mut raw)?;
    // The first command together with the login.
    let mut raw = Raw::connect(scene.console)?;
    raw.write_bytes(&[packet(1, &response())?, show].concat())?;
    raw.set_sequence(2);
    raw.end()?.ok()?;
    answer(&mut raw)?;
    scene.look()?;
    scene.end()
}

#[test]
fn wrong_sequence_ids_and_lengths_end_their_connection() -> Result<()> {
    let mut scene = Scene::start()?;
    for sequence in [0, 2, 255] {
        let mut stream = TcpStream::connect(scene.console)?;
        stream.write_all(&packet(sequence, &response())?)?;
        let said = until_closed(&mut stream)?;
        ensure!(said.ends_with(b"where packet 1 was due"), "{}", said.escape_ascii());
    }
    let whole = |sequence, payload: &[u8]| packet(sequence, payload);
    let huge = [&[0xff, 0xff, 0xff, 0][..], &[b'x'; 3000]].concat();
    for (bytes, code, state) in [
        (whole(1, b"\x0e")?, 1156, "08S01"),
        (whole(254, b"\x0e")?, 1156, "08S01"),
        (whole(255, b"\x0e")?, 1156, "08S01"),
        (huge, 1153, "08S01"),
        (whole(0, &[b'x'; 5000])?, 1153, "08S01"),
    ] {
        let mut raw = log_in(scene.console)?;
        raw.write_bytes(&bytes)?;
        raw.take_any_number();
        let error = raw.end()?.err()?;
        ensure!((error.code, error.state.as_str()) == (code, state), "{error:?}");
        scene.look()?;
    }
    // Statements that are none, with the longest there may be and text that is not UTF-8.
    let mut raw = log_in(scene.console)?;
    for text in [&[b'%'; 4000][..], b"\xff\xfe\x00", b"", b"SHOW STATUS LIKE '\xe4'"] {
        raw.send(command::QUERY, text)?;
        match raw.head()? {
            Head::Columns(_) => raw.rows(|_| ())?.ok()?,
            Head::End(end) => ensure!(end.err()?.code == 1064, "{}", text.escape_ascii()),
        }
        raw.run(command::PING, b"")?.ok()?;
    }
    // Cut short inside a packet.
    let mut stream = TcpStream::connect(scene.console)?;
    stream.write_all(&packet(1, &response())?[..10])?;
    stream.shutdown(std::net::Shutdown::Write)?;
    until_closed(&mut stream)?;
    scene.end()
}

#[test]
fn idle_connections_are_bounded_and_ended() -> Result<()> {
    let scene = Scene::start()?;
    let mut idle = Vec::new();
    let mut refused = 0;
    for _ in 0..30 {
        let mut stream = TcpStream::connect(scene.console)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut head = [0; 5];
        stream.read_exact(&mut head)?;
        refused += u32::from(head[4] == 0xff);
        idle.push(stream);
    }
    // The onlooker has one of 16.
    ensure!(refused == 15, "{refused} were refused");
    let mut onlooker = scene.onlooker;
    ensure!(onlooker.query("SHOW SESSIONS")?.len() == 1, "the onlooker");
    // They are ended, and others may come.
    let mut next = None;
    wait_until(LIMIT, "a place at the console", || {
        next = log_in(scene.console).ok();
        next.is_some()
    })?;
    Scene { onlooker, ..scene }.end()
}

const ROWS: u64 = 100_000;
const LIMIT: Duration = Duration::from_secs(40);
