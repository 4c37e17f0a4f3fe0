//! TLS on either side: real clients, real servers, and what keeps them apart.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use spillway_tests::certificates::{Authority, Certificate, Leaf};
use spillway_tests::process::{self, Finished, Running};
use spillway_tests::server::{PASSWORD, USER};
use spillway_tests::sink::Held;
use spillway_tests::{Endpoint, Server, Spillway, client, mysql9};

/// A MariaDB and a MySQL with TLS, and who has signed for whom.
struct World {
    authority: Authority,
    stranger: Authority,
    /// The certificate of Spillway's clients' side.
    certificate: Certificate,
    mariadb: Server,
    mysql: Server,
}

fn world() -> &'static World {
    static WORLD: LazyLock<World> =
        LazyLock::new(|| World::start().unwrap_or_else(|error| panic!("{error:#}")));
    &WORLD
}

impl World {
    fn start() -> Result<Self> {
        let authority = Authority::new("The tests' authority")?;
        let stranger = Authority::new("Nobody knows it")?;
        let certificate = authority.issue(&Leaf::server())?;
        let servers = authority.issue(&Leaf::server().rsa())?;
        let options = [servers.option("ssl-cert"), servers.option("ssl-key"), ca("ssl-ca", &authority)];
        let options = options.each_ref().map(String::as_str);
        let (mariadb, mysql) = (Server::start(&options)?, mysql9::start(&options)?);
        for server in [&mariadb, &mysql] {
            server.sql(SCRIPT)?;
            let password = PASSWORD.replace('\'', "''");
            server.sql(&format!(
                "CREATE USER careful@'%' IDENTIFIED BY '{password}' REQUIRE SSL;
                 GRANT ALL ON *.* TO careful@'%';
                 CREATE USER certified@'%' IDENTIFIED BY '{password}' REQUIRE X509;
                 GRANT ALL ON *.* TO certified@'%'"
            ))?;
        }
        // MySQL remembers their passwords, then: nobody must send them whole again.
        let client = authority.issue(&Leaf::client("first"))?;
        for user in ["careful", "certified"] {
            let mut login = self::mysql("mysql", &mysql.tcp(), &["--ssl-mode=REQUIRED", "--execute=DO 0"]);
            login.args([format!("--user={user}"), client.option("ssl-cert"), client.option("ssl-key")]);
            finish(&mut login)?.success()?;
        }
        Ok(Self { authority, stranger, certificate, mariadb, mysql })
    }

    /// A proxy that has the certificate to show.
    fn spillway(&self, server: &Server, options: &[&str]) -> Result<Spillway> {
        let own = [self.certificate.option("tls-cert"), self.certificate.option("tls-key")];
        Spillway::to(&server.tcp()).options(&own.each_ref().map(String::as_str)).options(options).start()
    }
}

fn ca(option: &str, authority: &Authority) -> String {
    format!("--{option}={}", authority.file().display())
}

/// MySQL's client without the harness's own `--ssl-mode`.
fn mysql(program: &str, endpoint: &Endpoint, options: &[&str]) -> Command {
    let mut command = mysql9::dumper(program, endpoint);
    command.args(options);
    command
}

fn mariadb(program: &str, endpoint: &Endpoint, options: &[&str]) -> Command {
    let mut command = client::dumper(program, endpoint);
    command.args(options);
    command
}

fn finish(command: &mut Command) -> Result<Finished> {
    process::run(command, LIMIT)
}

/// What a session sees of its own TLS with the server.
fn cipher(mut client: Command) -> Result<String> {
    client.args(["--batch", "--skip-column-names", "--execute", "SHOW STATUS LIKE 'Ssl_cipher'"]);
    let text = finish(&mut client)?.success()?.text();
    Ok(text.trim_end().strip_prefix("Ssl_cipher").context("no Ssl_cipher")?.trim().to_owned())
}

#[test]
fn dumps_over_tls_on_both_sides() -> Result<()> {
    let world = world();
    let authority = ca("ssl-ca", &world.authority);
    let strict = ["--ssl-mode=VERIFY_IDENTITY", &authority];
    let verified = ["--ssl", "--ssl-verify-server-cert", &authority];
    type Dumper = fn(&str, &Endpoint, &[&str]) -> Command;
    // MySQL's have no mysql_native_password.
    let dumpers: [(Dumper, &str, &[&str]); 2] =
        [(mysql, "mysqldump", &strict), (mariadb, "mariadb-dump", &verified)];
    for (server, dumpers) in [(&world.mariadb, &dumpers[1..]), (&world.mysql, &dumpers)] {
        let upstream_ca = ca("upstream-tls-ca", &world.authority);
        let through =
            world.spillway(server, &["--upstream-tls=verify-identity", &upstream_ca, "--tls=required"])?;
        let dump =
            ["--max-allowed-packet=1G", "--single-transaction", "--skip-dump-date", "--databases", "shop"];
        for &(dumper, program, tls) in dumpers {
            let direct = finish(dumper(program, &server.unix(), &[]).args(dump))?.success()?;
            let got = finish(dumper(program, through.endpoint(), tls).args(dump))?.success()?;
            let [expected, got] = [direct, got].map(|dump| client::normalised(&dump.stdout));
            let difference = client::difference(&expected, &got);
            ensure!(difference.is_none(), "{program}: {}", difference.unwrap_or_default());
            ensure!(
                cipher(dumper(&program.replace("-dump", "").replace("dump", ""), through.endpoint(), tls))?
                    != ""
            );
        }
    }
    Ok(())
}

#[test]
fn either_side_has_tls_for_itself() -> Result<()> {
    let world = world();
    for server in [&world.mariadb, &world.mysql] {
        // Plain towards the client, TLS towards the server, because it offers it.
        let preferred = Spillway::to(&server.tcp()).start()?;
        ensure!(cipher(mariadb("mysql", preferred.endpoint(), &["--skip-ssl", "--user=careful"]))? != "");
        // TLS towards the client, plain towards the server.
        let off = world.spillway(server, &["--upstream-tls=off"])?;
        let authority = ca("ssl-ca", &world.authority);
        let tls = ["--ssl", "--ssl-verify-server-cert", &authority];
        ensure!(cipher(mariadb("mysql", off.endpoint(), &tls))? == "");
        let mut careful = mariadb("mysql", off.endpoint(), &tls);
        let refused = finish(careful.args(["--user=careful", "--execute=DO 0"]))?;
        ensure!(refused.stderr.contains("ERROR 1045"), "{}", refused.stderr);
        ensure!(cipher(mariadb("mysql", off.endpoint(), &["--skip-ssl"]))? == "");
    }
    Ok(())
}

#[test]
fn a_server_whose_certificate_is_not_good_enough() -> Result<()> {
    let world = world();
    let elsewhere = world.authority.issue(&Leaf::server().names(&["elsewhere.invalid"]))?;
    let expired = world.authority.issue(&Leaf::server().expired())?;
    let start = |certificate: &Certificate| -> Result<Server> {
        Server::start(&[&certificate.option("ssl-cert"), &certificate.option("ssl-key")])
    };
    let (elsewhere, expired, without) =
        (start(&elsewhere)?, start(&expired)?, Server::start(&["--skip-ssl"])?);
    let (known, unknown) = (ca("upstream-tls-ca", &world.authority), ca("upstream-tls-ca", &world.stranger));
    let (verify_ca, identity) = ("--upstream-tls=verify-ca", "--upstream-tls=verify-identity");
    for (server, options, advice) in [
        (&elsewhere, &[identity, &known][..], Some("subjectAltName")),
        (&elsewhere, &[verify_ca, &known], None),
        (&elsewhere, &["--upstream-tls=required"], None),
        (&expired, &[verify_ca, &known], Some("renew")),
        (&expired, &["--upstream-tls=required"], None),
        (&world.mariadb, &[verify_ca, &unknown], Some("name its CA by --upstream-tls-ca")),
        (&world.mariadb, &[&unknown], Some("name its CA by --upstream-tls-ca")),
        (&world.mariadb, &[identity, &known], None),
        (&without, &["--upstream-tls=required"], Some("the server offers no TLS")),
        (&without, &[verify_ca, &known], Some("the server offers no TLS")),
        (&without, &[], None),
    ] {
        let spillway = Spillway::to(&server.tcp()).options(options).start()?;
        let mut clients = vec![(mariadb("mysql", spillway.endpoint(), &[]), "ERROR 1429")];
        if advice.is_some() {
            clients.push((mysql("mysql", spillway.endpoint(), &[]), "ERROR 2026"));
        }
        for (mut client, code) in clients {
            let finished = finish(client.args(["--execute", "DO 0"]))?;
            let Some(advice) = advice else {
                finished.success().with_context(|| format!("{options:?}"))?;
                continue;
            };
            let told = &finished.stderr;
            ensure!(
                told.contains(code) && told.contains("spillway: ") && told.contains(advice),
                "{options:?}: {told}"
            );
            ensure!(finished.code() == 1);
        }
        if advice.is_some() {
            let tries =
                spillway.log().lines().iter().filter(|line| line.contains("attempt to reach")).count();
            ensure!(tries == 2, "{tries} attempts of two clients");
        }
    }
    Ok(())
}

#[test]
fn clients_that_must_use_tls() -> Result<()> {
    let world = world();
    let spillway = world.spillway(&world.mysql, &["--tls=required"])?;
    for mut client in
        [mysql("mysql", spillway.endpoint(), &[]), mariadb("mysql", spillway.endpoint(), &["--skip-ssl"])]
    {
        let refused = finish(client.args(["--execute", "DO 0"]))?;
        ensure!(refused.stderr.contains("ERROR 3159 (HY000)"), "{}", refused.stderr);
        ensure!(
            refused.stderr.contains("spillway: connections without TLS are refused"),
            "{}",
            refused.stderr
        );
    }
    finish(&mut mysql("mysql", spillway.endpoint(), &["--ssl-mode=REQUIRED", "--execute=DO 0"]))?
        .success()?;

    // A Unix socket is as safe.
    let dir = tempfile::tempdir()?;
    let own = [
        world.certificate.option("tls-cert"),
        world.certificate.option("tls-key"),
        "--tls=required".to_owned(),
    ];
    let over_socket = Spillway::to(&world.mysql.tcp())
        .listen(&format!("unix:{}", dir.path().join("s").display()))
        .options(&own.each_ref().map(String::as_str))
        .start()?;
    finish(&mut mysql("mysql", over_socket.endpoint(), &["--execute=DO 0"]))?.success()?;
    finish(&mut mysql("mysql", over_socket.endpoint(), &["--ssl-mode=REQUIRED", "--execute=DO 0"]))?
        .success()?;
    Ok(())
}

#[test]
fn certificates_of_clients_and_of_spillway() -> Result<()> {
    let world = world();
    let client = world.authority.issue(&Leaf::client("backup"))?;
    let foreign = world.stranger.issue(&Leaf::client("backup"))?;
    let client_ca = ca("tls-client-ca", &world.authority);
    let required = world.spillway(&world.mysql, &[&client_ca])?;
    let optional = world.spillway(&world.mysql, &[&client_ca, "--tls-client-cert=optional"])?;
    let shown = |certificate: &Certificate| [certificate.option("ssl-cert"), certificate.option("ssl-key")];
    for (spillway, certificate, good) in [
        (&required, Some(&client), true),
        (&required, Some(&foreign), false),
        (&required, None, false),
        (&optional, Some(&client), true),
        (&optional, Some(&foreign), false),
        (&optional, None, true),
    ] {
        let mut mysql = mysql("mysql", spillway.endpoint(), &["--ssl-mode=REQUIRED", "--execute=DO 0"]);
        let finished = finish(mysql.args(certificate.iter().flat_map(|certificate| shown(certificate))))?;
        ensure!(
            finished.status.success() == good,
            "{:?}: {}",
            certificate.map(Certificate::cert),
            finished.stderr
        );
    }
    required.wait_for_log("the client began TLS and did not end the beginning", LIMIT)?;

    let own = [client.option("upstream-tls-cert"), client.option("upstream-tls-key")];
    for server in [&world.mariadb, &world.mysql] {
        let certified = |options: &[&str]| -> Result<Finished> {
            let spillway = Spillway::to(&server.tcp()).options(options).start()?;
            finish(&mut mariadb("mysql", spillway.endpoint(), &["--user=certified", "--execute=DO 0"]))
        };
        certified(&own.each_ref().map(String::as_str))?.success()?;
        ensure!(certified(&[])?.stderr.contains("ERROR 1045"));
    }
    Ok(())
}

#[test]
fn a_certificate_that_the_server_refuses_is_not_shown_again() -> Result<()> {
    let world = world();
    let foreign = world.stranger.issue(&Leaf::client("backup"))?;
    let own = [foreign.option("upstream-tls-cert"), foreign.option("upstream-tls-key")];
    for server in [&world.mariadb, &world.mysql] {
        let spillway = Spillway::to(&server.tcp()).options(&own.each_ref().map(String::as_str)).start()?;
        for (mut client, code) in [
            (mariadb("mysql", spillway.endpoint(), &[]), "ERROR 1429"),
            (mysql("mysql", spillway.endpoint(), &[]), "ERROR 2026"),
        ] {
            let told = finish(client.arg("--execute=DO 0"))?.stderr;
            ensure!(told.contains(code) && told.contains("--upstream-tls-cert"), "{told}");
        }
        let tries = spillway.log().lines().iter().filter(|line| line.contains("attempt to reach")).count();
        ensure!(tries == 2, "{tries} attempts of two clients: {:#?}", spillway.log().lines());
    }
    Ok(())
}

#[test]
fn whoever_must_have_a_certificate_must_use_tls() -> Result<()> {
    let world = world();
    let client_ca = ca("tls-client-ca", &world.authority);
    let spillway = world.spillway(&world.mysql, &[&client_ca])?;
    let plain = finish(&mut mysql("mysql", spillway.endpoint(), &["--ssl-mode=DISABLED", "--execute=DO 0"]))?;
    ensure!(plain.stderr.contains("ERROR 3159"), "{}", plain.stderr);
    let optional = world.spillway(&world.mysql, &[&client_ca, "--tls-client-cert=optional"])?;
    finish(&mut mysql("mysql", optional.endpoint(), &["--ssl-mode=DISABLED", "--execute=DO 0"]))?
        .success()?;
    Ok(())
}

#[test]
fn versions() -> Result<()> {
    let world = world();
    let certificate = world.authority.issue(&Leaf::server())?;
    let old = Server::start(&[
        &certificate.option("ssl-cert"),
        &certificate.option("ssl-key"),
        "--tls-version=TLSv1.2",
    ])?;
    let through = |options: &[&str]| -> Result<Finished> {
        let spillway = Spillway::to(&old.tcp()).options(options).start()?;
        finish(&mut mariadb("mysql", spillway.endpoint(), &["--execute=DO 0"]))
    };
    through(&["--upstream-tls=required"])?.success()?;
    let refused = through(&["--upstream-tls=required", "--upstream-tls-min-version=1.3"])?;
    ensure!(
        refused.stderr.contains("ERROR 1429") && refused.stderr.contains("(error 2026)"),
        "{}",
        refused.stderr
    );

    let spillway = world.spillway(&world.mysql, &[])?;
    for version in ["TLSv1.2", "TLSv1.3"] {
        let option = format!("--tls-version={version}");
        let options = ["--ssl-mode=REQUIRED", &option, "--execute=DO 0"];
        finish(&mut mysql("mysql", spillway.endpoint(), &options))?.success()?;
        let version = version.trim_start_matches("TLSv");
        spillway.wait_for_log(&format!(" tls=\"{version}\""), LIMIT)?;
    }
    Ok(())
}

#[test]
fn a_self_signed_certificate_is_told_by_its_fingerprint() -> Result<()> {
    let world = world();
    let spillway = Spillway::to(&world.mysql.tcp()).options(&["--tls-self-signed"]).start()?;
    finish(&mut mysql("mysql", spillway.endpoint(), &["--ssl-mode=REQUIRED", "--execute=DO 0"]))?
        .success()?;
    let line = spillway.wait_for_log("self-signed certificate", LIMIT)?;
    let told = line.split_once("sha256=").context("no fingerprint")?.1.trim_matches('"');
    ensure!(
        told.len() == 32 * 3 - 1 && told.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':'),
        "{told}"
    );
    Ok(())
}

#[test]
fn certificates_are_read_again_at_sighup() -> Result<()> {
    let world = world();
    let certificate = world.stranger.issue(&Leaf::server())?;
    let own = [certificate.option("tls-cert"), certificate.option("tls-key")];
    let upstream_ca =
        world.authority.issue(&Leaf::server())?.beside("upstream-ca.pem", &text(world.stranger.file())?)?;
    let upstream = format!("--upstream-tls-ca={}", upstream_ca.display());
    let spillway = Spillway::to(&world.mysql.tcp())
        .options(&own.each_ref().map(String::as_str))
        .options(&[&upstream])
        .start()?;
    let verify = |authority: &Authority| -> Result<Finished> {
        let mut mysql =
            mysql("mysql", spillway.endpoint(), &["--ssl-mode=VERIFY_CA", &ca("ssl-ca", authority)]);
        finish(mysql.arg("--execute=DO 0"))
    };
    ensure!(verify(&world.stranger)?.stderr.contains("name its CA by --upstream-tls-ca"));
    std::fs::write(&upstream_ca, text(world.authority.file())?)?;
    certificate.replace_with(&world.authority.issue(&Leaf::server())?)?;
    spillway.signal(Signal::SIGHUP)?;
    spillway.wait_for_log("certificates and keys were read again", LIMIT)?;
    verify(&world.authority)?.success()?;
    ensure!(verify(&world.stranger)?.stderr.contains("ERROR 2026"));

    // All or nothing: a good one on one side is not taken where the other side's is bad.
    std::fs::write(certificate.key(), "no key")?;
    std::fs::write(&upstream_ca, text(world.stranger.file())?)?;
    spillway.signal(Signal::SIGHUP)?;
    let line = spillway.wait_for_log("going on with the certificates", LIMIT)?;
    ensure!(line.contains("--tls-key") && line.contains("no private key in it"), "{line}");
    verify(&world.authority)?.success()?;
    Ok(())
}

#[test]
fn a_slow_client_under_tls_costs_the_server_no_time() -> Result<()> {
    let world = world();
    let own_ca = ca("upstream-tls-ca", &world.authority);
    let spillway = world.spillway(&world.mysql, &["--memory-per-session=1MiB", &own_ca])?;
    let query =
        ["--batch", "--skip-column-names", "--quick", "--execute", "SELECT * FROM shop.wide ORDER BY id"];
    let direct = finish(mysql("mysql", &world.mysql.unix(), &[]).args(query))?.success()?;
    let mut client = mysql("mysql", spillway.endpoint(), &["--ssl-mode=REQUIRED"]);
    let mut running = Running::start(client.args(query).stdout(Stdio::piped()))?;
    let held = Held::after(running.child.stdout.take().context("no stdout")?, 1)?;
    // The server is done while the client has taken next to nothing.
    let is_done = |thread: &spillway_tests::server::Thread| thread.command == "Sleep" && thread.user == USER;
    world.mysql.wait_for_thread(LIMIT, "a session with nothing under way", is_done)?;
    ensure!(spillway.spool_space()? > 0, "nothing was spooled");
    let got = held.release().finish()?;
    ensure!(got == direct.stdout, "{} bytes, and {} directly", got.len(), direct.stdout.len());
    Ok(())
}

fn text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

const LIMIT: Duration = Duration::from_secs(60);

/// A table with a row that needs several packets, and one of many rows.
const SCRIPT: &str = "
    CREATE DATABASE shop;
    CREATE TABLE shop.large (id INT PRIMARY KEY, value LONGBLOB);
    INSERT INTO shop.large VALUES (1, REPEAT('0123456789abcdef', 2000000)), (2, ''), (3, NULL);
    CREATE TABLE shop.wide (id INT PRIMARY KEY, value LONGTEXT);
    INSERT INTO shop.wide WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 400)
        SELECT n, REPEAT(CHAR(65 + n % 26), 100000) FROM s";
