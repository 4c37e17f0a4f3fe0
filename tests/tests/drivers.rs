//! What real drivers do besides plain queries: prepared statements, cursors, LOAD DATA LOCAL INFILE, several statements
//! in one, a change of user, a reset, KILL; each gives what it gives directly.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mysql_async::prelude::Queryable as _;
use mysql_async::{ChangeUserOpts, Conn, OptsBuilder, Row, WhiteListFsHandler};
use spillway_tests::process;
use spillway_tests::server::{PASSWORD, USER};
use spillway_tests::{Server, Spillway, cc, client};

/// A server and a proxy before it, for all of these tests.
fn places() -> &'static (Server, Spillway) {
    static PLACES: LazyLock<(Server, Spillway)> =
        LazyLock::new(|| start().unwrap_or_else(|error| panic!("{error:#}")));
    &PLACES
}

fn start() -> Result<(Server, Spillway)> {
    let server = Server::start(&[])?;
    let spillway = Spillway::to(&server.tcp()).start()?;
    Ok((server, spillway))
}

fn direct_and_through() -> Result<[SocketAddr; 2]> {
    let (server, spillway) = places();
    Ok([server.address(), spillway.address()?])
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
}

#[tokio::test]
async fn prepared_statements() -> Result<()> {
    let (_, spillway) = places();
    let mut conn = Conn::new(options(spillway.address()?)).await?;
    conn.query_drop("CREATE TEMPORARY TABLE p (id int PRIMARY KEY, v varchar(100), b longblob)").await?;
    let insert = conn.prep("INSERT INTO p VALUES (?, ?, ?)").await?;
    for id in 0..100_u32 {
        let value = (id % 3 != 0).then(|| "v".repeat(id as usize));
        conn.exec_drop(&insert, (id, value, vec![id as u8; 2000])).await?;
    }
    // Longer than one packet.
    conn.exec_drop(&insert, (1000, "long", vec![7_u8; 20 << 20])).await?;
    let rows: Vec<(u32, Option<String>, Vec<u8>)> = conn.exec("SELECT * FROM p WHERE id >= ?", (98,)).await?;
    ensure!(rows.len() == 3, "{} rows", rows.len());
    ensure!(rows[0].1.as_deref() == Some(&"v".repeat(98)) && rows[0].2 == vec![98; 2000], "row 98");
    ensure!(rows[1].1.is_none() && rows[2].2.len() == 20 << 20, "rows 99 and 1000");
    conn.close(insert).await?;
    let error = conn.exec_drop("SELECT * FROM p WHERE nonsense = ?", (1,)).await.expect_err("no such column");
    ensure!(error.to_string().contains("1054"), "{error}");
    conn.disconnect().await?;
    Ok(())
}

#[tokio::test]
async fn load_data_local_infile() -> Result<()> {
    let (_, spillway) = places();
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("rows.txt");
    let mut text = String::new();
    for number in 0..200_000 {
        text.push_str(&format!("{number}\ttext of {number}\n"));
    }
    std::fs::write(&path, &text)?;
    let handler = WhiteListFsHandler::new([path.clone()]);
    let mut conn = Conn::new(options(spillway.address()?).local_infile_handler(Some(handler))).await?;
    conn.query_drop("CREATE TEMPORARY TABLE l (id int PRIMARY KEY, v varchar(100))").await?;
    let load = format!("LOAD DATA LOCAL INFILE '{}' INTO TABLE l", path.display());
    conn.query_drop(&load).await?;
    let sums: Option<(u64, u64)> = conn.query_first("SELECT COUNT(*), SUM(LENGTH(v)) FROM l").await?;
    let expected = text.lines().map(|line| line.split('\t').nth(1).unwrap_or_default().len() as u64).sum();
    ensure!(sums == Some((200_000, expected)), "{sums:?}");
    // A file that is not allowed: the driver ends the transfer with an error of its own.
    let refused = conn.query_drop("LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE l").await;
    ensure!(refused.is_err(), "the driver allows only its own file");
    Ok(())
}

#[test]
fn load_data_local_infile_that_the_server_refuses() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("rows.txt");
    std::fs::write(&path, "1\n".repeat(1_000_000))?;
    let mut said = Vec::new();
    let (server, spillway) = places();
    for endpoint in [server.tcp(), spillway.endpoint().clone()] {
        let mut mysql = client::dumper("mysql", &endpoint);
        let load = format!("LOAD DATA LOCAL INFILE '{}' INTO TABLE test.l", path.display());
        mysql.args(["--local-infile=1", "--force", "--verbose", "-e"]).arg(format!(
            "CREATE OR REPLACE TABLE test.l (id int CHECK (id < 1)); {load}; {load} (nonsense); SELECT COUNT(*) FROM test.l"
        ));
        let finished = process::run(&mut mysql, LIMIT)?;
        said.push((finished.code(), finished.text(), finished.stderr));
    }
    ensure!(said[0] == said[1], "directly {:?}, through {:?}", said[0], said[1]);
    ensure!(said[0].2.contains("1054"), "{}", said[0].2);
    Ok(())
}

#[tokio::test]
async fn several_statements_in_one() -> Result<()> {
    let (_, spillway) = places();
    let mut conn = Conn::new(options(spillway.address()?)).await?;
    let mut result = conn
        .query_iter("CREATE TEMPORARY TABLE m (id int); INSERT INTO m VALUES (1), (2); SELECT * FROM m; SELECT 'last'")
        .await?;
    let mut counts = Vec::new();
    while !result.is_empty() {
        let rows: Vec<Row> = result.collect().await?;
        counts.push(rows.len());
    }
    drop(result);
    ensure!(counts == [0, 0, 2, 1], "{counts:?}");
    // The second of three fails: the first has its result, the third does not run.
    let mut result = conn.query_iter("SELECT 1; SELECT nonsense; SELECT 3").await?;
    let first: Vec<u32> = result.collect().await?;
    ensure!(first == [1], "{first:?}");
    let second: mysql_async::Result<Vec<Row>> = result.collect().await;
    drop(result);
    let next: mysql_async::Result<Option<u32>> = conn.query_first("SELECT 4").await;
    ensure!(second.is_err() || next.is_err(), "no error from the second statement");
    conn.disconnect().await?;
    Ok(())
}

#[tokio::test]
async fn a_change_of_user_and_a_reset() -> Result<()> {
    let (server, spillway) = places();
    server.sql(
        "CREATE OR REPLACE USER other@'%' IDENTIFIED BY 'its own'; CREATE DATABASE IF NOT EXISTS others;
         GRANT ALL ON others.* TO other@'%'",
    )?;
    let mut conn = Conn::new(options(spillway.address()?)).await?;
    conn.query_drop("SET @state = 'kept'").await?;
    let change = ChangeUserOpts::new()
        .with_user(Some("other".into()))
        .with_pass(Some("its own".into()))
        .with_db_name(Some("others".into()));
    conn.change_user(change).await?;
    let who: Option<(String, String, Option<String>, u64)> =
        conn.query_first("SELECT CURRENT_USER(), DATABASE(), @state, @@net_write_timeout").await?;
    ensure!(who == Some(("other@%".into(), "others".into(), None, 86_400)), "{who:?}");
    conn.query_drop("SET @state = 'kept'").await?;
    ensure!(conn.reset().await?, "the driver did not send COM_RESET_CONNECTION");
    let state: Option<(Option<String>, u64)> = conn.query_first("SELECT @state, @@net_write_timeout").await?;
    ensure!(state == Some((None, 86_400)), "{state:?}");
    let wrong = ChangeUserOpts::new().with_user(Some("other".into())).with_pass(Some("wrong".into()));
    let error = conn.change_user(wrong).await.expect_err("a wrong password");
    ensure!(error.to_string().contains("1045"), "{error}");
    Ok(())
}

#[tokio::test]
async fn kill_by_the_id_that_the_client_was_told() -> Result<()> {
    let (_, spillway) = places();
    let mut conn = Conn::new(options(spillway.address()?)).await?;
    let mut victim = Conn::new(options(spillway.address()?)).await?;
    let told = victim.id();
    let own: Option<u32> = victim.query_first("SELECT CONNECTION_ID()").await?;
    ensure!(own == Some(told), "told {told}, own {own:?}");
    conn.query_drop(format!("KILL QUERY {told}")).await?;
    let alive: Option<u32> = victim.query_first("SELECT 1").await.or_else(|error| {
        // The query that was killed may be this one.
        if error.to_string().contains("1317") { Ok(Some(1)) } else { Err(error) }
    })?;
    ensure!(alive == Some(1), "the session after KILL QUERY");
    conn.query_drop(format!("KILL {told}")).await?;
    let error = loop {
        if let Err(error) = victim.query_first::<u32, _>("SELECT 1").await {
            break error;
        }
    };
    drop(error);
    let error = conn.query_drop("KILL 4000000000").await.expect_err("no such thread");
    ensure!(error.to_string().contains("1094"), "{error}");
    conn.disconnect().await?;
    Ok(())
}

#[test]
fn the_c_library_with_cursors_bulk_and_pipelining() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let program = cc::compile("cursor", dir.path())?;
    let mut outputs = Vec::new();
    for address in direct_and_through()? {
        let mut client = Command::new(&program);
        client.args([address.ip().to_string(), address.port().to_string(), USER.into(), PASSWORD.into()]);
        outputs
            .push(process::run(&mut client, LIMIT)?.success().with_context(|| address.to_string())?.text());
    }
    ensure!(outputs[0].contains("at last: ping"), "{}", outputs[0]);
    ensure!(outputs[0] == outputs[1], "directly:\n{}through:\n{}", outputs[0], outputs[1]);
    Ok(())
}

const LIMIT: Duration = Duration::from_secs(60);
