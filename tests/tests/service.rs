//! Spillway as a service: what it tells the service manager, and the sockets that it takes from it.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use spillway_tests::process::{self, Finished};
use spillway_tests::service_manager::passing;
use spillway_tests::{Endpoint, Raw, Server, ServiceManager, Spillway, client, spillway_bin, wait_until};

#[test]
fn the_service_manager_is_told_how_it_fares() -> Result<()> {
    let server = Server::start(&[])?;
    let manager = ServiceManager::new()?;
    let mut spillway = Spillway::to(&server.tcp()).wrapper(&manager.prefix(200)).start()?;
    let first = manager.next()?;
    ensure!(first == "READY=1", "{first:?}");
    for _ in 0..3 {
        manager.wait_for("WATCHDOG=1")?;
    }

    let session = Raw::login(spillway.address()?)?;
    manager.wait_for("STATUS=1 session")?;
    spillway.signal(Signal::SIGHUP)?;
    let reloading = manager.wait_for("RELOADING=1")?;
    ensure!(reloading.contains("\nMONOTONIC_USEC="), "{reloading:?}");
    manager.wait_for("READY=1")?;

    // It is alive as long as the session is.
    spillway.signal(Signal::SIGTERM)?;
    manager.wait_for("STOPPING=1")?;
    manager.wait_for("WATCHDOG=1")?;
    drop(session);
    let status = spillway.wait_for_end(LIMIT)?;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// As systemd is while it is restarted itself.
#[test]
fn a_service_manager_that_is_gone_is_no_reason_not_to_serve() -> Result<()> {
    let server = Server::start(&[])?;
    let manager = ServiceManager::new()?;
    let prefix = manager.prefix(200);
    drop(manager);
    let spillway = Spillway::to(&server.tcp()).wrapper(&prefix).start()?;
    spillway.wait_for_log("cannot reach the service manager", LIMIT)?;
    Raw::login(spillway.address()?)?;
    Ok(())
}

#[test]
fn passed_sockets_are_taken() -> Result<()> {
    let server = Server::start(&[])?;
    let dir = tempfile::tempdir()?;
    let socket = dir.path().join("socket");
    let unix = format!("unix:{}", socket.display());
    let mut spillway =
        Spillway::to(&server.tcp()).listen_where_told().wrapper(&passing(&["tcp", &unix])).start()?;
    wait_until(LIMIT, "two listeners", || spillway.output().lines().len() == 2)?;
    ensure!(spillway.output().lines()[1] == format!("listening on {unix}"), "{:?}", spillway.output());
    for endpoint in [spillway.endpoint(), &Endpoint::Unix(socket.clone())] {
        let mut command = client::dumper("mysql", endpoint);
        let answer = process::run(command.args(["-e", "SELECT 'in'"]), LIMIT)?.success()?;
        ensure!(answer.text().contains("in"), "{answer:?}");
    }
    spillway.signal(Signal::SIGTERM)?;
    spillway.wait_for_end(LIMIT)?;
    ensure!(socket.exists(), "the socket's file was removed: it is the service manager's");
    Ok(())
}

#[test]
fn a_passed_socket_takes_the_place_of_a_listen_address() -> Result<()> {
    let server = Server::start(&[])?;
    // Port 1 cannot be the one that the system chose.
    let spillway = Spillway::to(&server.tcp()).listen("127.0.0.1:1").wrapper(&passing(&["tcp"])).start()?;
    ensure!(spillway.address()?.port() != 1, "{}", spillway.endpoint());
    Raw::login(spillway.address()?)?;
    Ok(())
}

#[test]
fn sockets_of_another_process_are_not_taken() -> Result<()> {
    let server = Server::start(&[])?;
    let others = ["env", "LISTEN_FDS=1", "LISTEN_PID=1"].map(Into::into);
    let spillway = Spillway::to(&server.tcp()).wrapper(&others).start()?;
    Raw::login(spillway.address()?)?;
    Ok(())
}

#[test]
fn passed_sockets_that_do_not_fit_are_named() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let unix = format!("unix:{}", dir.path().join("socket").display());
    let tcp = "127.0.0.1:0";
    for (passed, options, expected) in [
        (vec!["tcp", "tcp"], vec!["--listen", tcp], "passed 2 sockets (127.0.0.1:"),
        (vec!["tcp"], vec!["--listen", "127.0.0.1:0,127.0.0.1:0"], "--listen names 2"),
        (vec![unix.as_str()], vec!["--listen", tcp], "in its place"),
        (vec!["tcp", "udp"], vec![], "socket 2 of 2"),
        (vec!["deaf"], vec![], "it does not listen"),
        (vec!["tcp"], vec!["--upstream", "unix:/nowhere"], "--allow-socket-upstream"),
    ] {
        let finished = serve(&passed, &options, dir.path())?;
        let _ = fs::remove_file(dir.path().join("socket"));
        ensure!(finished.code() == 78, "{passed:?} {options:?}: {finished:?}");
        ensure!(finished.stderr.contains(expected), "{passed:?} {options:?}: {}", finished.stderr);
        ensure!(finished.stdout.is_empty(), "{passed:?} {options:?}: it listened: {}", finished.text());
    }
    Ok(())
}

/// `spillway serve` with such sockets, to its end.
fn serve(passed: &[&str], options: &[&str], spool: &std::path::Path) -> Result<Finished> {
    let mut command = client::wrapped(&passing(passed), spillway_bin());
    command.arg("serve").args(options).arg("--spool-dir").arg(spool);
    if !options.contains(&"--upstream") {
        command.args(["--upstream", "127.0.0.1:1"]);
    }
    process::run(&mut command, LIMIT).context("spillway serve")
}

const LIMIT: Duration = Duration::from_secs(20);
