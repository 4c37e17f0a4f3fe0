//! Every authentication plugin of every server, in passthrough and with stored credentials, over TLS and without it.

use std::process::Command;
use std::sync::{LazyLock, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use spillway_tests::certificates::{Authority, Leaf};
use spillway_tests::fault::{Action, Direction};
use spillway_tests::process::{self, Finished};
use spillway_tests::{Endpoint, Fault, Raw, Scripted, Server, Spillway, client, mariadb11, mysql9};
use tempfile::{NamedTempFile, TempDir};

const PASSWORD: &str = "pa55 word";

/// Its accounts are called as their plugins.
fn mariadb() -> &'static Server {
    static SERVER: LazyLock<Server> = LazyLock::new(|| {
        let start = || -> Result<Server> {
            let server = mariadb11::start(&mariadb11::PLUGINS)?;
            for plugin in ["mysql_native_password", "ed25519", "parsec", "caching_sha2_password"] {
                server.sql(&format!(
                    "CREATE USER {plugin}@'%' IDENTIFIED VIA {plugin} USING PASSWORD('{PASSWORD}')"
                ))?;
            }
            Ok(server)
        };
        start().unwrap_or_else(|error| panic!("MariaDB 11: {error:#}"))
    });
    &SERVER
}

/// With TLS. It forgets all passwords at FLUSH PRIVILEGES.
fn mysql() -> &'static Server {
    static SERVER: LazyLock<Server> = LazyLock::new(|| {
        let start = || -> Result<Server> {
            let server = mysql9::start(&["--auto-generate-certs=ON"])?;
            for plugin in ["caching_sha2_password", "sha256_password"] {
                server.sql(&format!("CREATE USER {plugin} IDENTIFIED WITH {plugin} BY '{PASSWORD}'"))?;
            }
            // Nobody ever logs in with these, so that the server does not know their passwords.
            for user in ["unknown_by_tls", "unknown_by_stored"] {
                server.sql(&format!(
                    "CREATE USER {user} IDENTIFIED WITH caching_sha2_password BY '{PASSWORD}'"
                ))?;
            }
            Ok(server)
        };
        start().unwrap_or_else(|error| panic!("MySQL 9: {error:#}"))
    });
    &SERVER
}

type Client = fn(&str, &Endpoint) -> Command;

/// All clients, without TLS of their own.
const CLIENTS: [(Client, &str, &[&str]); 3] = [
    (mysql9::command, "mysql", &["--get-server-public-key"]),
    (mariadb11::plain, "mariadb", &[]),
    (plain_mariadb, "mysql", &[]),
];

fn plain_mariadb(program: &str, endpoint: &Endpoint) -> Command {
    let mut command = client::command(program, endpoint);
    command.arg("--skip-ssl");
    command
}

/// The tests run beside each other. While a server reads its accounts anew it refuses logins at times, also those that are
/// right (seen without Spillway: MariaDB 10.11, ed25519, 7 of 400), so nobody logs in meanwhile.
static ACCOUNTS: RwLock<()> = RwLock::new(());

/// Logs in to a server that knows no password by heart.
fn log_in_forgotten(server: &Server, command: Command, user: &str, more: &[&str]) -> Result<Finished> {
    let _nobody_else_logs_in = ACCOUNTS.write().unwrap_or_else(PoisonError::into_inner);
    server.sql("FLUSH PRIVILEGES")?;
    select_user(command, user, more)
}

fn log_in(command: Command, user: &str, more: &[&str]) -> Result<Finished> {
    let _accounts_stay = ACCOUNTS.read().unwrap_or_else(PoisonError::into_inner);
    select_user(command, user, more)
}

fn select_user(mut command: Command, user: &str, more: &[&str]) -> Result<Finished> {
    command.args([&format!("--user={user}"), &format!("--password={PASSWORD}")]);
    command.args(["--batch", "--skip-column-names", "--execute", "SELECT CURRENT_USER()"]).args(more);
    process::run(&mut command, LIMIT)
}

fn assert_is(finished: Finished, user: &str) -> Result<()> {
    let said = finished.success()?.text();
    ensure!(said.trim_end() == format!("{user}@%"), "{said}");
    Ok(())
}

/// An option file with an account that nobody else can read.
fn credentials(user: &str) -> Result<NamedTempFile> {
    let file = NamedTempFile::new()?;
    std::fs::write(&file, format!("[client]\nuser={user}\npassword=\"{PASSWORD}\"\n"))?;
    Ok(file)
}

fn stored(server: &Endpoint, user: &str, options: &[&str]) -> Result<(Spillway, NamedTempFile)> {
    let file = credentials(user)?;
    let path = file.path().display().to_string();
    let all = [&["--auth=stored", "--credentials", &path], options].concat();
    Ok((Spillway::to(server).options(&all).start()?, file))
}

fn listen(dir: &TempDir, name: &str) -> String {
    format!("unix:{}", dir.path().join(name).display())
}

/// The common case: no TLS to Spillway, and TLS from there to the server.
#[test]
fn a_client_without_tls_and_a_server_with_it() -> Result<()> {
    let through = Spillway::to(&mysql().tcp()).start()?;
    for (client, program, options) in CLIENTS {
        for user in ["caching_sha2_password", "sha256_password"] {
            let command = client(program, through.endpoint());
            let finished = log_in_forgotten(mysql(), command, user, options)?;
            assert_is(finished, user).with_context(|| format!("{program} {options:?} {user}"))?;
        }
    }
    let through = Spillway::to(&mariadb().tcp()).start()?;
    for user in ["mysql_native_password", "ed25519", "parsec", "caching_sha2_password"] {
        let finished = log_in(mariadb11::plain("mariadb", through.endpoint()), user, &[])?;
        assert_is(finished, user).with_context(|| user.to_owned())?;
    }
    let mysqls = mysql9::command("mysql", through.endpoint());
    assert_is(
        log_in(mysqls, "caching_sha2_password", &["--get-server-public-key"])?,
        "caching_sha2_password",
    )?;
    Ok(())
}

#[test]
fn a_client_with_tls_and_a_server_without_it() -> Result<()> {
    let authority = Authority::new("The tests' authority")?;
    let certificate = authority.issue(&Leaf::server())?;
    let own = [certificate.option("tls-cert"), certificate.option("tls-key")];
    let own = own.each_ref().map(String::as_str);
    let ca = format!("--ssl-ca={}", authority.file().display());
    let through = |server: &Server, options: &[&str]| {
        Spillway::to(&server.tcp()).options(&own).options(&["--upstream-tls=off"]).options(options).start()
    };
    let (strict, fetching) = (through(mysql(), &[])?, through(mysql(), &["--get-server-public-key"])?);
    let with_tls = |spillway: &Spillway| {
        let mut mysql = mysql9::command("mysql", spillway.endpoint());
        mysql.args(["--ssl-mode=VERIFY_CA", &ca]);
        let mut mariadb = mariadb11::command("mariadb", spillway.endpoint());
        mariadb.arg(&ca);
        [mysql, mariadb]
    };
    for user in ["unknown_by_tls", "sha256_password"] {
        for command in with_tls(&strict) {
            let refused = log_in(command, user, &[])?;
            for part in ["1251", "spillway: ", "--get-server-public-key"] {
                ensure!(refused.stderr.contains(part), "{user}, no {part:?}: {}", refused.stderr);
            }
        }
    }
    for user in ["caching_sha2_password", "sha256_password"] {
        for command in with_tls(&fetching) {
            assert_is(log_in_forgotten(mysql(), command, user, &[])?, user).context(user)?;
        }
    }
    let (strict, fetching) = (through(mariadb(), &[])?, through(mariadb(), &["--get-server-public-key"])?);
    let client = |spillway: &Spillway| {
        let [_, client] = with_tls(spillway);
        client
    };
    for user in ["mysql_native_password", "ed25519", "parsec"] {
        assert_is(log_in(client(&strict), user, &[])?, user).context(user)?;
    }
    let user = "caching_sha2_password";
    let refused = log_in(client(&strict), user, &[])?;
    ensure!(refused.stderr.contains("1251") && refused.stderr.contains("spillway: "), "{}", refused.stderr);
    assert_is(log_in(client(&fetching), user, &[])?, user)?;
    Ok(())
}

#[test]
fn tls_on_both_sides() -> Result<()> {
    let authority = Authority::new("The tests' authority")?;
    let certificate = authority.issue(&Leaf::server())?;
    let own = [certificate.option("tls-cert"), certificate.option("tls-key")];
    let ca = format!("--ssl-ca={}", authority.file().display());
    for (server, users) in [
        (mysql(), &["caching_sha2_password", "sha256_password"][..]),
        (mariadb(), &["mysql_native_password", "ed25519", "parsec", "caching_sha2_password"]),
    ] {
        let through = Spillway::to(&server.tcp()).options(&own.each_ref().map(String::as_str)).start()?;
        for &user in users {
            let client = mariadb11::command("mariadb", through.endpoint());
            let finished = log_in_forgotten(server, client, user, &[&ca])?;
            assert_is(finished, user).with_context(|| user.to_owned())?;
        }
    }
    Ok(())
}

/// Whatever plugin the account has, any client gets in: it proves itself to Spillway.
#[test]
fn stored_accounts_of_every_plugin() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let cases = [
        (mysql(), "caching_sha2_password"),
        (mysql(), "sha256_password"),
        (mariadb(), "mysql_native_password"),
        (mariadb(), "ed25519"),
        (mariadb(), "parsec"),
        (mariadb(), "caching_sha2_password"),
    ];
    for (server, user) in cases {
        let file = credentials(user)?;
        let path = file.path().display().to_string();
        let account = ["--auth=stored", "--credentials", &path];
        let socket = listen(&dir, user);
        for (upstream, options) in [
            (server.tcp(), &[][..]),
            (server.tcp(), &["--upstream-tls=off", "--get-server-public-key"]),
            (server.unix(), &["--allow-socket-upstream"]),
        ] {
            let _ = std::fs::remove_file(dir.path().join(user));
            let through =
                Spillway::to(&upstream).listen(&socket).options(&account).options(options).start()?;
            for (client, program, _) in CLIENTS {
                let finished = log_in_forgotten(server, client(program, through.endpoint()), user, &[])?;
                assert_is(finished, user)
                    .with_context(|| format!("{program} to {user} over {upstream} {options:?}"))?;
            }
        }
    }
    Ok(())
}

#[test]
fn stored_accounts_that_want_a_key_are_told_how_to_get_it() -> Result<()> {
    for (server, user) in [
        (mysql(), "sha256_password"),
        (mysql(), "caching_sha2_password"),
        (mariadb(), "caching_sha2_password"),
    ] {
        let (through, _file) = stored(&server.tcp(), user, &["--upstream-tls=off"])?;
        let refused = log_in_forgotten(server, mysql9::command("mysql", through.endpoint()), user, &[])?;
        for part in ["1251", user, "--upstream-server-public-key", "--get-server-public-key", "TLS"] {
            ensure!(refused.stderr.contains(part), "no {part:?}: {}", refused.stderr);
        }
    }
    Ok(())
}

/// A dump by MySQL's client, which has none of the account's plugins, over a network that cuts each connection once.
#[test]
fn logins_by_every_plugin_heal() -> Result<()> {
    for (server, user) in [
        (mariadb(), "parsec"),
        (mariadb(), "ed25519"),
        (mariadb(), "caching_sha2_password"),
        (mysql(), "sha256_password"),
    ] {
        let fault = Fault::start(server.address())?;
        let upstream = Endpoint::Tcp(fault.address());
        let options = ["--upstream-tls=off", "--get-server-public-key"];
        let (through, _file) = stored(&upstream, user, &options)?;
        let select = || log_in(mysql9::command("mysql", through.endpoint()), user, &[]);
        assert_is(select()?, user)?;
        let login = fault.handshake(1)?;
        for direction in [Direction::FromServer, Direction::ToServer] {
            for end in login.ends(direction) {
                let before = fault.connections();
                fault.arm_next(1, direction, end - 1, Action::Cut);
                assert_is(select()?, user).with_context(|| format!("{user}: {direction:?} at {end}"))?;
                // Of a packet that is not always of the same length the last byte may be another's.
                ensure!(fault.connections() > before, "no connection");
                fault.heal();
            }
        }
    }
    Ok(())
}

/// The iterations are the server's to choose, and not without a limit.
#[test]
fn a_parsec_salt_that_would_take_for_ever() -> Result<()> {
    for salt in [&b"\x01P\xff45678901234567890"[..], b"\x01P", b"\x01Q\0salt", b"\x01P\0"] {
        let salt = salt.to_vec();
        let server = Scripted::start("mysql_native_password", move |peer| {
            peer.receive()?;
            peer.switch("parsec", &[7; 32])?;
            ensure!(peer.receive()?.is_empty(), "the salt was not asked for");
            peer.send(&salt)
        })?;
        let (through, _file) = stored(&Endpoint::Tcp(server.address()), "anybody", &[])?;
        let error = Raw::connect(through.address()?).err().context("it went well")?;
        ensure!(format!("{error:#}").contains("not understood"), "{error:#}");
        ensure!(server.failures().is_empty(), "{:?}", server.failures());
    }
    Ok(())
}

const LIMIT: Duration = Duration::from_secs(60);
