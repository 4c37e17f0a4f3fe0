//! The compressed protocol, on each side by itself: whatever the client and `--upstream-compression` ask for, what comes
//! is what comes directly and uncompressed; and the bytes on the wire show that it was compressed.

use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use spillway_tests::packed::Algorithm;
use spillway_tests::process::{self, Running};
use spillway_tests::sink::Held;
use spillway_tests::wire::NATIVE;
use spillway_tests::{Endpoint, Fault, Raw, Server, Spillway, client, data, log, mysql9, wait_until};

/// A server, and proxies that speak to it without compression, with zlib, and with zstd.
struct Places {
    server: Server,
    proxies: Vec<(&'static str, Spillway)>,
}

impl Places {
    fn start(server: Server, modes: &[&'static str]) -> Result<Self> {
        let proxies = modes.iter().map(|mode| {
            let option = format!("--upstream-compression={mode}");
            Ok((*mode, Spillway::to(&server.tcp()).options(&[&option]).start()?))
        });
        let proxies = proxies.collect::<Result<_>>()?;
        Ok(Self { server, proxies })
    }

    fn proxy(&self, mode: &str) -> Result<&Spillway> {
        let found = self.proxies.iter().find(|(name, _)| *name == mode);
        found.map(|(_, proxy)| proxy).context("no such proxy")
    }
}

/// MariaDB knows zlib only.
fn mariadb() -> &'static Places {
    static PLACES: LazyLock<Places> = LazyLock::new(|| {
        let start = || {
            let server = Server::start(&[])?;
            data::zoo::load(&server)?;
            server.sql("CREATE USER nobody@'%'; GRANT ALL ON test.* TO nobody@'%'")?;
            Places::start(server, &["off", "zlib"])
        };
        start().unwrap_or_else(|error: anyhow::Error| panic!("the zoo: {error:#}"))
    });
    &PLACES
}

fn mysql() -> &'static Places {
    static PLACES: LazyLock<Places> = LazyLock::new(|| {
        let start = || {
            let server = mysql9::start(&[])?;
            server.sql(MYSQL_SCRIPT)?;
            Places::start(server, &["off", "zlib", "zstd"])
        };
        start().unwrap_or_else(|error: anyhow::Error| panic!("MySQL 9: {error:#}"))
    });
    &PLACES
}

type Dumper = fn(&str, &Endpoint) -> std::process::Command;

/// A client program, what asks it for compression, and what the proxy is to say of it.
struct Client {
    dumper: Dumper,
    options: &'static [&'static str],
    compression: &'static str,
}

const MARIADB: Client = Client { dumper: client::dumper, options: &[], compression: "off" };
const MARIADB_ZLIB: Client = Client { dumper: client::dumper, options: &["--compress"], compression: "zlib" };
const MYSQL: Client = Client { dumper: mysql9::dumper, options: &[], compression: "off" };
const MYSQL_ZLIB: Client =
    Client { dumper: mysql9::dumper, options: &["--compression-algorithms=zlib"], compression: "zlib" };
const MYSQL_ZSTD: Client =
    Client { dumper: mysql9::dumper, options: &["--compression-algorithms=zstd"], compression: "zstd" };
const MYSQL_ZSTD_BEST: Client = Client {
    dumper: mysql9::dumper,
    options: &["--compression-algorithms=zstd,uncompressed", "--zstd-compression-level=22"],
    compression: "zstd",
};

macro_rules! dumps {
    ($($name:ident: $client:expr, $places:path, $upstream:literal, $what:expr;)*) => {
        $(
            #[test]
            fn $name() -> Result<()> {
                compare_dumps(&$client, $places(), $upstream, &$what)
            }
        )*
    };
}

dumps! {
    mariadb_plain_to_zlib: MARIADB, mariadb, "zlib", ["--single-transaction", "zoo"];
    mariadb_zlib_to_plain: MARIADB_ZLIB, mariadb, "off", ["--single-transaction", "zoo"];
    mariadb_zlib_to_zlib: MARIADB_ZLIB, mariadb, "zlib", ["--routines", "--events", "zoo"];
    mariadb_skip_quick: MARIADB_ZLIB, mariadb, "zlib", ["--skip-quick", "--hex-blob", "zoo", "blobs", "big"];
    mysql_plain_to_zlib: MYSQL, mysql, "zlib", ["packed"];
    mysql_plain_to_zstd: MYSQL, mysql, "zstd", ["packed"];
    mysql_zlib_to_plain: MYSQL_ZLIB, mysql, "off", ["packed"];
    mysql_zlib_to_zlib: MYSQL_ZLIB, mysql, "zlib", ["packed"];
    mysql_zlib_to_zstd: MYSQL_ZLIB, mysql, "zstd", ["packed"];
    mysql_zstd_to_plain: MYSQL_ZSTD, mysql, "off", ["packed"];
    mysql_zstd_to_zlib: MYSQL_ZSTD, mysql, "zlib", ["packed"];
    mysql_zstd_to_zstd: MYSQL_ZSTD, mysql, "zstd", ["--single-transaction", "packed"];
    mysql_best_zstd: MYSQL_ZSTD_BEST, mysql, "zstd", ["packed", "text"];
    mariadbs_client_to_mysql: MARIADB_ZLIB, mysql, "zstd", ["packed"];
}

/// The dump through the proxy is the direct one, which is not compressed.
fn compare_dumps(client: &Client, places: &Places, upstream: &str, what: &[&str]) -> Result<()> {
    let dump = |endpoint: &Endpoint, options: &[&str]| {
        let mut command = (client.dumper)("mysqldump", endpoint);
        command.arg("--max-allowed-packet=1G").args(options).args(what);
        process::run(&mut command, LIMIT)?.success()
    };
    let direct = dump(&places.server.tcp(), &[])?;
    let proxy = places.proxy(upstream)?;
    let sessions = format!("compression=\"{}\" server_compression=\"{upstream}\"", client.compression);
    let before = proxy.log().matching(&sessions).len();
    let through = dump(proxy.endpoint(), client.options)?;
    ensure!(
        proxy.log().matching(&sessions).len() > before,
        "no session with {sessions}: {}",
        proxy.log().tail()
    );
    let difference =
        client::difference(&client::normalised(&direct.stdout), &client::normalised(&through.stdout));
    ensure!(difference.is_none(), "{}", difference.unwrap_or_default());
    Ok(())
}

#[test]
fn each_hop_is_compressed_by_itself() -> Result<()> {
    let statement = format!("SELECT REPEAT('compress me. ', {})", SIZE / 13);
    for (server, upstream) in [(mariadb(), "off"), (mariadb(), "zlib"), (mysql(), "zlib"), (mysql(), "zstd")]
    {
        for algorithm in [None, Some(Algorithm::Zlib), Some(Algorithm::Zstd)] {
            let near_server = Fault::start(server.server.address())?;
            let option = format!("--upstream-compression={upstream}");
            let spillway = Spillway::to(&near_server.address()).options(&[&option]).start()?;
            let near_client = Fault::start(spillway.address()?)?;
            let place = format!("{algorithm:?} to {upstream}");
            let mut raw = Raw::connect(near_client.address())?;
            // Without a password all plugins are alike.
            let plugin = if std::ptr::eq(server, mysql()) { "caching_sha2_password" } else { NATIVE };
            match algorithm {
                Some(algorithm) => raw.log_in_packed(algorithm, plugin, "nobody", ""),
                None => raw.log_in(plugin, "nobody", "", None)?.ok(),
            }
            .with_context(|| place.clone())?;
            let text = raw.value(&statement).with_context(|| place.clone())?;
            ensure!(text.len() == SIZE / 13 * 13 && text.ends_with("compress me. "), "{place}: the text");
            // A hop that is compressed is much shorter than the text, one that is not is longer.
            for (fault, compressed) in
                [(&near_server, upstream != "off"), (&near_client, algorithm.is_some())]
            {
                let passed = fault.passed(0);
                let size = u64::try_from(SIZE)?;
                let right = if compressed { passed < size / 20 } else { passed > size };
                ensure!(right, "{place}: {passed} bytes for {size}");
            }
            let status = raw.query("SHOW STATUS LIKE 'Compression%'")?;
            let value = |name: &str| status.iter().find(|row| row[0] == name).map(|row| row[1].as_str());
            let on = if upstream == "off" { "OFF" } else { "ON" };
            ensure!(value("Compression") == Some(on), "{place}: {status:?}");
            if std::ptr::eq(server, mysql()) {
                ensure!(value("Compression_algorithm") == Some(upstream), "{place}: {status:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_server_without_the_algorithm_is_used_without() -> Result<()> {
    let server = &mariadb().server;
    let spillway = Spillway::to(&server.tcp()).options(&["--upstream-compression=zstd"]).start()?;
    let mut raw = Raw::login_packed(spillway.address()?, Algorithm::Zstd)?;
    ensure!(raw.query("SHOW STATUS LIKE 'Compression'")? == [["Compression", "OFF"]], "compressed");
    let line = spillway.wait_for_log("does not offer this compression", LIMIT)?;
    ensure!(line.contains("WARN") && line.contains("zstd"), "{line}");
    Ok(())
}

#[test]
fn a_slow_sink_behind_compression_spools() -> Result<()> {
    let server = &mariadb().server;
    // Text that compresses to half at best: what does not fit into the buffers on the way.
    let hex = ["MD5(RAND())"; 32].join(", ");
    server.sql(&format!(
        "CREATE DATABASE slow; USE slow; CREATE TABLE test AS SELECT seq, CONCAT({hex}) AS t FROM seq_1_to_60000"
    ))?;
    let dump = |endpoint: &Endpoint| {
        let mut command = client::dumper("mysqldump", endpoint);
        command.args(["slow", "test"]);
        command
    };
    let direct = process::run(&mut dump(&server.tcp()), LIMIT)?.success()?;
    let spillway = Spillway::to(&server.tcp())
        .options(&["--upstream-compression=zlib", "--memory-per-session=1MiB"])
        .start()?;
    let mut command = dump(spillway.endpoint());
    let mut running = Running::start(command.arg("--compress"))?;
    let held = Held::after(running.child.stdout.take().context("no stdout")?, 1000)?;
    wait_until(LIMIT, "the table to be drained", || {
        spillway.spool_space().is_ok_and(|space| space > TABLE_SIZE / 10 * 8)
    })?;
    let draining = held.release();
    running.finish(LIMIT)?.success()?;
    let difference =
        client::difference(&client::normalised(&direct.stdout), &client::normalised(&draining.finish()?));
    ensure!(difference.is_none(), "{}", difference.unwrap_or_default());
    let line = spillway.wait_for_session_end(1, LIMIT)?;
    ensure!(log::field(&line, "drained")? == log::field(&line, "fed")?, "{line}");
    ensure!(log::field(&line, "drained")? > TABLE_SIZE, "{line}");
    Ok(())
}

/// Text that compresses, noise that does not, rows of more than one packet, and many small tables.
const MYSQL_SCRIPT: &str = "
    CREATE DATABASE packed; USE packed;
    SET SESSION cte_max_recursion_depth = 200000, group_concat_max_len = 20000000;
    CREATE TABLE text (id int PRIMARY KEY, a text, b varchar(100), c double);
    INSERT INTO text WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 50000)
        SELECT n, REPEAT(SHA2(n, 256), n % 5), IF(n % 3, CONCAT('row ', n), NULL), n / 7 FROM s;
    CREATE TABLE noise (id int PRIMARY KEY, b longblob);
    INSERT INTO noise WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 1000)
        SELECT n, RANDOM_BYTES(1 + n) FROM s;
    INSERT INTO noise SELECT 2000, GROUP_CONCAT(b SEPARATOR '') FROM noise;
    CREATE TABLE big (id int PRIMARY KEY, b longblob);
    INSERT INTO big SELECT 1, REPEAT(b, 40) FROM noise WHERE id = 2000;
    INSERT INTO big VALUES (2, REPEAT('b', 16777200)), (3, REPEAT('c', 16777211)), (4, 'small'),
        (5, REPEAT('d', 33554422));
    CREATE TABLE nothing (id int);
    CREATE USER nobody@'%' IDENTIFIED WITH caching_sha2_password BY '';
    GRANT ALL ON test.* TO nobody@'%';";

/// The text of the measurement.
const SIZE: usize = 8 << 20;
/// Bytes of the table of the slow sink.
const TABLE_SIZE: u64 = 60_000 * 32 * 32;
const LIMIT: Duration = Duration::from_secs(60);
