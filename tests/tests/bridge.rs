//! Passwords between ways of which one is safe and the other is not, with real servers and clients: what gets through,
//! what does not, and that it is told why.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use spillway_tests::fault::{Action, Direction};
use spillway_tests::handshakes::DIGITS;
use spillway_tests::process::{self, Finished, Running};
use spillway_tests::server::Thread;
use spillway_tests::wire::{self, capability};
use spillway_tests::{Endpoint, Fault, Raw, Scripted, Server, Spillway, client, mysql9};
use tempfile::TempDir;

/// A server with accounts whose passwords nobody has used yet, one for each test that needs it so.
fn server() -> &'static Server {
    static SERVER: LazyLock<Server> =
        LazyLock::new(|| start().unwrap_or_else(|error| panic!("MySQL 9: {error:#}")));
    &SERVER
}

fn start() -> Result<Server> {
    let server = mysql9::start(&[])?;
    for user in ["encrypted", "mariadbs", "refused", "fetched", "given", "sleeper", "garbage", "pinned"] {
        server.sql(&format!("CREATE USER {user} IDENTIFIED WITH caching_sha2_password BY 'pa55 word'"))?;
    }
    server.sql(
        "CREATE USER sha256 IDENTIFIED WITH sha256_password BY 'pa55 word';
         CREATE USER blank IDENTIFIED WITH sha256_password BY ''",
    )?;
    Ok(server)
}

fn log_in(mut command: Command, user: &str, more: &[&str]) -> Result<Finished> {
    command.args([&format!("--user={user}"), "--password=pa55 word", "--execute", "DO 0"]).args(more);
    process::run(&mut command, LIMIT)
}

fn mysql(spillway: &Spillway) -> Command {
    mysql9::command("mysql", spillway.endpoint())
}

fn mariadb(spillway: &Spillway) -> Command {
    client::command("mysql", spillway.endpoint())
}

/// Clients come over TCP, and the server's Unix socket takes passwords in clear.
fn to_socket() -> Result<Spillway> {
    Spillway::to(&server().unix()).options(&["--allow-socket-upstream"]).start()
}

/// Clients come over a Unix socket, the server is reached over TCP.
fn from_socket(dir: &TempDir, upstream: &Endpoint, options: &[&str]) -> Result<Spillway> {
    let name = format!("s{}", std::fs::read_dir(dir)?.count());
    let listen = format!("unix:{}", dir.path().join(name).display());
    Spillway::to(upstream).listen(&listen).options(options).start()
}

/// The file with the server's RSA key.
fn key_file(dir: &Path) -> Result<String> {
    let name = "Caching_sha2_password_rsa_public_key";
    let row = server().query(&format!(
        "SELECT variable_value FROM performance_schema.session_status WHERE variable_name = '{name}'"
    ))?;
    let path = dir.join("server.pem");
    std::fs::write(&path, row.join("\n"))?;
    Ok(path.display().to_string())
}

fn assert_1251(refused: &Finished, parts: &[&str]) -> Result<()> {
    ensure!(refused.code() == 1, "it was let in: {}", refused.stderr);
    for part in [&["ERROR 1251", "spillway: "], parts].concat() {
        ensure!(refused.stderr.contains(part), "no {part:?}: {}", refused.stderr);
    }
    Ok(())
}

#[test]
fn an_encrypted_password_reaches_a_server_that_wants_it_in_clear() -> Result<()> {
    let spillway = to_socket()?;
    // As without Spillway: the client does not send it in clear, and does not ask for a key unless told to.
    let refused = log_in(mysql(&spillway), "encrypted", &[])?;
    ensure!(refused.stderr.contains("Authentication requires secure connection"), "{}", refused.stderr);
    log_in(mysql(&spillway), "encrypted", &["--get-server-public-key"])?.success()?;
    log_in(mysql(&spillway), "encrypted", &[])?.success().context("from the server's cache")?;
    log_in(mariadb(&spillway), "mariadbs", &["--skip-ssl"])?.success()?;
    // Without that option, this client sends it in clear: also directly, and no server that is reached over TCP takes it.
    server().sql("FLUSH PRIVILEGES")?;
    log_in(mariadb(&spillway), "mariadbs", &[])?.success()?;
    // The answer to a wrong password is the server's own.
    server().sql("FLUSH PRIVILEGES")?;
    let wrong = log_in(mysql(&spillway), "encrypted", &["--password=wrong", "--get-server-public-key"])?;
    ensure!(wrong.stderr.contains("1045") && !wrong.stderr.contains("spillway"), "{}", wrong.stderr);
    // Over a Unix socket this plugin encrypts all the same, by the server's key.
    for mut command in [mysql(&spillway), mariadb(&spillway)] {
        command.args(["--user=sha256", "--password=pa55 word", "--execute", "DO 0"]);
        process::run(&mut command, LIMIT)?.success()?;
    }
    Ok(())
}

#[test]
fn a_password_in_clear_is_encrypted_for_a_server_over_tcp() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let key = key_file(dir.path())?;
    let strict = from_socket(&dir, &server().tcp(), &[])?;
    // That a password may go in clear does not help here: the server does not take it so.
    let lax = from_socket(&dir, &server().tcp(), &["--allow-cleartext"])?;
    let fetching = from_socket(&dir, &server().tcp(), &["--get-server-public-key"])?;
    let given = from_socket(&dir, &server().tcp(), &["--upstream-server-public-key", &key])?;
    let options = ["--upstream-server-public-key", "--get-server-public-key", "TLS"];
    for spillway in [&strict, &lax] {
        for command in [mysql(spillway), mariadb(spillway)] {
            assert_1251(&log_in(command, "refused", &[])?, &options)?;
        }
        for command in [mysql(spillway), mariadb(spillway)] {
            assert_1251(&log_in(command, "sha256", &[])?, &options)?;
        }
    }
    log_in(mysql(&fetching), "fetched", &[])?.success()?;
    log_in(mysql(&strict), "fetched", &[])?.success().context("from the server's cache")?;
    log_in(mariadb(&given), "given", &[])?.success()?;
    for spillway in [&fetching, &given] {
        for command in [mysql(spillway), mariadb(spillway)] {
            log_in(command, "sha256", &[])?.success()?;
        }
        // A client that has this plugin by itself asks for a key, or sends a password, before it is asked.
        log_in(mysql(spillway), "sha256", &["--default-auth=sha256_password"])?.success()?;
    }
    for spillway in [&strict, &fetching] {
        for mut command in [mysql(spillway), mariadb(spillway)] {
            command.args(["--user=blank", "--skip-password", "--execute", "DO 0"]);
            process::run(&mut command, LIMIT)?.success().context("an account without a password")?;
        }
    }
    Ok(())
}

/// Its greeting names the plugin, so that clients answer by it at once.
#[test]
fn a_server_whose_own_plugin_wants_the_password() -> Result<()> {
    let server = mysql9::start(&["--authentication-policy=sha256_password"])?;
    server.sql("CREATE USER sha256 IDENTIFIED WITH sha256_password BY 'pa55 word'")?;
    let dir = tempfile::tempdir()?;
    let strict = from_socket(&dir, &server.tcp(), &[])?;
    let fetching = from_socket(&dir, &server.tcp(), &["--get-server-public-key"])?;
    let over_tcp = Spillway::to(&server.tcp()).start()?;
    let to_socket = Spillway::to(&server.unix()).options(&["--allow-socket-upstream"]).start()?;
    let programs: [fn(&Spillway) -> Command; 2] = [mysql, mariadb];
    for program in programs {
        assert_1251(&log_in(program(&strict), "sha256", &[])?, &["--get-server-public-key"])?;
        for spillway in [&fetching, &over_tcp, &to_socket] {
            log_in(program(spillway), "sha256", &[])?.success()?;
        }
    }
    // The account of the tests has another plugin, and is asked for it.
    let mut other = mysql9::dumper("mysql", strict.endpoint());
    process::run(other.args(["--execute", "DO 0"]), LIMIT)?.success()?;
    Ok(())
}

#[test]
fn a_client_with_a_key_of_its_own_is_told() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let option = format!("--server-public-key-path={}", key_file(dir.path())?);
    let parts = ["another RSA key", "--get-server-public-key"];
    assert_1251(&log_in(mysql(&to_socket()?), "pinned", &[&option])?, &parts)?;
    // It is the server's own, and both ways are of one kind.
    let over_tcp = Spillway::to(&server().tcp()).start()?;
    log_in(mysql(&over_tcp), "pinned", &[&option])?.success()?;
    Ok(())
}

#[test]
fn garbage_from_a_client() -> Result<()> {
    let spillway = to_socket()?;
    let mut other = mysql(&spillway);
    other.args(["--user=sleeper", "--password=pa55 word", "--get-server-public-key", "--skip-column-names"]);
    let other = Running::start(other.args(["--execute", "SELECT SLEEP(60), 'undisturbed'"]))?;
    let sleeping = |thread: &Thread| thread.info.contains("'undisturbed'");
    let sleeper = server().wait_for_thread(LIMIT, "another session", sleeping)?;
    // Nobody has logged in with that account, so the server does not know its password.
    for garbage in [&[7; 256][..], &[0; 256], b"pa55 word", b"\x02\x02", &[0xff; 70_000], b"x"] {
        for asks in [false, true] {
            let mut raw = Raw::connect(spillway.address()?)?;
            let response = wire::handshake_response_of(
                "caching_sha2_password",
                capability::USUAL,
                "garbage",
                &[7; 32],
                None,
            );
            raw.write_packet(&response)?;
            let mut asked = raw.message()?;
            if asked.first() == Some(&0xfe) {
                raw.write_packet(&[7; 32])?;
                asked = raw.message()?;
            }
            ensure!(asked == [1, 4], "not asked for the password: {asked:?}");
            if asks {
                raw.write_packet(&[2])?;
                ensure!(raw.message()?.starts_with(b"\x01-----BEGIN PUBLIC KEY-----\n"), "no key");
            }
            raw.write_packet(garbage)?;
            let answer = raw.message()?;
            let error = raw.end_of(&answer)?.err()?;
            ensure!(error.code == 1251 && error.message.contains("another RSA key"), "{error:?}");
            raw.expect_closed(LIMIT)?;
        }
    }
    server().sql(&format!("KILL QUERY {}", sleeper.id))?;
    ensure!(other.finish(LIMIT)?.success()?.text().contains("undisturbed"), "another session");
    log_in(mysql(&spillway), "garbage", &["--get-server-public-key"])?.success()?;
    Ok(())
}

#[test]
fn garbage_from_a_server() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let endless = [b"\x01-----BEGIN PUBLIC KEY-----\n", "QUJD\n".repeat(20_000).as_bytes()].concat();
    for garbage in [b"\x01".to_vec(), b"\x01no key".to_vec(), vec![1; 60_000], endless] {
        let server = Scripted::start("caching_sha2_password", move |peer| {
            peer.receive()?;
            peer.send(&[1, 4])?;
            ensure!(peer.receive()? == [2], "the key was not asked for");
            peer.send(&garbage)
        })?;
        let upstream = Endpoint::Tcp(server.address());
        let spillway = from_socket(&dir, &upstream, &["--get-server-public-key"])?;
        for command in [mysql(&spillway), mariadb(&spillway)] {
            let refused = log_in(command, "anybody", &[])?;
            for part in ["ERROR 1251", "spillway: ", "the server's RSA key is of no use"] {
                ensure!(refused.stderr.contains(part), "no {part:?}: {}", refused.stderr);
            }
        }
        ensure!(server.failures().is_empty(), "{:?}", server.failures());
        let log = spillway.log().lines().join("\n");
        ensure!(!log.contains("pa55 word"), "the password is in the log: {log}");
    }
    Ok(())
}

/// Cut at the start and the end of each packet, with the server's key asked for by Spillway.
#[test]
fn a_login_heals_where_the_password_is_encrypted_on_the_way() -> Result<()> {
    let server = mysql9::start(&[])?;
    let dir = tempfile::tempdir()?;
    let programs: [fn(&str, &Endpoint) -> Command; 2] = [mysql9::dumper, client::dumper];
    for program in programs {
        let fault = Fault::start(server.address())?;
        let spillway = from_socket(&dir, &Endpoint::Tcp(fault.address()), &["--get-server-public-key"])?;
        let log_in = || -> Result<()> {
            server.sql("FLUSH PRIVILEGES")?;
            let mut mysql = program("mysql", spillway.endpoint());
            process::run(mysql.args(["--execute", "DO 0"]), LIMIT)?.success()?;
            Ok(())
        };
        log_in()?;
        let login = fault.handshake(0)?;
        ensure!(login.packets.len() == 7, "not the full authentication: {login:?}");
        for direction in [Direction::FromServer, Direction::ToServer] {
            let mut start = 0;
            for end in login.ends(direction) {
                // Behind the process number in the client's first packet, offsets are not certain to a few bytes.
                let shorter = if direction == Direction::ToServer { DIGITS.min(start) } else { 0 };
                for (after, action) in [(start - shorter, Action::Cut), (end - 1 - shorter, Action::Reset)] {
                    let before = fault.connections();
                    fault.arm_next(1, direction, after, action);
                    log_in()
                        .with_context(|| format!("{action:?} after {after} {direction:?} of {login:?}"))?;
                    ensure!(fault.suffered(before) == Some(action), "not hit after {after} {direction:?}");
                }
                start = end;
            }
        }
    }
    Ok(())
}

#[test]
fn what_a_plugin_sends_in_clear_stays_with_the_client() -> Result<()> {
    let server = Server::start(&["--plugin-load-add=auth_pam", "--plugin-load-add=auth_ed25519"])?;
    server.sql(
        "CREATE USER asked@'%' IDENTIFIED VIA pam USING 'no-such-service';
         CREATE USER signed@'%' IDENTIFIED VIA ed25519 USING PASSWORD('pa55 word');",
    )?;
    let dir = tempfile::tempdir()?;
    let strict = from_socket(&dir, &server.tcp(), &[])?;
    let parts = ["dialog would send the password in clear", "--allow-cleartext"];
    assert_1251(&log_in(mariadb(&strict), "asked", &[])?, &parts)?;
    log_in(mariadb(&strict), "signed", &[])?.success()?;
    let lax = from_socket(&dir, &server.tcp(), &["--allow-cleartext"])?;
    let over_tcp = Spillway::to(&server.tcp()).start()?;
    for spillway in [&lax, &over_tcp] {
        let denied = log_in(mariadb(spillway), "asked", &[])?;
        ensure!(denied.stderr.contains("1045") && !denied.stderr.contains("spillway"), "{}", denied.stderr);
    }
    Ok(())
}

/// MySQL's client with a plugin that sends the password unasked, in its first answer.
#[test]
fn a_clear_password_in_the_first_answer() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let clear = ["--default-auth=mysql_clear_password", "--enable-cleartext-plugin"];
    // The account's plugin is another: it is asked for, and the password was not sent.
    let mut mysql = mysql9::dumper("mysql", from_socket(&dir, &server().tcp(), &[])?.endpoint());
    mysql.args(clear).args(["--execute", "DO 0"]);
    let strict = from_socket(&dir, &server().tcp(), &[])?;
    let mut command = mysql9::dumper("mysql", strict.endpoint());
    process::run(command.args(clear).args(["--execute", "DO 0"]), LIMIT)?.success()?;

    let heard = |options: &[&str]| -> Result<(Finished, Vec<String>)> {
        let server = Scripted::start("mysql_clear_password", |peer| {
            let response = peer.receive()?;
            if response.windows(9).any(|window| window == b"pa55 word") {
                return peer.ok();
            }
            peer.switch("mysql_clear_password", b"")?;
            let answer = peer.receive()?;
            ensure!(answer != b"pa55 word\0", "the password was sent");
            peer.deny()
        })?;
        let spillway = from_socket(&dir, &Endpoint::Tcp(server.address()), options)?;
        let mut command = mysql9::command("mysql", spillway.endpoint());
        command.arg("--enable-cleartext-plugin");
        Ok((log_in(command, "anybody", &[])?, server.failures()))
    };
    let (refused, failures) = heard(&[])?;
    assert_1251(&refused, &["mysql_clear_password would send the password in clear"])?;
    ensure!(failures.is_empty(), "{failures:?}");
    let (taken, failures) = heard(&["--allow-cleartext"])?;
    ensure!(failures.is_empty() && !taken.stderr.contains("1251"), "{} {failures:?}", taken.stderr);
    Ok(())
}

/// A second proof is passed on as it is, by the same rules.
#[test]
fn another_factor_is_passed_on() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let server = Scripted::start("mysql_native_password", |peer| {
        peer.receive()?;
        peer.send(b"\x02second_factor\0challenge")?;
        match peer.receive()?.as_slice() {
            b"response" => peer.ok(),
            _ => peer.deny(),
        }
    })?;
    let through = Spillway::to(&server.address()).start()?;
    let mut raw = Raw::connect(through.address()?)?;
    let capabilities = capability::USUAL | capability::MULTI_FACTOR;
    raw.write_packet(&wire::handshake_response(capabilities, "anybody", &[7; 20], None))?;
    ensure!(raw.message()? == b"\x02second_factor\0challenge", "the factor's plugin");
    raw.write_packet(b"response")?;
    raw.end()?.ok()?;
    ensure!(server.failures().is_empty(), "{:?}", server.failures());

    let strict = from_socket(&dir, &Endpoint::Tcp(server.address()), &[])?;
    let refused = log_in(mariadb(&strict), "anybody", &[])?;
    assert_1251(&refused, &["second_factor would send the password in clear"])?;
    Ok(())
}

/// Of MariaDB 11.6 and newer: the scramble may end in any byte, and the salt is asked for by an empty packet.
#[test]
fn parsec_is_passed_on() -> Result<()> {
    let scramble = [0; 32];
    let server = Scripted::start("mysql_native_password", move |peer| {
        peer.receive()?;
        peer.switch("parsec", &scramble)?;
        ensure!(peer.receive()?.is_empty(), "the salt was not asked for");
        peer.send(b"P\x00012345678901234567")?;
        ensure!(peer.receive()? == [9; 96], "no signature");
        peer.ok()
    })?;
    let through = Spillway::to(&server.address()).start()?;
    let mut raw = Raw::connect(through.address()?)?;
    raw.write_packet(&wire::handshake_response(capability::USUAL, "anybody", &[7; 20], None))?;
    ensure!(raw.message()? == [&b"\xfeparsec\0"[..], &scramble].concat(), "the switch");
    raw.write_packet(b"")?;
    ensure!(raw.message()? == b"P\x00012345678901234567", "the salt");
    raw.write_packet(&[9; 96])?;
    raw.end()?.ok()?;
    ensure!(server.failures().is_empty(), "{:?}", server.failures());
    Ok(())
}

#[test]
fn a_key_file_that_is_none() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let empty = dir.path().join("empty");
    std::fs::write(&empty, "")?;
    for file in ["/no/such/file", &empty.display().to_string(), "/etc/passwd", "/"] {
        let mut serve = client::clean(spillway_tests::spillway_bin());
        serve.args(["serve", "--upstream=127.0.0.1:1", "--listen=127.0.0.1:0"]);
        let finished = process::run(serve.args(["--upstream-server-public-key", file]), LIMIT)?;
        ensure!(finished.code() == 78, "{file}: status {}", finished.code());
        let named =
            finished.stderr.contains("--upstream-server-public-key") && finished.stderr.contains(file);
        ensure!(named, "{file}: {}", finished.stderr);
    }
    Ok(())
}

const LIMIT: Duration = Duration::from_secs(60);
