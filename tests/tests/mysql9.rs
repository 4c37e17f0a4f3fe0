//! MySQL 9, its server and its clients.

use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Result, ensure};
use spillway_tests::process::{self, Finished};
use spillway_tests::{Endpoint, Server, Spillway, client, mysql9};

/// A server with one of everything that MySQL has and MariaDB has not, and a proxy before it.
struct Pair {
    server: Server,
    spillway: Spillway,
}

fn pair() -> &'static Pair {
    static PAIR: LazyLock<Pair> =
        LazyLock::new(|| Pair::start().unwrap_or_else(|error| panic!("MySQL 9: {error:#}")));
    &PAIR
}

impl Pair {
    fn start() -> Result<Self> {
        let server = mysql9::start(&[])?;
        server.sql(SCRIPT)?;
        let spillway = Spillway::to(&server.tcp()).start()?;
        Ok(Self { server, spillway })
    }
}

macro_rules! dumps {
    ($($name:ident: $dumper:path, $options:expr, $status:literal;)*) => {
        $(
            #[test]
            fn $name() -> Result<()> {
                compare($dumper, &$options, $status)
            }
        )*
    };
}

dumps! {
    single_transaction: mysql9::dumper, ["--single-transaction", "--routines", "--triggers", "--events", "test"], 0;
    all_databases: mysql9::dumper, ["--single-transaction", "--all-databases"], 0;
    lock_all_tables: mysql9::dumper, ["--lock-all-tables", "--hex-blob", "test"], 0;
    a_missing_table: mysql9::dumper, ["test", "modern", "no_such_table"], 6;
    mariadbs_dump: client::dumper, ["--single-transaction", "test"], 0;
}

#[test]
fn a_large_result_is_right() -> Result<()> {
    let mut mysql = mysql9::dumper("mysql", pair().spillway.endpoint());
    mysql.args(["--batch", "--skip-column-names", "--quick"]);
    mysql.args(["--execute", "SELECT * FROM test.many ORDER BY id"]);
    let text = finish(&mut mysql)?.success()?.text();
    let mut rows = 0;
    for (line, number) in text.lines().zip(1_u32..) {
        ensure!(line == format!("{number}\trow {number}"), "row {number}: {line:?}");
        rows = number;
    }
    ensure!(rows == ROWS, "{rows} rows");
    Ok(())
}

#[test]
fn a_wrong_password_is_refused_by_the_server() -> Result<()> {
    // Only the full authentication ends with the server's word. MariaDB's client asks for the key by itself.
    let refuse = |endpoint: &Endpoint| -> Result<Vec<Finished>> {
        let mut mysql = mysql9::command("mysql", endpoint);
        mysql.arg("--get-server-public-key");
        [mysql, client::command("mysql", endpoint)]
            .iter_mut()
            .map(|mysql| finish(mysql.args(["--user=dump", "--password=wrong", "--execute", "SELECT 1"])))
            .collect()
    };
    let direct = refuse(&pair().server.tcp())?;
    for (direct, through) in direct.iter().zip(refuse(pair().spillway.endpoint())?) {
        ensure!(direct.stderr.contains("ERROR 1045 (28000): Access denied for user"), "{}", direct.stderr);
        ensure!(through.stderr == direct.stderr, "{}\nand directly: {}", through.stderr, direct.stderr);
        ensure!(through.code() == direct.code(), "status {}", through.code());
    }
    Ok(())
}

#[test]
fn a_password_that_is_not_cached_goes_encrypted() -> Result<()> {
    let login = |more: &[&str]| log_in("first", pair().spillway.endpoint(), more);
    let refused = login(&[])?;
    ensure!(refused.stderr.contains("Authentication requires secure connection"), "{}", refused.stderr);
    login(&["--get-server-public-key"])?.success()?;
    // From now on it is in the cache.
    login(&[])?.success()?;
    Ok(())
}

#[test]
fn a_password_in_clear_goes_to_no_tcp_server() -> Result<()> {
    let server = &pair().server;
    let dir = tempfile::tempdir()?;
    let through = |name: &str, upstream: &Endpoint| {
        let spillway =
            Spillway::to(upstream).listen(&format!("unix:{}", dir.path().join(name).display())).start()?;
        log_in("second", spillway.endpoint(), &[])
    };
    let refused = through("refused", &server.tcp())?;
    ensure!(refused.stderr.contains("ERROR 1251"), "{}", refused.stderr);
    through("taken", &server.unix())?.success()?;
    // It is in the cache, and stays with the client.
    through("cached", &server.tcp())?.success()?;
    Ok(())
}

fn log_in(user: &str, endpoint: &Endpoint, more: &[&str]) -> Result<Finished> {
    let mut mysql = mysql9::command("mysql", endpoint);
    mysql.arg(format!("--user={user}")).args(["--password=pa55 word", "--execute", "DO 0"]).args(more);
    finish(&mut mysql)
}

/// The dump ends with `status`, and whatever it gives and says directly, it does through the proxy.
fn compare(dumper: fn(&str, &Endpoint) -> Command, options: &[&str], status: i32) -> Result<()> {
    let Pair { server, spillway } = pair();
    let [direct, through] = [&server.tcp(), spillway.endpoint()]
        .map(|endpoint| finish(dumper("mysqldump", endpoint).args(options)));
    let (direct, through) = (direct?, through?);
    for dump in [&direct, &through] {
        ensure!(dump.code() == status, "{}: {}", dump.code(), dump.stderr);
    }
    ensure!(direct.stderr == through.stderr, "{}\nand directly: {}", through.stderr, direct.stderr);
    let difference =
        client::difference(&client::normalised(&direct.stdout), &client::normalised(&through.stdout));
    ensure!(difference.is_none(), "{}", difference.unwrap_or_default());
    Ok(())
}

fn finish(command: &mut Command) -> Result<Finished> {
    process::run(command, Duration::from_secs(60))
}

// The accounts are made here, because a dump of all databases has them in it.
const SCRIPT: &str = r#"
CREATE USER first IDENTIFIED WITH caching_sha2_password BY 'pa55 word';
CREATE USER second IDENTIFIED WITH caching_sha2_password BY 'pa55 word';
USE test;
CREATE TABLE modern (
    id INT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    document JSON,
    place POINT NOT NULL SRID 4326,
    embedding VECTOR(3),
    shout VARCHAR(20) AS (UPPER(document->>'$.name')) VIRTUAL,
    hidden BIGINT DEFAULT 7 INVISIBLE,
    picture LONGBLOB,
    KEY shout (shout DESC),
    CHECK (hidden > 0)
);
INSERT INTO modern (document, place, embedding, picture) VALUES
    ('{"name": "größe", "list": [1, 2.5, null]}', ST_SRID(POINT(1, 2), 4326), STRING_TO_VECTOR('[1,2,3]'), NULL),
    (NULL, ST_SRID(POINT(-3.25, 4), 4326), NULL, REPEAT(UNHEX('00FF275C0A0D'), 500000)),
    ('[]', ST_SRID(POINT(0, 0), 4326), STRING_TO_VECTOR('[0,-1,1e9]'), '');
CREATE TABLE parted (id INT PRIMARY KEY, at DATETIME(6)) PARTITION BY HASH(id) PARTITIONS 4;
INSERT INTO parted VALUES (1, '2024-02-29 23:59:59.999999'), (2, NULL), (3, '1000-01-01');
CREATE TABLE many (id INT PRIMARY KEY, label VARCHAR(20));
SET cte_max_recursion_depth = 100000;
INSERT INTO many WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
    SELECT i, CONCAT('row ', i) FROM n;
CREATE VIEW few AS SELECT * FROM many WHERE id < 10;
CREATE FUNCTION twice (x INT) RETURNS INT DETERMINISTIC RETURN 2 * x;
CREATE TRIGGER before_parted BEFORE INSERT ON parted FOR EACH ROW SET NEW.at = IFNULL(NEW.at, NOW(6));
CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY DO DELETE FROM parted WHERE id < 0;
"#;
/// In the table `many`.
const ROWS: u32 = 100_000;
