//! Makes the corpora of the fuzz targets anew (`make corpus`): starts a MariaDB and a MySQL 9, records what real clients
//! and they say to each other, and cuts it into inputs for each target that reads such bytes. What people write
//! (configuration files, option files, …) is in the corpora already, and stays.

mod tape;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mysql_async::prelude::Queryable as _;
use mysql_async::{ChangeUserOpts, Compression, Conn, OptsBuilder, Row};
use spillway_tests::server::{PASSWORD, USER};
use spillway_tests::{Server, client, mysql9, process};
use tape::{Recording, Tape};

const LIMIT: Duration = Duration::from_secs(60);

/// The longest input, but for the captures: enough for what a dump says before its rows.
const MOST_LEN: usize = 5 * 1024;

#[tokio::main]
async fn main() -> Result<()> {
    let corpora = Corpora(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus"));
    let dir = tempfile::tempdir()?;
    fs::write(dir.path().join("rows.tsv"), "7\tseven\n8\teight\n")?;
    captures(&corpora)?;

    let mariadb = Server::start_with_binlog(&[])?;
    mariadb.sql(SHOP)?;
    let with_programs = |name: &str, server: &Server, program: &str, options: &[&str], dumper: Dumper| {
        let tape = Tape::start(server.address())?;
        let mut command = dumper(program, &tape.endpoint());
        let finished = process::run(command.args(options).current_dir(dir.path()), LIMIT)?;
        // Some statements are to fail.
        if !options.contains(&"--force") {
            finished.success().context(name.to_owned())?;
        }
        corpora.add(name, &tape.finish()?)
    };
    let dump = ["--single-transaction", "--master-data=2", "shop"];
    with_programs("mariadb-dump", &mariadb, "mysqldump", &dump, client::dumper)?;
    with_programs("mariadb-dump-zlib", &mariadb, "mysqldump", &["--compress", "shop"], client::dumper)?;
    let statements = ["--local-infile=1", "--force", "--comments", "shop", "--execute", STATEMENTS];
    with_programs("mariadb-statements", &mariadb, "mysql", &statements, client::dumper)?;
    for (name, compression) in [("driver", None), ("driver-zlib", Some(Compression::fast()))] {
        let tape = Tape::start(mariadb.address())?;
        driver(&tape, compression).await.context(name)?;
        corpora.add(name, &tape.finish()?)?;
    }

    let mysql = mysql9::start(&[])?;
    mysql.sql(SHOP)?;
    let dump = ["--no-tablespaces", "shop"];
    with_programs("mysql-dump", &mysql, "mysqldump", &dump, mysql9::dumper)?;
    let zstd = ["--compression-algorithms=zstd", "--no-tablespaces", "shop"];
    with_programs("mysql-dump-zstd", &mysql, "mysqldump", &zstd, mysql9::dumper)?;
    with_programs("mysql-statements", &mysql, "mysql", &statements, mysql9::dumper)?;
    // Forgets the password, and so asks for it, encrypted with the server's key.
    mysql.sql("FLUSH PRIVILEGES")?;
    let full = ["--get-server-public-key", "--execute", "DO 0"];
    with_programs("mysql-full-login", &mysql, "mysql", &full, mysql9::dumper)
}

type Dumper = fn(&str, &spillway_tests::Endpoint) -> Command;

/// A driver: prepared statements, binary rows, errors, another user, a reset.
async fn driver(tape: &Tape, compression: Option<Compression>) -> Result<()> {
    let address = tape.address();
    let options = OptsBuilder::default()
        .ip_or_hostname(address.ip().to_string())
        .tcp_port(address.port())
        .user(Some(USER))
        .pass(Some(PASSWORD))
        .db_name(Some("shop"))
        .prefer_socket(false)
        .compression(compression);
    let mut conn = Conn::new(options).await?;
    let rows: Vec<Row> = conn.exec("SELECT * FROM orders WHERE id > ?", (0,)).await?;
    ensure!(rows.len() >= 3, "{} rows", rows.len());
    conn.exec_drop("REPLACE INTO orders VALUES (?, ?, ?)", (70, "größer", None::<f64>)).await?;
    ensure!(conn.exec_drop("SELECT nothing FROM orders WHERE id = ?", (1,)).await.is_err());
    let mut results = conn.query_iter("SELECT 1; SELECT id FROM orders; DO 0; SELECT 'a', NULL").await?;
    while !results.is_empty() {
        let _: Vec<Row> = results.collect().await?;
    }
    drop(results);
    conn.ping().await?;
    conn.change_user(ChangeUserOpts::default()).await?;
    conn.reset().await?;
    Ok(conn.disconnect().await?)
}

/// The responses of `protocol/src/response/captures.txt`: of all commands, under four sets of capabilities.
fn captures(corpora: &Corpora) -> Result<()> {
    let text = include_str!("../../../protocol/src/response/captures.txt");
    let lines: Vec<Vec<&str>> =
        text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(' ').collect()).collect();
    for run in lines.chunk_by(|a, b| a[0] == b[0]) {
        let capabilities = u64::from_str_radix(run[0][0].trim_start_matches("0x"), 16)?;
        let commands: Vec<u8> = run.iter().map(|line| command_of(line[1])).collect::<Result<_>>()?;
        let stream: Vec<u8> = run.iter().map(|line| from_hex(line[3])).collect::<Result<Vec<_>>>()?.concat();
        corpora.write(
            "responses",
            &format!("captures-{capabilities:x}"),
            &responses(capabilities, &commands, 0, &stream),
        )?;
    }
    Ok(())
}

fn command_of(form: &str) -> Result<u8> {
    Ok(match form {
        "Query" => 0x03,
        "Status" => 0x0e,
        "Text" => 0x09,
        "FieldList" => 0x04,
        "Prepare" => 0x16,
        "Execute" => 0x17,
        "Fetch" => 0x1c,
        "Binlog" => 0x12,
        _ => anyhow::bail!("no form: {form}"),
    })
}

fn from_hex(hex: &str) -> Result<Vec<u8>> {
    (0..hex.len()).step_by(2).map(|at| Ok(u8::from_str_radix(&hex[at..at + 2], 16)?)).collect()
}

/// An input of the target `responses`.
fn responses(capabilities: u64, commands: &[u8], jumping: u8, stream: &[u8]) -> Vec<u8> {
    let commands = &commands[..commands.len().min(255)];
    [&capabilities.to_le_bytes()[..], &[9, jumping, commands.len() as u8], commands, stream].concat()
}

/// The directory of all corpora.
struct Corpora(PathBuf);

impl Corpora {
    /// Cuts what a client and a server have said.
    fn add(&self, name: &str, recordings: &[Recording]) -> Result<()> {
        for (number, recording) in recordings.iter().enumerate() {
            let name = if number == 0 { name.to_owned() } else { format!("{name}-{number}") };
            self.add_one(&name, recording)?;
        }
        Ok(())
    }

    fn add_one(&self, name: &str, recording: &Recording) -> Result<()> {
        let session = recording.session()?;
        let any = 0x1_ffff_ffff_u64.to_le_bytes();
        for (kind, packets) in [(3, &session.server_login), (1, &session.client_login)] {
            for (number, packet) in packets.iter().enumerate() {
                // A greeting, a response to it, and what follows from either side.
                let kind = if kind == 3 && number == 0 {
                    0
                } else if number == 0 {
                    kind
                } else {
                    3
                };
                let input = [&[kind][..], &any, &packet[4..]].concat();
                self.write("handshake", &format!("{name}-{kind}{number}"), &input)?;
            }
        }
        let login = [session.server_login.concat(), session.client_login.concat()];
        self.write("packet_stream", &format!("{name}-server"), &[&[0, 7][..], &login[0]].concat())?;
        let wire = [&recording.from_server[login[0].len()..], &recording.from_client[login[1].len()..]];
        if let Some(algorithm) = session.compression {
            for (side, wire) in ["server", "client"].iter().zip(wire) {
                self.write("compression", &format!("{name}-{side}"), &[&[algorithm, 7, 99], wire].concat())?;
                self.write(
                    "packet_stream",
                    &format!("{name}-{side}"),
                    &[&[algorithm + 1, 7], wire].concat(),
                )?;
            }
            return Ok(());
        }
        self.write("requests", name, &[&[7, 200][..], wire[1]].concat())?;
        self.write("console", name, &[&[7][..], &login[1], wire[1]].concat())?;
        let capabilities = session.capabilities;
        self.write("responses", name, &responses(capabilities, &session.commands, 0, wire[0]))?;
        // Dumps ask the same again and again.
        let texts = session.queries.iter().filter(|_| name.starts_with("mariadb"));
        for text in texts {
            let letters = text.iter().filter(|byte| byte.is_ascii_alphanumeric()).take(12);
            let word: String = letters.map(|&byte| char::from(byte.to_ascii_lowercase())).collect();
            self.write("statements", &word, text)?;
        }
        for (number, response) in session.table_responses(wire[0]).into_iter().enumerate() {
            let form =
                u8::try_from(number % 5)? + if capabilities & tape::DEPRECATE_EOF != 0 { 8 } else { 0 };
            self.write("rows", &format!("{name}-{number}"), &[&[form, 7], response].concat())?;
        }
        Ok(())
    }

    fn write(&self, target: &str, name: &str, input: &[u8]) -> Result<()> {
        let dir = self.0.join(target);
        fs::create_dir_all(&dir)?;
        Ok(fs::write(dir.join(name), &input[..input.len().min(MOST_LEN)])?)
    }
}

const SHOP: &str = "CREATE DATABASE shop; USE shop;
    CREATE TABLE orders (id int PRIMARY KEY, name varchar(400), price double) ENGINE=InnoDB;
    INSERT INTO orders VALUES (1, 'one', 1.5), (2, 'it''s', NULL), (3, REPEAT('x', 300), -1e9);
    CREATE TABLE words (word varchar(20)) ENGINE=MyISAM;
    INSERT INTO words VALUES ('a'), ('b');
    CREATE VIEW cheap AS SELECT id FROM orders WHERE price < 1";

const STATEMENTS: &str = "/*!40103 SET TIME_ZONE='+00:00' */; SELECT @@version_comment LIMIT 1; SHOW FULL TABLES; \
    LOAD DATA LOCAL INFILE 'rows.tsv' INTO TABLE words (word, @rest); SELECT * FROM nowhere; \
    SHOW TABLE STATUS; SHOW CREATE TABLE orders; KILL 4000000000; \
    SELECT TABLE_SCHEMA, TABLE_NAME, ENGINE, TABLE_TYPE FROM information_schema.TABLES WHERE TABLE_SCHEMA='shop'; \
    USE shop; START TRANSACTION WITH CONSISTENT SNAPSHOT; SELECT /*!40001 SQL_NO_CACHE */ * FROM `shop`.`orders`";
