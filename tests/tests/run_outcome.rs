//! What `spillway run` leaves: the client's exit status, nothing in its output, nothing behind; and what it refuses.

use std::fs;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use spillway_tests::fault::Action;
use spillway_tests::process::{self, Running};
use spillway_tests::{Endpoint, Fault, Server, client, data, run, wait_until};

fn server() -> &'static Server {
    static SERVER: LazyLock<Server> = LazyLock::new(|| {
        let server = Server::start(&[]).and_then(|server| {
            data::report::load(&server, "report", 16 << 20)?;
            Ok(server)
        });
        server.unwrap_or_else(|error| panic!("{error:#}"))
    });
    &SERVER
}

#[test]
fn the_exit_status_is_the_clients() -> Result<()> {
    let at = server().tcp();
    for (program, more) in [
        ("mysql", &["-e", "SELECT nonsense"][..]),
        ("mysqldump", &["nowhere"]),
        ("mysqldump", &["--no-such-option"]),
        ("mysql", &["-e", "SELECT 1"]),
        // The client's own shell command kills it.
        ("mysql", &["-e", "system kill -TERM $PPID"]),
        ("mysql", &["-e", "system kill -KILL $PPID"]),
    ] {
        let arguments = run::arguments(program, &at, more);
        let direct = run::direct(&arguments)?;
        let through = run::to_end(&[], &arguments)?;
        ensure!(direct.code() == through.status.code().unwrap_or(-1), "{more:?}: {direct:?}, {through:?}");
    }
    Ok(())
}

#[test]
fn a_command_that_is_not_there() -> Result<()> {
    let address = server().address().to_string();
    let finished = run::to_end(&["--upstream", &address], &run::words(&["/no/such/mysqldump", "test"]))?;
    ensure!(finished.code() == 127 && finished.stderr.contains("/no/such/mysqldump"), "{finished:?}");
    ensure!(finished.stdout.is_empty(), "{}", finished.text());
    Ok(())
}

#[test]
fn a_client_that_hides_an_error() -> Result<()> {
    let fault = Fault::start(server().address())?;
    let at = Endpoint::Tcp(fault.address());
    // With --force, mysql goes on after an error in a script from stdin, and ends with status 0.
    let arguments = run::arguments("mysql", &at, &["--force", "--quick", "--database=test"]);
    let script = b"SELECT REPEAT('x', 1000) FROM seq_1_to_20000;\n";
    fault.arm(10_000_000, Action::Cut);
    let direct = process::run_with_input(client::clean("mysql").args(&arguments[1..]), script, LIMIT)?;
    ensure!(
        direct.code() == 0 && direct.stderr.contains("2013"),
        "directly: {} {}",
        direct.code(),
        direct.stderr
    );

    let spool = tempfile::tempdir()?;
    fault.arm(10_000_000, Action::Cut);
    let through = process::run_with_input(run::command(spool.path(), &[]).args(&arguments), script, LIMIT)?;
    ensure!(through.stderr.contains("2013"), "{}", through.stderr);
    ensure!(through.code() == 74, "status {}: {}", through.code(), through.stderr);
    ensure!(through.stderr.contains("spillway"), "it has to say so: {}", through.stderr);
    Ok(())
}

#[test]
fn a_dump_with_both_outputs_in_one_file() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let arguments = run::arguments("mysqldump", &server().tcp(), &["report"]);
    let direct = run::direct(&arguments)?.success()?;
    let file = dir.path().join("dump.sql");
    let output = fs::File::create(&file)?;
    let mut command = run::command(dir.path(), &["--log-level", "debug"]);
    command.args(&arguments).env("XDG_STATE_HOME", dir.path()).env("TMPDIR", dir.path());
    command.stdout(output.try_clone()?).stderr(output);
    let status = Running::start_as_is(&mut command)?.wait(LIMIT)?;
    ensure!(status.success(), "{status}");
    let difference =
        client::difference(&client::normalised(&direct.stdout), &client::normalised(&fs::read(&file)?));
    ensure!(difference.is_none(), "{}", difference.unwrap_or_default());
    Ok(())
}

#[test]
fn a_signal_to_spillway_reaches_the_client() -> Result<()> {
    let spool = tempfile::tempdir()?;
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let arguments = run::arguments("mysql", &server().tcp(), &["-e", "SELECT SLEEP(60) AS interrupted"]);
        let mut command = run::command(spool.path(), &[]);
        let running = Running::start(command.args(&arguments))?;
        let sleeps = || {
            server().processlist().is_ok_and(|threads| threads.iter().any(|t| t.info.contains("interrupted")))
        };
        wait_until(LIMIT, "the statement to run", sleeps)?;
        process::send(running.pid(), signal)?;
        let finished = running.finish(Duration::from_secs(10)).with_context(|| signal.to_string())?;
        ensure!(!finished.status.success(), "{signal}: {finished:?}");
        wait_until(LIMIT, "the statement to end", || !sleeps())?;
    }
    Ok(())
}

#[test]
fn nothing_is_left_behind() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut command: Command = run::command(dir.path(), &[]);
    command.args(run::arguments("mysqldump", &server().tcp(), &["report"]));
    command.env("TMPDIR", dir.path()).env("XDG_RUNTIME_DIR", dir.path()).env("XDG_STATE_HOME", dir.path());
    process::run(&mut command, LIMIT)?.success()?;
    let left: Vec<_> =
        fs::read_dir(dir.path())?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

const LIMIT: Duration = Duration::from_secs(60);
