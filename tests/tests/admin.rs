//! What operators and their monitoring see over HTTP: metrics, health, readiness.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use spillway_tests::exposition::Metrics;
use spillway_tests::http::{self, Answer};
use spillway_tests::process::{self, Finished};
use spillway_tests::raw::Head;
use spillway_tests::wait::wait_for;
use spillway_tests::{Raw, Server, Spillway, client, spillway_bin, wait_until};

#[test]
fn metrics_follow_the_sessions() -> Result<()> {
    let server = Server::start(&[])?;
    server.sql(
        "CREATE TABLE test.t ENGINE=MyISAM SELECT seq, REPEAT('b', 1000) AS b FROM test.seq_1_to_5000",
    )?;
    let spillway = Spillway::to(&server.tcp()).options(&["--metrics", "127.0.0.1:0"]).start()?;
    let address = spillway.http_address("metrics on")?;

    // Everything is there before anything happens, so that the first event is a rise.
    let before = Metrics::scrape(address)?;
    for name in NAMES {
        ensure!(before.types().contains_key(*name), "no {name}");
    }
    ensure!(
        before.sum("spillway_errors_total") == 0.0 && before.sum("spillway_warnings_total") == 0.0,
        "{before:?}"
    );
    ensure!(before.value("spillway_errors_total{kind=\"server-lost\"}")? == 0.0, "{before:?}");
    ensure!(before.value("spillway_sessions{route=\"default\"}")? == 0.0, "{before:?}");

    let dump = process::run(client::dumper("mysqldump", spillway.endpoint()).args(["test", "t"]), LIMIT)?
        .success()?;
    spillway.wait_for_session_end(1, LIMIT)?;
    let after = Metrics::scrape(address)?;
    let drained = after.value("spillway_drained_bytes_total")?;
    ensure!(dump.stdout.len() > 5_000_000 && drained > 5_000_000.0, "{drained} bytes");
    ensure!(after.value("spillway_fed_bytes_total")? == drained, "{after:?}");
    ensure!(after.value("spillway_rows_total")? >= 5000.0, "{after:?}");
    for (name, expected) in [
        ("spillway_sessions_total", 1.0),
        ("spillway_logins_total", 1.0),
        ("spillway_sessions{route=\"default\"}", 0.0),
        ("spillway_backlog_bytes", 0.0),
        ("spillway_login_attempts_count", 1.0),
        ("spillway_login_attempts_bucket{le=\"1\"}", 1.0),
        ("spillway_errors_total{kind=\"server-lost\"}", 0.0),
    ] {
        ensure!(after.value(name)? == expected, "{name} is {}", after.value(name)?);
    }
    ensure!(after.value("spillway_lead_seconds_count")? >= 1.0, "{after:?}");
    for name in
        ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_threads"]
    {
        ensure!(after.value(name)? > 0.0, "{name}");
    }
    Ok(())
}

#[test]
fn metrics_tell_of_a_backlog_and_of_errors() -> Result<()> {
    let server = Server::start(&[])?;
    let options = ["--metrics", "127.0.0.1:0", "--spool-max", "16MiB", "--memory", "64MiB"];
    let spillway = Spillway::to(&server.tcp()).options(&options).start()?;
    let address = spillway.http_address("metrics on")?;
    let mut raw = Raw::login(spillway.address()?)?;
    ensure!(
        raw.start("SELECT seq, REPEAT('b', 1900) FROM seq_1_to_60000")? == Head::Columns(2),
        "no columns"
    );
    // The client stalls, the spool is full, and the server has to wait.
    let held = wait_for(LIMIT, "the server to be held back", || {
        let metrics = Metrics::scrape(address)?;
        Ok((metrics.value("spillway_held_back_seconds_total")? > 0.0).then_some(metrics))
    })?;
    ensure!(held.value("spillway_sessions{route=\"default\"}")? == 1.0, "{held:?}");
    ensure!(held.value("spillway_backlog_bytes")? > 16e6, "{held:?}");
    let on_disk = held.value("spillway_spool_disk_bytes")?;
    ensure!((1e6..=16.0 * 1024.0 * 1024.0).contains(&on_disk), "{on_disk}");
    ensure!(held.value("spillway_spool_disk_limit_bytes")? == 16.0 * 1024.0 * 1024.0, "{held:?}");
    ensure!(held.value("spillway_spool_memory_limit_bytes")? == 64.0 * 1024.0 * 1024.0, "{held:?}");
    ensure!(held.value("spillway_spool_memory_bytes")? > 1e6, "{held:?}");
    ensure!(held.value("spillway_spool_peak_bytes{tier=\"disk\"}")? >= on_disk, "{held:?}");

    server.kill_9()?;
    raw.rows(|_| {})?.err()?;
    spillway.wait_for_session_end(1, LIMIT)?;
    let lost = Metrics::scrape(address)?;
    ensure!(lost.value("spillway_errors_total{kind=\"server-lost\"}")? == 1.0, "{lost:?}");
    ensure!(lost.value("spillway_spool_disk_bytes")? == 0.0, "{lost:?}");
    Ok(())
}

#[test]
fn attempts_that_fail_are_counted_by_step_and_cause() -> Result<()> {
    let nobody = nobody_listens()?;
    let options = ["--metrics", "127.0.0.1:0", "--handshake-timeout", "300ms"];
    let spillway = Spillway::to(&nobody).options(&options).start()?;
    let address = spillway.http_address("metrics on")?;
    ensure!(Raw::login(spillway.address()?).is_err(), "a session without a server");
    let metrics = Metrics::scrape(address)?;
    let sample = format!(
        "spillway_failed_attempts_total{{phase=\"connect\",cause=\"refused\",upstream=\"{nobody}\"}}"
    );
    ensure!(metrics.value(&sample)? >= 1.0, "{metrics:?}");
    ensure!(metrics.value("spillway_errors_total{kind=\"unreachable\"}")? == 1.0, "{metrics:?}");
    Ok(())
}

#[test]
fn readiness_follows_what_sessions_learn() -> Result<()> {
    // A server that nobody may connect to only to find out whether it is there.
    let server = TcpListener::bind("127.0.0.1:0")?;
    server.set_nonblocking(true)?;
    let upstream = server.local_addr()?;
    let options = ["--metrics", "127.0.0.1:0", "--handshake-timeout", "300ms"];
    let spillway = Spillway::to(&upstream).options(&options).start()?;
    let address = spillway.http_address("metrics on")?;
    for _ in 0..10 {
        let ready = http::get(address, "/readyz")?;
        ensure!(ready.status == 200 && ready.json()?["upstreams"][0]["state"] == "not known", "{ready:?}");
    }
    ensure!(server.accept().is_err(), "readiness has connected to the server");
    drop(server);
    ensure!(Raw::login(spillway.address()?).is_err(), "a session without a server");
    let ready = http::get(address, "/readyz")?;
    ensure!(ready.status == 503 && ready.json()?["status"] == "not ready", "{ready:?}");
    ensure!(reasons(&ready)?.contains("onnection refused"), "{ready:?}");
    ensure!(http::get(address, "/healthz")?.status == 200, "alive, whatever becomes of the server");
    Ok(())
}

#[test]
fn readiness_ends_with_the_signal_and_the_process_with_the_last_session() -> Result<()> {
    let server = Server::start(&[])?;
    let mut spillway = Spillway::to(&server.tcp()).options(&["--metrics", "127.0.0.1:0"]).start()?;
    let address = spillway.http_address("metrics on")?;
    let mut raw = Raw::login(spillway.address()?)?;
    ensure!(raw.value("SELECT 1")? == "1", "no answer");
    let ready = http::get(address, "/readyz")?;
    ensure!(ready.status == 200 && ready.json()?["upstreams"][0]["state"] == "reached", "{ready:?}");
    // A connection that stays open, as browsers and Prometheus keep theirs, holds nothing up.
    let open = TcpStream::connect(address)?;

    spillway.signal(Signal::SIGTERM)?;
    let draining = wait_for(LIMIT, "readiness to end", || {
        let ready = http::get(address, "/readyz")?;
        Ok((ready.status == 503).then_some(ready))
    })?;
    ensure!(reasons(&draining)?.contains("told to stop"), "{draining:?}");
    ensure!(http::get(address, "/healthz")?.status == 200, "it still works for its last session");
    ensure!(raw.value("SELECT 2")? == "2", "the session goes on");
    drop(raw);
    ensure!(spillway.wait_for_end(LIMIT)?.success(), "{}", spillway.log().tail());
    drop(open);
    Ok(())
}

#[test]
fn a_spool_directory_that_is_gone_ends_readiness() -> Result<()> {
    let spillway = Spillway::to(&nobody_listens()?).options(&["--metrics", "127.0.0.1:0"]).start()?;
    let address = spillway.http_address("metrics on")?;
    fs::remove_dir(spillway.spool_dir())?;
    let ready = http::get(address, "/readyz")?;
    ensure!(ready.status == 503 && reasons(&ready)?.contains("spool directory"), "{ready:?}");
    fs::create_dir(spillway.spool_dir())?;
    // What was found out holds good for a while.
    wait_until(LIMIT, "readiness to come back", || {
        http::get(address, "/readyz").is_ok_and(|ready| ready.status == 200)
    })
}

#[test]
fn each_address_has_its_own() -> Result<()> {
    let options = ["--metrics", "127.0.0.1:0", "--web", "localhost:0"];
    let spillway = Spillway::to(&nobody_listens()?).options(&options).start()?;
    let (metrics, web) = (spillway.http_address("metrics on")?, spillway.http_address("web page on")?);
    for (address, path, status) in [
        (metrics, "/metrics", 200),
        (metrics, "/", 404),
        (metrics, "/api/sessions", 404),
        (metrics, "/healthz", 200),
        (web, "/metrics", 404),
        (web, "/", 200),
        (web, "/app.js", 200),
        (web, "/api/sessions", 200),
        (web, "/readyz", 200),
        (web, "/app.js/../../etc/passwd", 404),
    ] {
        let answer = http::get(address, path)?;
        ensure!(answer.status == status, "{path}: {answer:?}");
        ensure!(answer.header("x-content-type-options") == Some("nosniff"), "{path}: {answer:?}");
    }
    let together = ["--metrics", "127.0.0.1:0", "--web", "127.0.0.1:0"];
    let spillway = Spillway::to(&nobody_listens()?).options(&together).start()?;
    ensure!(spillway.http_address("metrics on")? == spillway.http_address("web page on")?, "two sockets");
    Ok(())
}

#[test]
fn the_page_is_for_nobody_elses_pages() -> Result<()> {
    let together = ["--metrics", "127.0.0.1:0", "--web", "127.0.0.1:0"];
    let spillway = Spillway::to(&nobody_listens()?).options(&together).start()?;
    let address = spillway.http_address("web page on")?;
    let request = |method: &str, path: &str, host: &str| {
        http::ask(address, &format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
    };
    for (method, path, host, status) in [
        ("GET", "/api/sessions", "127.0.0.1", 200),
        ("GET", "/api/sessions", "localhost:9307", 200),
        ("GET", "/api/sessions", "[::1]:9307", 200),
        ("GET", "/api/sessions", "evil.example", 421),
        ("GET", "/", "evil.example:9307", 421),
        ("GET", "/metrics", "spillway.example:9307", 200),
        ("GET", "/readyz", "spillway.example:9307", 200),
        ("HEAD", "/", "127.0.0.1", 200),
        ("POST", "/api/sessions", "127.0.0.1", 405),
        ("OPTIONS", "/api/sessions", "127.0.0.1", 405),
        ("DELETE", "/metrics", "127.0.0.1", 405),
    ] {
        let answer = request(method, path, host)?;
        ensure!(answer.status == status, "{method} {path} of {host}: {answer:?}");
        ensure!(answer.header("access-control-allow-origin").is_none(), "{answer:?}");
    }
    let page = request("GET", "/", "127.0.0.1")?;
    let policy = page.header("content-security-policy").context("no policy")?;
    ensure!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    ensure!(request("HEAD", "/", "127.0.0.1")?.body.is_empty(), "a body for HEAD");
    // As HAProxy asks by default.
    ensure!(http::ask(address, "GET /readyz HTTP/1.0\r\n\r\n")?.status == 200, "HTTP/1.0");
    let without_name = http::ask(address, "GET / HTTP/1.1\r\nConnection: close\r\n\r\n")?;
    ensure!(without_name.status == 421, "{without_name:?}");
    let long = format!("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let refused = http::ask(address, &long);
    ensure!(
        refused.is_err() || refused.is_ok_and(|answer| answer.status == 431),
        "a head of 100 kB was read"
    );
    Ok(())
}

#[test]
fn connections_that_say_nothing_are_closed() -> Result<()> {
    let spillway = Spillway::to(&nobody_listens()?).options(&["--metrics", "127.0.0.1:0"]).start()?;
    let address = spillway.http_address("metrics on")?;
    // More than there are places. Half of them have begun a request.
    let mut silent: Vec<TcpStream> = (0..70)
        .map(|number| {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(if number % 2 == 0 { b"GET /metr" } else { b"" })?;
            Ok(stream)
        })
        .collect::<Result<_>>()?;
    // Whoever comes behind them waits, and is served when their time is over.
    ensure!(http::get(address, "/healthz")?.status == 200, "not served");
    let first = &mut silent[0];
    first.set_read_timeout(Some(LIMIT))?;
    first.read_to_end(&mut Vec::new()).context("the first of them is still open")?;
    Ok(())
}

#[test]
fn addresses_of_no_use_end_it_before_it_begins() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let taken = taken.local_addr()?.to_string();
    let spool = tempfile::tempdir()?;
    for (options, code, part) in [
        (["--metrics", &taken], 78, format!("--metrics {taken}: ")),
        (["--web", &taken], 78, format!("--web {taken}: ")),
        (["--web", "192.0.2.1:0"], 78, "--web 192.0.2.1:0: ".to_owned()),
        (["--web", "no-such-host.invalid:0"], 78, "--web no-such-host.invalid:0: ".to_owned()),
        (["--web", "unix:/tmp/s"], 2, "Unix socket".to_owned()),
        (["--metrics", "127.0.0.1"], 2, "no port".to_owned()),
        (["--log-format", "xml"], 2, "[possible values: human, json]".to_owned()),
    ] {
        let finished = serve(spool.path(), &options)?;
        ensure!(finished.code() == code, "{options:?}: {finished:?}");
        ensure!(finished.stderr.contains(&part), "{options:?}: {finished:?}");
        ensure!(
            finished.stderr.trim().lines().count() == 1 && finished.stdout.is_empty(),
            "{options:?}: {finished:?}"
        );
    }
    for option in ["--metrics", "--web"] {
        let finished = process::run(
            Command::new(spillway_bin()).args(["run", option, "127.0.0.1:0", "--", "true"]),
            LIMIT,
        )?;
        ensure!(finished.code() == 2 && finished.stderr.contains("no meaning for run"), "{finished:?}");
    }
    Ok(())
}

fn serve(spool: &std::path::Path, options: &[&str]) -> Result<Finished> {
    let mut command = Command::new(spillway_bin());
    command.args(["serve", "--upstream", "127.0.0.1:1", "--listen", "127.0.0.1:0", "--spool-dir"]).arg(spool);
    process::run(command.args(options), LIMIT)
}

/// The reasons of `/readyz` in one text.
fn reasons(answer: &Answer) -> Result<String> {
    Ok(answer.json()?["reasons"].to_string())
}

/// An address where nobody listens.
fn nobody_listens() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

const NAMES: &[&str] = &[
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_threads",
    "process_virtual_memory_bytes",
    "spillway_attempt_pause_seconds",
    "spillway_backlog_bytes",
    "spillway_build_info",
    "spillway_clients_without_login_total",
    "spillway_drained_bytes_total",
    "spillway_errors_total",
    "spillway_fed_bytes_total",
    "spillway_healed_logins_total",
    "spillway_healed_sessions_total",
    "spillway_held_back_seconds_total",
    "spillway_keepalives_total",
    "spillway_lead_seconds",
    "spillway_login_attempts",
    "spillway_logins_total",
    "spillway_refused_proxy_headers_total",
    "spillway_rows_total",
    "spillway_sessions",
    "spillway_sessions_total",
    "spillway_spool_disk_bytes",
    "spillway_spool_memory_bytes",
    "spillway_spool_memory_limit_bytes",
    "spillway_spool_peak_bytes",
    "spillway_spooled_bytes_total",
    "spillway_spooled_disk_bytes_total",
    "spillway_warnings_total",
];
const LIMIT: Duration = Duration::from_secs(60);
