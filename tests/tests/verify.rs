//! `spillway verify`: a restored copy that is the dump's, and some that are not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use spillway_tests::process::{self, Finished};
use spillway_tests::server::{PASSWORD, USER};
use spillway_tests::{Server, client, run, spillway_bin};

const LIMIT: Duration = Duration::from_secs(60);

const TABLES: &str = "CREATE DATABASE shop; USE shop;
    CREATE TABLE orders (id int PRIMARY KEY, note varchar(500), at timestamp, raw varbinary(20)) CHARSET=utf8mb4;
    INSERT INTO orders SELECT seq, CONCAT('ü', seq), FROM_UNIXTIME(1e9 + seq), UNHEX(MD5(seq)) FROM seq_1_to_5000;
    CREATE TABLE empty (id int);
    CREATE TABLE `odd name` (v text); INSERT INTO `odd name` VALUES (NULL), (''), ('x');";

/// A server with the tables, the report of a dump of it, and the dump.
struct Dumped {
    server: Server,
    dir: tempfile::TempDir,
}

impl Dumped {
    fn new() -> Result<Self> {
        let server = Server::start(&["--default-time-zone=+05:00"])?;
        server.sql(TABLES)?;
        let dumped = Self { server, dir: tempfile::tempdir()? };
        let arguments = run::arguments("mysqldump", &dumped.server.tcp(), &["--single-transaction", "shop"]);
        let report = dumped.report();
        let finished = run::to_end(&["--report", &report.to_string_lossy()], &arguments)?.success()?;
        fs::write(dumped.dir.path().join("shop.sql"), &finished.stdout)?;
        Ok(dumped)
    }

    fn report(&self) -> PathBuf {
        self.dir.path().join("report.json")
    }

    /// Restores the dump into a server.
    fn restore(&self, server: &Server) -> Result<()> {
        let dump = fs::read(self.dir.path().join("shop.sql"))?;
        let script = [&b"CREATE DATABASE shop; USE shop;\n"[..], &dump].concat();
        server.run_sql(&script)?.success()?;
        Ok(())
    }

    fn verify(&self, upstream: &str, password: &str) -> Result<Finished> {
        verify(&self.report(), upstream, &credentials(self.dir.path(), password)?)
    }
}

fn credentials(dir: &Path, password: &str) -> Result<PathBuf> {
    let path = dir.join("account.cnf");
    fs::write(&path, format!("[client]\nuser={USER}\npassword=\"{password}\"\n"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(path)
}

fn verify(report: &Path, upstream: &str, credentials: &Path) -> Result<Finished> {
    let mut command = client::clean(spillway_bin());
    command.arg("verify").arg(report).args(["--upstream", upstream]).arg("--credentials").arg(credentials);
    process::run(&mut command, LIMIT)
}

fn line<'a>(finished: &'a str, table: &str) -> Result<&'a str> {
    finished.lines().find(|line| line.contains(table)).with_context(|| format!("{table}: {finished}"))
}

#[test]
fn a_restored_copy_is_compared_table_by_table() -> Result<()> {
    let dumped = Dumped::new()?;
    // Of another time zone, whose rows have another order.
    let copy = Server::start(&["--default-time-zone=-03:00"])?;
    dumped.restore(&copy)?;
    copy.sql("ALTER TABLE shop.orders DROP PRIMARY KEY, ORDER BY raw")?;
    let at = copy.address().to_string();
    let same = dumped.verify(&at, PASSWORD)?;
    ensure!(same.code() == 0, "{} {}", same.text(), same.stderr);
    ensure!(
        line(&same.text(), "shop.orders")?.starts_with("same") && same.text().contains("the same: 3 tables"),
        "{}",
        same.text()
    );

    for (change, table, told) in [
        ("UPDATE shop.orders SET note = 'u77' WHERE id = 77", "shop.orders", "of other contents"),
        ("DELETE FROM shop.orders WHERE id = 5000", "shop.orders", "5,000 rows in the report, 4,999 here"),
        ("DROP TABLE shop.empty", "shop.empty", "1146"),
    ] {
        copy.sql(change)?;
        let changed = dumped.verify(&at, PASSWORD)?;
        ensure!(changed.code() == 1, "{change}: {} {}", changed.text(), changed.stderr);
        let text = changed.text();
        ensure!(line(&text, table)?.contains(told), "{change}: {text}");
        ensure!(line(&text, "shop.odd name")?.starts_with("same"), "{change}: {text}");
    }
    Ok(())
}

#[test]
fn a_dump_that_is_not_whole_is_not_taken_for_verified() -> Result<()> {
    let dumped = Dumped::new()?;
    let at = dumped.server.address().to_string();
    let report = fs::read_to_string(dumped.report())?;
    let report: serde_json::Value = serde_json::from_str(&report)?;
    let left_out = serde_json::json!({"kind": "table-left-out", "table": "a.b", "message": "a.b was listed"});
    for (key, value, told) in [
        ("exit_status", 2.into(), "the dump itself ended with status 2"),
        ("statements", serde_json::json!([]), "has read no table"),
        ("statements_left_out", 7.into(), "7 statements found no place"),
        ("warnings", serde_json::json!([left_out]), "a.b was listed"),
    ] {
        let mut report = report.clone();
        report[key] = value;
        fs::write(dumped.report(), report.to_string())?;
        let finished = dumped.verify(&at, PASSWORD)?;
        ensure!(finished.code() == 1 && finished.text().contains(told), "{key}: {}", finished.text());
    }
    Ok(())
}

#[test]
fn what_keeps_it_from_comparing_is_told() -> Result<()> {
    let dumped = Dumped::new()?;
    let at = dumped.server.address().to_string();
    let wrong = dumped.verify(&at, "not-the-password")?;
    ensure!(wrong.code() == 69 && wrong.stderr.contains("1045"), "{} {}", wrong.code(), wrong.stderr);
    ensure!(!wrong.stderr.contains("not-the-password"), "{}", wrong.stderr);

    let account = credentials(dumped.dir.path(), PASSWORD)?;
    let other = dumped.dir.path().join("other.json");
    for (text, told) in [
        ("{", "EOF"),
        ("{}", "missing field"),
        (&fs::read_to_string(dumped.report())?.replace("\"version\": 1", "\"version\": 99"), "version 99"),
    ] {
        fs::write(&other, text)?;
        let refused = verify(&other, &at, &account)?;
        ensure!(
            refused.code() == 78 && refused.stderr.contains(told),
            "{} {}",
            refused.code(),
            refused.stderr
        );
        ensure!(refused.stderr.lines().count() == 1, "{}", refused.stderr);
    }
    let missing = verify(Path::new("/no/such/report"), &at, &account)?;
    ensure!(missing.code() == 78 && missing.stderr.contains("/no/such/report"), "{}", missing.stderr);
    let mut command = client::clean(spillway_bin());
    command.arg("verify").arg(dumped.report()).args(["--upstream", &at]);
    let nobody = process::run(&mut command, LIMIT)?;
    ensure!(nobody.code() == 78 && nobody.stderr.contains("--credentials"), "{}", nobody.stderr);
    Ok(())
}
