//! Certificates that nobody has signed, which MariaDB's clients since 11.4 want to see proved by the password.

use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use spillway_tests::certificates::{Leaf, self_signed};
use spillway_tests::process::{self, Finished};
use spillway_tests::{Endpoint, Server, Spillway, mariadb11, mysql9, stored};

fn server() -> &'static Server {
    static SERVER: LazyLock<Server> =
        LazyLock::new(|| Server::start(&[]).unwrap_or_else(|error| panic!("{error:#}")));
    &SERVER
}

/// The client of MariaDB 11.
fn client(endpoint: &Endpoint, options: &[&str]) -> Command {
    let mut command = mariadb11::command("mariadb", endpoint);
    command.args(spillway_tests::client::account()).args(options).arg("--execute=SELECT 'let in'");
    command
}

fn finish(mut command: Command) -> Result<Finished> {
    process::run(&mut command, LIMIT)
}

/// With stored credentials, whatever the server behind.
fn start_stored(server: &Server, options: &[&str]) -> Result<Spillway> {
    let credentials = stored::credentials()?;
    let path = credentials.path().to_str().context("a path")?.to_owned();
    Spillway::to(&server.tcp())
        .listen(ELSEWHERE)
        .options(&["--auth=stored", "--credentials", &path])
        .options(options)
        .start()
}

#[test]
fn with_stored_credentials_spillway_proves_its_own() -> Result<()> {
    let mysql = mysql9::start(&[])?;
    for server in [server(), &mysql] {
        let spillway = start_stored(server, &["--tls-self-signed"])?;
        let finished = finish(client(spillway.endpoint(), &[]))?.success()?;
        ensure!(finished.text().contains("let in"), "{}", finished.text());
        let wrong = finish(client(spillway.endpoint(), &["--password=wrong"]))?;
        ensure!(wrong.stderr.contains("ERROR 1045"), "{}", wrong.stderr);
        // MySQL's client has not got the plugin by which that is done, and does not ask for it.
        let mut mysql = mysql9::dumper("mysql", spillway.endpoint());
        mysql.args(["--ssl-mode=REQUIRED", "--execute=DO 0"]);
        finish(mysql)?.success()?;
    }
    Ok(())
}

#[test]
fn in_passthrough_the_log_says_what_to_do() -> Result<()> {
    let certificate = self_signed(&Leaf::server().names(&["127.0.0.2"]))?;
    let own = [certificate.option("tls-cert"), certificate.option("tls-key")];
    let ca = certificate.option("ssl-ca");

    let spillway = Spillway::to(&server().tcp())
        .listen(ELSEWHERE)
        .options(&own.each_ref().map(String::as_str))
        .start()?;
    let refused = finish(client(spillway.endpoint(), &[]))?;
    ensure!(refused.stderr.contains("The certificate is NOT trusted"), "{}", refused.stderr);
    let line = spillway.wait_for_log("as those since 11.4 do that cannot trust the certificate", LIMIT)?;
    ensure!(line.contains("ssl-ca") && line.contains("--auth stored"), "{line}");

    for options in [&[&*ca][..], &["--skip-ssl-verify-server-cert"], &["--skip-ssl"]] {
        finish(client(spillway.endpoint(), options))?.success()?;
    }
    let without = Spillway::to(&server().tcp()).listen(ELSEWHERE).start()?;
    let refused = finish(client(without.endpoint(), &[]))?;
    ensure!(
        refused.stderr.contains("SSL is required, but the server does not support it"),
        "{}",
        refused.stderr
    );
    Ok(())
}

/// Behind 127.0.0.1 the client trusts everybody.
const ELSEWHERE: &str = "127.0.0.2:0";

const LIMIT: Duration = Duration::from_secs(60);
