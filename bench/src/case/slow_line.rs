//! Compression on the way to the server, over a line of 100 Mbit/s.

use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use spillway_tests::server::{PASSWORD, USER};
use spillway_tests::{Netns, Server, client, data, mysql9};

use crate::case::{Run, Subject};
use crate::data::{Cells, load_cells};
use crate::jobs;
use crate::stock::Stock;
use crate::way::{Route, Way};

pub(super) fn mariadb(stock: &mut Stock) -> Result<Box<dyn Subject>> {
    let ways = vec![
        Way::direct(),
        Way::direct().named(DIRECT_ZLIB),
        Way::spillway(),
        Way::spillway_with(SPILLWAY_ZLIB, &["--upstream-compression=zlib"]),
    ];
    stock.say("starting a MariaDB behind a line of 100 Mbit/s");
    let network = Netns::new()?;
    let server = Server::start_in(&network, &[])?;
    SlowLine::prepare(stock, Maker::MariaDb, network, server, ways)
}

pub(super) fn mysql(stock: &mut Stock) -> Result<Box<dyn Subject>> {
    let ways = vec![
        Way::direct(),
        Way::direct().named(DIRECT_ZLIB),
        Way::direct().named(DIRECT_ZSTD),
        Way::spillway(),
        Way::spillway_with(SPILLWAY_ZLIB, &["--upstream-compression=zlib"]),
        Way::spillway_with(SPILLWAY_ZSTD, &["--upstream-compression=zstd"]),
    ];
    stock.say("starting a MySQL 9 behind a line of 100 Mbit/s");
    let network = Netns::new()?;
    let server = mysql9::start_in(&network, &[])?;
    SlowLine::prepare(stock, Maker::MySql, network, server, ways)
}

/// Whose the server and `mysqldump` are.
#[derive(Clone, Copy, Debug)]
enum Maker {
    MariaDb,
    MySql,
}

/// `mysqldump`, which asks for compression itself or leaves it to Spillway; Spillway and clients are at this end of the
/// line.
struct SlowLine {
    server: Rc<Server>,
    network: Netns,
    maker: Maker,
    ways: Vec<Way>,
    /// Of the rows, as they are without compression.
    bytes: u64,
}

impl SlowLine {
    fn prepare(
        stock: &Stock,
        maker: Maker,
        network: Netns,
        server: Server,
        ways: Vec<Way>,
    ) -> Result<Box<dyn Subject>> {
        let bytes = stock.size().of(60_000_000, 7_000_000);
        load_cells(&server, DATABASE, bytes, Cells::Text)?;
        let rows = server.query(&format!("SELECT COUNT(*) FROM {DATABASE}.test"))?.concat().parse::<u64>()?;
        network.limit_speed(MEGABITS)?;
        let bytes = rows * data::report::ROW;
        Ok(Box::new(Self { server: Rc::new(server), network, maker, ways, bytes }))
    }

    fn dump(&self, route: &Route) -> Command {
        let (mut dump, zlib) = match self.maker {
            Maker::MariaDb => (client::dumper("mysqldump", &route.endpoint()), "--compress"),
            Maker::MySql => {
                let mut dump = mysql9::command("mysqldump", &route.endpoint());
                // It warns of a password on its command line, and of GTIDs in a dump.
                dump.arg(format!("--user={USER}")).env("MYSQL_PWD", PASSWORD).arg("--set-gtid-purged=OFF");
                (dump, "--compression-algorithms=zlib")
            }
        };
        match route.name() {
            DIRECT_ZLIB => dump.arg(zlib),
            DIRECT_ZSTD => dump.arg("--compression-algorithms=zstd"),
            _ => &mut dump,
        };
        dump.arg(DATABASE);
        dump
    }
}

impl Subject for SlowLine {
    fn title(&self) -> String {
        let maker = match self.maker {
            Maker::MariaDb => "MariaDB",
            Maker::MySql => "MySQL 9",
        };
        format!(
            "mysqldump of {} MB of text from {maker} over a line of {MEGABITS} Mbit/s > /dev/null",
            self.bytes / 1_000_000
        )
    }

    fn server(&self) -> Rc<Server> {
        Rc::clone(&self.server)
    }

    fn ways(&self) -> Vec<Way> {
        self.ways.clone()
    }

    fn run(&mut self, route: &mut Route) -> Result<Run> {
        let sent = self.network.sent()?;
        let took = jobs::time_all(vec![self.dump(route)], LIMIT)?;
        route.settle(1)?;
        let sent = self.network.sent()? - sent;
        let figures = vec![("MB on the line", sent as f64 / 1e6)];
        Ok(Run { bytes: Some(self.bytes), figures, ..Run::took(took) })
    }
}

const DIRECT_ZLIB: &str = "direct, zlib";
const DIRECT_ZSTD: &str = "direct, zstd";
const SPILLWAY_ZLIB: &str = "spillway, zlib";
const SPILLWAY_ZSTD: &str = "spillway, zstd";

const MEGABITS: u32 = 100;
const DATABASE: &str = "text";
const LIMIT: Duration = Duration::from_secs(300);
