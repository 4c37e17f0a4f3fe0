//! Disks that lose writes, swap them, fail, or vanish under a running dump: it comes out right or ends with an error; and the
//! sessions beside it live on.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use spillway_tests::process::{self, Finished, Running};
use spillway_tests::server::USER;
use spillway_tests::sink::Held;
use spillway_tests::{Endpoint, Raw, Server, Spillway, SpoolOn, client, data, wait_until};

/// A server with a table that is larger than what a session has of memory, and its dump.
fn setting() -> &'static (Server, Vec<u8>) {
    static SETTING: LazyLock<(Server, Vec<u8>)> = LazyLock::new(|| {
        let make = || -> Result<_> {
            let server = Server::start(&[])?;
            data::report::load(&server, "report", 60 << 20)?;
            let dump = process::run(&mut dump(&server.tcp()), LIMIT)?.success()?.stdout;
            Ok((server, dump))
        };
        make().unwrap_or_else(|error| panic!("the server: {error:#}"))
    });
    &SETTING
}

/// A dump whose backlog is on disk, as its client has stopped reading. Beside it another session idles.
struct Stalled {
    spillway: Spillway,
    other: Raw,
    running: Running,
    held: Held,
}

impl Stalled {
    fn on(place: SpoolOn, encryption: &str) -> Result<Self> {
        let (server, _) = setting();
        let options = ["--memory-per-session", "1MiB", encryption];
        let spillway = Spillway::to(&server.tcp()).spool(place).options(&options).start()?;
        let other = Raw::login(spillway.address()?)?;
        let mut running = Running::start(&mut dump(spillway.endpoint()))?;
        let held = Held::after(running.child.stdout.take().context("no stdout")?, 1000)?;
        wait_until(LIMIT, "the backlog", || spillway.spool_space().is_ok_and(|space| space > 40 << 20))?;
        server.wait_for_no_thread(LIMIT, "the query to end while the sink stalls", |thread| {
            thread.user == USER && thread.command == "Query" && thread.info.contains("report")
        })?;
        Ok(Self { spillway, other, running, held })
    }

    /// Lets the client go on; the other session must be as it was, and a new one possible.
    fn finish(mut self) -> Result<(Finished, Vec<u8>, Spillway)> {
        let output = self.held.release();
        let finished = self.running.finish(LIMIT)?;
        let output = output.finish()?;
        ensure!(self.other.value("SELECT 6 * 7")? == "42", "the other session");
        ensure!(Raw::login(self.spillway.address()?)?.value("SELECT 6 * 7")? == "42", "a new session");
        Ok((finished, output, self.spillway))
    }

    /// The dump must end with an error, and have nothing in it that is wrong.
    fn finish_loudly(self) -> Result<Spillway> {
        let (finished, output, spillway) = self.finish()?;
        ensure!(!finished.status.success(), "the dump ended well");
        let said = &finished.stderr;
        ensure!(said.contains("spillway:") && said.contains("spool"), "{said}");
        let (_, expected) = setting();
        let same = expected.iter().zip(&output).take_while(|(a, b)| a == b).count();
        // The client ends what it has begun: the last line.
        ensure!(output.len() - same < 1000, "wrong from byte {same} of {} on", output.len());
        ensure!(
            !String::from_utf8_lossy(&output).contains("-- Dump completed"),
            "it says that it is complete"
        );
        Ok(spillway)
    }
}

#[test]
fn a_write_that_was_never_done() -> Result<()> {
    for encryption in ENCRYPTION {
        let stalled = Stalled::on(SpoolOn::Disk, encryption)?;
        stalled.spillway.spool_file()?.write_all_at(&[0; 4096], 8 << 20)?;
        stalled.finish_loudly().context(encryption)?;
    }
    Ok(())
}

#[test]
fn two_blocks_in_each_others_place() -> Result<()> {
    const BLOCK: usize = 1 << 20;
    for encryption in ENCRYPTION {
        let stalled = Stalled::on(SpoolOn::Disk, encryption)?;
        let file = stalled.spillway.spool_file()?;
        let (mut one, mut another) = (vec![0; BLOCK], vec![0; BLOCK]);
        file.read_exact_at(&mut one, 8 << 20)?;
        file.read_exact_at(&mut another, 12 << 20)?;
        ensure!(one != another, "the same");
        file.write_all_at(&another, 8 << 20)?;
        file.write_all_at(&one, 12 << 20)?;
        stalled.finish_loudly().context(encryption)?;
    }
    Ok(())
}

#[test]
fn a_disk_that_fails_with_a_backlog_on_it() -> Result<()> {
    let stalled = Stalled::on(SpoolOn::Ext4(160), "--spool-encrypt")?;
    stalled.spillway.fail_disk()?;
    let spillway = stalled.finish_loudly()?;
    // Who needs no disk is served as before.
    check_dump(&spillway)
}

#[test]
fn a_disk_that_has_failed_before() -> Result<()> {
    let (server, _) = setting();
    for encryption in ENCRYPTION {
        let spillway = Spillway::to(&server.tcp()).spool(SpoolOn::Ext4(64)).options(&[encryption]).start()?;
        spillway.fail_disk()?;
        // The server waits for the client, and nothing is lost: what was encrypted to be written is decrypted again.
        check_dump(&spillway).context(encryption)?;
        spillway.wait_for_log("cannot spool", LIMIT)?;
    }
    Ok(())
}

/// While a spool file is open the kernel refuses that (EBUSY): it is done before there is one.
#[test]
fn a_disk_that_has_become_read_only() -> Result<()> {
    let (server, _) = setting();
    let spillway = Spillway::to(&server.tcp()).spool(SpoolOn::Ext4(160)).start()?;
    spillway.remount_disk("ro")?;
    check_dump(&spillway)?;
    spillway.wait_for_log("cannot spool", LIMIT)?;
    // When it can be written to again, it is used again.
    spillway.remount_disk("rw")?;
    let mut running = Running::start(&mut dump(spillway.endpoint()))?;
    let held = Held::after(running.child.stdout.take().context("no stdout")?, 1000)?;
    wait_until(LIMIT, "a backlog on disk", || spillway.spool_space().is_ok_and(|space| space > 8 << 20))?;
    let output = held.release();
    running.finish(LIMIT)?.success()?;
    assert_right(&output.finish()?)
}

#[test]
fn a_spool_directory_that_is_removed() -> Result<()> {
    let stalled = Stalled::on(SpoolOn::Disk, "--spool-encrypt=false")?;
    fs::remove_dir_all(stalled.spillway.spool_dir())?;
    // What is there without a name stays there.
    let (finished, output, spillway) = stalled.finish()?;
    finished.success()?;
    assert_right(&output)?;
    check_dump(&spillway)
}

fn check_dump(spillway: &Spillway) -> Result<()> {
    let finished = process::run(&mut dump(spillway.endpoint()), LIMIT)?.success()?;
    assert_right(&finished.stdout)
}

fn assert_right(output: &[u8]) -> Result<()> {
    let (_, expected) = setting();
    let difference = client::difference(&client::normalised(expected), &client::normalised(output));
    ensure!(difference.is_none(), "{}", difference.unwrap_or_default());
    Ok(())
}

fn dump(endpoint: &Endpoint) -> Command {
    let mut command = client::dumper("mysqldump", endpoint);
    command.args(["--skip-extended-insert", "report"]);
    command
}

/// Without and with: a disk's fault is found in different ways.
const ENCRYPTION: [&str; 2] = ["--spool-encrypt=false", "--spool-encrypt"];

const LIMIT: Duration = Duration::from_secs(60);
