//! What Spillway has in memory is for nobody else, and is there no longer than it must be.

use std::ffi::OsString;
use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::unistd::geteuid;
use spillway_tests::memory::{self, Region};
use spillway_tests::process::{self, Running};
use spillway_tests::raw::Head;
use spillway_tests::server::USER;
use spillway_tests::wait::wait_for;
use spillway_tests::{Raw, Server, Spillway, client, mysql9, run};

/// The words before a program that set the variable.
fn core_dumps(value: &str) -> Vec<OsString> {
    ["env".into(), format!("SPILLWAY_CORE_DUMPS={value}").into()].into()
}

/// The words before a program that take away what lets root look into any process, and into those that have more rights.
fn without_root_eye() -> Vec<OsString> {
    let words = ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"];
    if geteuid().is_root() { words.map(OsString::from).into() } else { Vec::new() }
}

/// Whether a process of the same user may look at the descriptors of `pid`, as into its memory: for that it must be one
/// that could be dumped.
fn can_look(pid: u32) -> Result<bool> {
    let mut look = client::wrapped(&without_root_eye(), "readlink");
    let looked = process::run(look.args(["--verbose", &format!("/proc/{pid}/fd/0")]), LIMIT)?;
    ensure!(looked.status.success() || looked.stderr.contains("Permission denied"), "{}", looked.stderr);
    Ok(looked.status.success())
}

#[test]
fn only_root_looks_into_memory_and_there_are_no_core_dumps() -> Result<()> {
    for (value, is_open) in [("0", false), ("", false), ("1", true)] {
        let words = [without_root_eye(), core_dumps(value)].concat();
        let spillway = Spillway::to("127.0.0.1:1").wrapper(&words).start()?;
        ensure!(can_look(spillway.pid())? == is_open, "SPILLWAY_CORE_DUMPS={value}");
    }
    Ok(())
}

/// What `run` starts is as it would be without.
#[test]
fn the_client_of_run_can_be_looked_at() -> Result<()> {
    let (server, spool) = (Server::start(&[])?, tempfile::tempdir()?);
    let mut command = run::command(spool.path(), &[]);
    command.args(run::arguments("mysql", &server.tcp(), &["--execute", "SELECT SLEEP(1000)"]));
    let running = Running::start(&mut client::wrap(&without_root_eye(), &command))?;
    server.wait_for_thread(LIMIT, "the client's statement", |thread| {
        thread.user == USER && thread.state.contains("sleep")
    })?;
    let client = wait_for(LIMIT, "the client", || child_of(running.pid()))?;
    ensure!(!can_look(running.pid())?, "into spillway");
    ensure!(can_look(client)?, "not into the client");
    Ok(())
}

/// `env` was replaced by what it starts, so that this is Spillway's child.
fn child_of(pid: u32) -> Result<Option<u32>> {
    for entry in fs::read_dir("/proc")? {
        let Ok(candidate) = entry?.file_name().to_string_lossy().parse::<u32>() else { continue };
        let Ok(stat) = fs::read_to_string(format!("/proc/{candidate}/stat")) else { continue };
        // The name in parentheses may have anything in it.
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        if parent == Some(pid) {
            return Ok(Some(candidate));
        }
    }
    Ok(None)
}

#[test]
fn a_wanted_core_dump_has_no_rows_in_it() -> Result<()> {
    let server = Server::start(&[])?;
    let spillway = Spillway::to(&server.tcp()).wrapper(&core_dumps("1")).start()?;
    let mut raw = Raw::login(spillway.address()?)?;
    let head =
        raw.start("SELECT REPEAT(CONCAT('what row ', seq, ' keeps to itself; '), 100) FROM seq_1_to_20000")?;
    ensure!(head == Head::Columns(1), "no columns");
    server.wait_for_no_thread(LIMIT, "the query to end while the client stalls", |thread| {
        thread.user == USER && thread.command == "Query"
    })?;
    let holds = |is_dumped: bool| {
        memory::holds(spillway.pid(), b" keeps to itself; what row ", |region: &Region| {
            region.is_dumped == is_dumped
        })
    };
    ensure!(holds(false)?, "no rows in memory");
    ensure!(!holds(true)?, "rows in what a core dump has");
    Ok(())
}

/// By a plugin that hands over the password itself: in clear over a Unix socket, and encrypted with Spillway's key. Over TLS
/// that library's buffers would be looked at as well.
#[test]
fn a_password_that_was_passed_on_is_forgotten() -> Result<()> {
    let server = mysql9::start(&[])?;
    for user in ["in_clear", "encrypted"] {
        server.sql(&format!("CREATE USER {user} IDENTIFIED WITH caching_sha2_password BY '{PASSED_ON}'"))?;
    }
    let dir = tempfile::tempdir()?;
    let socket = format!("unix:{}", dir.path().join("s").display());
    let in_clear = Spillway::to(&server.unix()).listen(&socket).start()?;
    let encrypted = Spillway::to(&server.unix()).options(&["--allow-socket-upstream"]).start()?;
    for (spillway, user, more) in
        [(&in_clear, "in_clear", &[][..]), (&encrypted, "encrypted", &["--get-server-public-key"])]
    {
        let mut command: Command = mysql9::command("mysql", spillway.endpoint());
        command.args([&format!("--user={user}"), &format!("--password={PASSED_ON}")]).args(more);
        let _running = Running::start(command.args(["--execute", "SELECT SLEEP(1000)"]))?;
        server.wait_for_thread(LIMIT, "the client's statement", |thread| thread.user == user)?;
        spillway.wait_for_log("session started", LIMIT).context(user)?;
        let holds = |wanted: &str| memory::holds(spillway.pid(), wanted.as_bytes(), |_| true);
        ensure!(holds(user)?, "the user's name is not found either");
        ensure!(!holds(PASSED_ON)?, "the password of {user} is still there");
    }
    Ok(())
}

const PASSED_ON: &str = "forget-me-7c1b";
const LIMIT: Duration = Duration::from_secs(60);
