//! The web page's password: who has it sees the page, who has not sees nothing, and guessing is slow and hurts nobody.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use spillway_tests::http::{self, Answer};
use spillway_tests::raw::connect_from;
use spillway_tests::wait::wait_for;
use spillway_tests::{Spillway, client, process, spillway_bin, wait_until};

const SECRET: &str = "s3cret of: the page";
/// `admin:` and that, as curl encodes it.
const RIGHT: &str = "YWRtaW46czNjcmV0IG9mOiB0aGUgcGFnZQ==";
/// `admin:wrong`
const WRONG: &str = "YWRtaW46d3Jvbmc=";

fn start(options: &[&str]) -> Result<Spillway> {
    Spillway::to("127.0.0.1:1")
        .wrapper(&["env".into(), format!("SPILLWAY_WEB_PASSWORD={SECRET}").into()])
        .options(options)
        .start()
}

fn ask(address: SocketAddr, path: &str, credentials: Option<&str>) -> Result<Answer> {
    let authorization =
        credentials.map(|credentials| format!("Authorization: Basic {credentials}\r\n")).unwrap_or_default();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{authorization}Connection: close\r\n\r\n");
    http::ask(address, &request)
}

/// From another address than [`http::ask`]: the first line of the answer.
fn first_line_from(own: Ipv4Addr, address: SocketAddr, credentials: &str) -> Result<String> {
    let mut stream = connect_from(own, address)?;
    write!(
        stream,
        "GET / HTTP/1.1\r\nHost: {address}\r\nAuthorization: Basic {credentials}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

#[test]
fn the_page_is_for_who_has_the_password() -> Result<()> {
    let together = ["--metrics", "127.0.0.1:0", "--web", "127.0.0.1:0", "--log-level", "trace"];
    let spillway = start(&together)?;
    let address = spillway.http_address("web page on")?;
    for path in ["/", "/app.js", "/api/sessions", "/nothing-here"] {
        let answer = ask(address, path, None)?;
        let challenge = answer.header("www-authenticate").unwrap_or_default();
        ensure!(answer.status == 401 && challenge.starts_with("Basic realm="), "{path}: {answer:?}");
        ensure!(!answer.body.contains("sessions"), "{path}: {answer:?}");
    }
    ensure!(ask(address, "/", Some(RIGHT))?.status == 200, "the page");
    ensure!(ask(address, "/api/sessions", Some(RIGHT))?.json()?["sessions"].is_array(), "its figures");
    for path in ["/metrics", "/healthz", "/readyz"] {
        let answer = ask(address, path, None)?;
        ensure!([200, 503].contains(&answer.status), "{path}: {answer:?}");
    }
    // Another name than its own is no way around it.
    let foreign = "GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    ensure!(http::ask(address, foreign)?.status == 421, "a foreign name");
    ensure!(http::ask(address, "GET / HTTP/1.0\r\n\r\n")?.status == 401, "HTTP/1.0");
    let wrong = ask(address, "/", Some(WRONG))?;
    ensure!(wrong.status == 401, "{wrong:?}");
    spillway.wait_for_log("refused a login to the web page", LIMIT)?;
    let log = spillway.log().lines().join("\n");
    ensure!(!log.contains(SECRET) && !log.contains(RIGHT) && !log.contains(WRONG), "the log has a password");
    Ok(())
}

#[test]
fn guessing_is_slow_and_keeps_no_other_out() -> Result<()> {
    let spillway = start(&["--web", "0.0.0.0:0"])?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, spillway.http_address("web page on")?.port()));
    let began = Instant::now();
    let (mut looked_at, mut asked) = (0, 0);
    while began.elapsed() < GUESSING {
        let answer = ask(address, "/", Some(WRONG))?;
        match answer.status {
            401 => looked_at += 1,
            429 => ensure!(answer.header("retry-after") == Some("1"), "{answer:?}"),
            _ => bail!("{answer:?}"),
        }
        asked += 1;
    }
    ensure!((1..=4).contains(&looked_at) && asked > 20, "{looked_at} of {asked} guesses were looked at");
    // Not even the right one is, from there, so that nobody can tell them apart by it.
    let barred = wait_for(LIMIT, "a guess to be looked at", || {
        let asked = Instant::now();
        Ok((ask(address, "/", Some(WRONG))?.status == 401).then_some(asked))
    })?;
    let status = ask(address, "/", Some(RIGHT))?.status;
    ensure!(status == 429 || barred.elapsed() >= PAUSE, "the guesser's next: {status}");
    let other = first_line_from(Ipv4Addr::new(127, 0, 0, 2), address, RIGHT)?;
    ensure!(other.contains(" 200 "), "somebody else: {other}");
    ensure!(ask(address, "/healthz", None)?.status == 200, "health");
    wait_until(LIMIT, "the guesser to be listened to again", || {
        ask(address, "/", Some(RIGHT)).is_ok_and(|answer| answer.status == 200)
    })
}

#[test]
fn without_a_password_the_page_stays_on_this_host() -> Result<()> {
    let spool = tempfile::tempdir()?;
    let serve = |options: &[&str], password: Option<&str>| {
        let mut command = client::clean(spillway_bin());
        command.args(["serve", "--upstream", "127.0.0.1:1", "--listen", "127.0.0.1:0", "--spool-dir"]);
        command.arg(spool.path()).args(options);
        command.envs(password.map(|password| ("SPILLWAY_WEB_PASSWORD", password)));
        process::run(&mut command, LIMIT)
    };
    for (options, password) in [
        (&["--web", "0.0.0.0:0"][..], None),
        (&["--web", "[::]:0"], Some("")),
        (&["--web", "0.0.0.0:0", "--metrics", "0.0.0.0:0"], None),
    ] {
        let finished = serve(options, password)?;
        let is_told = finished.stderr.contains("SPILLWAY_WEB_PASSWORD") && finished.stdout.is_empty();
        ensure!(finished.code() == 78 && is_told, "{options:?}: {finished:?}");
        ensure!(finished.stderr.trim_end().lines().count() == 1, "{}", finished.stderr);
    }
    // Metrics have no user and no table in them, so they need none.
    let spillway =
        Spillway::to("127.0.0.1:1").options(&["--metrics", "0.0.0.0:0", "--web", "127.0.0.1:0"]).start()?;
    let address = spillway.http_address("web page on")?;
    ensure!(ask(address, "/", None)?.status == 200, "the page on loopback");
    Ok(())
}

/// How long a guesser is not listened to.
const PAUSE: Duration = Duration::from_secs(1);
/// How long somebody guesses.
const GUESSING: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(60);
