//! Options that are wrong are told in one clear line, with nothing started; peers that do not speak the protocol are
//! shut out without disturbing the others.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use spillway_tests::process::{self, Finished};
use spillway_tests::wire::capability;
use spillway_tests::{Fault, Raw, Server, Spillway, client, spillway_bin, wait_until};

fn server() -> &'static Server {
    static SERVER: LazyLock<Server> =
        LazyLock::new(|| Server::start(&[]).unwrap_or_else(|error| panic!("{error:#}")));
    &SERVER
}

/// Runs `spillway serve` with options that it has to refuse.
fn serve(options: &[&str]) -> Result<Finished> {
    let mut command = client::clean(spillway_bin());
    process::run(command.arg("serve").args(options), REFUSAL_LIMIT)
        .with_context(|| format!("it runs with {options:?}"))
}

/// It ended with one of the two statuses, and one line of stderr has all of `words`; nothing was started.
fn assert_refused(finished: &Finished, words: &[&str]) -> Result<()> {
    ensure!([2, 78].contains(&finished.code()), "status {}: {}", finished.code(), finished.stderr);
    ensure!(finished.stdout.is_empty(), "stdout: {}", finished.text());
    ensure!(
        finished.stderr.lines().any(|line| words.iter().all(|word| line.contains(word))),
        "no line with all of {words:?}: {}",
        finished.stderr
    );
    Ok(())
}

#[test]
fn options_that_are_wrong() -> Result<()> {
    let upstream = ["--upstream", "127.0.0.1:3306", "--listen", "127.0.0.1:0"];
    for (options, words) in [
        (&["--frobnicate"][..], &["--frobnicate"][..]),
        (&["--spool-max", "12potatoes"], &["--spool-max", "12potatoes"]),
        (&["--memory", "-5"], &["-5"]),
        (&["--memory-per-session", ""], &["--memory-per-session"]),
        (&["--keepalive", "5parsecs"], &["--keepalive", "5parsecs"]),
        (&["--keepalive-for", "soon"], &["--keepalive-for", "soon"]),
        (&["--shutdown-grace", "1x"], &["--shutdown-grace", "1x"]),
        (&["--spool-min-free", "much"], &["--spool-min-free", "much"]),
        (&["--log-level", "shouting"], &["--log-level", "shouting"]),
        (&["--spool-dir", "/no/such/dir"], &["--spool-dir", "/no/such/dir"]),
        // Nobody can create a file there, not even root.
        (&["--spool-dir", "/proc"], &["--spool-dir", "/proc"]),
        (&["--spool-dir", "/etc/passwd"], &["--spool-dir", "/etc/passwd"]),
    ] {
        let all = [&upstream, options].concat();
        assert_refused(&serve(&all)?, words).with_context(|| format!("{options:?}"))?;
    }
    Ok(())
}

#[test]
fn places_that_are_wrong() -> Result<()> {
    assert_refused(&serve(&[])?, &["--upstream"]).context("no upstream")?;
    for upstream in ["", "host:99999", "host:port", "[::1", "unix:"] {
        let finished = serve(&["--upstream", upstream, "--listen", "127.0.0.1:0"])?;
        assert_refused(&finished, &["--upstream", upstream])
            .with_context(|| format!("upstream {upstream:?}"))?;
    }
    for listen in ["nonsense", "127.0.0.1:99999", "unix:/no/such/dir/socket"] {
        let finished = serve(&["--upstream", "127.0.0.1:3306", "--listen", listen])?;
        assert_refused(&finished, &["--listen", listen]).with_context(|| format!("listen {listen:?}"))?;
    }
    Ok(())
}

#[test]
fn a_port_in_use() -> Result<()> {
    let holder = TcpListener::bind("127.0.0.1:0")?;
    let listen = holder.local_addr()?.to_string();
    let finished = serve(&["--upstream", "127.0.0.1:3306", "--listen", &listen])?;
    assert_refused(&finished, &["--listen", &listen])
}

#[test]
fn garbage_from_a_client_before_login() -> Result<()> {
    let spillway = Spillway::to(&server().tcp()).start()?;
    let address = spillway.address()?;
    let mut other = Raw::login(address)?;
    let long =
        [0xff, 0xff, 0xff, 1].into_iter().chain(std::iter::repeat_n(b'A', 1 << 20)).collect::<Vec<u8>>();
    for garbage in [
        &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        &[0; 64],
        // A login that ends too soon, one with a wrong sequence number, one without the protocol of this century.
        &[3, 0, 0, 1, 0, 2, 0],
        &[32, 0, 0, 9],
        &[&[36, 0, 0, 1], &[0; 36][..]].concat(),
        &long,
    ] {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        // It may be shut out before all of it is written.
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        ensure!(answer.len() < 4096, "{} bytes in answer to garbage", answer.len());
    }
    wait_until(LIMIT, "a complaint in the log", || {
        spillway.log().lines().iter().any(|line| is_complaint(line))
    })?;
    ensure!(other.value("SELECT 'undisturbed'")? == "undisturbed", "another session");
    ensure!(Raw::login(address)?.value("SELECT 'new'")? == "new", "a new session");
    Ok(())
}

#[test]
fn a_client_that_says_nothing_disturbs_nobody() -> Result<()> {
    let spillway = Spillway::to(&server().tcp()).start()?;
    let silent: Vec<_> = (0..20)
        .map(|_| TcpStream::connect(spillway.address()?).context("connecting"))
        .collect::<Result<_>>()?;
    ensure!(Raw::login(spillway.address()?)?.value("SELECT 'served'")? == "served", "another session");
    drop(silent);
    Ok(())
}

#[test]
fn a_greeting_that_is_broken() -> Result<()> {
    let fault = Fault::start(server().address())?;
    // One that is cut short is tried again, until the time is over.
    let spillway = Spillway::to(&fault.address()).options(&["--handshake-timeout=2s"]).start()?;
    let mut other = Raw::login(spillway.address()?)?;
    let http = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec();
    // A length of 16 MB with as much behind it; protocol 9; a greeting without an end; one that ends in its salt.
    let long = [0xff, 0xff, 0xff, 0, 10].into_iter().chain(std::iter::repeat_n(b'5', 17 << 20)).collect();
    let old = b"\x10\0\0\0\x095.0.0-old\0aaaaaa".to_vec();
    let endless = b"\x40\0\0\0\x0a5.5.5-without-a-zero-byte".to_vec();
    let short = b"\x0e\0\0\0\x0a5.5.5\0\x01\0\0\0ab".to_vec();
    for (name, greeting) in
        [("http", http), ("long", long), ("old", old), ("endless", endless), ("short", short)]
    {
        fault.greet_with(Some(greeting));
        let told = spillway.log().lines().iter().filter(|line| is_complaint(line)).count();
        let mut mysql = client::dumper("mysql", spillway.endpoint());
        let finished = process::run(mysql.args(["--connect-timeout=5", "-e", "SELECT 1"]), LIMIT)?;
        ensure!(finished.code() == 1, "{name}: {finished:?}");
        wait_until(LIMIT, &format!("a complaint in the log about {name}"), || {
            spillway.log().lines().iter().filter(|line| is_complaint(line)).count() > told
        })?;
        ensure!(other.value("SELECT 'undisturbed'")? == "undisturbed", "{name}: another session");
    }
    fault.greet_with(None);
    ensure!(Raw::login(spillway.address()?)?.value("SELECT 'new'")? == "new", "a new session");
    let memory = spillway.peak_memory()?;
    ensure!(memory < 64 << 20, "{memory} bytes of memory for a long greeting");
    Ok(())
}

#[test]
fn errors_before_the_greeting_come_unchanged() -> Result<()> {
    let fault = Fault::start(server().address())?;
    let spillway = Spillway::to(&fault.address()).start()?;
    // ERR 1130 as a server sends it to a host that it does not know: without SQLSTATE.
    let message = b"Host 'there' is not allowed to connect to this MariaDB server";
    let mut packet = vec![u8::try_from(message.len() + 3)?, 0, 0, 0, 0xff];
    packet.extend(1130_u16.to_le_bytes());
    packet.extend(message);
    fault.greet_with(Some(packet));
    let mut mysql = client::dumper("mysql", spillway.endpoint());
    let finished = process::run(mysql.args(["-e", "SELECT 1"]), LIMIT)?;
    ensure!(finished.stderr.contains("1130") && finished.stderr.contains("'there'"), "{}", finished.stderr);
    Ok(())
}

#[test]
fn a_wrong_password_is_told_as_the_server_tells_it() -> Result<()> {
    let spillway = Spillway::to(&server().tcp()).start()?;
    let mut said = Vec::new();
    for endpoint in [server().tcp(), spillway.endpoint().clone()] {
        let mut mysql = client::command("mysql", &endpoint);
        mysql.args(["--user=dump", "--password=wrong", "-e", "SELECT 1"]);
        let finished = process::run(&mut mysql, LIMIT)?;
        ensure!(finished.code() == 1, "{finished:?}");
        said.push(finished.stderr);
    }
    ensure!(said[0].contains("1045") && said[0] == said[1], "{said:?}");
    ensure!(!spillway.log().lines().iter().any(|line| line.contains("wrong")), "the password is in the log");
    Ok(())
}

#[test]
fn the_greeting_offers_no_tls_without_a_certificate_and_both_compressions() -> Result<()> {
    let spillway = Spillway::to(&server().tcp()).start()?;
    let direct = Raw::connect(server().address())?;
    let through = Raw::connect(spillway.address()?)?;
    let (direct, through) = (direct.greeting(), through.greeting());
    ensure!(direct.version == through.version && direct.plugin == through.plugin, "{through:?}");
    let both = capability::COMPRESS | capability::ZSTD_COMPRESSION_ALGORITHM;
    ensure!(through.capabilities & both == both, "no compression: {through:?}");
    let more = through.capabilities & !(direct.capabilities | both);
    ensure!(more == 0, "bits that the server has not: {through:?}");
    ensure!(through.capabilities & capability::SSL == 0, "TLS: {through:?}");
    for bit in [
        capability::FOUND_ROWS,
        capability::LOCAL_FILES,
        capability::PROTOCOL_41,
        capability::MULTI_STATEMENTS,
        capability::MULTI_RESULTS,
        capability::PS_MULTI_RESULTS,
        capability::PLUGIN_AUTH,
        capability::SESSION_TRACK,
        capability::DEPRECATE_EOF,
    ] {
        ensure!(through.capabilities & bit == direct.capabilities & bit, "bit {bit:#x} is lost: {through:?}");
    }
    ensure!(direct.extended != 0 && through.extended & !direct.extended == 0, "{direct:?} {through:?}");
    Ok(())
}

/// Whether a log line is a warning or an error.
fn is_complaint(line: &str) -> bool {
    line.contains("WARN") || line.contains("ERROR")
}

/// One that is not refused would run for ever.
const REFUSAL_LIMIT: Duration = Duration::from_secs(10);
const LIMIT: Duration = Duration::from_secs(60);
