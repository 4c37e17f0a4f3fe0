//! Clients that are slow, endless or many on purpose: each is cut in time or held back, and costs the others nothing.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use spillway_tests::exposition::Metrics;
use spillway_tests::process;
use spillway_tests::raw::LONGEST_PIECE;
use spillway_tests::server::{PASSWORD, USER};
use spillway_tests::stored::credentials;
use spillway_tests::wait::wait_for;
use spillway_tests::wire::{ErrPacket, NATIVE, capability, command, handshake_response};
use spillway_tests::{Fault, Raw, Server, Spillway, client, wait_until};

fn server() -> &'static Server {
    static SERVER: LazyLock<Server> = LazyLock::new(|| {
        Server::start(&["--max-allowed-packet=16M", "--max-connections=1000"])
            .unwrap_or_else(|error| panic!("{error:#}"))
    });
    &SERVER
}

/// What the peer says until it closes, as far as this system lets it be read.
fn last_words(stream: &mut TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(len @ 1..) = stream.read(&mut piece) {
        said.extend_from_slice(&piece[..len]);
    }
    said
}

/// The ERR packet that somebody gets who was too slow.
fn assert_told_slow(said: &[u8]) -> Result<()> {
    let error = ErrPacket::parse(said.get(4..).context("closed without a word")?)?;
    let right = error.code == 1158 && error.message.starts_with("spillway: the client took longer than 1s");
    ensure!(right && error.message.contains("--login-timeout"), "{error:?}");
    Ok(())
}

/// A beginning of TLS, which a login of its own follows.
fn ssl_request() -> Vec<u8> {
    let mut packet = vec![32, 0, 0, 1];
    packet.extend((capability::USUAL | capability::SSL).to_le_bytes());
    packet.resize(36, 0);
    packet
}

#[test]
fn a_login_that_takes_too_long_is_cut() -> Result<()> {
    let credentials = credentials()?;
    let path = credentials.path().display().to_string();
    for auth in [&[][..], &["--auth=stored", "--credentials", &path]] {
        let spillway = Spillway::to(&server().tcp())
            .options(&["--login-timeout=1s", "--tls-self-signed"])
            .options(auth)
            .start()?;
        let address = spillway.address()?;
        let began = Instant::now();
        let connect = || Raw::connect(address).context("a slow client");
        let (silent, in_tls, dripping) = (connect()?, connect()?, connect()?);
        in_tls.stream().write_all(&ssl_request())?;
        let drip = dripping.stream().try_clone()?;
        let dripped = thread::spawn(move || drip_login(drip));
        // Meanwhile others are served.
        ensure!(Raw::login(address)?.value("SELECT 'served'")? == "served", "another client");
        for (name, slow, is_told) in
            [("silent", silent, true), ("in TLS", in_tls, false), ("dripping", dripping, true)]
        {
            slow.set_limit(LIMIT)?;
            let said = last_words(&mut slow.stream().try_clone()?);
            let took = began.elapsed();
            ensure!((1..20).contains(&took.as_secs()), "{auth:?}: {name}: cut after {took:?}");
            if is_told {
                assert_told_slow(&said).with_context(|| format!("{auth:?}: {name}"))?;
            }
        }
        let bytes = dripped.join().map_err(|_| anyhow!("the dripping client panicked"))?;
        ensure!(bytes > 3, "only {bytes} bytes were dripped");
        server()
            .wait_for_no_thread(LIMIT, "no login under way", |thread| thread.user.starts_with("unauth"))?;
        ensure!(spillway.log().matching("--login-timeout").len() == 3, "{}", spillway.log().tail());
    }
    Ok(())
}

/// Sends a login byte by byte, each in good time; gives how many were taken.
fn drip_login(mut stream: TcpStream) -> usize {
    let login = handshake_response(capability::USUAL, "dump", &[1; 20], None);
    let packet = [&[login.len() as u8, 0, 0, 1][..], &login].concat();
    let take = |byte: &u8| {
        thread::sleep(Duration::from_millis(100));
        stream.write_all(&[*byte]).is_ok()
    };
    packet.iter().map(take).take_while(|taken| *taken).count()
}

/// Whoever is asked for a proof by a change of user has no more time than in a login.
#[test]
fn a_change_of_user_that_takes_too_long_ends_the_session() -> Result<()> {
    let spillway = Spillway::to(&server().tcp()).options(&["--login-timeout=1s"]).start()?;
    let mut raw = Raw::login(spillway.address()?)?;
    // All but the last byte of a command that is too long to come as a whole.
    raw.write_bytes(&[0x00, 0x40, 0x00, 0, command::CHANGE_USER])?;
    raw.write_bytes(&[b'x'; 0x4000 - 2])?;
    raw.set_limit(LIMIT)?;
    let began = Instant::now();
    assert_told_slow(&last_words(&mut raw.stream().try_clone()?))?;
    ensure!(began.elapsed() < Duration::from_secs(20), "after {:?}", began.elapsed());
    spillway.wait_for_log("the session ended in a change of user", LIMIT)?;
    Ok(())
}

/// Sends the pieces of a packet that has no end, the first with this number, until the peer takes no more or has taken
/// so much; gives how many bytes it took.
fn send_endlessly(stream: &mut TcpStream, first: u8, most: usize) -> usize {
    let mut piece = vec![command::QUERY; 4 + LONGEST_PIECE];
    let mut taken = 0;
    for number in 0_u8.. {
        piece[..4].copy_from_slice(&[0xff, 0xff, 0xff, first.wrapping_add(number)]);
        let mut rest = &piece[..];
        while !rest.is_empty() && taken < most {
            match stream.write(rest) {
                Ok(len @ 1..) => (taken, rest) = (taken + len, &rest[len..]),
                _ => return taken,
            }
        }
        if taken >= most {
            break;
        }
    }
    taken
}

#[test]
fn an_endless_login_is_refused_at_its_first_packet() -> Result<()> {
    let credentials = credentials()?;
    let path = credentials.path().display().to_string();
    for auth in [&[][..], &["--auth=stored", "--credentials", &path]] {
        let spillway = Spillway::to(&server().tcp()).options(auth).start()?;
        let address = spillway.address()?;
        Raw::login(address)?;
        let before = spillway.peak_memory()?;
        let clients: Vec<_> = (0..8)
            .map(|_| {
                thread::spawn(move || -> Result<usize> {
                    let raw = Raw::connect(address)?;
                    raw.stream().set_write_timeout(Some(LIMIT))?;
                    Ok(send_endlessly(&mut raw.stream().try_clone()?, 1, 256 << 20))
                })
            })
            .collect();
        for client in clients {
            let taken = client.join().map_err(|_| anyhow!("a client panicked"))??;
            // What the two sockets hold between them.
            ensure!(taken < 32 << 20, "{taken} bytes were taken");
        }
        spillway.log().wait_for_nth("where the connection phase has", 8, LIMIT)?;
        assert_flat(&spillway, before)?;
        ensure!(Raw::login(address)?.value("SELECT 'served'")? == "served", "another client");
    }
    Ok(())
}

#[test]
fn an_endless_command_is_the_servers_to_refuse_and_takes_no_memory() -> Result<()> {
    let spillway = Spillway::to(&server().tcp()).start()?;
    let address = spillway.address()?;
    Raw::login(address)?;
    let before = spillway.peak_memory()?;
    let clients: Vec<_> = (0..2)
        .map(|_| {
            thread::spawn(move || -> Result<usize> {
                let raw = Raw::login(address)?;
                raw.stream().set_write_timeout(Some(LIMIT))?;
                Ok(send_endlessly(&mut raw.stream().try_clone()?, 0, ENDLESS))
            })
        })
        .collect();
    for client in clients {
        let taken = client.join().map_err(|_| anyhow!("a client panicked"))??;
        ensure!((16 << 20..ENDLESS).contains(&taken), "{taken} bytes were taken");
    }
    assert_flat(&spillway, before)?;
    ensure!(Raw::login(address)?.value("SELECT 'served'")? == "served", "another client");
    Ok(())
}

#[test]
fn an_endless_command_to_a_server_that_stands_still_waits_in_the_client() -> Result<()> {
    let server = Server::start(&[])?;
    let spillway = Spillway::to(&server.tcp()).start()?;
    let raw = Raw::login(spillway.address()?)?;
    let before = spillway.peak_memory()?;
    process::send(server.pid(), Signal::SIGSTOP)?;
    raw.stream().set_write_timeout(Some(STILL))?;
    let taken = send_endlessly(&mut raw.stream().try_clone()?, 0, 1 << 30);
    ensure!(taken < 64 << 20, "{taken} bytes were taken");
    assert_flat(&spillway, before)?;
    drop(raw);
    process::send(server.pid(), Signal::SIGCONT)?;
    spillway.wait_for_session_end(1, LIMIT)?;
    Ok(())
}

#[test]
fn commands_whose_answers_nobody_reads_wait_in_the_client() -> Result<()> {
    let spillway = Spillway::to(&server().tcp()).start()?;
    Raw::login(spillway.address()?)?;
    let before = spillway.peak_memory()?;
    // One that the server answers, and one that Spillway does by itself.
    for byte in [command::PING, 0xf0] {
        let raw = Raw::login(spillway.address()?)?;
        let mut stream = raw.stream().try_clone()?;
        stream.set_write_timeout(Some(STILL))?;
        let pings = [1, 0, 0, 0, byte].repeat(100_000);
        let mut taken = 0;
        while taken < 256 << 20 {
            match stream.write(&pings) {
                Ok(len @ 1..) => taken += len,
                _ => break,
            }
        }
        ensure!(taken < 64 << 20, "{taken} bytes of commands were taken");
    }
    assert_flat(&spillway, before)?;
    ensure!(Raw::login(spillway.address()?)?.value("SELECT 'served'")? == "served", "another client");
    Ok(())
}

/// What a handful of sessions may take: blocks, buffers of sockets, pages of the allocator.
fn assert_flat(spillway: &Spillway, before: u64) -> Result<()> {
    let grown = spillway.peak_memory()?.saturating_sub(before);
    ensure!(grown < 12 << 20, "{grown} bytes more than before");
    Ok(())
}

fn descriptors(spillway: &Spillway) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{}/fd", spillway.pid()))?.count())
}

fn sessions(metrics: SocketAddr) -> Result<usize> {
    Ok(Metrics::scrape(metrics)?.sum("spillway_sessions") as usize)
}

#[test]
fn two_thousand_idle_clients_come_and_go_and_leave_nothing() -> Result<()> {
    raise_open_files()?;
    let credentials = credentials()?;
    let path = credentials.path().display().to_string();
    let spillway = Spillway::to(&server().tcp())
        .options(&["--auth=stored", "--credentials", &path, "--memory=512MiB", "--metrics=127.0.0.1:0"])
        .start()?;
    let (address, metrics) = (spillway.address()?, spillway.http_address("metrics on")?);
    server().sql(
        "CREATE TABLE test.t ENGINE=MyISAM SELECT seq, REPEAT('b', 1000) AS b FROM test.seq_1_to_5000",
    )?;
    let dump = || process::run(client::dumper("mysqldump", spillway.endpoint()).args(["test", "t"]), LIMIT);
    let expected = client::normalised(&dump()?.success()?.stdout);
    wait_until(LIMIT, "the dump's session to end", || sessions(metrics).is_ok_and(|count| count == 0))?;

    let mut left = Vec::new();
    let (before, start) = (descriptors(&spillway)?, spillway.memory()?);
    for _ in 0..2 {
        // Most are greeted and say nothing; some are logged in and do nothing.
        let silent: Vec<TcpStream> = (0..1900).map(|_| greeted(address)).collect::<Result<_>>()?;
        let idle: Vec<Raw> = (0..100).map(|_| Raw::login(address)).collect::<Result<_>>()?;
        ensure!(sessions(metrics)? == 2000, "{} sessions", sessions(metrics)?);
        let during = descriptors(&spillway)?;
        ensure!(during >= before + 2000, "{during} descriptors, {before} before");
        let dumped = client::normalised(&dump()?.success()?.stdout);
        ensure!(client::difference(&expected, &dumped).is_none(), "another dump");
        drop((silent, idle));
        wait_until(LIMIT, "all to be gone", || sessions(metrics).is_ok_and(|count| count == 0))?;
        wait_for(LIMIT, "their descriptors", || Ok((descriptors(&spillway)? <= before).then_some(())))?;
        let scraped = Metrics::scrape(metrics)?;
        let held =
            scraped.value("spillway_spool_memory_bytes")? + scraped.value("spillway_spool_disk_bytes")?;
        ensure!(held == 0.0, "{held} bytes are still taken of the budgets");
        left.push(spillway.memory()?);
    }
    // What the allocator keeps of the first round it uses in the second. It is less than the sessions were charged.
    ensure!(left[1] < left[0] + (8 << 20), "{start}, then {left:?} bytes after each round");
    ensure!(left[0] < start + 2000 * (64 << 10), "{start}, then {left:?} bytes after each round");
    Ok(())
}

/// Two thousand sockets are more than some systems give a program that does not ask.
fn raise_open_files() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

/// A client that has taken its greeting.
fn greeted(address: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    ensure!(head[4] == 10, "no greeting: {head:?}");
    Ok(stream)
}

/// Whoever holds up its own login holds up no other's, however many there are.
#[test]
fn a_crowd_that_never_logs_in_keeps_nobody_out() -> Result<()> {
    let fault = Fault::start(server().address())?;
    let spillway = Spillway::to(&fault.address()).options(&["--login-timeout=2s"]).start()?;
    let crowd: Vec<TcpStream> = (0..100).map(|_| greeted(spillway.address()?)).collect::<Result<_>>()?;
    let mut raw = Raw::connect(spillway.address()?)?;
    raw.log_in(NATIVE, USER, PASSWORD, None)?.ok()?;
    ensure!(raw.value("SELECT 'served'")? == "served", "another client");
    for mut stream in crowd {
        last_words(&mut stream);
    }
    // Each server connection was ended in the way that a server does not count.
    wait_until(LIMIT, "the server's connections to be closed", || {
        (0..fault.connections() - 1).all(|index| fault.closed_by_proxy(index).is_some())
    })?;
    ensure!(raw.value("SELECT 'still there'")? == "still there", "the session");
    Ok(())
}

/// More than anybody sends to whom no one listens.
const ENDLESS: usize = 32 << 30;
/// How long a socket that takes nothing is looked at.
const STILL: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(60);
