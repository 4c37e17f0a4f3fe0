//! `kill -9` of proxy, client and server, a hundred times at any moment: nothing is left behind, the next dump works, and no
//! client ever ends well with a dump that is not whole.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use spillway_tests::chance::{self, Chance};
use spillway_tests::process::{self, Finished, Running};
use spillway_tests::server::USER;
use spillway_tests::sink::Held;
use spillway_tests::{Endpoint, Server, Spillway, client, data, run, wait_until};

/// A server with a table for several reads and a place in the spool, and its dump.
struct Setting {
    server: Server,
    expected: Vec<u8>,
}

impl Setting {
    fn new() -> Result<Self> {
        let server = Server::start(&[])?;
        data::report::load(&server, "report", 12 << 20)?;
        let expected = process::run(&mut dump(&server.tcp()), LIMIT)?.success()?.stdout;
        Ok(Self { server, expected: client::normalised(&expected) })
    }

    fn shared() -> &'static Self {
        static SETTING: LazyLock<Setting> =
            LazyLock::new(|| Setting::new().unwrap_or_else(|error| panic!("the server: {error:#}")));
        &SETTING
    }

    /// Whole, or failed.
    fn check(&self, finished: &Finished, output: &[u8]) -> Result<()> {
        let difference = client::difference(&self.expected, &client::normalised(output));
        let is_whole = difference.is_none();
        ensure!(finished.code() != 0 || is_whole, "status 0, and {}", difference.unwrap_or_default());
        Ok(())
    }

    fn check_next(&self, endpoint: &Endpoint) -> Result<()> {
        let finished = process::run(&mut dump(endpoint), LIMIT)?.success().context("the next dump")?;
        self.check(&finished, &finished.stdout)
    }

    /// A moment in a dump.
    fn moment(&self, chance: &mut Chance) -> Moment {
        match chance.below(4) {
            0 => Moment::After(Duration::from_micros(chance.below(40_000))),
            _ => Moment::Behind(chance.below(self.expected.len() as u64)),
        }
    }
}

/// When the signal comes.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// So long after the client was started: in a login, as a rule.
    After(Duration),
    /// When so many bytes of the dump are there.
    Behind(u64),
}

impl Moment {
    /// Waits for it.
    fn await_in(self, dump: &mut Running) -> Result<Held> {
        let output = dump.child.stdout.take().context("no stdout")?;
        match self {
            // The pause is what is under test.
            Self::After(pause) => {
                sleep(pause);
                Held::after(output, 0)
            }
            Self::Behind(bytes) => Held::after(output, bytes),
        }
    }
}

/// Does it so often, with the seed and the number in the error.
fn rounds(what: u64, count: u64, mut round: impl FnMut(&mut Chance) -> Result<()>) -> Result<()> {
    let seed = chance::seed();
    for number in 0..count {
        let mut chance = Chance::from_seed(seed.wrapping_mul(1000).wrapping_add(what * 100 + number));
        round(&mut chance).with_context(|| format!("SPILLWAY_SEED={seed}, round {number}"))?;
    }
    Ok(())
}

#[test]
fn the_proxy() -> Result<()> {
    let setting = Setting::shared();
    rounds(1, 40, |chance| {
        let mut spillway = Spillway::to(&setting.server.tcp()).options(&SMALL).start()?;
        let mut running = Running::start(&mut dump(spillway.endpoint()))?;
        let held = setting.moment(chance).await_in(&mut running)?;
        spillway.signal(Signal::SIGKILL)?;
        spillway.wait_for_end(LIMIT)?;
        let output = held.release();
        let finished = running.finish(LIMIT)?;
        setting.check(&finished, &output.finish()?)?;
        ensure!(
            fs::read_dir(spillway.spool_dir())?.next().is_none(),
            "a file is left in the spool directory"
        );
        Ok(())
    })?;
    setting.server.wait_for_no_thread(LIMIT, "the server's sessions to end", |thread| thread.user == USER)
}

#[test]
fn the_client() -> Result<()> {
    let setting = Setting::shared();
    let spillway = Spillway::to(&setting.server.tcp()).options(&SMALL).start()?;
    rounds(2, 30, |chance| {
        let mut running = Running::start(&mut dump(spillway.endpoint()))?;
        let held = setting.moment(chance).await_in(&mut running)?;
        process::send(running.pid(), Signal::SIGKILL)?;
        drop(held);
        running.wait(LIMIT).map(drop)
    })?;
    wait_until(LIMIT, "the spool to be empty", || spillway.spool_space().is_ok_and(|space| space == 0))?;
    setting.check_next(spillway.endpoint())
}

#[test]
fn run_itself() -> Result<()> {
    let setting = Setting::shared();
    let dir = tempfile::tempdir()?;
    let in_dir = |command: &mut Command| {
        command.args(run::arguments("mysqldump", &setting.server.tcp(), &DUMP));
        command.env("TMPDIR", dir.path()).env_remove("XDG_RUNTIME_DIR");
    };
    rounds(3, 20, |chance| {
        let mut command = run::command(dir.path(), &SMALL);
        in_dir(&mut command);
        let mut running = Running::start(&mut command)?;
        let held = setting.moment(chance).await_in(&mut running)?;
        let pid = running.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        process::send(pid, Signal::SIGKILL)?;
        running.wait(LIMIT)?;
        let output = held.release();
        for child in children.split_whitespace() {
            wait_until(LIMIT, "the client to end", || has_ended(child))?;
        }
        let output = output.finish()?;
        let is_whole = client::difference(&setting.expected, &client::normalised(&output)).is_none();
        let claims = String::from_utf8_lossy(&output).contains("-- Dump completed");
        ensure!(is_whole || !claims, "the dump says that it is complete, and is not");
        Ok(())
    })?;
    ensure!(socket_dirs(dir.path())? > 0, "killed processes have left no directory, so nothing was tried");
    let mut command = run::command(dir.path(), &[]);
    in_dir(&mut command);
    let finished = process::run(&mut command, LIMIT)?.success()?;
    setting.check(&finished, &finished.stdout)?;
    ensure!(socket_dirs(dir.path())? == 0, "directories of dead processes are left");
    Ok(())
}

fn socket_dirs(parent: &Path) -> Result<usize> {
    let entries = fs::read_dir(parent)?.collect::<Result<Vec<_>, _>>()?;
    let is_one = |name: &OsStr| name.to_string_lossy().starts_with("spillway-run-");
    Ok(entries.iter().filter(|entry| is_one(&entry.file_name())).count())
}

/// Gone, or waiting for whoever has inherited it.
fn has_ended(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_or(true, |stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

#[test]
fn the_server() -> Result<()> {
    let mut setting = Setting::new()?;
    let spillway = Spillway::to(&setting.server.tcp()).options(&SMALL).start()?;
    rounds(4, 10, |chance| {
        let mut running = Running::start(&mut dump(spillway.endpoint()))?;
        let held = setting.moment(chance).await_in(&mut running)?;
        setting.server.restart()?;
        let output = held.release();
        let finished = running.finish(LIMIT)?;
        setting.check(&finished, &output.finish()?)
    })?;
    setting.check_next(spillway.endpoint())
}

#[test]
fn a_socket_on_which_nobody_listens_is_replaced() -> Result<()> {
    let setting = Setting::shared();
    let dir = tempfile::tempdir()?;
    let listen = format!("unix:{}", dir.path().join("spillway.sock").display());
    let start = || Spillway::to(&setting.server.tcp()).listen(&listen).start();
    let mut killed = start()?;
    let error = start().err().context("two listen at one place")?;
    ensure!(format!("{error:#}").contains("Address already in use"), "{error:#}");
    killed.signal(Signal::SIGKILL)?;
    killed.wait_for_end(LIMIT)?;
    ensure!(dir.path().join("spillway.sock").exists(), "it has removed its socket as it died");
    setting.check_next(start()?.endpoint())
}

fn dump(endpoint: &Endpoint) -> Command {
    let mut command = client::dumper("mysqldump", endpoint);
    command.args(DUMP);
    command
}

const DUMP: [&str; 2] = ["--single-transaction", "report"];
/// Most of the dump goes to disk.
const SMALL: [&str; 2] = ["--memory-per-session", "64KiB"];
const LIMIT: Duration = Duration::from_secs(60);
