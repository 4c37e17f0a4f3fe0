//! COM_CHANGE_USER: the same exchange as in a login, with the same rules, and a session that is right afterwards.

use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mysql_async::prelude::Queryable as _;
use mysql_async::{ChangeUserOpts, Conn, OptsBuilder};
use spillway_tests::fault::{Action, Direction};
use spillway_tests::raw::{End, Head};
use spillway_tests::server::{PASSWORD, USER};
use spillway_tests::stored::credentials;
use spillway_tests::wire::{self, NATIVE, command};
use spillway_tests::{Endpoint, Fault, Raw, Scripted, Server, Spillway, mysql9};
use tempfile::TempDir;

fn mysql() -> &'static Server {
    static SERVER: LazyLock<Server> = LazyLock::new(|| {
        let start = || -> Result<Server> {
            let server = mysql9::start(&[])?;
            for user in ["first", "second", "third", "fourth", "fifth"] {
                server.sql(&format!(
                    "CREATE USER {user} IDENTIFIED WITH caching_sha2_password BY 'pa55 word'"
                ))?;
            }
            Ok(server)
        };
        start().unwrap_or_else(|error| panic!("MySQL 9: {error:#}"))
    });
    &SERVER
}

fn mariadb() -> &'static Server {
    static SERVER: LazyLock<Server> = LazyLock::new(|| {
        let start = || -> Result<Server> {
            let server = Server::start(&["--plugin-load-add=auth_ed25519"])?;
            server.sql(
                "CREATE USER other@'%' IDENTIFIED BY 'its own'; CREATE DATABASE others;
                 GRANT ALL ON others.* TO other@'%'",
            )?;
            Ok(server)
        };
        start().unwrap_or_else(|error| panic!("MariaDB: {error:#}"))
    });
    &SERVER
}

fn listen(dir: &TempDir, name: &str) -> String {
    format!("unix:{}", dir.path().join(name).display())
}

/// A driver's session with the tests' account.
async fn connect(spillway: &Spillway) -> Result<Conn> {
    let options = OptsBuilder::default().user(Some(USER)).pass(Some(PASSWORD)).prefer_socket(false);
    let options = match spillway.endpoint() {
        Endpoint::Tcp(address) => options.ip_or_hostname(address.ip().to_string()).tcp_port(address.port()),
        Endpoint::Unix(path) => options.socket(Some(path.display().to_string())),
    };
    Ok(Conn::new(options).await?)
}

fn to(user: &str) -> ChangeUserOpts {
    ChangeUserOpts::new().with_user(Some(user.into())).with_pass(Some("pa55 word".into())).with_db_name(None)
}

async fn who(conn: &mut Conn) -> Result<(String, Option<String>, u64)> {
    let who = conn.query_first("SELECT CURRENT_USER(), @state, @@net_write_timeout").await?;
    who.context("no row")
}

/// The server does not remember the passwords, so that each change takes the password itself.
#[tokio::test]
async fn the_password_itself_crosses_the_bridge() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let encrypted = Spillway::to(&mysql().unix()).options(&["--allow-socket-upstream"]).start()?;
    let from_socket = |options: &[&str], name: &str| {
        Spillway::to(&mysql().tcp()).listen(&listen(&dir, name)).options(options).start()
    };
    let in_clear = from_socket(&["--get-server-public-key"], "a")?;
    for (spillway, user) in [(&encrypted, "first"), (&in_clear, "second")] {
        let mut conn = connect(spillway).await?;
        conn.query_drop("SET @state = 'kept'").await?;
        conn.change_user(to(user)).await.with_context(|| user.to_owned())?;
        ensure!(
            who(&mut conn).await? == (format!("{user}@%"), None, 86_400),
            "{user}: {:?}",
            who(&mut conn).await?
        );
    }
    let strict = from_socket(&[], "b")?;
    let mut conn = connect(&strict).await?;
    let error = conn.change_user(to("third")).await.expect_err("a password that may not go on");
    ensure!(error.to_string().contains("--get-server-public-key"), "{error}");
    Ok(())
}

/// MySQL's server ends the session then, MariaDB's lets it go on without what it held.
#[tokio::test]
async fn a_change_that_the_server_refuses() -> Result<()> {
    let spillway = Spillway::to(&mysql().tcp()).start()?;
    let mut conn = connect(&spillway).await?;
    let wrong = to("fourth").with_pass(Some("wrong".into()));
    let error = conn.change_user(wrong).await.expect_err("a wrong password");
    ensure!(error.to_string().contains("1045") && !error.to_string().contains("spillway"), "{error}");
    let end = spillway.wait_for_session_end(1, LIMIT)?;
    ensure!(end.contains("refused a change of user"), "{end}");
    ensure!(conn.ping().await.is_err(), "the session goes on");

    refuse_and_go_on(&mut Raw::login(mariadb().address())?).context("directly")?;
    let spillway = Spillway::to(&mariadb().tcp()).start()?;
    let mut raw = Raw::login(spillway.address()?)?;
    refuse_and_go_on(&mut raw)?;
    ensure!(raw.value("SELECT @@net_write_timeout")? == "86400", "without session-init");
    Ok(())
}

fn refuse_and_go_on(raw: &mut Raw) -> Result<()> {
    raw.execute("SET @state = 'kept'")?;
    let error = raw.change_user("other", "wrong", "others")?.err()?;
    ensure!(error.code == 1045 && !error.message.contains("spillway"), "{error:?}");
    ensure!(raw.value("SELECT @state")? == "NULL", "the session was not wiped");
    ensure!(raw.value("SELECT CURRENT_USER()")? == format!("{USER}@%"), "another user");
    raw.change_user("other", "its own", "others")?.ok()?;
    ensure!(raw.value("SELECT CURRENT_USER()")? == "other@%", "not the other user");
    Ok(())
}

/// The client's greeting was of a connection that is lost: the server at its place knows another scramble.
#[test]
fn a_session_that_was_healed_in_its_login() -> Result<()> {
    let fault = Fault::start(mariadb().address())?;
    let spillway = Spillway::to(&fault.address()).start()?;
    drop(Raw::login(spillway.address()?)?);
    let greeting = fault.handshake(0)?.greeting();
    fault.arm_next(1, Direction::FromServer, greeting + 1, Action::Cut);
    let mut raw = Raw::login(spillway.address()?)?;
    spillway.wait_for_log("reached the server in the end", LIMIT)?;
    for (user, password) in [("other", "its own"), (USER, PASSWORD), ("other", "its own")] {
        raw.change_user(user, password, "")?.ok().context(user)?;
        ensure!(raw.value("SELECT CURRENT_USER()")? == format!("{user}@%"), "not {user}");
    }
    Ok(())
}

/// All that was asked before is answered first, and what comes behind it is not lost.
#[test]
fn a_change_behind_commands_that_are_not_answered() -> Result<()> {
    let spillway = Spillway::to(&mariadb().tcp()).start()?;
    let mut raw = Raw::login(spillway.address()?)?;
    let statement = "SELECT REPEAT('x', 100000) FROM seq_1_to_300";
    let scramble = wire::native_scramble("its own", &raw.greeting().salt);
    let change = wire::change_user("other", &scramble, "others");
    for _ in 0..2 {
        raw.send(command::QUERY, statement.as_bytes())?;
    }
    raw.send(command::CHANGE_USER, &change)?;
    for _ in 0..2 {
        raw.restart_sequence();
        ensure!(raw.head()? == Head::Columns(1), "the columns");
        let mut rows = 0;
        raw.rows(|_| rows += 1)?.ok()?;
        ensure!(rows == 300, "{rows} rows");
    }
    raw.restart_sequence();
    let mut answer = raw.message()?;
    if answer.first() == Some(&0xfe) {
        let salt = answer[NATIVE.len() + 2..].strip_suffix(b"\0").context("a salt")?.to_vec();
        raw.write_packet(&wire::native_scramble("its own", &salt))?;
        answer = raw.message()?;
    }
    raw.end_of(&answer)?.ok()?;
    ensure!(raw.value("SELECT CURRENT_USER()")? == "other@%", "not the other user");
    drop(raw);
    let line = spillway.wait_for_session_end(1, LIMIT)?;
    // Two of them were for Spillway: the idle timeouts, after the login and after the change.
    ensure!(line.contains("rows=603"), "not the rows of all of the session: {line}");
    Ok(())
}

#[test]
fn a_command_that_is_cut_short() -> Result<()> {
    let spillway = Spillway::to(&mariadb().tcp()).start()?;
    let mut raw = Raw::login(spillway.address()?)?;
    raw.execute("SET @state = 'kept'")?;
    for body in [&b""[..], b"no end", b"user\0\xff"] {
        let error = raw.run(command::CHANGE_USER, body)?.err()?;
        ensure!(error.code == 1043 && error.message.starts_with("spillway:"), "{error:?}");
    }
    ensure!(raw.value("SELECT @state")? == "kept", "the session is not as it was");
    // Its attributes make it longer than the commands that are looked at as a whole.
    let scramble = wire::native_scramble("its own", &raw.greeting().salt);
    let mut long = wire::change_user("other", &scramble, "others");
    long.resize(20_000, b'x');
    raw.send(command::CHANGE_USER, &long)?;
    let answer = raw.message()?;
    ensure!(answer.first() == Some(&0xfe) || raw.end_of(&answer)?.ok().is_ok(), "{answer:?}");
    Ok(())
}

#[test]
fn a_server_that_is_lost_in_it() -> Result<()> {
    let fault = Fault::start(mariadb().address())?;
    let credentials = credentials()?;
    let path = credentials.path().display().to_string();
    for options in [&[][..], &["--auth=stored", "--credentials", &path]] {
        let spillway = Spillway::to(&fault.address()).options(options).start()?;
        for after in [0, 3, 30] {
            let mut raw = Raw::login(spillway.address()?)?;
            raw.value("SELECT 1")?;
            fault.arm(after, Action::Cut);
            let end = raw.change_user(USER, PASSWORD, "test");
            fault.heal();
            let End::Err(error) = end? else { anyhow::bail!("{options:?} {after}: it was let in") };
            let right = error.code == 2013 && error.message.contains("in a change of user");
            ensure!(right, "{options:?} {after}: {error:?}");
            raw.expect_closed(LIMIT)?;
        }
    }
    Ok(())
}

/// With stored credentials it is Spillway that checks the client, and logs in anew by itself.
#[tokio::test]
async fn with_stored_credentials() -> Result<()> {
    let credentials = credentials()?;
    let path = credentials.path().display().to_string();
    let stored = ["--auth=stored", "--credentials", &path];
    let dir = tempfile::tempdir()?;
    let server = mysql9::start(&[])?;
    let fetching = [&stored[..], &["--get-server-public-key"]].concat();
    let over_tcp = Spillway::to(&server.tcp()).options(&fetching).start()?;
    let over_socket = Spillway::to(&server.tcp()).listen(&listen(&dir, "s")).options(&fetching).start()?;
    for spillway in [&over_tcp, &over_socket] {
        let mut conn = connect(spillway).await?;
        conn.query_drop("SET @state = 'kept'").await?;
        server.sql("FLUSH PRIVILEGES")?;
        let account = || ChangeUserOpts::new().with_user(Some(USER.into())).with_pass(Some(PASSWORD.into()));
        conn.change_user(account().with_db_name(Some("test".into()))).await?;
        ensure!(who(&mut conn).await? == (format!("{USER}@%"), None, 86_400), "{:?}", who(&mut conn).await?);
        // What has nothing to do with the server leaves the session as it is.
        conn.query_drop("SET @state = 'kept'").await?;
        let error = conn.change_user(to("first")).await.expect_err("another account");
        ensure!(error.to_string().contains("1045") && error.to_string().contains("passthrough"), "{error}");
        ensure!(who(&mut conn).await?.1 == Some("kept".to_owned()), "{:?}", who(&mut conn).await?);
        let wrong = account().with_pass(Some("wrong".into()));
        let error = conn.change_user(wrong).await.expect_err("a wrong password");
        ensure!(error.to_string().contains("1045"), "{error}");
        // As directly, with MySQL's server.
        ensure!(conn.ping().await.is_err(), "the session goes on");
    }
    Ok(())
}

/// A server's packets in the exchange are taken for what they are, however odd they are.
#[test]
fn an_odd_server() -> Result<()> {
    let server = Scripted::start("mysql_native_password", |peer| {
        peer.receive()?;
        peer.ok()
    })?;
    let spillway = Spillway::to(&server.address()).start()?;
    let mut raw = Raw::connect(spillway.address()?)?;
    raw.log_in(NATIVE, "anybody", "", None)?.ok()?;
    // The script answers every command by OK: that is a change of user without any proof.
    raw.change_user("somebody", "", "")?.ok()?;
    ensure!(raw.run(command::PING, b"")? == End::Ok { affected: 0, status: 2 }, "the session afterwards");
    Ok(())
}

const LIMIT: Duration = Duration::from_secs(60);
