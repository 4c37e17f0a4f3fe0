//! MariaDB 11, its server and its clients.

use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Result, ensure};
use spillway_tests::{Endpoint, Finished, Server, Spillway, client, data, mariadb11, process};

/// A server with the zoo, and a proxy before it.
struct Zoo {
    server: Server,
    spillway: Spillway,
}

fn zoo() -> &'static Zoo {
    static ZOO: LazyLock<Zoo> =
        LazyLock::new(|| Zoo::start().unwrap_or_else(|error| panic!("MariaDB 11: {error:#}")));
    &ZOO
}

impl Zoo {
    fn start() -> Result<Self> {
        let server = mariadb11::start(&[])?;
        data::zoo::load(&server)?;
        let spillway = Spillway::to(&server.tcp()).start()?;
        Ok(Self { server, spillway })
    }
}

macro_rules! dumps {
    ($($name:ident: $options:expr;)*) => {
        $(
            #[test]
            fn $name() -> Result<()> {
                compare(&$options)
            }
        )*
    };
}

dumps! {
    single_transaction: ["--single-transaction", "--routines", "--triggers", "--events", "zoo"];
    all_databases: ["--all-databases", "--routines", "--events"];
    lock_all_tables: ["--lock-all-tables", "--hex-blob", "zoo"];
    accounts_and_the_like: ["--system=all"];
    a_missing_table: ["zoo", "t001", "no_such_table"];
}

/// Whatever the client does (even fail), it does the same through the proxy.
fn compare(options: &[&str]) -> Result<()> {
    let Zoo { server, spillway } = zoo();
    let direct = dump(&server.tcp(), options)?;
    let through = dump(spillway.endpoint(), options)?;
    ensure!(direct.code() == through.code(), "{}: {}", through.code(), through.stderr);
    ensure!(direct.stderr == through.stderr, "{}\nand directly: {}", through.stderr, direct.stderr);
    let difference =
        client::difference(&client::normalised(&direct.stdout), &client::normalised(&through.stdout));
    ensure!(difference.is_none(), "{}", difference.unwrap_or_default());
    Ok(())
}

fn dump(endpoint: &Endpoint, options: &[&str]) -> Result<Finished> {
    let mut command = mariadb11::dumper("mariadb-dump", endpoint);
    command.arg("--max-allowed-packet=1G").args(options);
    process::run(&mut command, Duration::from_secs(60))
}
