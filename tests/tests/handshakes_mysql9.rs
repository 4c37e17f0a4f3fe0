//! Failed handshakes heal with MySQL 9, its server and its clients, as far as they let them: MySQL's client takes one
//! AuthSwitchRequest in a connection, so it can be made to answer a second time, and not a third.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use mysql_async::prelude::Queryable as _;
use mysql_async::{ChangeUserOpts, Conn, OptsBuilder};
use spillway_tests::fault::{Action, Direction, Handshake};
use spillway_tests::handshakes::{Case, DIGITS, Matrix, Verdict, every_offset};
use spillway_tests::log::field;
use spillway_tests::process::{self, Finished};
use spillway_tests::server::{PASSWORD, USER};
use spillway_tests::wire::capability;
use spillway_tests::{Endpoint, Fault, Raw, Server, Spillway, client, mysql9};
use tempfile::NamedTempFile;

fn server() -> &'static Server {
    static SERVER: LazyLock<Server> =
        LazyLock::new(|| start().unwrap_or_else(|error| panic!("MySQL 9: {error:#}")));
    &SERVER
}

/// Its cache keeps the account's password: tests that empty it have a server of their own.
fn start() -> Result<Server> {
    let server = mysql9::start(&[])?;
    server.sql(
        "USE test;
         CREATE TABLE small (id INT PRIMARY KEY, text VARCHAR(100));
         INSERT INTO small WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)
             SELECT i, REPEAT('x', 50) FROM n;",
    )?;
    Ok(server)
}

fn dump(endpoint: &Endpoint) -> Command {
    let mut command = mysql9::dumper("mysqldump", endpoint);
    command.args(["--single-transaction", "test"]);
    command
}

fn dump_by_mariadb(endpoint: &Endpoint) -> Command {
    let mut command = client::dumper("mysqldump", endpoint);
    command.args(["--single-transaction", "test"]);
    command
}

fn finish(command: &mut Command) -> Result<Finished> {
    process::run(command, LIMIT)
}

/// What the client writes without Spillway.
fn direct(client: fn(&Endpoint) -> Command) -> Result<Vec<u8>> {
    let finished = finish(&mut client(&server().tcp()))?.success()?;
    Ok(client::normalised(&finished.stdout))
}

/// The packets of a login without Spillway.
fn login(client: fn(&Endpoint) -> Command) -> Result<Handshake> {
    let fault = Fault::start(server().address())?;
    finish(&mut client(&Endpoint::Tcp(fault.address())))?.success()?;
    fault.handshake(0)
}

/// The packets on the connection that takes the place of a lost one.
fn healing_login() -> Result<Handshake> {
    let fault = Fault::start(server().address())?;
    let spillway = Spillway::to(&fault.address()).start()?;
    fault.arm_next(1, Direction::FromServer, login(dump)?.greeting(), Action::Cut);
    finish(&mut dump(spillway.endpoint()))?.success()?;
    fault.handshake(1)
}

/// Where the healing connection asks the client to answer anew: bytes of each direction until then.
fn bytes_until_switch(healing: &Handshake) -> Result<[u64; 2]> {
    let switch = healing.auth_switch().context("no AuthSwitchRequest")?;
    let response = healing.ends(Direction::ToServer)[0];
    Ok([healing.greeting() + switch, response])
}

fn matrix<'a>(
    client: &'a (dyn Fn(&Endpoint) -> Command + Sync),
    options: &'a [&'a str],
    expected: &'a [u8],
) -> Matrix<'a> {
    Matrix { server: server().address(), options, client, expected }
}

/// Offsets of both directions: each byte of the server's and every so many of the client's are lost once.
fn losses(login: &Handshake, step: usize) -> Vec<Case> {
    let mut cases = every_offset(1, Direction::FromServer, login.total(Direction::FromServer), &CUTS);
    cases.extend(some(login, Direction::ToServer, 1, step, &CUTS));
    cases
}

/// Each `step`-th offset of one direction.
fn some(login: &Handshake, direction: Direction, times: usize, step: usize, actions: &[Action]) -> Vec<Case> {
    let shorter = if direction == Direction::ToServer { DIGITS } else { 0 };
    let offsets = (0..login.total(direction) - shorter).skip(step / 2).step_by(step);
    let actions = actions.iter().cycle();
    offsets.zip(actions).map(|(after, &action)| Case { times, direction, after, action }).collect()
}

/// As [`some`], in both directions.
fn both(login: &Handshake, times: usize, step: usize, actions: &[Action]) -> Vec<Case> {
    [Direction::FromServer, Direction::ToServer]
        .into_iter()
        .flat_map(|direction| some(login, direction, times, step, actions))
        .collect()
}

/// Whether it is certain on which side of the response's end this is.
fn is_clear(case: &Case, response: u64) -> bool {
    case.direction == Direction::FromServer || case.after.abs_diff(response) > DIGITS
}

#[test]
fn direct_clients_die_of_each_fault() -> Result<()> {
    let fault = Fault::start(server().address())?;
    let login = login(dump)?;
    for direction in [Direction::FromServer, Direction::ToServer] {
        let total = login.total(direction);
        for after in [0, total / 2, total - 1 - DIGITS] {
            for action in CUTS {
                fault.arm_next(1, direction, after, action);
                let finished = finish(&mut dump(&Endpoint::Tcp(fault.address())))?;
                ensure!(!finished.status.success(), "{direction:?} {after} {action:?}: the dump survived");
                ensure!(finished.stderr.contains("2013"), "{}", finished.stderr);
            }
        }
    }
    Ok(())
}

#[test]
fn every_offset_heals_once_in_passthrough() -> Result<()> {
    matrix(&dump, &[], &direct(dump)?).run(&losses(&login(dump)?, 3), |_| Verdict::Right)
}

#[test]
fn several_losses_heal_until_the_client_was_asked_twice() -> Result<()> {
    let login = login(dump)?;
    let [_, response] = bytes_until_switch(&healing_login()?)?;
    let mut cases = both(&login, 2, 5, &CUTS);
    cases.extend(both(&login, 5, 31, &CUTS));
    cases.retain(|case| is_clear(case, response));
    // The answer to the AuthSwitchRequest is lost: in a first connection these bytes are of the response.
    let late = |case: &Case| case.direction == Direction::ToServer && case.after > response;
    ensure!(cases.iter().any(late), "no case where the client was asked twice");
    matrix(&dump, &[], &direct(dump)?)
        .run(&cases, |case| if late(case) { Verdict::Loud } else { Verdict::Right })
}

#[test]
fn a_second_loss_heals_until_the_client_was_asked_twice() -> Result<()> {
    let (first, healing) = (login(dump)?.greeting(), healing_login()?);
    let [asked, _] = bytes_until_switch(&healing)?;
    let total = healing.total(Direction::FromServer);
    // Each byte about the end of the AuthSwitchRequest, and some of the others.
    let chosen = |case: &Case| case.after.is_multiple_of(4) || case.after.abs_diff(asked) < 3;
    let second = every_offset(2, Direction::FromServer, total, &CUTS).into_iter().filter(chosen);
    let arm = |case: &Case, fault: &Fault| {
        // The one plan counts the bytes of both connections, the other those of the first.
        fault.arm(first + case.after, case.action);
        fault.arm_next(1, Direction::FromServer, first, Action::Cut);
    };
    // With no byte at all, the loss of the second would be that of the first.
    let cases: Vec<_> = second.filter(|case| case.after > 0).collect();
    matrix(&dump, &[], &direct(dump)?)
        .run_armed(&cases, arm, |case| if case.after < asked { Verdict::Right } else { Verdict::Loud })
}

/// The whole password, encrypted by the server's key: more packets of both sides, each of which may be the last.
/// MariaDB's client would like TLS, and as there is none it sends the password in clear, which no server takes over TCP
/// (1045, also without Spillway; tried: 10.11); with `--skip-ssl` it encrypts it.
#[test]
fn every_packet_heals_once_where_the_password_is_not_cached() -> Result<()> {
    let server = mysql9::start(&[])?;
    let fault = Fault::start(server.address())?;
    let spillway = Spillway::to(&fault.address()).start()?;
    let log_in = || -> Result<()> {
        server.sql("FLUSH PRIVILEGES")?;
        let mut mysql = mysql9::dumper("mysql", spillway.endpoint());
        finish(mysql.args(["--get-server-public-key", "--execute", "DO 0"]))?.success()?;
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
                log_in().with_context(|| format!("{action:?} after {after} {direction:?} of {login:?}"))?;
                ensure!(fault.suffered(before) == Some(action), "not hit after {after} {direction:?}");
            }
            start = end;
        }
    }
    Ok(())
}

/// It comes behind the packet that says that the password was right.
#[test]
fn a_missing_database_is_the_servers_own_error() -> Result<()> {
    let spillway = Spillway::to(&server().tcp()).start()?;
    for program in [mysql9::dumper, client::dumper] {
        let [direct, through] = [&server().tcp(), spillway.endpoint()]
            .map(|endpoint| finish(program("mysql", endpoint).args(["--execute", "SELECT 1", "missing"])));
        let (direct, through) = (direct?, through?);
        ensure!(direct.stderr.contains("ERROR 1049 (42000)"), "{}", direct.stderr);
        ensure!(through.stderr == direct.stderr, "{}\nand directly: {}", through.stderr, direct.stderr);
    }
    Ok(())
}

#[test]
fn stalls_heal_in_passthrough() -> Result<()> {
    let login = login(dump)?;
    let [_, response] = bytes_until_switch(&healing_login()?)?;
    let mut cases = both(&login, 1, 23, &[Action::BlackHole]);
    cases.extend(both(&login, 2, 47, &[Action::BlackHole]));
    cases.retain(|case| is_clear(case, response));
    let late = |case: &Case| case.times > 1 && case.direction == Direction::ToServer && case.after > response;
    // Long enough for a busy machine: a time-out that is no stall's would be one too many for this client.
    let options = ["--greeting-timeout=1s", "--auth-timeout=3s"];
    matrix(&dump, &options, &direct(dump)?)
        .run(&cases, |case| if late(case) { Verdict::Loud } else { Verdict::Right })
}

#[test]
fn every_offset_heals_with_stored_credentials() -> Result<()> {
    let (file, login) = (credentials(USER, PASSWORD)?, login(dump)?);
    let mut cases = losses(&login, 5);
    cases.extend(both(&login, 2, 9, &CUTS));
    cases.extend(both(&login, 5, 37, &CUTS));
    cases.extend(both(&login, 1, 23, &[Action::BlackHole]));
    cases.extend(both(&login, 2, 61, &[Action::BlackHole]));
    let options = [&QUICK[..], &stored(&file)?].concat();
    matrix(&dump, &options, &direct(dump)?).run(&cases, |_| Verdict::Right)
}

/// It takes any number of AuthSwitchRequests.
#[test]
fn mariadbs_client_heals_whatever_was_lost() -> Result<()> {
    let (file, login) = (credentials(USER, PASSWORD)?, login(dump_by_mariadb)?);
    let expected = direct(dump_by_mariadb)?;
    let mut cases = both(&login, 1, 6, &CUTS);
    cases.extend(both(&login, 2, 13, &CUTS));
    cases.extend(both(&login, 5, 43, &CUTS));
    cases.extend(both(&login, 1, 41, &[Action::BlackHole]));
    matrix(&dump_by_mariadb, &QUICK, &expected).run(&cases, |_| Verdict::Right)?;
    let options = [&QUICK[..], &stored(&file)?].concat();
    matrix(&dump_by_mariadb, &options, &expected).run(&cases, |_| Verdict::Right)
}

/// MySQL 9's clients have no `mysql_native_password`; with stored credentials it is Spillway's to have it.
#[test]
fn mysqls_client_dumps_a_mariadb_with_stored_credentials() -> Result<()> {
    let server = Server::start(&[])?;
    server.sql(
        "USE test; CREATE TABLE small (id INT PRIMARY KEY, text VARCHAR(100));
         INSERT INTO small SELECT seq, REPEAT('ö', seq) FROM seq_1_to_100;",
    )?;
    let rows = |mut command: Command| -> Result<Vec<String>> {
        command.args(["--single-transaction", "--skip-extended-insert", "--complete-insert", "test"]);
        let text = finish(&mut command)?.success()?.text();
        Ok(text.lines().filter(|line| line.starts_with("INSERT INTO")).map(str::to_owned).collect())
    };
    let file = credentials(USER, PASSWORD)?;
    let options = stored(&file)?;
    let spillway = Spillway::to(&server.tcp()).options(&options).start()?;
    let expected = rows(client::dumper("mysqldump", &server.tcp()))?;
    ensure!(expected.len() == 100, "{} rows", expected.len());
    ensure!(rows(mysql9::dumper("mysqldump", spillway.endpoint()))? == expected, "other rows");

    let refused = finish(&mut dump(&server.tcp()))?;
    ensure!(refused.stderr.contains("2059"), "without Spillway: {}", refused.stderr);
    for account in [["--user=dump", "--password=wrong"], ["--user=dump", "--skip-password"]] {
        let refused = finish(mysql9::command("mysqldump", spillway.endpoint()).args(account).arg("test"))?;
        ensure!(refused.stderr.contains("1045"), "{account:?}: {}", refused.stderr);
    }

    let fault = Fault::start(server.address())?;
    let through = Spillway::to(&fault.address()).options(&options).start()?;
    let dumped = finish(&mut dump(through.endpoint()))?.success()?;
    // Behind the login by which the server was learned.
    let login = fault.handshake(1)?;
    let mut cases = both(&login, 1, 11, &CUTS);
    cases.extend(both(&login, 5, 71, &CUTS));
    let expected = client::normalised(&dumped.stdout);
    Matrix { server: server.address(), options: &options, client: &dump, expected: &expected }
        .run(&cases, |_| Verdict::Right)
}

/// The full authentication takes the password itself, which goes over no TCP connection in clear.
#[test]
fn a_stored_password_that_the_server_does_not_remember() -> Result<()> {
    let server = mysql9::start(&[])?;
    let file = credentials(USER, PASSWORD)?;
    let fault = Fault::start(server.address())?;
    let over_tcp = Spillway::to(&fault.address()).options(&stored(&file)?).start()?;
    let refuse = |when: &str| -> Result<()> {
        server.sql("FLUSH PRIVILEGES")?;
        for mut mysql in
            [mysql9::dumper("mysql", over_tcp.endpoint()), client::dumper("mysql", over_tcp.endpoint())]
        {
            let (before, started) = (fault.connections(), Instant::now());
            let refused = finish(mysql.args(["--execute", "SELECT 1"]))?;
            for part in ["1251", "spillway: the account's plugin caching_sha2_password", "over TCP"] {
                ensure!(refused.stderr.contains(part), "{when}, no {part:?}: {}", refused.stderr);
            }
            ensure!(fault.connections() == before + 1, "{when}: {} attempts", fault.connections() - before);
            ensure!(started.elapsed() < Duration::from_secs(10), "{when}: {:?}", started.elapsed());
        }
        Ok(())
    };
    refuse("when the server is learned")?;

    // Over the Unix socket it may go; then the server remembers it.
    let dir = tempfile::tempdir()?;
    let listen = format!("unix:{}", dir.path().join("s").display());
    let over_socket = Spillway::to(&server.unix()).listen(&listen).options(&stored(&file)?).start()?;
    let select = |spillway: &Spillway| -> Result<()> {
        finish(mysql9::dumper("mysql", spillway.endpoint()).args(["--execute", "SELECT 1"]))?.success()?;
        Ok(())
    };
    select(&over_socket)?;
    select(&over_tcp)?;
    refuse("when the server is known")
}

#[test]
fn a_stored_password_that_is_wrong() -> Result<()> {
    let file = credentials(USER, "wrong")?;
    let log_in = |spillway: &Spillway| {
        let mut mysql = mysql9::command("mysql", spillway.endpoint());
        finish(mysql.args(["--user=dump", "--password=wrong", "--execute", "SELECT 1"]))
    };
    let dir = tempfile::tempdir()?;
    let listen = format!("unix:{}", dir.path().join("s").display());
    let over_socket = Spillway::to(&server().unix()).listen(&listen).options(&stored(&file)?).start()?;
    let refused = log_in(&over_socket)?;
    // The server's own words name the account, and this client has proved nothing: they are for the log.
    ensure!(refused.stderr.contains("1045") && refused.stderr.contains("spillway:"), "{}", refused.stderr);
    ensure!(!refused.stderr.contains("'dump'"), "{}", refused.stderr);
    let words = "Access denied for user 'dump'@'localhost' (using password: YES)";
    over_socket.wait_for_log(words, LIMIT)?;
    ensure!(!over_socket.log().lines().join("\n").contains("attempt="), "more than one attempt");

    // Without the password, the server cannot tell a wrong one from one that it does not remember.
    let fault = Fault::start(server().address())?;
    let over_tcp = Spillway::to(&fault.address()).options(&stored(&file)?).start()?;
    let refused = log_in(&over_tcp)?;
    for part in ["1251", "see that it is right"] {
        ensure!(refused.stderr.contains(part), "no {part:?}: {}", refused.stderr);
    }
    ensure!(fault.connections() == 1, "{} attempts", fault.connections());
    Ok(())
}

#[test]
fn a_stored_account_without_a_password() -> Result<()> {
    server()
        .sql("CREATE USER open IDENTIFIED WITH caching_sha2_password BY ''; GRANT ALL ON test.* TO open")?;
    let file = credentials("open", "")?;
    let spillway = Spillway::to(&server().tcp()).options(&stored(&file)?).start()?;
    for command in [mysql9::command, client::command] {
        let select = |password: &str| {
            let mut mysql = command("mysql", spillway.endpoint());
            finish(mysql.args(["--user=open", password, "--skip-column-names", "--execute", "SELECT USER()"]))
        };
        let user = select("--skip-password")?.success()?.text();
        ensure!(user.starts_with("open@"), "{user}");
        let refused = select("--password=wrong")?;
        ensure!(refused.stderr.contains("(using password: YES)"), "{}", refused.stderr);
    }
    Ok(())
}

#[test]
fn an_idle_session_goes_on_with_a_new_connection() -> Result<()> {
    let file = credentials(USER, PASSWORD)?;
    let fault = Fault::start(server().address())?;
    let spillway = Spillway::to(&fault.address()).options(&stored(&file)?).start()?;
    // Spillway takes `mysql_native_password` from a client, whatever the account has.
    let mut raw = Raw::login_with(spillway.address()?, capability::USUAL, None)?;
    let log = spillway.log().lines().join("\n");
    ensure!(
        !log.contains("in the end"),
        "the login by which the server is learned is no failed attempt: {log}"
    );
    raw.execute("SET NAMES utf8mb4")?;
    raw.execute("USE test")?;
    let who = raw.query("SELECT @@server_uuid")?;
    for (times, action) in [(1, Action::Cut), (2, Action::Reset)] {
        fault.strike(action);
        spillway.log().wait_for_nth("and can go on", times, LIMIT)?;
        ensure!(raw.query("SELECT @@server_uuid")? == who, "another server");
        let line = spillway.log().wait_for_nth("the session goes on", times, LIMIT)?;
        ensure!(line.contains("settings=2"), "{line}");
    }
    let settings = raw.query("SELECT @@character_set_client, @@character_set_results, DATABASE()")?;
    ensure!(settings == [["utf8mb4", "utf8mb4", "test"]], "{settings:?}");
    Ok(())
}

/// It goes on while it makes its four settings; behind them it ends with an error.
#[test]
fn a_dump_that_is_cut_behind_its_login_is_never_wrong() -> Result<()> {
    let (fault, _spillway) = learned()?;
    // Behind the login by which the server was learned.
    let (login, total) = (fault.handshake(1)?.total(Direction::FromServer), fault.passed(1));
    // Often about the settings, whose answers have 11 bytes, and now and then behind them.
    let offsets = (login..login + 500).step_by(7).chain((login + 500..total).step_by(101));
    let cases: Vec<_> = offsets.zip(CUTS.into_iter().cycle()).collect();
    let expected = direct(dump)?;
    let mut outcomes = Vec::new();
    thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = cases
            .chunks(cases.len().div_ceil(6))
            .map(|cases| scope.spawn(|| outcomes_of_cuts(cases, &expected)))
            .collect();
        for worker in workers {
            outcomes.extend(worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))??);
        }
        Ok(())
    })?;
    let healed = outcomes.iter().take_while(|outcome| outcome.is_some()).count();
    ensure!(outcomes[healed..].iter().all(Option::is_none), "healed behind what was not: {outcomes:?}");
    ensure!(outcomes[..healed].contains(&Some(3)), "lost in a setting before the fourth: {outcomes:?}");
    Ok(())
}

/// A proxy that knows the server, on a connection that can be cut.
fn learned() -> Result<(Fault, Spillway)> {
    let file = credentials(USER, PASSWORD)?;
    let fault = Fault::start(server().address())?;
    let spillway = Spillway::to(&fault.address()).options(&stored(&file)?).start()?;
    finish(&mut dump(spillway.endpoint()))?.success()?;
    Ok((fault, spillway))
}

/// For each cut, with how many settings the session went on; none where the dump ended with an error.
fn outcomes_of_cuts(cuts: &[(u64, Action)], expected: &[u8]) -> Result<Vec<Option<u64>>> {
    let (fault, spillway) = learned()?;
    let mut outcomes = Vec::new();
    for &(after, action) in cuts {
        let (before, healed) = (fault.connections(), outcomes.iter().flatten().count());
        fault.arm_next(1, Direction::FromServer, after, action);
        let finished = finish(&mut dump(spillway.endpoint()))?;
        let context = || format!("{action:?} at {after}: {}", finished.stderr);
        ensure!(fault.suffered(before) == Some(action), "not hit: {}", context());
        let went_on = finished.status.success();
        outcomes.push(if went_on {
            let difference = client::difference(expected, &client::normalised(&finished.stdout));
            ensure!(difference.is_none(), "{} {difference:?}", context());
            let line = spillway.log().wait_for_nth("the session goes on", healed + 1, LIMIT)?;
            Some(field(&line, "settings")?)
        } else {
            None
        });
    }
    Ok(outcomes)
}

fn options(address: SocketAddr) -> OptsBuilder {
    OptsBuilder::default()
        .ip_or_hostname(address.ip().to_string())
        .tcp_port(address.port())
        .user(Some(USER))
        .pass(Some(PASSWORD))
        .prefer_socket(false)
}

#[tokio::test]
async fn a_reset_and_a_change_of_user_with_stored_credentials() -> Result<()> {
    let file = credentials(USER, PASSWORD)?;
    let fault = Fault::start(server().address())?;
    let spillway = Spillway::to(&fault.address()).options(&stored(&file)?).start()?;
    let mut conn = Conn::new(options(spillway.address()?)).await?;
    conn.query_drop("SET @state = 'kept'").await?;
    ensure!(conn.reset().await?, "the driver did not send COM_RESET_CONNECTION");
    let state: Option<(Option<String>, u64)> = conn.query_first("SELECT @state, @@net_write_timeout").await?;
    ensure!(state == Some((None, 86_400)), "{state:?}");

    conn.query_drop("SET @state = 'kept'").await?;
    let account = || ChangeUserOpts::new().with_user(Some(USER.into())).with_db_name(Some("test".into()));
    conn.change_user(account().with_pass(Some(PASSWORD.into()))).await?;
    let state: Option<(Option<String>, String, u64)> =
        conn.query_first("SELECT @state, DATABASE(), @@net_write_timeout").await?;
    ensure!(state == Some((None, "test".into(), 86_400)), "{state:?}");
    let stranger = account().with_user(Some("open".into())).with_pass(Some(String::new()));
    let error = conn.change_user(stranger).await.expect_err("another account");
    ensure!(error.to_string().contains("1045"), "{error}");
    Ok(())
}

#[test]
fn mysqls_client_resets_a_session_with_stored_credentials() -> Result<()> {
    let file = credentials(USER, PASSWORD)?;
    let spillway = Spillway::to(&server().tcp()).options(&stored(&file)?).start()?;
    let mut mysql = mysql9::dumper("mysql", spillway.endpoint());
    mysql.args(["--batch", "--skip-column-names", "--commands"]);
    let script = b"SET @state = 'kept';\nSELECT @state;\n\\x\nSELECT @state, @@net_write_timeout;\n";
    let finished = process::run_with_input(&mut mysql, script, LIMIT)?.success()?;
    ensure!(finished.text() == "kept\nNULL\t86400\n", "{:?} {}", finished.text(), finished.stderr);
    Ok(())
}

/// An option file that nobody else can read.
fn credentials(user: &str, password: &str) -> Result<NamedTempFile> {
    let file = NamedTempFile::new()?;
    std::fs::write(&file, format!("[client]\nuser={user}\npassword=\"{password}\"\n"))?;
    Ok(file)
}

fn stored(file: &NamedTempFile) -> Result<[&str; 3]> {
    Ok(["--auth=stored", "--credentials", file.path().to_str().context("no UTF-8")?])
}

const CUTS: [Action; 2] = [Action::Cut, Action::Reset];
/// Short limits: a stall costs so much at each attempt. What is stalled by a busy machine is tried again, as well.
const QUICK: [&str; 2] = ["--greeting-timeout=500ms", "--auth-timeout=500ms"];
const LIMIT: Duration = Duration::from_secs(60);
