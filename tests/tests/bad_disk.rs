//! A disk that does not give back what was written to it: the dump ends with an error and never has a wrong byte.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use spillway_tests::process::{self, Running};
use spillway_tests::server::USER;
use spillway_tests::sink::Held;
use spillway_tests::{Endpoint, Server, Spillway, client, data};

#[test]
fn a_flipped_bit_in_the_spool_fails_the_dump() -> Result<()> {
    let server = Server::start(&[])?;
    data::report::load(&server, "report", 120 << 20)?;
    let expected = process::run(&mut dump(&server.tcp()), LIMIT)?.success()?.stdout;
    let spillway = Spillway::to(&server.tcp()).start()?;

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
    Ok(())
}

/// In the middle of what is in the spool's file, by way of the proxy's own descriptor.
fn flip_a_bit(spillway: &Spillway) -> Result<()> {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", spillway.pid()))?;
    let is_spool = |path: &PathBuf| {
        fs::read_link(path).is_ok_and(|target| target.starts_with(spillway.spool_dir()) && !target.is_dir())
    };
    let file = descriptors.filter_map(|entry| Some(entry.ok()?.path())).find(is_spool);
    let file = OpenOptions::new().read(true).write(true).open(file.context("no spool file is open")?)?;
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
