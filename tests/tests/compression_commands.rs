//! Commands of every kind over the compressed protocol: sequence ids, long commands, several results, files that the
//! server asks for, many commands before an answer is read; by hand and by real drivers.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mysql_async::prelude::Queryable as _;
use mysql_async::{ChangeUserOpts, Compression, Conn, OptsBuilder, Row, WhiteListFsHandler};
use spillway_tests::packed::Algorithm;
use spillway_tests::raw::{End, Head};
use spillway_tests::server::{PASSWORD, USER};
use spillway_tests::stored::Stored;
use spillway_tests::wire::command;
use spillway_tests::{Endpoint, Raw, Server, Spillway, cc, client, fault::Action, mysql9, process};

struct Places {
    server: Server,
    plain: Spillway,
    zlib: Spillway,
}

fn places() -> &'static Places {
    static PLACES: LazyLock<Places> = LazyLock::new(|| {
        let start = || {
            let server = Server::start(&[])?;
            let plain = Spillway::to(&server.tcp()).start()?;
            let zlib = Spillway::to(&server.tcp()).options(&["--upstream-compression=zlib"]).start()?;
            Ok(Places { server, plain, zlib })
        };
        start().unwrap_or_else(|error: anyhow::Error| panic!("{error:#}"))
    });
    &PLACES
}

/// A session for each way in which at least one side is compressed, with its name.
fn sessions() -> Result<Vec<(&'static str, Raw)>> {
    let Places { plain, zlib, .. } = places();
    let (plain, zlib) = (plain.address()?, zlib.address()?);
    Ok(vec![
        ("zlib to plain", Raw::login_packed(plain, Algorithm::Zlib)?),
        ("zstd to plain", Raw::login_packed(plain, Algorithm::Zstd)?),
        ("plain to zlib", Raw::login(zlib)?),
        ("zlib to zlib", Raw::login_packed(zlib, Algorithm::Zlib)?),
        ("zstd to zlib", Raw::login_packed(zlib, Algorithm::Zstd)?),
    ])
}

#[test]
fn packets_and_commands_of_every_critical_length() -> Result<()> {
    for (name, mut raw) in sessions()? {
        // What is stored and what compressed; what fills a compressed packet of the proxy's, a packet, and two.
        for length in
            [0, 30, 40, 50, 251, 65_480, 65_536, 131_072, 16_777_190, 16_777_211, 16_777_212, 33_554_421]
        {
            let place = || format!("{name}, {length}");
            let Head::Columns(1) = raw
                .start(&format!("SELECT REPEAT('x', {length}) UNION ALL SELECT 'end'"))
                .with_context(place)?
            else {
                anyhow::bail!("{}: no rows", place())
            };
            let mut rows = Vec::new();
            raw.rows(|row| rows.push(row.len())).with_context(place)?.ok()?;
            let prefix = if length < 251 {
                1
            } else if length < 65_536 {
                3
            } else if length < 1 << 24 {
                4
            } else {
                9
            };
            ensure!(rows == [length + prefix, 4], "{}: {rows:?}", place());
            let filler = " ".repeat(length);
            let value = raw.value(&format!("SELECT {filler} 1")).with_context(place)?;
            ensure!(value == "1", "{}: a statement of that length", place());
        }
    }
    Ok(())
}

#[test]
fn a_long_command_that_does_not_compress() -> Result<()> {
    let mut state = 1_u64;
    let noise: String = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        format!("{state:016x}")
    })
    .take(1_500_000)
    .collect();
    for (name, mut raw) in sessions()? {
        let length = raw.value(&format!("SELECT LENGTH(UNHEX('{noise}'))")).context(name)?;
        ensure!(length == (noise.len() / 2).to_string(), "{name}: {length}");
        let value = raw.value(&format!("SELECT '{noise}'")).context(name)?;
        ensure!(value == noise, "{name}: the text differs");
    }
    Ok(())
}

#[test]
fn several_results() -> Result<()> {
    let statement =
        "SELECT seq FROM seq_1_to_3; DO 0; SELECT REPEAT('x', seq) FROM seq_1_to_2000; SELECT nonsense; DO 0";
    let read = |raw: &mut Raw| -> Result<Vec<(Vec<Vec<u8>>, End)>> {
        let mut results = Vec::new();
        let mut head = raw.start(statement)?;
        loop {
            let mut rows = Vec::new();
            let end = match head {
                Head::End(end) => end,
                Head::Columns(_) => raw.rows(|row| rows.push(row.to_vec()))?,
            };
            let more = end.more();
            results.push((rows, end));
            if !more {
                return Ok(results);
            }
            head = raw.head()?;
        }
    };
    let direct = read(&mut Raw::login(places().server.address())?)?;
    ensure!(direct.len() == 4, "{} results", direct.len());
    for (name, mut raw) in sessions()? {
        for _ in 0..20 {
            ensure!(read(&mut raw).context(name)? == direct, "{name}: the results differ");
        }
    }
    Ok(())
}

#[test]
fn commands_sent_before_the_answer_is_read() -> Result<()> {
    for (name, mut raw) in sessions()? {
        for number in 0..300 {
            let statement = if number % 10 == 3 {
                "SELECT nonsense".to_owned()
            } else {
                format!("SELECT {number}, '{}'", "y".repeat(number * 7))
            };
            raw.send(command::QUERY, statement.as_bytes())?;
            raw.send(command::PING, b"")?;
        }
        for number in 0..300_usize {
            raw.restart_sequence();
            let mut rows = Vec::new();
            let end = match raw.head().with_context(|| format!("{name}, {number}"))? {
                Head::End(end) => end,
                Head::Columns(_) => raw.rows(|row| rows.push(row.to_vec()))?,
            };
            ensure!(matches!(end, End::Err(_)) == (number % 10 == 3), "{name}, {number}: {end:?}");
            ensure!(rows.first().is_none_or(|row| row.len() > number * 7), "{name}, {number}: {rows:?}");
            raw.restart_sequence();
            raw.end().with_context(|| format!("{name}, ping {number}"))?.ok()?;
        }
    }
    Ok(())
}

#[test]
fn several_commands_in_one_compressed_packet() -> Result<()> {
    // Servers themselves cannot read this; the numbers of the responses just go on.
    let mut raw = Raw::login_packed(places().plain.address()?, Algorithm::Zlib)?;
    let select = b"\x0b\0\0\0\x03SELECT 'a'".to_vec();
    let close = b"\x05\0\0\0\x19\x09\0\0\0".to_vec();
    let ping = b"\x01\0\0\0\x0e".to_vec();
    raw.write_bytes(&[&select[..], &close, &ping, &select[..6]].concat())?;
    raw.set_sequence(1);
    raw.head()?;
    raw.rows(|_| {})?.ok()?;
    raw.set_sequence(2);
    raw.end()?.ok()?;
    // The rest of the last one, in the client's second packet.
    raw.restart_sequence();
    raw.write_bytes(&select[6..])?;
    raw.set_sequence(2);
    raw.head()?;
    raw.rows(|_| {})?.ok()
}

#[test]
fn responses_without_a_command_of_ones_own() -> Result<()> {
    for (name, mut raw) in sessions()? {
        // Answers of the proxy's own, the session's end, and a statement that is dropped without an answer.
        raw.send(0xf0, b"what?")?;
        ensure!(raw.end()?.err()?.code == 1047, "{name}: an unknown command");
        raw.send(command::STMT_CLOSE, &[1, 0, 0, 0])?;
        ensure!(raw.value("SELECT 'next'").context(name)? == "next", "{name}");
        raw.run(command::RESET_CONNECTION, b"").context(name)?.ok()?;
        ensure!(raw.value("SELECT @@net_write_timeout").context(name)? == "86400", "{name}: session-init");
        raw.send(command::QUIT, b"")?;
        raw.expect_closed(LIMIT).context(name)?;
    }
    Ok(())
}

#[test]
fn files_that_the_server_asks_for() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("rows.txt");
    let text: String = (0..200_000).map(|number| format!("{number}\ttext of {number}\n")).collect();
    std::fs::write(&path, text)?;
    // Read whole, refused by the server in the middle, and for a table that is not there.
    let load = format!("LOAD DATA LOCAL INFILE '{}' INTO TABLE", path.display());
    let script = |table: &str| {
        format!(
            "CREATE OR REPLACE TABLE test.{table} (id int, v varchar(100));
             {load} test.{table}; SELECT COUNT(*), SUM(LENGTH(v)), SUM(id) FROM test.{table};
             CREATE OR REPLACE TABLE test.{table} (id int CHECK (id < 1000), v varchar(100)); {load} test.{table};
             {load} test.nowhere; {load} test.{table} (nonsense); SELECT COUNT(*) FROM test.{table}"
        )
    };
    let run = |endpoint: &Endpoint, table: &str, more: &[&str]| {
        let mut mysql = client::dumper("mysql", endpoint);
        mysql.args(["--local-infile=1", "--force", "--verbose", "--execute", &script(table)]).args(more);
        let finished = process::run(&mut mysql, LIMIT)?;
        let said = [finished.text(), finished.stderr].map(|text| text.replace(table, "TABLE"));
        Ok::<_, anyhow::Error>((finished.status.code(), said))
    };
    let Places { server, plain, zlib } = places();
    let direct = run(&server.tcp(), "direct", &[])?;
    ensure!(direct.1[0].contains("200000"), "{direct:?}");
    let plain_client = run(zlib.endpoint(), "plain_client", &[])?;
    ensure!(plain_client == direct, "plain to zlib: {plain_client:?}\ndirectly: {direct:?}");
    for (spillway, table) in [(plain, "to_plain"), (zlib, "to_zlib")] {
        let through = run(spillway.endpoint(), table, &["--compress"])?;
        ensure!(through == direct, "{table}: {through:?}\ndirectly: {direct:?}");
    }
    Ok(())
}

#[test]
fn files_that_mysqls_server_asks_for_with_zstd() -> Result<()> {
    let server = mysql9::start(&[])?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("rows.txt");
    std::fs::write(&path, (0..100_000).map(|number| format!("{number}\n")).collect::<String>())?;
    for upstream in ["off", "zlib", "zstd"] {
        let option = format!("--upstream-compression={upstream}");
        let spillway = Spillway::to(&server.tcp()).options(&[&option]).start()?;
        let mut mysql = mysql9::dumper("mysql", spillway.endpoint());
        mysql.args(["--compression-algorithms=zstd", "--local-infile=1", "--batch", "--skip-column-names"]);
        mysql.arg("--execute").arg(format!(
            "CREATE TEMPORARY TABLE test.l (id int); LOAD DATA LOCAL INFILE '{}' INTO TABLE test.l;
             SELECT COUNT(*), SUM(id) FROM test.l",
            path.display()
        ));
        let text = process::run(&mut mysql, LIMIT)?.success().context(upstream)?.text();
        ensure!(text.trim() == "100000\t4999950000", "{upstream}: {text}");
    }
    Ok(())
}

fn options(address: SocketAddr) -> OptsBuilder {
    OptsBuilder::default()
        .ip_or_hostname(address.ip().to_string())
        .tcp_port(address.port())
        .user(Some(USER))
        .pass(Some(PASSWORD))
        .db_name(Some("test"))
        .prefer_socket(false)
        .max_allowed_packet(Some(1 << 30))
        .compression(Compression::default())
}

#[tokio::test]
async fn a_driver_that_checks_every_sequence_id() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("rows.txt");
    std::fs::write(&path, (0..200_000).map(|number| format!("{number}\n")).collect::<String>())?;
    for spillway in [&places().plain, &places().zlib] {
        let handler = WhiteListFsHandler::new([path.clone()]);
        let opts = options(spillway.address()?).local_infile_handler(Some(handler));
        let mut conn = Conn::new(opts).await?;
        // Statements whose length makes more compressed packets than packets, and rows likewise.
        for length in [10_usize, 16_777_190, 16_777_205, 20 << 20] {
            let found: Option<(String, u64)> = conn
                .query_first(format!("SELECT REPEAT('r', {length}), LENGTH('{}')", "x".repeat(length)))
                .await?;
            let right = found.is_some_and(|(text, count)| text.len() == length && count == length as u64);
            ensure!(right, "{length}");
        }
        // The boundary of a result may be that of a compressed packet, or not.
        for number in 0..100_usize {
            let mut result = conn
                .query_iter(format!("SELECT seq FROM seq_1_to_{}; DO 0; SELECT 'last'", 1 + number * 50))
                .await?;
            let mut counts = Vec::new();
            while !result.is_empty() {
                let rows: Vec<Row> = result.collect().await?;
                counts.push(rows.len());
            }
            drop(result);
            ensure!(counts == [1 + number * 50, 0, 1], "{counts:?}");
        }
        conn.query_drop("CREATE TEMPORARY TABLE l (id int)").await?;
        conn.query_drop(format!("LOAD DATA LOCAL INFILE '{}' INTO TABLE l", path.display())).await?;
        let count: Option<u64> = conn.query_first("SELECT COUNT(*) FROM l").await?;
        ensure!(count == Some(200_000), "{count:?}");
        let statement = conn.prep("SELECT ?, REPEAT('p', ?)").await?;
        let row: Option<(String, String)> =
            conn.exec_first(&statement, ("v".repeat(1 << 20), 1 << 20)).await?;
        ensure!(row.is_some_and(|row| row.0.len() == 1 << 20 && row.1.len() == 1 << 20), "prepared");
        let change = ChangeUserOpts::new().with_user(Some(USER.into())).with_pass(Some(PASSWORD.into()));
        conn.change_user(change).await?;
        ensure!(conn.reset().await?, "the driver did not send COM_RESET_CONNECTION");
        let timeout: Option<u64> = conn.query_first("SELECT @@net_write_timeout").await?;
        ensure!(timeout == Some(86_400), "{timeout:?}");
        conn.disconnect().await?;
    }
    Ok(())
}

#[test]
fn the_c_library_with_cursors_bulk_and_pipelining() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let program = cc::compile("cursor", dir.path())?;
    let run = |address: SocketAddr, more: &[&str]| {
        let mut client = Command::new(&program);
        client.args([address.ip().to_string(), address.port().to_string(), USER.into(), PASSWORD.into()]);
        Ok::<_, anyhow::Error>(process::run(client.args(more), LIMIT)?.success()?.text())
    };
    let direct = run(places().server.address(), &[])?;
    ensure!(direct.contains("at last: ping"), "{direct}");
    for (name, address, more) in [
        ("to plain", places().plain.address()?, &["compress"][..]),
        ("to zlib", places().zlib.address()?, &["compress"]),
        ("plain to zlib", places().zlib.address()?, &[]),
    ] {
        let through = run(address, more).context(name)?;
        ensure!(through == direct, "{name}:\n{through}directly:\n{direct}");
    }
    Ok(())
}

#[test]
fn a_change_of_user_with_and_without_another_scramble() -> Result<()> {
    let change = |name: &str, mut raw: Raw| -> Result<()> {
        raw.execute("SET @state = 'kept'").context(name.to_owned())?;
        for _ in 0..2 {
            raw.change_user(USER, PASSWORD, "mysql").with_context(|| name.to_owned())?.ok()?;
            let state = raw.query("SELECT @state, DATABASE()").with_context(|| name.to_owned())?;
            ensure!(state == [["NULL", "mysql"]], "{name}: {state:?}");
        }
        let error = raw.change_user(USER, "wrong", "mysql").with_context(|| name.to_owned())?.err()?;
        ensure!(error.code == 1045, "{name}: {error:?}");
        Ok(())
    };
    for (name, raw) in sessions()? {
        change(name, raw)?;
    }
    // With stored credentials the client is asked anew, by an AuthSwitchRequest.
    let stored = Stored::start(places().server.address(), &["--upstream-compression=zlib"])?;
    let address = stored.spillway.address()?;
    change("stored, plain", Raw::login(address)?)?;
    change("stored, zlib", Raw::login_packed(address, Algorithm::Zlib)?)?;
    change("stored, zstd", Raw::login_packed(address, Algorithm::Zstd)?)
}

#[test]
fn a_connection_that_takes_the_place_of_a_lost_one_is_compressed() -> Result<()> {
    let stored = Stored::start(places().server.address(), &["--upstream-compression=zlib"])?;
    let mut raw = Raw::login_packed(stored.spillway.address()?, Algorithm::Zlib)?;
    raw.execute("SET NAMES utf8mb4")?;
    stored.heal(&mut raw, Action::Cut)?;
    let compressed = raw.query("SHOW STATUS LIKE 'Compression'")?;
    ensure!(compressed == [["Compression", "ON"]], "{compressed:?}");
    Ok(())
}

const LIMIT: Duration = Duration::from_secs(60);
