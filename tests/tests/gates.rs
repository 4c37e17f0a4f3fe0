//! Who may come in at all (`--allow`), and how many at a time (`--max-sessions`).

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use spillway_tests::exposition::Metrics;
use spillway_tests::process::{self, Running};
use spillway_tests::raw::connect_from;
use spillway_tests::server::{PASSWORD, USER};
use spillway_tests::sink::Held;
use spillway_tests::wait::wait_for;
use spillway_tests::wire::{NATIVE, proxy_header};
use spillway_tests::{Endpoint, Fault, Raw, Server, Spillway, client, data, spillway_bin};

fn server() -> &'static Server {
    static SERVER: LazyLock<Server> = LazyLock::new(|| {
        let server = Server::start(&[]).and_then(|server| {
            data::report::load(&server, "report", 4 << 20)?;
            Ok(server)
        });
        server.unwrap_or_else(|error| panic!("{error:#}"))
    });
    &SERVER
}

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A client from there that logs in, behind a header if there is one.
fn log_in(own: Ipv4Addr, address: SocketAddr, header: &[u8]) -> Result<Raw> {
    let mut stream = connect_from(own, address)?;
    stream.write_all(header)?;
    let mut raw = Raw::over(stream)?;
    raw.log_in(NATIVE, USER, PASSWORD, None)?.ok()?;
    Ok(raw)
}

/// It came in and got an answer, or was told that it may not; anything else is an error.
fn came_in(attempt: Result<Raw>, who: &str) -> Result<bool> {
    match attempt {
        Ok(mut raw) => Ok(raw.value("SELECT 'in'")? == "in"),
        Err(error) => {
            let told = format!("{error:#}");
            ensure!(
                told.contains(&format!("error 1130 (): spillway: {who} not allowed to connect")),
                "{told}"
            );
            Ok(false)
        }
    }
}

/// The same for MariaDB's client, which says of every error before the login that nobody can tell whose it is.
fn mysql_came_in(endpoint: &Endpoint, who: &str) -> Result<bool> {
    let mut mysql = client::dumper("mysql", endpoint);
    let finished = process::run(mysql.args(["--execute", "SELECT 'in'"]), LIMIT)?;
    if finished.status.success() {
        return Ok(finished.text().contains("in"));
    }
    let told = &finished.stderr;
    let is_told = told.contains("1130") && told.contains(&format!("spillway: {who} not allowed"));
    ensure!(is_told, "{told}");
    Ok(false)
}

#[test]
fn only_clients_of_the_allowed_networks_come_in() -> Result<()> {
    let fault = Fault::start(server().address())?;
    let dir = tempfile::tempdir()?;
    let socket = dir.path().join("s");
    let listen = format!("127.0.0.1:0,[::1]:0,unix:{}", socket.display());
    for (allow, [v4, other, v6, unix]) in [
        ("127.0.0.1", [true, false, false, false]),
        ("10.0.0.0/8,127.0.0.0/8", [true, true, false, false]),
        ("127.0.0.2,::/0", [false, true, true, false]),
        ("localhost,::1", [false, false, true, true]),
        ("192.0.2.0/24,2001:db8::/32", [false; 4]),
        ("*", [true; 4]),
    ] {
        let spillway = Spillway::to(&fault.address())
            .options(&["--allow", allow, "--metrics", "127.0.0.1:0"])
            .listen(&listen)
            .start()?;
        let mut tcp = Vec::new();
        for number in 1..=2 {
            let line = spillway.output().wait_for_nth("listening on ", number, LIMIT)?;
            tcp.push(line.trim_start_matches("listening on ").parse::<SocketAddr>()?);
        }
        spillway.output().wait_for_nth("listening on ", 3, LIMIT)?;
        let before = fault.connections();
        let came = [
            mysql_came_in(&Endpoint::Tcp(tcp[0]), "host '127.0.0.1' is")?,
            came_in(log_in(OTHER, tcp[0], &[]), "host '127.0.0.2' is")?,
            mysql_came_in(&Endpoint::Tcp(tcp[1]), "host '::1' is")?,
            mysql_came_in(&Endpoint::Unix(socket.clone()), "clients of Unix sockets are")?,
        ];
        ensure!(came == [v4, other, v6, unix], "{allow}: {came:?}");
        let denied = came.iter().filter(|came| !*came).count();
        ensure!(fault.connections() - before == 4 - denied, "{allow}: the server was reached by others");
        let metrics = Metrics::scrape(spillway.http_address("metrics on")?)?;
        let counted = metrics.value("spillway_errors_total{kind=\"not-allowed\"}")?;
        ensure!(counted == denied as f64, "{allow}: {counted}");
        if denied > 0 {
            let line = spillway.wait_for_log("turned a client away", LIMIT)?;
            ensure!(line.contains("WARN") && line.contains("client=") && line.contains("--allow"), "{line}");
            // The first of them; the others are counted, so that nobody can fill the log.
            ensure!(spillway.log().matching("turned a client away").len() == 1, "{}", spillway.log().tail());
        }
    }
    Ok(())
}

#[test]
fn the_address_that_a_trusted_header_tells_is_the_one_that_counts() -> Result<()> {
    let balancer = Ipv4Addr::new(127, 0, 1, 1);
    let fault = Fault::start(server().address())?;
    let spillway = Spillway::to(&fault.address())
        .options(&["--proxy-protocol-networks=127.0.1.0/24", "--allow=192.0.2.0/24,127.0.0.1"])
        .start()?;
    let header = |source: &str| -> Result<Vec<u8>> {
        let source: SocketAddr = source.parse()?;
        let destination = if source.is_ipv4() { "198.51.100.1:3306" } else { "[2001:db8::1]:3306" };
        Ok(proxy_header(Some((source, destination.parse()?))))
    };
    let mut denied = 0;
    for (own, header, expected, who) in [
        (balancer, header("192.0.2.7:4711")?, true, ""),
        (balancer, header("[::ffff:192.0.2.7]:4711")?, true, ""),
        (balancer, header("198.51.100.9:4711")?, false, "host '198.51.100.9' is"),
        (balancer, header("[2001:db8::7]:4711")?, false, "host '2001:db8::7' is"),
        // Of its own connections the balancer's own address counts.
        (balancer, proxy_header(None), false, "host '127.0.1.1' is"),
        (HERE, Vec::new(), true, ""),
        (OTHER, Vec::new(), false, "host '127.0.0.2' is"),
    ] {
        ensure!(came_in(log_in(own, spillway.address()?, &header), who)? == expected, "{own} {who}");
        denied += usize::from(!expected);
    }
    // Whoever is not trusted to tell cannot lie: the header is not even read.
    ensure!(log_in(OTHER, spillway.address()?, &header("192.0.2.7:4711")?).is_err(), "it was believed");
    ensure!(denied == 4 && fault.connections() == 3, "{} connections", fault.connections());
    Ok(())
}

/// A configuration file that is changed.
struct Config(tempfile::TempDir);

impl Config {
    fn path(&self) -> PathBuf {
        self.0.path().join("spillway.toml")
    }

    /// Changes the file, and has it read again.
    fn reread(&self, spillway: &Spillway, text: &str) -> Result<()> {
        fs::write(self.path(), text)?;
        let told = spillway.log().matching("SIGHUP: ").len();
        spillway.signal(Signal::SIGHUP)?;
        let line = spillway.log().wait_for_nth("SIGHUP: ", told + 1, LIMIT)?;
        ensure!(line.contains("were read again"), "{line}");
        Ok(())
    }
}

fn routes(top: &str, of_a: &str, of_b: &str) -> String {
    let route = |name: &str, own: &str| {
        format!(
            "[[route]]\nname = '{name}'\nlisten = '127.0.0.1:0'\nupstream = '{}'\n{own}\n",
            server().tcp()
        )
    };
    format!("{top}\n{}{}", route("a", of_a), route("b", of_b))
}

#[test]
fn each_route_lets_in_whom_it_says_and_sighup_changes_that() -> Result<()> {
    let config = Config(tempfile::tempdir()?);
    fs::write(config.path(), routes("allow = '127.0.0.2'", "", "allow = ['127.0.0.1', '::1']"))?;
    let spillway = Spillway::configured(&config.path()).start()?;
    let (a, b) = (spillway.address_of("a")?, spillway.address_of("b")?);
    let ways = || -> Result<[bool; 4]> {
        let attempt = |own, address| came_in(log_in(own, address, &[]), &format!("host '{own}' is"));
        Ok([attempt(HERE, a)?, attempt(OTHER, a)?, attempt(HERE, b)?, attempt(OTHER, b)?])
    };
    ensure!(ways()? == [false, true, true, false], "{:?}", ways());
    let mut running = log_in(HERE, b, &[])?;
    config.reread(&spillway, &routes("", "", "allow = []"))?;
    ensure!(ways()? == [true, true, false, false], "{:?}", ways());
    ensure!(running.value("SELECT 'goes on'")? == "goes on", "a running session");
    Ok(())
}

/// The next one is refused at once, with 1040.
fn assert_full(attempt: Result<Raw>, max: u32) -> Result<()> {
    let Err(error) = attempt else { bail!("one more than {max}") };
    let told = format!("{error:#}");
    ensure!(told.contains(&format!("error 1040 (): spillway: --max-sessions {max} is reached")), "{told}");
    Ok(())
}

/// Waits until there are so many sessions.
fn wait_for_sessions(metrics: SocketAddr, count: usize) -> Result<()> {
    wait_for(LIMIT, &format!("{count} sessions"), || {
        Ok((Metrics::scrape(metrics)?.sum("spillway_sessions") == count as f64).then_some(()))
    })
}

#[test]
fn a_flood_of_clients_leaves_a_running_dump_alone() -> Result<()> {
    let fault = Fault::start(server().address())?;
    let options = ["--max-sessions", "10", "--metrics", "127.0.0.1:0"];
    let spillway = Spillway::to(&fault.address()).options(&options).start()?;
    let metrics = spillway.http_address("metrics on")?;
    let expected = dump(&server().tcp())?.finish(LIMIT)?.success()?;

    let mut running = dump(spillway.endpoint())?;
    let held = Held::after(running.child.stdout.take().context("no stdout")?, 1000)?;
    let mut greeted = Vec::new();
    for _ in 0..300 {
        match Raw::connect(spillway.address()?) {
            Ok(raw) => greeted.push(raw),
            refused => assert_full(refused, 10)?,
        }
    }
    ensure!(greeted.len() == 9, "{} beside the dump", greeted.len());
    ensure!(fault.connections() == 10, "the server was reached {} times", fault.connections());
    let counted = Metrics::scrape(metrics)?.value("spillway_errors_total{kind=\"too-many-sessions\"}")?;
    ensure!(counted == 291.0, "{counted} were refused");
    ensure!(spillway.log().matching("turned a client away").len() < 20, "a line for each");
    let draining = held.release();
    running.finish(LIMIT)?.success()?;
    let difference =
        client::difference(&client::normalised(&expected.stdout), &client::normalised(&draining.finish()?));
    ensure!(difference.is_none(), "{}", difference.unwrap_or_default());
    drop(greeted);
    wait_for_sessions(metrics, 0)
}

fn dump(endpoint: &Endpoint) -> Result<Running> {
    Running::start(client::dumper("mysqldump", endpoint).arg("report"))
}

#[test]
fn a_slot_is_free_again_while_the_flood_goes_on() -> Result<()> {
    let options = ["--max-sessions", "4", "--metrics", "127.0.0.1:0"];
    let spillway = Spillway::to(&server().tcp()).options(&options).start()?;
    let address = spillway.address()?;
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let mut clients = 0;
            while !is_over.load(Ordering::Relaxed) {
                // Refused or greeted, and gone.
                clients += usize::from(Raw::connect(address).is_err());
            }
            clients
        });
        let served = (0..5).try_for_each(|_| {
            let four: Vec<Raw> = (0..4)
                .map(|_| wait_for(LIMIT, "a free slot", || Ok(Raw::login(address).ok())))
                .collect::<Result<_>>()?;
            assert_full(Raw::connect(address), 4)?;
            drop(four);
            Ok::<_, anyhow::Error>(())
        });
        is_over.store(true, Ordering::Relaxed);
        let refused = flood.join().map_err(|_| anyhow::anyhow!("the flood panicked"))?;
        served?;
        ensure!(refused > 0, "there was no flood");
        Ok(())
    })?;
    wait_for_sessions(spillway.http_address("metrics on")?, 0)?;
    let all: Vec<Raw> = (0..4).map(|_| Raw::login(address)).collect::<Result<_>>()?;
    assert_full(Raw::connect(address), 4)?;
    drop(all);
    Ok(())
}

#[test]
fn routes_have_their_shares_and_sighup_changes_them() -> Result<()> {
    let config = Config(tempfile::tempdir()?);
    fs::write(config.path(), routes("max_sessions = 3", "max_sessions = 1", ""))?;
    let spillway = Spillway::configured(&config.path()).start()?;
    let (a, b) = (spillway.address_of("a")?, spillway.address_of("b")?);
    let mut open = vec![Raw::login(a)?];
    assert_full(Raw::connect(a), 1)?;
    open.extend([Raw::login(b)?, Raw::login(b)?]);
    assert_full(Raw::connect(b), 3)?;
    config.reread(&spillway, &routes("max_sessions = 5", "max_sessions = 2", ""))?;
    open.extend([Raw::login(a)?, Raw::login(b)?]);
    // Those that were there before count.
    assert_full(Raw::connect(a), 2)?;
    assert_full(Raw::connect(b), 5)?;
    config.reread(&spillway, &routes("", "max_sessions = 1", ""))?;
    assert_full(Raw::connect(a), 1)?;
    open.push(Raw::login(b)?);
    for raw in &mut open {
        ensure!(raw.value("SELECT 1")? == "1", "a running session");
    }
    Ok(())
}

#[test]
fn settings_that_cannot_be_used() -> Result<()> {
    for (options, code, part) in [
        (&["serve", "--max-sessions", "0"][..], 78, "--max-sessions 0: must be at least 1"),
        (&["serve", "--max-sessions", "many"], 2, "--max-sessions"),
        (&["serve", "--allow", "db1"], 2, "`db1` is no network"),
        (&["serve", "--allow", ""], 2, "--allow"),
        (&["run", "--allow", "*", "--", "mysqldump"], 2, "--allow has no meaning for run"),
        (&["run", "--max-sessions", "1", "--", "mysqldump"], 2, "--max-sessions has no meaning for run"),
    ] {
        let mut command = client::clean(spillway_bin());
        command.env("SPILLWAY_UPSTREAM", "127.0.0.1:1").env("SPILLWAY_LISTEN", "127.0.0.1:0");
        let finished = process::run(command.args(options), LIMIT)?;
        ensure!(finished.code() == code && finished.stderr.contains(part), "{options:?}: {finished:?}");
        ensure!(finished.stdout.is_empty(), "it listened: {}", finished.text());
    }
    // What a file says for `serve` keeps no client of `run` out.
    let config = Config(tempfile::tempdir()?);
    fs::write(config.path(), "allow = '10.0.0.0/8'\nmax_sessions = 1\n")?;
    let mut command = client::clean(spillway_bin());
    command.args(["run", "--config"]).arg(config.path());
    command.args(["--upstream", &server().tcp().to_string(), "--", "mysql", "--no-defaults"]);
    let finished =
        process::run(command.args(client::account()).args(["--execute", "SELECT 'in'"]), LIMIT)?.success()?;
    ensure!(finished.text().contains("in"), "no answer");
    Ok(())
}

/// What a stranger sends is not read, so it takes no memory.
#[test]
fn who_may_not_come_in_is_not_listened_to() -> Result<()> {
    let spillway =
        Spillway::to(&server().tcp()).options(&["--allow=127.0.0.1", "--log-level=debug"]).start()?;
    let mut strangers: Vec<TcpStream> = Vec::new();
    for _ in 0..50 {
        let mut stream = connect_from(OTHER, spillway.address()?)?;
        // It may be shut out before all of it is written.
        let _ = stream.write_all(&[b'x'; 1 << 16]);
        strangers.push(stream);
    }
    spillway.log().wait_for_nth("turned a client away", 50, LIMIT)?;
    ensure!(Raw::login(spillway.address()?)?.value("SELECT 'served'")? == "served", "who may come in");
    Ok(())
}

const LIMIT: Duration = Duration::from_secs(60);
