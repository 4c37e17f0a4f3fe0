//! The web page in a real browser.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use spillway_tests::{Browser, Raw, Server, Spillway, wait_until};

/// A session of a client that has stopped reading, in a table whose name is no harmless text.
fn stalled(server: &Server, spillway: &Spillway) -> Result<Raw> {
    server.sql(&format!(
        "CREATE TABLE IF NOT EXISTS test.`{TABLE}` ENGINE=MyISAM
             SELECT seq, REPEAT('b', 1900) AS b FROM test.seq_1_to_20000"
    ))?;
    let mut raw = Raw::login(spillway.address()?)?;
    raw.start(&format!("SELECT /*!40001 SQL_NO_CACHE */ * FROM `{TABLE}`"))?;
    Ok(raw)
}

#[test]
fn a_session_with_its_curves() -> Result<()> {
    let server = Server::start(&[])?;
    let spillway = Spillway::to(&server.tcp()).options(&["--web", "127.0.0.1:0"]).start()?;
    let origin = format!("http://{}", spillway.http_address("web page on")?);
    let mut raw = stalled(&server, &spillway)?;
    let mut browser = Browser::start()?;
    for (width, height, is_phone) in [(1280, 900, false), (375, 812, true)] {
        browser.resize(width, height, is_phone)?;
        browser.go_to(&format!("{origin}/"))?;
        browser.wait_until("document.querySelector('[data-session=\"1\"] path.backlog')?.getAttribute('d')?.split('L').length > 2", LIMIT)?;
        ensure!(text(&mut browser, "[data-session='1'] .subject")?.contains(TABLE), "the table is not shown");
        ensure!(text(&mut browser, "[data-session='1'] .who")?.contains("dump"), "the user is not shown");
        ensure!(text(&mut browser, "#status")? == "serving", "the state");
        ensure!(text(&mut browser, "#count")? == "1 session", "the number of sessions");
        ensure!(text(&mut browser, "#backlog")?.ends_with("MiB"), "the backlog of all");
        ensure!(!has_sideways_scrolling(&mut browser)?, "{width} px wide, and it scrolls sideways");
        ensure!(
            browser.evaluate("document.querySelectorAll('main b b, main i').length")? == json!(0),
            "markup of others"
        );
    }
    // The client reads on, and the page shows it.
    raw.rows(|_| {})?.ok()?;
    browser
        .wait_until("document.querySelector('[data-session=\"1\"] .pill').textContent === 'idle'", LIMIT)?;
    drop(raw);
    browser.wait_until("document.querySelectorAll('[data-session]').length === 0", LIMIT)?;
    browser.wait_until("document.querySelector('#empty').checkVisibility()", LIMIT)?;

    let foreign: Vec<_> = browser.requests().into_iter().filter(|url| !url.starts_with(&origin)).collect();
    ensure!(foreign.iter().all(|url| url == "about:blank"), "asked for {foreign:?}");
    ensure!(browser.complaints().is_empty(), "{:?}", browser.complaints());

    spillway.signal(nix::sys::signal::Signal::SIGKILL)?;
    browser.wait_until("document.querySelector('#status').textContent === 'no answer'", LIMIT)
}

#[test]
fn many_sessions_are_a_table() -> Result<()> {
    let server = Server::start(&[])?;
    let spillway = Spillway::to(&server.tcp()).options(&["--web", "127.0.0.1:0"]).start()?;
    let origin = format!("http://{}", spillway.http_address("web page on")?);
    let clients: Vec<Raw> = (0..SESSIONS).map(|_| Raw::login(spillway.address()?)).collect::<Result<_>>()?;
    let one = stalled(&server, &spillway)?;
    let mut browser = Browser::start()?;
    let rows = "document.querySelectorAll('#table tbody tr').length";
    for (width, is_phone) in [(1280, false), (375, true)] {
        browser.resize(width, 900, is_phone)?;
        browser.go_to(&format!("{origin}/"))?;
        browser.wait_until(&format!("{rows} === {}", SESSIONS + 1), LIMIT)?;
        ensure!(!has_sideways_scrolling(&mut browser)?, "{width} px wide, and it scrolls sideways");
    }
    // The filter, the order, and cards all the same.
    browser.evaluate(
        "document.querySelector('#filter').value = '<B>'; document.querySelector('#filter').dispatchEvent(new Event('input'))",
    )?;
    browser.wait_until(&format!("{rows} === 1"), LIMIT)?;
    browser.evaluate("document.querySelector('#as-cards').click()")?;
    browser.wait_until("document.querySelectorAll('#cards .card').length === 1", LIMIT)?;
    drop((clients, one));
    wait_until(LIMIT, "all sessions to end", || {
        spillway.log().matching("session ended").len() == SESSIONS + 1
    })?;
    ensure!(browser.complaints().is_empty(), "{:?}", browser.complaints());
    Ok(())
}

fn text(browser: &mut Browser, selector: &str) -> Result<String> {
    let text = browser.evaluate(&format!("document.querySelector({}).textContent", json!(selector)))?;
    Ok(text.as_str().unwrap_or_default().to_owned())
}

fn has_sideways_scrolling(browser: &mut Browser) -> Result<bool> {
    let wider =
        browser.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")?;
    Ok(wider == Value::Bool(true))
}

const TABLE: &str = "<b>a & \"b\"</b>";
const SESSIONS: usize = 120;
const LIMIT: Duration = Duration::from_secs(30);
