//! `spillway run -- CLIENT …`: the client's own options find the server, its output and its exit status are its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use spillway_tests::process::{self, Finished};
use spillway_tests::server::{PASSWORD, USER};
use spillway_tests::{Server, client, data, run};

fn server() -> &'static Server {
    static SERVER: LazyLock<Server> = LazyLock::new(|| {
        let server = Server::start_with_binlog(&[]).and_then(|server| {
            data::report::load(&server, "report", 16 << 20)?;
            server.sql("CREATE TABLE test.small (id int); INSERT INTO test.small VALUES (1), (2)")?;
            Ok(server)
        });
        server.unwrap_or_else(|error| panic!("{error:#}"))
    });
    &SERVER
}

/// An option file with the server and the account.
fn option_file(dir: &Path) -> Result<String> {
    let path = dir.join("my options.cnf");
    fs::write(
        &path,
        format!(
            "[client]\nhost = 127.0.0.1\nport = {}\nprotocol = tcp\nuser = {USER}\npassword = \"{PASSWORD}\"\n",
            server().port()
        ),
    )?;
    Ok(path.display().to_string())
}

fn assert_same(direct: &Finished, through: &Finished) -> Result<()> {
    ensure!(direct.code() == through.code(), "status {}: {}", through.code(), through.stderr);
    let difference =
        client::difference(&client::normalised(&direct.stdout), &client::normalised(&through.stdout));
    ensure!(difference.is_none(), "{}", difference.unwrap_or_default());
    Ok(())
}

#[test]
fn compression_is_for_the_way_to_the_server() -> Result<()> {
    let status = ["--batch", "--skip-column-names", "-e", "SHOW STATUS LIKE 'Compression'"];
    for (options, compressed) in [
        (&["--compress"][..], "ON"),
        (&["-C"], "ON"),
        (&["--compress", "--skip-compress"], "OFF"),
        (&[], "OFF"),
    ] {
        let line = run::arguments("mysql", &server().tcp(), &[options, &status].concat());
        for finished in [run::direct(&line)?, run::to_end(&[], &line)?] {
            let text = finished.success()?.text();
            ensure!(text.trim_end().ends_with(compressed), "{options:?}: {text}");
        }
    }
    let line = run::arguments("mysql", &server().tcp(), &[&["--compress"][..], &status].concat());
    let text = run::to_end(&["--upstream-compression=off"], &line)?.success()?.text();
    ensure!(text.trim_end().ends_with("OFF"), "{text}");
    Ok(())
}

#[test]
fn clients_with_options_on_the_command_line() -> Result<()> {
    let log = server().query("SHOW BINARY LOGS")?[0].split('\t').next().context("no binary log")?.to_owned();
    for (program, more) in [
        ("mysqldump", &["--single-transaction", "report"][..]),
        ("mysqldump", &["--", "test", "small"]),
        ("mariadb-dump", &["--databases", "report", "test"]),
        ("mysql", &["--batch", "-e", "SELECT COUNT(*), 'größer' FROM report.test"]),
        ("mysqlbinlog", &["--read-from-remote-server", "--stop-never=0", &log]),
    ] {
        for endpoint in [server().tcp(), server().unix()] {
            let arguments = run::arguments(program, &endpoint, more);
            let direct = run::direct(&arguments)?;
            let direct = direct.success().with_context(|| format!("{arguments:?}"))?;
            ensure!(!direct.stdout.is_empty(), "nothing to compare");
            let through = run::to_end(&[], &arguments)?;
            assert_same(&direct, &through).with_context(|| format!("{arguments:?}"))?;
        }
    }
    Ok(())
}

#[test]
fn clients_with_an_option_file() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = format!("--defaults-file={}", option_file(dir.path())?);
    for line in [
        &["mysqldump", &file, "report"][..],
        &["mariadb-dump", &file, "--all-databases"],
        &["mysql", &file, "-e", "SELECT 1"],
    ] {
        let direct = run::direct(&run::words(line))?;
        let through = run::to_end(&[], &run::words(line))?;
        assert_same(&direct.success()?, &through).with_context(|| format!("{line:?}"))?;
    }
    Ok(())
}

#[test]
fn an_upstream_of_its_own() -> Result<()> {
    // The command names a server that is not there: `--upstream` goes first.
    let arguments = run::words(&[
        "mysql",
        "--no-defaults",
        "-h",
        "192.0.2.1",
        "-u",
        USER,
        &format!("-p{PASSWORD}"),
        "-e",
        "SELECT 7",
    ]);
    let through = run::to_end(&["--upstream", &server().address().to_string()], &arguments)?;
    ensure!(through.success()?.text().contains('7'), "no answer");
    Ok(())
}

#[test]
fn short_options_and_separate_values() -> Result<()> {
    let port = server().port().to_string();
    let password = format!("-p{PASSWORD}");
    for line in [
        &["mysqldump", "--no-defaults", "-h", "127.0.0.1", "-P", &port, "-u", USER, &password, "test"][..],
        &["mysqldump", "--no-defaults", "-h127.0.0.1", &format!("-P{port}"), "-u", USER, &password, "test"],
        &[
            "mysqldump",
            "--no-defaults",
            "--host",
            "127.0.0.1",
            "--port",
            &port,
            "-u",
            USER,
            &password,
            "test",
        ],
    ] {
        let direct = run::direct(&run::words(line))?.success()?;
        assert_same(&direct, &run::to_end(&[], &run::words(line))?).with_context(|| format!("{line:?}"))?;
    }
    Ok(())
}

#[test]
fn mydumper() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut dumps = Vec::new();
    for (name, through) in [("direct", false), ("through", true)] {
        let output = dir.path().join(name);
        let arguments = run::arguments(
            "mydumper",
            &server().tcp(),
            &["--database=report", "--threads=4", "--rows=500", &format!("--outputdir={}", output.display())],
        );
        if through {
            run::to_end(&[], &arguments)?.success()?;
        } else {
            run::direct(&arguments)?.success()?;
        }
        dumps.push(directory(&output)?);
    }
    ensure!(dumps[0].len() > 4, "only {:?}", dumps[0].keys());
    ensure!(dumps[0].keys().eq(dumps[1].keys()), "{:?}, {:?}", dumps[0].keys(), dumps[1].keys());
    for (name, bytes) in &dumps[0] {
        ensure!(dumps[1].get(name) == Some(bytes), "{name} differs");
    }
    Ok(())
}

/// The files of a dump but for `metadata`, which has its time.
fn directory(path: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("metadata") {
            files.insert(name, fs::read(entry.path())?);
        }
    }
    Ok(files)
}

#[test]
fn nothing_on_stdout_but_the_dump() -> Result<()> {
    let through =
        run::to_end(&["--log-level", "debug"], &run::arguments("mysqldump", &server().tcp(), &["test"]))?;
    let through = through.success()?;
    let direct = process::run(client::dumper("mysqldump", &server().tcp()).arg("test"), LIMIT)?.success()?;
    assert_same(&direct, &through)
}

const LIMIT: Duration = Duration::from_secs(60);
