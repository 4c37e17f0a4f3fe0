//! What `spillway run` tells of a dump: the report, the warnings, the summary line; and that none of it, nor the client's
//! stderr, gets into a dump.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use spillway_tests::fault::{Action, Direction};
use spillway_tests::process::{self, Finished, Running};
use spillway_tests::sink::Held;
use spillway_tests::{Endpoint, Fault, Server, client, run, wait_until};

const LIMIT: Duration = Duration::from_secs(60);

fn server() -> &'static Server {
    static SERVER: LazyLock<Server> = LazyLock::new(|| {
        let server = Server::start_with_binlog(&[]).and_then(|server| {
            server.sql(
                "CREATE DATABASE shop; USE shop;
                 CREATE TABLE orders (id int PRIMARY KEY, note text) ENGINE=InnoDB;
                 INSERT INTO orders SELECT seq, REPEAT('o', seq % 500) FROM seq_1_to_20000;
                 CREATE TABLE `odd ``name` (id int) ENGINE=InnoDB;
                 INSERT INTO `odd ``name` VALUES (1), (2), (3);
                 CREATE VIEW recent AS SELECT * FROM orders WHERE id > 19990;
                 CREATE DATABASE copy; USE copy;
                 CREATE TABLE orders (note text, id int PRIMARY KEY, KEY (note(10))) ENGINE=InnoDB;
                 INSERT INTO orders SELECT REPEAT('o', seq % 500), seq FROM seq_1_to_20000;
                 CREATE DATABASE mixed; USE mixed;
                 CREATE TABLE old (id int) ENGINE=MyISAM;
                 INSERT INTO old VALUES (1);
                 CREATE TABLE new (id int) ENGINE=InnoDB;
                 INSERT INTO new VALUES (1);",
            )?;
            Ok(server)
        });
        server.unwrap_or_else(|error| panic!("{error:#}"))
    });
    &SERVER
}

/// `run` with a report, and what is in it.
fn report_of(options: &[&str], arguments: &[String]) -> Result<(Finished, Value)> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("report.json");
    let path_text = path.to_string_lossy().into_owned();
    let finished = run::to_end(&[&["--report", &path_text], options].concat(), arguments)?;
    ensure!(fs::metadata(&path)?.mode() & 0o777 == 0o600, "the report is for its owner alone");
    let report = serde_json::from_slice(&fs::read(&path)?)?;
    ensure!(fs::read_dir(dir.path())?.count() == 1, "something else was left behind");
    Ok((finished, report))
}

fn statement<'a>(report: &'a Value, table: &str) -> Result<&'a Value> {
    let statements = report["statements"].as_array().context("statements")?;
    statements.iter().find(|entry| entry["table"] == table).with_context(|| format!("{table}: {report:#}"))
}

fn kinds(report: &Value) -> Vec<&str> {
    let warnings = report["warnings"].as_array().map_or(&[][..], Vec::as_slice);
    warnings.iter().filter_map(|warning| warning["kind"].as_str()).collect()
}

#[test]
fn a_report_tells_what_was_read() -> Result<()> {
    let more = ["--single-transaction", "--master-data=2", "shop"];
    let arguments = run::arguments("mysqldump", &server().tcp(), &more);
    let (finished, report) = report_of(&["--strict"], &arguments)?;
    ensure!(finished.code() == 0 && kinds(&report).is_empty(), "{} {report:#}", finished.stderr);
    ensure!(report["format"] == "spillway-report" && report["version"] == 1, "{report:#}");
    ensure!(report["client"] == "mysqldump" && report["exit_status"] == 0, "{report:#}");

    let orders = statement(&report, "orders")?;
    ensure!(orders["schema"] == "shop" && orders["rows"] == 20_000, "{orders:#}");
    ensure!(orders["is_complete"] == true && orders["error"].is_null(), "{orders:#}");
    // Two length bytes a row, more for the longer texts, and the id's digits.
    let text: u64 = (1..=20_000).map(|id| id % 500).sum();
    ensure!(orders["row_bytes"].as_u64() > Some(text), "{orders:#}");
    ensure!(orders["statement"].as_str().is_some_and(|sql| sql.contains("FROM `orders`")), "{orders:#}");
    ensure!(statement(&report, "odd `name")?["rows"] == 3, "{report:#}");

    let settings = &report["settings"][orders["settings"].as_u64().unwrap_or(u64::MAX) as usize];
    ensure!(settings.to_string().contains("TIME_ZONE='+00:00'"), "{settings:#}");
    let rows = report["positions"].as_array().context("positions")?;
    let values = rows.iter().flat_map(|row| row["values"].as_object().into_iter().flatten());
    let file = values.filter_map(|(_, value)| value.as_str()).find(|value| value.starts_with("binlog."));
    ensure!(file.is_some_and(|file| finished.text().contains(file)), "{rows:#?}");
    let summary = &report["summary"];
    ensure!(
        summary["tables"] == 2 && summary["logins"] == 1 && summary["login_attempts"] == 1,
        "{summary:#}"
    );
    let [released, done, all] =
        ["server_released_seconds", "client_done_seconds", "seconds"].map(|key| &summary[key]);
    ensure!(released.as_f64() <= done.as_f64() && done.as_f64() <= all.as_f64(), "{summary:#}");
    Ok(())
}

#[test]
fn a_checksum_does_not_depend_on_the_order_of_rows() -> Result<()> {
    let checksum = |query: &str| -> Result<String> {
        let arguments = run::arguments("mysql", &server().tcp(), &["--quick", "-e", query]);
        let (finished, report) = report_of(&[], &arguments)?;
        ensure!(finished.code() == 0, "{}", finished.stderr);
        Ok(statement(&report, "orders")?["checksum"].as_str().unwrap_or_default().to_owned())
    };
    let one = checksum("SELECT id, note FROM shop.orders")?;
    ensure!(one.len() == 16, "{one}");
    ensure!(checksum("SELECT id, note FROM copy.orders ORDER BY note DESC, id")? == one);
    ensure!(checksum("SELECT id, note FROM shop.orders WHERE id <> 7")? != one);
    ensure!(checksum("SELECT id, IF(id = 7, 'x', note) AS note FROM shop.orders")? != one);
    Ok(())
}

#[test]
fn a_table_without_transactions_in_a_snapshot_is_warned_of() -> Result<()> {
    let at = server().tcp();
    let snapshot = run::arguments("mysqldump", &at, &["--single-transaction", "mixed"]);
    let (finished, report) = report_of(&[], &snapshot)?;
    ensure!(finished.code() == 0 && kinds(&report) == ["non-transactional"], "{report:#}");
    ensure!(report["warnings"][0]["table"] == "mixed.old", "{report:#}");
    ensure!(finished.stderr.contains("mixed.old is of MyISAM"), "{}", finished.stderr);
    let strict = run::to_end(&["--strict"], &snapshot)?;
    ensure!(strict.code() == 75 && strict.stderr.contains("--strict"), "{}", strict.stderr);
    // Under a lock its rows belong to the others.
    let locked = run::arguments("mysqldump", &at, &["--lock-tables", "mixed"]);
    ensure!(run::to_end(&["--strict"], &locked)?.code() == 0);
    // Some clients look the engines up by a statement of their own.
    let looked_up = [
        "-e",
        "SELECT table_schema, table_name, table_type, engine FROM information_schema.tables WHERE table_schema = 'mixed'; \
         START TRANSACTION WITH CONSISTENT SNAPSHOT; SELECT * FROM mixed.new; SELECT * FROM mixed.old",
    ];
    let (_, report) = report_of(&[], &run::arguments("mysql", &at, &looked_up))?;
    ensure!(kinds(&report) == ["non-transactional"], "{report:#}");
    ensure!(report["warnings"][0]["table"] == "mixed.old", "{report:#}");
    // The server's own tables are as they are.
    let own = run::arguments("mysqldump", &at, &["--single-transaction", "mysql"]);
    let own = run::to_end(&["--strict"], &own)?;
    ensure!(own.code() == 0, "{}", own.stderr);
    Ok(())
}

#[test]
fn a_table_that_was_changed_after_the_snapshot_is_warned_of() -> Result<()> {
    server().sql("CREATE TABLE test.changed (id int) ENGINE=InnoDB; INSERT INTO test.changed VALUES (1);")?;
    // The client waits behind its snapshot until the table is another.
    server().sql("CREATE TABLE test.gate (id int) ENGINE=InnoDB;")?;
    let script = "START TRANSACTION WITH CONSISTENT SNAPSHOT; SELECT GET_LOCK('gate', 60) AS at_the_gate; \
                  SELECT * FROM test.changed;";
    let holder = client::clean("mysql")
        .args(
            &run::arguments(
                "mysql",
                &server().tcp(),
                &["-e", "SELECT GET_LOCK('gate', 0); SELECT SLEEP(60)"],
            )[1..],
        )
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let _holder = Leashed(holder);
    let sleeps = |what: &'static str| {
        move || {
            server()
                .processlist()
                .is_ok_and(|threads| threads.iter().any(|thread| thread.info.contains(what)))
        }
    };
    let gate =
        server().wait_for_thread(LIMIT, "the closed gate", |thread| thread.info.contains("SLEEP(60)"))?;
    let dir = tempfile::tempdir()?;
    let arguments = run::arguments("mysql", &server().tcp(), &["-e", script]);
    let running = Running::start(run::command(dir.path(), &[]).args(&arguments))?;
    wait_until(LIMIT, "the client to wait at the gate", sleeps("at_the_gate"))?;
    server().sql("ALTER TABLE test.changed FORCE;")?;
    server().sql(&format!("KILL {}", gate.id))?;
    let finished = running.finish(LIMIT)?;
    ensure!(finished.code() != 0 && finished.stderr.contains("1412"), "{}", finished.stderr);
    ensure!(finished.stderr.contains("test.changed was not read to its end"), "{}", finished.stderr);
    Ok(())
}

/// Ended with the test.
struct Leashed(std::process::Child);

impl Drop for Leashed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_table_that_nobody_read_is_warned_of() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // A dump program that forgets a table: asked for its options it is mysqldump, otherwise it reads one table.
    let program = dir.path().join("mysqldump");
    fs::write(
        &program,
        "#!/bin/sh\nfor last; do :; done\ncase \"$*\" in *--help*|*--print-defaults*) exec mysqldump \"$@\";; esac\n\
         for option; do case \"$option\" in --socket=*) socket=$option;; esac; done\n\
         exec mysql \"$socket\" --user=root shop -e 'SHOW TABLES; SELECT * FROM orders LIMIT 1'\n",
    )?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let forgetful = |more: &[&str]| {
        let line = run::arguments("mysqldump", &server().tcp(), &[more, &["shop"]].concat());
        [vec![program.to_string_lossy().into_owned()], line[1..].to_vec()].concat()
    };
    let (finished, report) = report_of(&["--strict"], &forgetful(&[]))?;
    ensure!(finished.code() == 75, "{} {report:#}", finished.stderr);
    // The view has no rows of its own; but only SHOW FULL TABLES would tell that it is one.
    let left_out: Vec<_> =
        report["warnings"].as_array().into_iter().flatten().map(|w| w["table"].clone()).collect();
    ensure!(kinds(&report).iter().all(|kind| *kind == "table-left-out"), "{report:#}");
    ensure!(left_out.contains(&"shop.odd `name".into()), "{left_out:?}");
    let ignoring = forgetful(&["--ignore-table=shop.odd `name", "--ignore-table=shop.recent"]);
    let (finished, report) = report_of(&["--strict"], &ignoring)?;
    ensure!(finished.code() == 0, "{} {report:#}", finished.stderr);
    Ok(())
}

#[test]
fn a_client_that_goes_away_in_a_table_is_warned_of() -> Result<()> {
    server().sql(
        "USE test; CREATE TABLE test.large (v longtext) ENGINE=InnoDB;
         INSERT INTO test.large SELECT REPEAT('x', 1000000) FROM seq_1_to_40;",
    )?;
    let dir = tempfile::tempdir()?;
    let report = dir.path().join("report.json");
    let mut command = run::command(dir.path(), &["--report", &report.to_string_lossy()]);
    command.args(run::arguments("mysqldump", &server().tcp(), &["test", "large"]));
    let (reader, writer) = std::io::pipe()?;
    let errors = fs::File::create(dir.path().join("errors"))?;
    let mut running = Running::start_as_is(command.stdout(writer).stderr(errors))?;
    drop(command);
    let _held = Held::after(reader, 1_000_000)?;
    let pid = running.pid();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    for child in children.split_whitespace() {
        process::send(child.parse()?, Signal::SIGKILL)?;
    }
    let status = running.wait(LIMIT)?;
    ensure!(status.code() == Some(137), "{status}");
    let report: Value = serde_json::from_slice(&fs::read(&report)?)?;
    ensure!(kinds(&report) == ["client-gone"] && report["exit_status"] == 137, "{report:#}");
    ensure!(statement(&report, "large")?["is_complete"] == false, "{report:#}");
    Ok(())
}

#[test]
fn the_clients_stderr_stays_out_of_the_dump() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let state = dir.path().join("state");
    let dump = |more: &[&str], options: &[&str]| -> Result<(String, i32)> {
        let file = dir.path().join("dump.sql");
        let output = fs::File::create(&file)?;
        let mut command = run::command(dir.path(), options);
        command.args(run::arguments("mysqldump", &server().tcp(), more));
        command.env("XDG_STATE_HOME", &state).env("TMPDIR", dir.path());
        let mut running = Running::start_as_is(command.stdout(output.try_clone()?).stderr(output))?;
        let status = running.wait(LIMIT)?;
        Ok((fs::read_to_string(&file)?, status.code().unwrap_or(-1)))
    };
    let direct = run::direct(&run::arguments("mysqldump", &server().tcp(), &["shop", "missing"]))?;
    ensure!(direct.stderr.contains("Couldn't find table"), "{}", direct.stderr);

    let (text, code) = dump(&["shop", "missing"], &[])?;
    ensure!(code == direct.code() && !text.contains("Couldn't find table"), "{code} {text}");
    let logs: Vec<PathBuf> = fs::read_dir(state.join("spillway"))?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    let [log] = &logs[..] else { anyhow::bail!("{logs:?}") };
    let log_text = fs::read_to_string(log)?;
    ensure!(log_text.contains("Couldn't find table") && log_text.contains("dump's own file"), "{log_text}");
    fs::remove_file(log)?;

    // Nothing to say: no file.
    let (text, code) = dump(&["shop"], &[])?;
    ensure!(code == 0 && text.contains("-- Dump completed"), "{code}");
    ensure!(fs::read_dir(state.join("spillway"))?.count() == 0, "an empty log was left behind");

    let errors = dir.path().join("errors");
    let (text, _) = dump(&["shop", "missing"], &["--stderr", &errors.to_string_lossy()])?;
    ensure!(!text.contains("Couldn't find table"), "{text}");
    ensure!(fs::read_to_string(&errors)?.contains("Couldn't find table"));
    Ok(())
}

#[test]
fn nothing_takes_the_place_of_the_dump() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("dump.sql");
    for (option, path, told) in [
        ("--stderr", file.to_string_lossy().into_owned(), "the dump's own file"),
        ("--report", file.to_string_lossy().into_owned(), "the dump's own file"),
        ("--report", "/dev/null".to_owned(), "no regular file"),
    ] {
        let errors = dir.path().join("errors");
        let mut command = run::command(dir.path(), &[option, &path]);
        command.args(run::arguments("mysqldump", &server().tcp(), &["shop"]));
        command.stdout(fs::File::create(&file)?).stderr(fs::File::create(&errors)?);
        let status = Running::start_as_is(&mut command)?.wait(LIMIT)?;
        let errors = fs::read_to_string(&errors)?;
        ensure!(status.code() == Some(73) && errors.contains(told), "{option} {path}: {status} {errors}");
        ensure!(fs::metadata(&file)?.len() == 0, "{option} {path}: the client was started");
    }
    ensure!(fs::metadata("/dev/null")?.file_type().is_char_device());
    Ok(())
}

#[test]
fn the_summary_is_one_line_where_it_is_wanted() -> Result<()> {
    let arguments = run::arguments("mysqldump", &server().tcp(), &["shop"]);
    let stderr = |options: &[&str]| -> Result<String> {
        let finished = run::to_end(options, &arguments)?;
        ensure!(finished.code() == 0, "{}", finished.stderr);
        Ok(finished.stderr)
    };
    let line = stderr(&[])?;
    ensure!(
        line.lines().count() == 1 && line.starts_with("spillway: mysqldump: exit status 0 in "),
        "{line}"
    );
    for part in ["2 tables, ", " rows, ", "server was free after ", "peak backlog ", "1 login in 1 attempt"] {
        ensure!(line.contains(part), "{part}: {line}");
    }
    for options in [&["--quiet"][..], &["-q"], &["--summary", "never"], &["--summary=tty"]] {
        ensure!(stderr(options)?.is_empty(), "{options:?}");
    }
    Ok(())
}

#[test]
fn a_report_that_cannot_be_written_stops_all_before_the_dump() -> Result<()> {
    let marker = tempfile::tempdir()?;
    let result = marker.path().join("dump.sql");
    let arguments = run::arguments("mysqldump", &server().tcp(), &["shop", "-r", &result.to_string_lossy()]);
    for option in ["--report", "--stderr"] {
        let finished = run::to_end(&[option, "/no/such/directory/file"], &arguments)?;
        ensure!(finished.code() == 73, "{finished:?}");
        ensure!(
            finished.stderr.contains(option) && finished.stderr.lines().count() == 1,
            "{}",
            finished.stderr
        );
        ensure!(!result.exists(), "the client was started");
    }
    Ok(())
}

/// What `run` shows on a terminal; behind the arguments of the client's comes what the shell does with its output.
fn on_a_terminal(arguments: &[String], shell: &str) -> Result<String> {
    let dir = tempfile::tempdir()?;
    let quote = |word: &str| format!("'{}'", word.replace('\'', "'\\''"));
    let command = run::command(dir.path(), &[]);
    let own = [command.get_program()].into_iter().chain(command.get_args());
    let words: Vec<_> = own
        .map(|word| quote(&word.to_string_lossy()))
        .chain(arguments.iter().map(|word| quote(word)))
        .collect();
    let mut terminal = client::clean("script");
    let line = format!("{} {shell}", words.join(" "));
    terminal.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env("TERM", "xterm");
    Ok(process::run_with_input(&mut terminal, b"", LIMIT)?.text())
}

#[test]
fn progress_is_shown_on_a_terminal_and_nowhere_else() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let dump = dir.path().join("dump.sql");
    let arguments = run::arguments("mysqldump", &server().tcp(), &["shop"]);
    // The client's own words go above the display.
    let shown =
        on_a_terminal(&arguments, &format!("--verbose | {{ sleep 1; cat; }} > '{}'", dump.display()))?;
    for part in
        ["mysqldump  ", "backlog ", "client ", "-- Retrieving table structure", "spillway: mysqldump: exit"]
    {
        ensure!(shown.contains(part), "{part}: {shown}");
    }
    ensure!(fs::read_to_string(&dump)?.contains("-- Dump completed"));
    Ok(())
}

#[test]
fn attempts_are_shown_while_the_client_waits_for_its_login() -> Result<()> {
    let fault = Fault::start(server().address())?;
    fault.arm_next(4, Direction::FromServer, 0, Action::Cut);
    let arguments = run::arguments("mysqldump", &Endpoint::Tcp(fault.address()), &["shop"]);
    let shown = on_a_terminal(&arguments, "> /dev/null")?;
    // The last two pauses are 400 ms or more each, and a drawing comes every 200 ms.
    ensure!(shown.contains("logging in for ") && shown.contains(" s, attempt 4"), "{shown}");
    ensure!(shown.contains("1 login in 5 attempts"), "{shown}");
    Ok(())
}

#[test]
fn the_summary_tells_how_much_sooner_the_server_was_free() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let report = dir.path().join("report.json");
    server().sql(
        "CREATE DATABASE slow; USE slow; CREATE TABLE slow.rows (v longtext) ENGINE=InnoDB;
         INSERT INTO slow.rows SELECT REPEAT('x', 100000) FROM seq_1_to_400;",
    )?;
    let mut command = run::command(dir.path(), &["--report", &report.to_string_lossy()]);
    command.args(run::arguments("mysqldump", &server().tcp(), &["slow"]));
    let (reader, writer) = std::io::pipe()?;
    let mut running = Running::start_as_is(command.stdout(writer).stderr(Stdio::null()))?;
    drop(command);
    let held = Held::after(reader, 1_000_000)?;
    let began = Instant::now();
    server().wait_for_no_thread(LIMIT, "the server to be free", |thread| thread.info.contains("slow"))?;
    let hold = Duration::from_secs(1);
    std::thread::sleep(hold.saturating_sub(began.elapsed()));
    let dump = held.release();
    ensure!(running.wait(LIMIT)?.success());
    ensure!(dump.finish()?.len() > 40_000_000);
    let report: Value = serde_json::from_slice(&fs::read(&report)?)?;
    let entry = statement(&report, "rows")?;
    let [server, client] =
        ["server_seconds", "client_seconds"].map(|key| entry[key].as_f64().unwrap_or_default());
    ensure!(client > server + 0.2, "{entry:#}");
    ensure!(report["summary"]["backlog_peak"].as_u64() > Some(10_000_000), "{report:#}");
    Ok(())
}
