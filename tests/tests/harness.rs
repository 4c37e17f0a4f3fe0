//! The harness itself, without the proxy: a scenario proves nothing where these fail.

use std::net::TcpStream;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Result, ensure};
use spillway_tests::fault::Action;
use spillway_tests::process::{self, Running};
use spillway_tests::raw::{End, Head};
use spillway_tests::wire::{capability, command};
use spillway_tests::{Fault, Raw, Server, client, data, sink, wait_until};

fn server() -> &'static Server {
    static SERVER: LazyLock<Server> =
        LazyLock::new(|| Server::start_with_binlog(&[]).unwrap_or_else(|error| panic!("{error:#}")));
    &SERVER
}

#[test]
fn the_zoo_dumps_equal_twice() -> Result<()> {
    let server = Server::start_with_binlog(&[])?;
    data::zoo::load(&server)?;
    let mut dumps = Vec::new();
    for endpoint in [server.tcp(), server.unix()] {
        let mut dump = client::command("mysqldump", &endpoint);
        dump.args(["--user=root", "--all-databases", "--routines", "--events", "--max-allowed-packet=1G"]);
        dumps.push(client::normalised(&process::run(&mut dump, LIMIT)?.success()?.stdout));
    }
    ensure!(dumps[0].len() > data::zoo::BIG_VALUE, "only {} bytes", dumps[0].len());
    let difference = client::difference(&dumps[0], &dumps[1]);
    ensure!(difference.is_none(), "{difference:?}");
    Ok(())
}

#[test]
fn a_server_dies_when_asked() -> Result<()> {
    let server = Server::start(&[])?;
    ensure!(server.query("SELECT @@log_bin")? == ["0"], "binary log");
    ensure!(TcpStream::connect(server.address()).is_ok(), "the port is closed");
    server.kill_9()?;
    ensure!(TcpStream::connect(server.address()).is_err(), "the port is open");
    Ok(())
}

#[test]
fn the_raw_client_reads_results() -> Result<()> {
    for extra in [0, capability::DEPRECATE_EOF] {
        let mut raw = Raw::login_with(server().address(), capability::USUAL | extra, Some("test"))?;
        ensure!(raw.value("SELECT CONCAT('a', NULL, 'b')")? == "NULL", "NULL");
        ensure!(raw.query("SELECT seq FROM seq_1_to_1000")?.len() == 1000, "rows");
        // One packet exactly full, and the empty one that must follow it.
        ensure!(raw.value("SELECT REPEAT('x', 16777211)")?.len() == 16_777_211, "a full packet");
        let Head::Columns(1) = raw.start("SELECT 1; SELECT 2")? else { panic!("no rows") };
        ensure!(raw.rows(|_| ())?.more(), "one result of two");
        raw.head()?;
        ensure!(matches!(raw.rows(|_| ())?, End::Ok { .. }), "no end");
        raw.send(command::QUERY, b"SELECT nonsense FROM nowhere")?;
        let Head::End(End::Err(error)) = raw.head()? else { panic!("no error") };
        ensure!(error.code == 1146, "{error:?}");
    }
    Ok(())
}

#[test]
fn a_fault_cuts_where_it_is_told() -> Result<()> {
    for action in [Action::Cut, Action::Reset] {
        let fault = Fault::start(server().address())?;
        let mut raw = Raw::login(fault.address())?;
        fault.arm(100_000, action);
        let before = fault.passed(0);
        raw.send(command::QUERY, b"SELECT REPEAT('x', 1000) FROM seq_1_to_1000")?;
        let error = loop {
            if let Err(error) = raw.packet() {
                break error;
            }
        };
        ensure!(fault.passed(0) == before + 100_000, "{action:?}: {} bytes", fault.passed(0) - before);
        let reset = format!("{error:#}").contains("reset");
        ensure!(reset == (action == Action::Reset), "{action:?}: {error:#}");
        drop(raw);
        ensure!(Raw::login(fault.address())?.value("SELECT 1")? == "1", "the next connection");
    }
    Ok(())
}

#[test]
fn a_fault_stalls_and_heals() -> Result<()> {
    let fault = Fault::start(server().address())?;
    let mut raw = Raw::login(fault.address())?;
    let before = fault.passed(0);
    fault.arm(10, Action::Stall);
    raw.send(command::QUERY, b"SELECT 'there'")?;
    wait_until(LIMIT, "the first ten bytes", || fault.passed(0) == before + 10)?;
    fault.heal();
    ensure!(raw.head()? == Head::Columns(1), "no columns");
    let mut rows = Vec::new();
    raw.rows(|row| rows.push(row.to_vec()))?;
    ensure!(rows == [b"\x05there"], "{rows:?}");
    ensure!(fault.closed_by_proxy(0).is_none(), "closed too early");
    drop(raw);
    fault.wait_closed_by_proxy(0, LIMIT)?;
    Ok(())
}

#[test]
fn a_held_sink_holds() -> Result<()> {
    let mut dump = client::dumper("mysqldump", &server().tcp());
    dump.args(["mysql", "--tables", "help_topic"]);
    let expected = client::normalised(&process::run(&mut dump, LIMIT)?.success()?.stdout);
    let mut running = Running::start(&mut dump)?;
    let held = sink::Held::after(running.child.stdout.take().expect("a pipe"), 1000)?;
    ensure!(held.so_far().len() == 1000, "{} bytes", held.so_far().len());
    let draining = held.release();
    running.finish(LIMIT)?.success()?;
    let difference = client::difference(&expected, &client::normalised(&draining.finish()?));
    ensure!(difference.is_none(), "{difference:?}");
    Ok(())
}

const LIMIT: Duration = Duration::from_secs(60);
