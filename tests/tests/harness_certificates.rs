//! The certificates that the tests make are taken, or refused, by a real server and a real client.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use spillway_tests::certificates::{Authority, Certificate, Leaf, self_signed};
use spillway_tests::process::{self, Finished};
use spillway_tests::{Server, client};

#[test]
fn each_certificate_is_what_its_name_says() -> Result<()> {
    let root = Authority::new("root")?;
    let below = root.intermediate("below the root")?;
    let stranger = Authority::new("root")?;
    let server = Tls::start(&root.issue(&Leaf::server())?, &root)?;

    server.is_trusted(root.file())?;
    server.refused(stranger.file(), "certificate")?;
    for good in [root.issue(&Leaf::server().rsa())?, below.issue(&Leaf::server())?] {
        server.shows(&good)?;
        server.is_trusted(root.file())?;
    }
    let own = self_signed(&Leaf::server())?;
    server.shows(&own)?;
    server.is_trusted(own.cert())?;
    server.refused(root.file(), "certificate")?;
    for (bad, why) in [
        (Leaf::server().expired(), "expired"),
        (Leaf::server().not_yet_valid(), "not yet valid"),
        (Leaf::server().names(&["elsewhere.invalid"]), "Validation"),
    ] {
        server.shows(&root.issue(&bad)?)?;
        server.refused(root.file(), why)?;
    }
    Ok(())
}

#[test]
fn a_client_shows_its_certificate() -> Result<()> {
    let root = Authority::new("root")?;
    let server = Tls::start(&root.issue(&Leaf::server())?, &root)?;
    server.server.sql("CREATE USER shown@'%' REQUIRE SUBJECT '/CN=dump'")?;
    let log_in = |leaf: &Leaf| -> Result<Finished> {
        let shown = root.issue(leaf)?;
        let mut mysql = client::command("mysql", &server.server.tcp());
        mysql.arg("--user=shown").args(["--execute", "DO 0"]);
        mysql.args([shown.option("ssl-cert"), shown.option("ssl-key")]);
        process::run(&mut mysql, LIMIT)
    };
    log_in(&Leaf::client("dump"))?.success()?;
    let refused = log_in(&Leaf::client("another"))?;
    ensure!(refused.stderr.contains("ERROR 1045"), "{}", refused.stderr);
    Ok(())
}

/// A server whose certificate can be changed.
struct Tls {
    server: Server,
    shown: Certificate,
}

impl Tls {
    fn start(shown: &Certificate, authority: &Authority) -> Result<Self> {
        let ca = format!("--ssl-ca={}", authority.file().display());
        let server = Server::start(&[&shown.option("ssl-cert"), &shown.option("ssl-key"), &ca])?;
        Ok(Self { server, shown: shown.clone() })
    }

    fn shows(&self, other: &Certificate) -> Result<()> {
        self.shown.replace_with(other)?;
        self.server.sql("FLUSH SSL")
    }

    fn log_in(&self, ca: &Path) -> Result<Finished> {
        let mut mysql = client::dumper("mysql", &self.server.tcp());
        mysql.arg(format!("--ssl-ca={}", ca.display()));
        mysql.args(["--ssl-verify-server-cert", "--batch", "--execute", "SHOW STATUS LIKE 'Ssl_cipher'"]);
        process::run(&mut mysql, LIMIT)
    }

    fn is_trusted(&self, ca: &Path) -> Result<()> {
        let text = self.log_in(ca)?.success()?.text();
        let cipher = text.lines().last().and_then(|line| line.strip_prefix("Ssl_cipher\t"));
        ensure!(!cipher.context("no such status")?.is_empty(), "without TLS: {text}");
        Ok(())
    }

    fn refused(&self, ca: &Path, why: &str) -> Result<()> {
        let finished = self.log_in(ca)?;
        ensure!(finished.stderr.contains("ERROR 2026"), "{}", finished.stderr);
        ensure!(finished.stderr.contains(why), "not {why:?} but {}", finished.stderr);
        Ok(())
    }
}

const LIMIT: Duration = Duration::from_secs(30);
