//! A backlog of any size: memory stays within bounds, the disk holds no more than the backlog, and a full spool slows
//! the server down without losing a byte.

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use spillway_tests::process::{self, Running};
use spillway_tests::raw::{End, Head};
use spillway_tests::server::USER;
use spillway_tests::sink::Held;
use spillway_tests::{Endpoint, Raw, Server, Spillway, SpoolOn, client, data, log, wait_until};

#[test]
fn two_gigabytes_for_a_stalled_client() -> Result<()> {
    let server = Server::start(&[])?;
    let spillway = Spillway::to(&server.tcp()).options(&["--spool-max", "8GiB"]).start()?;
    let mut raw = Raw::login(spillway.address()?)?;
    let statement = format!("SELECT seq, REPEAT('b', {ROW}) FROM seq_1_to_{ROWS}");
    ensure!(raw.start(&statement)? == Head::Columns(2), "no columns");
    // The client has read the head and now reads nothing.
    server.wait_for_no_thread(
        Duration::from_secs(60),
        "the query to end while the client stalls",
        |thread| thread.user == USER && thread.command == "Query",
    )?;
    let total = ROWS * (ROW + 3);
    ensure!(raw.received < total / 100, "the client has read {} bytes", raw.received);
    let spooled = spillway.spool_space()?;
    ensure!(spooled > total / 10 * 9, "{spooled} bytes on disk of {total}");
    assert_memory(&spillway, 64 << 20)?;

    let mut rows = 0;
    let mut wrong = None;
    let mut half = None;
    let end = raw.rows(|row| {
        rows += 1;
        let number = rows.to_string();
        let text = &row[1 + number.len() + 3..];
        if &row[1..=number.len()] != number.as_bytes()
            || text.len() != ROW as usize
            || text.iter().any(|b| *b != b'b')
        {
            wrong.get_or_insert(rows);
        }
        if rows == ROWS / 2 {
            half = spillway.spool_space().ok();
        }
    })?;
    ensure!(matches!(end, End::Ok { .. }), "{end:?}");
    ensure!((rows, wrong) == (ROWS, None), "{rows} rows, wrong from {wrong:?}");
    let half = half.context("no measure")?;
    ensure!(half < total / 100 * 60, "with half of it read, {half} bytes are still on disk");
    ensure!(raw.value("SELECT 'next'")? == "next", "the next statement");
    wait_until(LIMIT, "the disk space to be back", || spillway.spool_space().is_ok_and(|space| space == 0))?;
    drop(raw);
    let line = spillway.wait_for_session_end(1, LIMIT)?;
    ensure!(log::field(&line, "backlog_peak")? > total / 10 * 9, "{line}");
    ensure!(log::field(&line, "drained")? == log::field(&line, "fed")?, "{line}");
    assert_memory(&spillway, 64 << 20)
}

#[test]
fn a_client_that_leaves_gives_the_disk_back() -> Result<()> {
    let server = Server::start(&[])?;
    let spillway = Spillway::to(&server.tcp()).start()?;
    let mut raw = Raw::login(spillway.address()?)?;
    raw.start("SELECT seq, REPEAT('b', 1900) FROM seq_1_to_50000")?;
    wait_until(LIMIT, "a spool file", || spillway.spool_space().is_ok_and(|space| space > 32 << 20))?;
    drop(raw);
    wait_until(LIMIT, "the disk space to be back", || spillway.spool_space().is_ok_and(|space| space == 0))?;
    spillway.wait_for_session_end(1, LIMIT)?;
    ensure!(std::fs::read_dir(spillway.spool_dir())?.next().is_none(), "a file with a name is left");
    Ok(())
}

#[test]
fn a_full_file_system_slows_the_dump() -> Result<()> {
    full_spool(SpoolOn::Tmpfs(64), &["--spool-max", "4GiB"], 64 << 20)
}

#[test]
fn a_full_spool_slows_the_dump() -> Result<()> {
    full_spool(SpoolOn::Disk, &["--spool-max", "32MiB"], 32 << 20)
}

/// A dump larger than the spool, into a sink that stalls for longer than the server would wait.
fn full_spool(place: SpoolOn, options: &[&str], size: u64) -> Result<()> {
    let server = Server::start(&["--net-write-timeout=1"])?;
    data::report::load(&server, "test", 140 << 20)?;
    let expected = client::normalised(&process::run(&mut dump(&server.tcp()), LIMIT)?.success()?.stdout);
    let spillway = Spillway::to(&server.tcp()).spool(place).options(options).start()?;

    let mut running = Running::start(&mut dump(spillway.endpoint()))?;
    let held = Held::after(running.child.stdout.take().context("no stdout")?, 1000)?;
    server.wait_for_thread(LIMIT, "the server to be made to wait", |thread| {
        thread.user == USER && thread.state.contains("Writing to net")
    })?;
    sleep(Duration::from_secs(3));
    let waiting = server.processlist()?.iter().any(|thread| thread.user == USER && thread.command == "Query");
    ensure!(waiting, "the query ended, though the spool is smaller than its result");
    let draining = held.release();
    running.finish(LIMIT)?.success().with_context(|| spillway.log().tail())?;
    let difference = client::difference(&expected, &client::normalised(&draining.finish()?));
    ensure!(difference.is_none(), "{}", difference.unwrap_or_default());
    let line = spillway.wait_for_session_end(1, LIMIT)?;
    let spooled = log::field(&line, "spooled_peak")?;
    // The number has what is on its way to the disk in it, written in the end or not.
    ensure!((size / 2..=size + (16 << 20)).contains(&spooled), "{line}");
    assert_memory(&spillway, 64 << 20)
}

#[test]
fn a_file_system_without_o_direct() -> Result<()> {
    let server = Server::start(&[])?;
    data::report::load(&server, "test", 60 << 20)?;
    let expected = client::normalised(&process::run(&mut dump(&server.tcp()), LIMIT)?.success()?.stdout);
    let spillway = Spillway::to(&server.tcp()).spool(SpoolOn::Ramfs).start()?;
    let line = dump_past_a_stall(&server, &spillway, &expected)?;
    ensure!(log::field(&line, "spooled_peak")? > 16 << 20, "{line}");
    Ok(())
}

/// Dumps into a sink that stalls until the server is done with the query; gives the last line of the session's log.
fn dump_past_a_stall(server: &Server, spillway: &Spillway, expected: &[u8]) -> Result<String> {
    let mut running = Running::start(&mut dump(spillway.endpoint()))?;
    let held = Held::after(running.child.stdout.take().context("no stdout")?, 1000)?;
    server.wait_for_no_thread(LIMIT, "the query to end while the sink stalls", |thread| {
        thread.user == USER && thread.command == "Query"
    })?;
    let draining = held.release();
    running.finish(LIMIT)?.success().with_context(|| spillway.log().tail())?;
    let difference = client::difference(expected, &client::normalised(&draining.finish()?));
    ensure!(difference.is_none(), "{}", difference.unwrap_or_default());
    spillway.wait_for_session_end(1, LIMIT)
}

#[test]
fn a_compressed_spool() -> Result<()> {
    let server = Server::start(&[])?;
    server.sql(
        "CREATE TABLE test.test ENGINE=MyISAM
             SELECT seq AS id, REPEAT(SHA2(seq, 512), 10) AS b FROM test.seq_1_to_80000",
    )?;
    let expected = client::normalised(&process::run(&mut dump(&server.tcp()), LIMIT)?.success()?.stdout);
    for algorithm in ["lz4", "zstd"] {
        let spillway = Spillway::to(&server.tcp()).options(&["--spool-compress", algorithm]).start()?;
        let line = dump_past_a_stall(&server, &spillway, &expected).context(algorithm)?;
        let spooled = log::field(&line, "spooled_peak")?;
        let on_disk = log::field(&line, "spooled_on_disk_peak")?;
        ensure!(spooled > 64 << 20 && (1..spooled / 4).contains(&on_disk), "{algorithm}: {line}");
        assert_memory(&spillway, 64 << 20)?;
    }
    Ok(())
}

#[test]
fn a_client_that_keeps_up_never_touches_the_disk() -> Result<()> {
    let server = Server::start(&[])?;
    let spillway = Spillway::to(&server.tcp()).start()?;
    let mut raw = Raw::login(spillway.address()?)?;
    for _ in 0..200 {
        ensure!(raw.query("SELECT seq, REPEAT('b', 1000) FROM seq_1_to_100")?.len() == 100, "rows");
    }
    drop(raw);
    let line = spillway.wait_for_session_end(1, LIMIT)?;
    ensure!(log::field(&line, "spooled_peak")? == 0, "{line}");
    Ok(())
}

#[test]
fn fifty_sessions_at_once() -> Result<()> {
    let server = Server::start(&[])?;
    data::report::load(&server, "test", 14 << 20)?;
    let expected = client::normalised(&process::run(&mut dump(&server.tcp()), LIMIT)?.success()?.stdout);
    let spillway = Spillway::to(&server.tcp()).start()?;
    let held: Vec<_> = (0..SESSIONS)
        .map(|_| {
            let mut running = Running::start(&mut dump(spillway.endpoint()))?;
            let stdout = running.child.stdout.take().context("no stdout")?;
            Ok((running, Held::after(stdout, 1000)?))
        })
        .collect::<Result<_>>()?;
    // All of them are in the middle of their dump, and the server is done with all of them.
    let open = server.processlist()?.iter().filter(|thread| thread.user == USER).count();
    ensure!(open == SESSIONS, "{open} sessions");
    server.wait_for_no_thread(LIMIT, "all queries to end", |thread| {
        thread.user == USER && thread.command == "Query"
    })?;
    let draining: Vec<_> = held.into_iter().map(|(running, held)| (running, held.release())).collect();
    for (running, draining) in draining {
        running.finish(LIMIT)?.success().with_context(|| spillway.log().tail())?;
        let difference = client::difference(&expected, &client::normalised(&draining.finish()?));
        ensure!(difference.is_none(), "{}", difference.unwrap_or_default());
    }
    spillway.wait_for_session_end(SESSIONS, LIMIT)?;
    // The default of --memory, and what a process with fifty connections needs besides.
    assert_memory(&spillway, (256 << 20) + (48 << 20))
}

fn dump(endpoint: &Endpoint) -> Command {
    let mut command = client::dumper("mysqldump", endpoint);
    command.arg("test");
    command
}

fn assert_memory(spillway: &Spillway, limit: u64) -> Result<()> {
    let peak = spillway.peak_memory()?;
    ensure!(peak < limit, "{} MiB of memory at the peak, {} allowed", peak >> 20, limit >> 20);
    Ok(())
}

/// Rows of the large result, and the size of the text in each: 2 GB in all.
const ROWS: u64 = 1_070_000;
const ROW: u64 = 1900;
const SESSIONS: usize = 50;
const LIMIT: Duration = Duration::from_secs(90);
