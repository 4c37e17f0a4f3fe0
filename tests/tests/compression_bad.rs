//! Compressed packets that lie, from a client and from a server, and a server that is lost behind compression: a clear
//! error, bounded memory, and nobody else disturbed.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use spillway_tests::fault::Action;
use spillway_tests::packed::{Algorithm, packet};
use spillway_tests::raw::{End, Head, greeting_packet};
use spillway_tests::wire::{ErrPacket, Reader, command};
use spillway_tests::{Endpoint, Fault, Raw, Server, Spillway, client, process};

fn server() -> &'static Server {
    static SERVER: LazyLock<Server> = LazyLock::new(|| {
        let start = || {
            let server = Server::start(&[])?;
            // Text that compresses to half at best.
            let hex = ["MD5(RAND())"; 8].join(", ");
            server.sql(&format!(
                "USE test; CREATE TABLE hex AS SELECT seq, CONCAT({hex}) AS t FROM seq_1_to_100000"
            ))?;
            Ok(server)
        };
        start().unwrap_or_else(|error: anyhow::Error| panic!("{error:#}"))
    });
    &SERVER
}

const BOTH: [Algorithm; 2] = [Algorithm::Zlib, Algorithm::Zstd];

/// Its name, the bytes, the error's code, and a part of its text.
type Lie = (&'static str, Vec<u8>, u16, &'static str);

/// Compressed packets that no client may send.
fn lies(algorithm: Algorithm) -> Result<Vec<Lie>> {
    let query = [&b"\x60\x03\0\0\x03SELECT "[..], &[b' '; 856], b"1"].concat();
    let length = query.len();
    let body = algorithm.compress(&query)?;
    let mut damaged = body.clone();
    damaged[3] ^= 0xff;
    Ok(vec![
        ("longer than it is", packet(0, length + 1, &body), 1157, "its header tells"),
        ("much longer than it is", packet(0, 0xff_ffff, &body), 1157, "its header tells"),
        ("shorter than it is", packet(0, length - 1, &body), 1157, "holds more than"),
        ("one byte", packet(0, 1, &body), 1157, "holds more than"),
        ("more behind it", packet(0, length, &[&body[..], b"more"].concat()), 1157, "4 bytes behind the end"),
        ("twice", packet(0, 2 * length, &[&body[..], &body].concat()), 1157, "behind the end"),
        ("cut short", packet(0, length, &body[..body.len() - 1]), 1157, "ends inside its data"),
        ("nothing", packet(0, length, b""), 1157, "ends inside its data"),
        ("damaged", packet(0, length, &damaged), 1157, ""),
        ("not compressed", packet(0, length, &query), 1157, "a compressed packet is no"),
        ("out of order", packet(7, length, &body), 1156, "sequence id 7 where"),
        (
            "a gap",
            [packet(0, 0, &query[..9]), packet(2, 0, &query[9..])].concat(),
            1156,
            "id 2 where 1 was due",
        ),
    ])
}

#[test]
fn a_client_that_lies() -> Result<()> {
    for algorithm in BOTH {
        let spillway = Spillway::to(&server().tcp()).start()?;
        let mut other = Raw::login_packed(spillway.address()?, algorithm)?;
        for (name, lie, code, text) in lies(algorithm)? {
            let place = || format!("{algorithm:?}, {name}");
            let mut raw = Raw::login_packed(spillway.address()?, algorithm)?;
            ensure!(raw.value("SELECT 1")? == "1", "{}: before", place());
            raw.restart_sequence();
            (&mut raw.stream()).write_all(&lie)?;
            // What number the answer has, nobody can say where the client's own was wrong.
            raw.take_any_number();
            let error = ErrPacket::parse(&raw.packet().with_context(place)?)?;
            ensure!(error.code == code && error.state == "08S01", "{}: {error:?}", place());
            let right = error.message.starts_with("spillway:") && error.message.contains(text);
            ensure!(right, "{}: {error:?}", place());
            raw.expect_closed(LIMIT).with_context(place)?;
        }
        ensure!(other.value("SELECT 'undisturbed'")? == "undisturbed", "another session");
        let told = spillway.log().matching("the client broke the compressed protocol").len();
        ensure!(told >= lies(algorithm)?.len(), "{told} lines in the log");
    }
    Ok(())
}

#[test]
fn a_lie_behind_a_command_ends_the_session() -> Result<()> {
    let spillway = Spillway::to(&server().tcp()).start()?;
    let mut raw = Raw::login_packed(spillway.address()?, Algorithm::Zlib)?;
    raw.send(command::QUERY, b"SELECT SLEEP(0.2)")?;
    (&mut raw.stream()).write_all(&packet(0, 1000, b"no zlib at all"))?;
    raw.restart_sequence();
    // The session is over when the lie is read, with or without the answer.
    let error = loop {
        match raw.head()? {
            Head::End(End::Err(error)) => break error,
            Head::Columns(_) => match raw.rows(|_| {})? {
                End::Err(error) => break error,
                End::Ok { .. } => raw.restart_sequence(),
            },
            Head::End(End::Ok { .. }) => anyhow::bail!("an OK from nowhere"),
        }
    };
    ensure!(error.code == 1157 && error.message.contains("is no zlib"), "{error:?}");
    raw.expect_closed(LIMIT)
}

#[test]
fn bombs_take_no_memory() -> Result<()> {
    let spillway = Spillway::to(&server().tcp()).start()?;
    let mut other = Raw::login(spillway.address()?)?;
    // Commands of 16 MB that never end: 64 packets of 16 MB of zeros each, in a few KB.
    for algorithm in BOTH {
        let zeros = algorithm.compress(&vec![0; LONGEST])?;
        ensure!(zeros.len() < 20_000, "{} bytes", zeros.len());
        let bombs = (0..8)
            .map(|_| {
                let mut raw = Raw::login_packed(spillway.address()?, algorithm)?;
                let head = packet(0, 0, b"\xff\xff\xff\0\x03");
                raw.restart_sequence();
                (&mut raw.stream()).write_all(&head)?;
                (&mut raw.stream()).write_all(&packet(1, LONGEST, &zeros))?;
                Ok(raw)
            })
            .collect::<Result<Vec<_>>>()?;
        // Each inflates to its end: the server gets all of the 16 MB.
        for mut raw in bombs {
            (&mut raw.stream()).write_all(&packet(2, 0, b"\0\0\0\x01"))?;
            raw.take_any_number();
            let error = ErrPacket::parse(&raw.packet()?)?;
            ensure!(error.code == 1064, "{error:?}");
        }
        // And one that is refused at its first byte too many.
        let mut raw = Raw::login_packed(spillway.address()?, algorithm)?;
        raw.restart_sequence();
        (&mut raw.stream()).write_all(&packet(0, 100, &zeros))?;
        raw.take_any_number();
        let error = ErrPacket::parse(&raw.packet()?)?;
        ensure!(error.code == 1157 && error.message.contains("holds more than the 100 bytes"), "{error:?}");
    }
    let memory = spillway.peak_memory()?;
    ensure!(memory < 96 << 20, "{memory} bytes of memory");
    ensure!(other.value("SELECT 'undisturbed'")? == "undisturbed", "another session");
    Ok(())
}

/// A server that greets as a real one, lets everybody in, waits for the first command and then says `lie`.
fn liar(greeting: Vec<u8>, lie: Vec<u8>) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (greeting, lie) = (greeting.clone(), lie.clone());
            thread::spawn(move || -> Result<()> {
                let mut stream: TcpStream = stream?;
                stream.set_read_timeout(Some(LIMIT))?;
                stream.write_all(&greeting)?;
                let mut header = [0; 4];
                stream.read_exact(&mut header)?;
                let mut response = vec![0; usize::from(header[0]) | usize::from(header[1]) << 8];
                stream.read_exact(&mut response)?;
                stream.write_all(b"\x07\0\0\x02\0\0\0\x02\0\0\0")?;
                stream.read_exact(&mut header)?;
                stream.write_all(&lie)?;
                while stream.read(&mut [0; 4096])? > 0 {}
                Ok(())
            });
        }
    });
    Ok(address)
}

#[test]
fn a_server_that_lies() -> Result<()> {
    let greeting = greeting_packet(server().address())?;
    let ok = b"\x07\0\0\x01\0\0\0\x02\0\0\0";
    let text = [&ok[..], &[b'x'; 500]].concat();
    let body = Algorithm::Zlib.compress(&text)?;
    let zeros = Algorithm::Zlib.compress(&vec![0; LONGEST])?;
    for (name, lie, words) in [
        ("longer than it is", packet(1, 600, &body), "its header tells 600"),
        ("shorter than it is", packet(1, 500, &body), "more than the 500 bytes"),
        ("a bomb", packet(1, 500, &zeros), "more than the 500 bytes"),
        ("more behind it", packet(1, 511, &[&body[..], b"x"].concat()), "1 bytes behind the end"),
        ("not compressed", packet(1, 600, &text), "is no zlib"),
        ("out of order", packet(9, 0, ok), "sequence id 9 where 0 was due"),
        ("a gap", [packet(1, 0, &ok[..4]), packet(3, 0, &ok[4..])].concat(), "sequence id 3 where 2 was due"),
    ] {
        let address = liar(greeting.clone(), lie)?;
        let upstreams = format!("{address},{}", server().address());
        let spillway = Spillway::to(&upstreams).options(&["--upstream-compression=zlib"]).start()?;
        let mut raw = Raw::login(spillway.address()?).with_context(|| name.to_owned())?;
        raw.send(command::QUERY, b"SELECT 1")?;
        let error = ErrPacket::parse(&raw.packet().with_context(|| name.to_owned())?)?;
        ensure!(error.code == 2013 && error.message.contains("broke the"), "{name}: {error:?}");
        ensure!(error.message.contains(words), "{name}: {error:?}");
        raw.expect_closed(LIMIT)?;
        let memory = spillway.peak_memory()?;
        ensure!(memory < 64 << 20, "{name}: {memory} bytes of memory");
    }
    Ok(())
}

#[test]
fn what_was_drained_comes_first_and_whole() -> Result<()> {
    // Cut at many places of the compressed stream: the rows up to there, then an ERR packet in its own place.
    for algorithm in [None, Some(Algorithm::Zlib), Some(Algorithm::Zstd)] {
        let mut counts = Vec::new();
        for cut in [0, 3, 7, 100, 5000, 200_001, 3_000_000] {
            let fault = Fault::start(server().address())?;
            let spillway =
                Spillway::to(&fault.address()).options(&["--upstream-compression=zlib"]).start()?;
            let mut raw = match algorithm {
                Some(algorithm) => Raw::login_packed(spillway.address()?, algorithm)?,
                None => Raw::login(spillway.address()?)?,
            };
            ensure!(raw.value("SELECT 1")? == "1", "a first answer");
            fault.arm(cut, Action::Cut);
            let place = || format!("{algorithm:?}, cut at {cut}");
            raw.send(command::QUERY, b"SELECT * FROM test.hex")?;
            let mut rows = 0_u64;
            let error = loop {
                let packet = raw.packet().with_context(place)?;
                if packet.first() == Some(&0xff) {
                    break ErrPacket::parse(&packet)?;
                }
                // Number and text behind their lengths.
                if packet.len() > 100 {
                    let mut row = Reader(&packet);
                    let number = row.length()? as usize;
                    row.take(number)?;
                    ensure!(row.length()? == 256 && row.0.len() == 256, "{}: a row", place());
                    rows += 1;
                }
            };
            ensure!(error.code == 2013 && error.message.starts_with("spillway:"), "{}: {error:?}", place());
            raw.expect_closed(LIMIT).with_context(place)?;
            counts.push(rows);
        }
        ensure!(counts[..3] == [0, 0, 0] && counts.is_sorted(), "{algorithm:?}: {counts:?}");
        ensure!(counts[6] > 3_000_000 / 270 && counts[6] < 100_000, "{algorithm:?}: {counts:?}");
    }
    Ok(())
}

#[test]
fn a_lost_connection_fails_a_compressed_dump() -> Result<()> {
    for action in [Action::Cut, Action::Reset] {
        let fault = Fault::start(server().address())?;
        let spillway = Spillway::to(&fault.address()).options(&["--upstream-compression=zlib"]).start()?;
        fault.arm(3_000_000, action);
        let mut dump = dump(spillway.endpoint());
        let dump = process::run(dump.arg("--compress"), LIMIT)?;
        let said = &dump.stderr;
        ensure!(!dump.status.success() && said.contains("2013") && said.contains("spillway:"), "{said}");
        ensure!(!dump.text().contains("Dump completed"), "the dump says that it is complete");
    }
    Ok(())
}

fn dump(endpoint: &Endpoint) -> std::process::Command {
    let mut command = client::dumper("mysqldump", endpoint);
    command.args(["--single-transaction", "test", "hex"]);
    command
}

#[test]
fn a_mode_that_is_none() -> Result<()> {
    let mut serve = client::clean(spillway_tests::spillway_bin());
    serve.args(["serve", "--upstream", "127.0.0.1:3306", "--listen", "127.0.0.1:0"]);
    let finished = process::run(serve.arg("--upstream-compression=lzma"), LIMIT)?;
    ensure!(finished.code() == 2 && finished.stdout.is_empty(), "{finished:?}");
    let said = &finished.stderr;
    ensure!(
        said.contains("--upstream-compression") && said.contains("lzma") && said.contains("zstd"),
        "{said}"
    );
    Ok(())
}

/// What one compressed packet holds at the most.
const LONGEST: usize = 0xff_ffff;
const LIMIT: Duration = Duration::from_secs(60);
