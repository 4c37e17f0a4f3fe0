//! Dumps through Spillway are, byte for byte, the direct ones.

use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Result, ensure};
use spillway_tests::process::{self, Finished};
use spillway_tests::{Endpoint, Server, Spillway, client, data};

/// A server with the zoo, and a proxy before it, for all of these tests.
struct Zoo {
    server: Server,
    spillway: Spillway,
}

fn zoo() -> &'static Zoo {
    static ZOO: LazyLock<Zoo> =
        LazyLock::new(|| Zoo::start().unwrap_or_else(|error| panic!("the zoo: {error:#}")));
    &ZOO
}

impl Zoo {
    fn start() -> Result<Self> {
        let server = Server::start_with_binlog(&[])?;
        data::zoo::load(&server)?;
        let spillway = Spillway::to(&server.tcp()).start()?;
        Ok(Self { server, spillway })
    }
}

macro_rules! dumps {
    ($($name:ident: $program:literal $options:expr;)*) => {
        $(
            #[test]
            fn $name() -> Result<()> {
                compare($program, &$options)
            }
        )*
    };
}

dumps! {
    single_transaction_with_everything: "mysqldump"
        ["--single-transaction", "--master-data=2", "--routines", "--triggers", "--events", "zoo"];
    lock_all_tables: "mysqldump" ["--lock-all-tables", "zoo"];
    the_default: "mysqldump" ["zoo"];
    mariadb_dump: "mariadb-dump" ["--single-transaction", "zoo"];
    all_databases: "mysqldump" ["--all-databases", "--routines", "--events"];
    odd_names: "mysqldump" ["--databases", data::zoo::ODD_NAME];
    skip_quick: "mysqldump" ["--skip-quick", "zoo"];
    skip_opt: "mysqldump" ["--skip-opt", "zoo", "numbers", "strings", "blobs", "t001"];
    hex_blob: "mysqldump" ["--hex-blob", "zoo"];
    xml: "mysqldump" ["--xml", "zoo"];
    latin1: "mysqldump" ["--default-character-set=latin1", "zoo"];
    binary: "mysqldump" ["--default-character-set=binary", "zoo"];
    tables_after_a_double_dash: "mysqldump" ["--", "zoo", "t001", "v_simple", "strings"];
    force_over_a_missing_table: "mysqldump" ["--force", "zoo", "t001", "no_such_table", "t002"];
    a_missing_table: "mysqldump" ["zoo", "t001", "no_such_table", "t002"];
    a_missing_database: "mysqldump" ["nowhere"];
    no_data: "mysqldump" ["--no-data", "--routines", "--all-databases"];
    where_clause: "mysqldump" ["--where=id < 100", "--order-by-primary", "zoo", "narrow", "numbers"];
    compression_is_asked_for: "mysqldump" ["--compress", "zoo", "strings", "narrow"];
    complete_insert: "mysqldump" ["--complete-insert", "--skip-extended-insert", "--tz-utc=0", "zoo", "times", "blobs"];
}

/// Whatever a client does (even fail), it does the same through the proxy.
fn compare(program: &str, options: &[&str]) -> Result<()> {
    let zoo = zoo();
    let direct = dump(program, &zoo.server.tcp(), options)?;
    let through = dump(program, zoo.spillway.endpoint(), options)?;
    let ports = [zoo.server.port(), zoo.spillway.address()?.port()];
    let [direct_said, through_said] = [(&direct, ports[0]), (&through, ports[1])]
        .map(|(run, port)| run.stderr.replace(&port.to_string(), "PORT"));
    ensure!(direct.code() == through.code(), "{}: {}", through.code(), through.stderr);
    ensure!(direct_said == through_said, "{through_said}\nand directly: {direct_said}");
    let difference =
        client::difference(&client::normalised(&direct.stdout), &client::normalised(&through.stdout));
    ensure!(difference.is_none(), "{}", difference.unwrap_or_default());
    Ok(())
}

fn dump(program: &str, endpoint: &Endpoint, options: &[&str]) -> Result<Finished> {
    let mut command = client::dumper(program, endpoint);
    command.arg("--max-allowed-packet=1G").args(options);
    process::run(&mut command, Duration::from_secs(60))
}
