//! The log as programs read it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use spillway_tests::{Server, Spillway, client, process};

#[test]
fn as_json() -> Result<()> {
    let server = Server::start(&[])?;
    let spillway = Spillway::to(&server.tcp()).options(&["--log-format", "json"]).start()?;
    let dump = process::run(client::dumper("mysqldump", spillway.endpoint()).args(["mysql", "db"]), LIMIT)?;
    dump.success()?;
    spillway.wait_for_session_end(1, LIMIT)?;
    let lines: Vec<Value> = spillway
        .log()
        .lines()
        .iter()
        .map(|line| serde_json::from_str(line).with_context(|| line.clone()))
        .collect::<Result<_>>()?;
    let of = |message: &str| {
        let found = lines.iter().find(|line| line["message"] == message);
        found.with_context(|| format!("no {message:?} in {lines:?}"))
    };
    let ended = of("session ended")?;
    ensure!(ended["level"] == "INFO" && ended["target"] == "spillway::session", "{ended}");
    ensure!(ended["drained"].as_u64().is_some_and(|drained| drained > 0), "{ended}");
    let span = &ended["span"];
    let upstream = server.address().to_string();
    for (field, expected) in
        [("name", "session"), ("user", "dump"), ("program", "mysqldump"), ("upstream", upstream.as_str())]
    {
        ensure!(span[field] == expected, "{field} in {span}");
    }
    ensure!(
        span["id"] == 1 && span["client"].as_str().is_some_and(|client| client.starts_with("127.0.0.1:")),
        "{span}"
    );
    Ok(())
}

const LIMIT: Duration = Duration::from_secs(60);
