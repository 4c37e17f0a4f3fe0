//! Several routes in one process, each with its own servers, TLS and account; what SIGHUP changes and leaves; and
//! configuration files that are refused.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use spillway_tests::process::{self, Finished};
use spillway_tests::stored::credentials;
use spillway_tests::wire::command;
use spillway_tests::{Endpoint, Raw, Server, Spillway, client, spillway_bin, wait_until};

/// Two servers, told apart by their ports.
fn servers() -> &'static [Server; 2] {
    static SERVERS: LazyLock<[Server; 2]> =
        LazyLock::new(|| [(); 2].map(|()| Server::start(&[]).unwrap_or_else(|error| panic!("{error:#}"))));
    &SERVERS
}

/// A configuration file that is changed.
struct Config {
    dir: tempfile::TempDir,
}

impl Config {
    fn new(text: &str) -> Result<Self> {
        let config = Self { dir: tempfile::tempdir()? };
        config.write(text)?;
        Ok(config)
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("spillway.toml")
    }

    fn write(&self, text: &str) -> Result<()> {
        Ok(fs::write(self.path(), text)?)
    }

    /// Changes the file, and has it read again. Gives the line of the log that says so.
    fn reread(&self, spillway: &Spillway, text: &str) -> Result<String> {
        self.write(text)?;
        let told = spillway.log().matching("SIGHUP: ").len();
        spillway.signal(Signal::SIGHUP)?;
        spillway.log().wait_for_nth("SIGHUP: ", told + 1, LIMIT)
    }
}

fn route(name: &str, upstream: &Endpoint, rest: &str) -> String {
    format!("[[route]]\nname = '{name}'\nlisten = '127.0.0.1:0'\nupstream = '{upstream}'\n{rest}\n")
}

/// The port of the server that a session leads to.
fn port(raw: &mut Raw) -> Result<u16> {
    Ok(raw.value("SELECT @@port")?.parse()?)
}

/// What MariaDB's client gets of a query.
fn mysql(address: SocketAddr, options: &[&str]) -> Result<Finished> {
    let mut mysql = client::dumper("mysql", &Endpoint::Tcp(address));
    process::run(mysql.args(options).args(["--skip-column-names", "--execute=SELECT @@port"]), LIMIT)
}

#[test]
fn routes_with_servers_tls_and_accounts_of_their_own() -> Result<()> {
    let [one, two] = servers();
    let account = credentials()?;
    let safe = format!(
        "tls = 'required'\ntls_self_signed = true\nauth = 'stored'\ncredentials = '{}'",
        account.path().display()
    );
    let text =
        format!("keepalive = '5s'\n{}{}", route("open", &one.tcp(), ""), route("safe", &two.tcp(), &safe));
    let config = Config::new(&text)?;
    let spillway = Spillway::configured(&config.path()).start()?;
    let (open, safe) = (spillway.address_of("open")?, spillway.address_of("safe")?);

    ensure!(port(&mut Raw::login(open)?)? == one.port(), "the open route's server");
    let refused = Raw::login(safe).err().context("let in without TLS")?;
    ensure!(format!("{refused:#}").contains("3159"), "{refused:#}");
    let finished = mysql(safe, &["--ssl"])?.success()?;
    ensure!(finished.text().trim() == two.port().to_string(), "{}", finished.text());
    // Who checks a password is who refuses it.
    for (address, by_spillway) in [(open, false), (safe, true)] {
        let mut mysql = client::command("mysql", &Endpoint::Tcp(address));
        mysql.args(["--ssl", "--user=dump", "--password=wrong", "--execute=DO 0"]);
        let told = process::run(&mut mysql, LIMIT)?.stderr;
        ensure!(told.contains("1045") && told.contains("spillway: ") == by_spillway, "{told}");
    }
    for name in ["open", "safe"] {
        spillway.wait_for_log(&format!("session{{route=\"{name}\" client="), LIMIT)?;
    }
    Ok(())
}

#[test]
fn sighup_leads_new_sessions_elsewhere_and_leaves_running_ones() -> Result<()> {
    let [one, two] = servers();
    let text =
        |upstream: &Endpoint, rest: &str| format!("{}{rest}", route("a", upstream, "keepalive = '5s'"));
    let config = Config::new(&text(&one.tcp(), &route("b", &one.tcp(), "")))?;
    let spillway = Spillway::configured(&config.path()).start()?;
    let (a, b) = (spillway.address_of("a")?, spillway.address_of("b")?);
    let (mut running, mut at_b) = (Raw::login(a)?, Raw::login(b)?);

    let line = config.reread(&spillway, &text(&two.tcp(), &route("c", &two.tcp(), "")))?;
    ensure!(line.contains("changed=\"a: upstream, c: new, b: removed\""), "{line}");
    ensure!(port(&mut Raw::login(a)?)? == two.port(), "a new session");
    ensure!(port(&mut running)? == one.port(), "a running session");
    ensure!(port(&mut Raw::login(spillway.address_of("c")?)?)? == two.port(), "the new route");
    wait_until(LIMIT, "the removed route's port to be closed", || TcpStream::connect(b).is_err())?;
    ensure!(port(&mut at_b)? == one.port(), "a session of the removed route");

    // A mistake changes nothing at all, whatever else the file has.
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let taken = format!("[[route]]\nname = 'd'\nlisten = '{}'\nupstream = 'db1'\n", taken.local_addr()?);
    for (text, words) in [
        (text(&one.tcp(), "keepalive_for = 'soon'"), &["line 6", "route a, keepalive_for", "soon"][..]),
        (text(&one.tcp(), "tls_cert = '/no/such'"), &["line 6", "route a, tls_cert", "/no/such"]),
        (text(&one.tcp(), &taken), &["line 8", "route d, listen", "in use"]),
        ("[[route]".to_owned(), &["line 1"]),
    ] {
        let line = config.reread(&spillway, &text)?;
        let is_warning = line.contains("WARN") && line.contains("going on with the certificates");
        ensure!(is_warning && words.iter().all(|word| line.contains(word)), "{words:?}: {line}");
        ensure!(port(&mut Raw::login(a)?)? == two.port(), "{text}");
    }
    let line = config.reread(&spillway, &text(&two.tcp(), &route("c", &two.tcp(), "")))?;
    ensure!(line.contains("changed=\"no setting\""), "{line}");
    Ok(())
}

#[test]
fn sighup_changes_the_process_where_it_can() -> Result<()> {
    let [one, _] = servers();
    let account = credentials()?;
    let stored = format!("auth = 'stored'\ncredentials = '{}'\n", account.path().display());
    let text = |rest: &str| format!("listen = '127.0.0.1:0'\nupstream = '{}'\n{stored}{rest}", one.tcp());
    let config = Config::new(&text("log_level = 'info'"))?;
    let spillway = Spillway::configured(&config.path()).options(&["--connect-timeout=9s"]).start()?;
    let mut before = Raw::login(spillway.address()?)?;

    let rest = "log_level = 'debug'\nmemory = '1MiB'\nconnect_timeout = '1s'\nsession_init = 'SET @a = 7'";
    let line = config.reread(&spillway, &text(rest))?;
    // The flag still stands above the file.
    ensure!(line.contains("changed=\"log_level, memory, session_init\""), "{line}");
    let mut after = Raw::login(spillway.address()?)?;
    ensure!(after.value("SELECT @a")? == "7", "the new session-init");
    ensure!(before.value("SELECT @a IS NULL")? == "1", "a running session");
    spillway.wait_for_log("idle timeouts of the server", LIMIT).context("a line of level debug")?;
    // Connection ids outlive the change: those of stored credentials are Spillway's own.
    after.execute(&format!("KILL QUERY {}", before.greeting().id))?;
    // 1 MiB has room for eight sessions.
    let mut held = Vec::new();
    let refused = loop {
        match Raw::login(spillway.address()?) {
            Ok(raw) => held.push(raw),
            Err(error) => break format!("{error:#}"),
        }
        ensure!(held.len() < 20, "more sessions than --memory has room for");
    };
    ensure!(refused.contains("--memory"), "{refused}");
    Ok(())
}

#[test]
fn a_route_has_its_share_of_the_disk() -> Result<()> {
    let [one, _] = servers();
    let text = |share: &str| {
        let share = format!("spool_max = '{share}'");
        format!(
            "memory_per_session = '1MiB'\n{}{}",
            route("a", &one.tcp(), &share),
            route("b", &one.tcp(), "")
        )
    };
    let config = Config::new(&text("2MiB"))?;
    let spillway = Spillway::configured(&config.path()).start()?;
    // 64 MB, of which the clients read nothing.
    let query = "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 64) \
                 SELECT REPEAT('x', 1000000) FROM s";
    let mut a = Raw::login(spillway.address_of("a")?)?;
    a.send(command::QUERY, query.as_bytes())?;
    let line = spillway.wait_for_log("--spool-max is reached", LIMIT)?;
    ensure!(line.contains("route=\"a\""), "{line}");
    ensure!(spillway.spool_space()? <= 2 << 20, "{} bytes on disk", spillway.spool_space()?);

    let mut b = Raw::login(spillway.address_of("b")?)?;
    b.send(command::QUERY, query.as_bytes())?;
    let wait_for_space = |len: u64| {
        let is_there = || spillway.spool_space().is_ok_and(|space| space > len);
        wait_until(LIMIT, "the backlog to be on disk", is_there)
    };
    wait_for_space(40 << 20).context("the other route")?;
    ensure!(spillway.log().matching("--spool-max is reached").len() == 1, "the other route is held back");
    // A share that grows holds for the session under way as well.
    config.reread(&spillway, &text("1GiB"))?;
    wait_for_space(90 << 20).context("with a larger share")
}

/// `spillway serve` with a file that it has to refuse.
fn serve(config: &Path, options: &[&str]) -> Result<Finished> {
    let mut command = client::clean(spillway_bin());
    command.arg("serve").arg("--config").arg(config).args(options);
    process::run(&mut command, REFUSAL_LIMIT)
}

#[test]
fn files_with_mistakes() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let taken = taken.local_addr()?;
    let a = "[[route]]\nname = 'a'\nlisten = '127.0.0.1:0'\nupstream = 'db1'\n";
    let [b, c] = ["b", "c"].map(|name| format!("[[route]]\nname = '{name}'\nupstream = 'db1'\n"));
    for (text, options, words) in [
        ("[[route]\n".to_owned(), &[][..], &["line 1"][..]),
        ("memory = 1GiB\n".to_owned(), &[], &["line 1", "memory"]),
        ("spool_mux = '1GiB'\n".to_owned(), &[], &["line 1", "spool_mux"]),
        (format!("{a}upstrem = 'db2'\n"), &[], &["line 5", "route a, upstrem"]),
        (format!("{a}keepalive = 'soon'\n"), &[], &["line 5", "route a, keepalive", "soon"]),
        (format!("{a}memory = '1GiB'\n"), &[], &["line 5", "route a, memory", "whole process"]),
        (format!("{a}keepalive = '0s'\n"), &[], &["line 5", "route a, keepalive", "longer than nothing"]),
        (format!("{a}tls_cert = '/no/such'\n"), &[], &["line 5", "route a, tls_cert", "/no/such"]),
        (format!("tls_cert = '/no/such'\n{a}"), &[], &["line 1", "route a, tls_cert", "/no/such"]),
        (
            format!("{a}credentials = '/no/such'\nauth = 'stored'\n"),
            &[],
            &["line 5", "credentials", "/no/such"],
        ),
        (format!("{a}[[route]]\nname = 'b'\n"), &[], &["line 5", "route b", "listen"]),
        (format!("{a}[[route]]\nlisten = '127.0.0.1:1'\n"), &[], &["line 5", "no server", "upstream"]),
        (format!("{a}{a}"), &[], &["line 6", "route a, name", "line 1"]),
        (
            format!("{b}listen = '127.0.0.1:1'\n{a}{c}listen = ['127.0.0.1:0', '127.0.0.1:1']\n"),
            &[],
            &["line 12", "route c, listen", "127.0.0.1:1", "line 1"],
        ),
        (format!("{a}{b}listen = '{taken}'\n"), &[], &["line 8", "route b, listen", "in use"]),
        (a.to_owned(), &["--upstream=db2"], &["line 1", "--upstream"]),
        (a.to_owned(), &["--listen=127.0.0.1:0"], &["line 1", "--listen"]),
        (format!("upstream = 'db1'\nlisten = '{taken}'\n"), &[], &["line 2", "listen", "in use"]),
        (format!("{a}password = s3cret\n"), &[], &["line 5", "password"]),
    ] {
        let config = Config::new(&text)?;
        let finished = serve(&config.path(), options)?;
        let told = finished.stderr.trim_end();
        ensure!(finished.code() == 78, "{text}: status {}: {told}", finished.code());
        ensure!(finished.stdout.is_empty(), "{text}: it began to listen: {}", finished.text());
        ensure!(told.lines().count() == 1 && !told.contains("s3cret"), "{text}: {told}");
        let file = format!("--config {}: ", config.path().display());
        ensure!(told.contains(&file), "{text}: {told}");
        ensure!(words.iter().all(|word| told.contains(word)), "{text}: {words:?}: {told}");
    }
    let finished = serve(Path::new("/no/such/file"), &[])?;
    ensure!(finished.code() == 78 && finished.stderr.contains("--config /no/such/file: "), "{finished:?}");
    Ok(())
}

#[test]
fn what_is_printed_can_be_used() -> Result<()> {
    let file = "memory = '64MiB'\n[[route]]\nname = 'a'\nlisten = '127.0.0.1:0'\nupstream = ['db1', 'db2:3307']\n\
                auth = 'stored'\nuser = 'backup'\n[[route]]\nlisten = '127.0.0.1:1'\nupstream = 'db3'\n";
    let print = |config: &Path, options: &[&str]| -> Result<String> {
        let mut command = client::clean(spillway_bin());
        command.args(["serve", "--print-config", "--config"]).arg(config).args(options);
        command.env("SPILLWAY_KEEPALIVE", "3s").env("SPILLWAY_PASSWORD", "s3cret");
        Ok(process::run(&mut command, REFUSAL_LIMIT)?.success()?.text())
    };
    let config = Config::new(file)?;
    let printed = print(&config.path(), &["--connect-timeout=2s"])?;
    for line in [
        "memory = \"64MiB\"  # line 1",
        "keepalive = \"3s\"  # variable SPILLWAY_KEEPALIVE",
        "connect_timeout = \"2s\"  # flag",
        "upstream = [\"db1:3306\", \"db2:3307\"]  # line 5",
        "# password: not shown  # variable SPILLWAY_PASSWORD",
        "name = \"127.0.0.1:1\"",
        "greeting_timeout = \"30s\"  # default",
    ] {
        ensure!(printed.lines().any(|printed| printed == line), "{line}: {printed}");
    }
    ensure!(!printed.contains("s3cret"), "shows the password: {printed}");
    config.write(&printed)?;
    let again = print(&config.path(), &[])?;
    let values = |printed: &str| -> Vec<String> {
        let value = |line: &str| line.rsplit_once("  # ").map_or(line, |(value, _)| value).to_owned();
        printed.lines().map(value).collect()
    };
    ensure!(values(&printed) == values(&again), "{printed}\n{again}");
    let Some(line) = again.lines().find(|line| line.starts_with("memory = ")) else { bail!("{again}") };
    ensure!(line.contains("# line "), "{line}");
    Ok(())
}

const REFUSAL_LIMIT: Duration = Duration::from_secs(10);
const LIMIT: Duration = Duration::from_secs(60);
