//! A disk that does not give back what was written to it: the dump ends with an error and never has a wrong byte. And
//! one that somebody else looks at.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt as _};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use spillway_tests::process::{self, Running};
use spillway_tests::server::USER;
use spillway_tests::sink::Held;
use spillway_tests::{Endpoint, Raw, Server, Spillway, client, data, log};

#[test]
fn a_flipped_bit_in_the_spool_fails_the_dump() -> Result<()> {
    fail_by_a_flipped_bit(&[])
}

#[test]
fn a_flipped_bit_in_an_encrypted_spool_fails_the_dump() -> Result<()> {
    fail_by_a_flipped_bit(&["--spool-encrypt"])
}

fn fail_by_a_flipped_bit(options: &[&str]) -> Result<()> {
    let server = Server::start(&[])?;
    data::report::load(&server, "report", 120 << 20)?;
    let expected = process::run(&mut dump(&server.tcp()), LIMIT)?.success()?.stdout;
    let spillway = Spillway::to(&server.tcp()).options(options).start()?;
    let mut bystander = Raw::login(spillway.address()?)?;

    let mut running = Running::start(&mut dump(spillway.endpoint()))?;
    let held = Held::after(running.child.stdout.take().context("no stdout")?, 1000)?;
    server.wait_for_no_thread(LIMIT, "the query to end while the sink stalls", |thread| {
        thread.user == USER && thread.command == "Query"
    })?;
    flip_a_bit(&spillway)?;
    let draining = held.release();
    let mut dump = running.finish(LIMIT)?;
    dump.stdout = draining.finish()?;

    ensure!(!dump.status.success(), "the dump ended well");
    ensure!(dump.stderr.contains("spillway:") && dump.stderr.contains("spool"), "stderr: {}", dump.stderr);
    let same = expected.iter().zip(&dump.stdout).take_while(|(a, b)| a == b).count();
    // What differs is where the dump stopped: the end of a row, and the date and host in the head, as long directly.
    ensure!(dump.stdout.len() < expected.len(), "{} bytes of {}", dump.stdout.len(), expected.len());
    ensure!(dump.stdout.len() - same < 1000, "wrong from byte {same} of {} on", dump.stdout.len());
    let line = spillway.wait_for_session_end(1, LIMIT)?;
    ensure!(line.contains("is not what was written there"), "{line}");
    ensure!(bystander.value("SELECT 'next'")? == "next", "another session was hurt");
    Ok(())
}

#[test]
fn rows_are_not_to_be_found_in_an_encrypted_spool() -> Result<()> {
    let server = Server::start(&[])?;
    server.sql(
        "CREATE TABLE test.test ENGINE=MyISAM
             SELECT seq AS id, REPEAT(CONCAT('what row ', seq, ' keeps to itself; '), 20000) AS b
             FROM test.seq_1_to_150",
    )?;
    let dump = |endpoint: &Endpoint| {
        let mut dump = client::dumper("mysqldump", endpoint);
        dump.args(["--skip-comments", "test", "test"]);
        dump
    };
    let expected = process::run(&mut dump(&server.tcp()), LIMIT)?.success()?.stdout;
    for (encryption, is_readable) in [("--spool-encrypt=false", true), ("--spool-encrypt", false)] {
        let options = ["--memory-per-session", "2MiB", encryption];
        let spillway = Spillway::to(&server.tcp()).options(&options).start()?;
        let mut running = Running::start(&mut dump(spillway.endpoint()))?;
        let held = Held::after(running.child.stdout.take().context("no stdout")?, 1000)?;
        server.wait_for_no_thread(LIMIT, "the query to end while the sink stalls", |thread| {
            thread.user == USER && thread.command == "Query"
        })?;
        let files = spillway.spool_files()?;
        let on_disk = files.iter().map(|file| Ok(file.metadata()?.len())).sum::<Result<u64>>()?;
        ensure!(on_disk > expected.len() as u64 / 2, "{on_disk} bytes on disk of {}", expected.len());
        for file in &files {
            let metadata = file.metadata()?;
            ensure!((metadata.mode() & 0o777, metadata.nlink()) == (0o600, 0), "{metadata:?}");
            ensure!(holds(file, b" keeps to itself")? == is_readable, "rows in the spool with {encryption}");
        }
        let draining = held.release();
        running.finish(LIMIT)?.success().with_context(|| spillway.log().tail())?;
        ensure!(draining.finish()? == expected, "another dump with {encryption}");
        let line = spillway.wait_for_session_end(1, LIMIT)?;
        ensure!(log::field(&line, "spooled_peak")? > expected.len() as u64 / 2, "{line}");
    }
    Ok(())
}

/// Whether these bytes are anywhere in a file.
fn holds(file: &File, wanted: &[u8]) -> Result<bool> {
    let (mut at, mut piece) = (0, vec![0; 1 << 20]);
    loop {
        let len = file.read_at(&mut piece, at)?;
        if piece[..len].windows(wanted.len()).any(|window| window == wanted) {
            return Ok(true);
        }
        if len < wanted.len() {
            return Ok(false);
        }
        // What begins at the end of this piece is in the next one as a whole.
        at += (len - wanted.len() + 1) as u64;
    }
}

/// In the middle of what is in the spool's file.
fn flip_a_bit(spillway: &Spillway) -> Result<()> {
    let file = spillway.spool_file()?;
    let at = file.metadata()?.len() / 2 + 12_345;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[byte[0] ^ 4], at)?;
    Ok(())
}

fn dump(endpoint: &Endpoint) -> Command {
    let mut command = client::dumper("mysqldump", endpoint);
    command.args(["--skip-comments", "--skip-extended-insert", "report"]);
    command
}

const LIMIT: Duration = Duration::from_secs(60);
