//! What TLS costs: on the client's side, on the server's side, on both; beside a direct connection with TLS.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;
use spillway_tests::certificates::{Authority, Certificate, Leaf};
use spillway_tests::{Server, client, data};

use super::relay::Answer;
use crate::case::{Run, Subject};
use crate::client::Client;
use crate::jobs;
use crate::stock::Stock;
use crate::way::{Route, Way};

pub(super) fn relay(stock: &mut Stock) -> Result<Box<dyn Subject>> {
    Ok(Box::new(Relay { setting: Setting::new(stock)?, answer: Answer::default() }))
}

pub(super) fn dump(stock: &mut Stock) -> Result<Box<dyn Subject>> {
    Ok(Box::new(Dump { setting: Setting::new(stock)? }))
}

/// A server with TLS, and who knows its certificate.
struct Setting {
    server: Rc<Server>,
    bytes: u64,
    authority: Authority,
    /// The server's and Spillway's.
    certificate: Certificate,
}

impl Setting {
    fn new(stock: &Stock) -> Result<Self> {
        let bytes = stock.size().of(240_000_000, 60_000_000);
        let authority = Authority::new("The bench's authority")?;
        let certificate = authority.issue(&Leaf::server())?;
        stock.say("starting a MariaDB with TLS");
        let server = Server::start(&[&certificate.option("ssl-cert"), &certificate.option("ssl-key")])?;
        data::report::load(&server, DATABASE, bytes)?;
        Ok(Self { server: Rc::new(server), bytes, authority, certificate })
    }

    fn ways(&self) -> Vec<Way> {
        let (cert, key) = (self.certificate.option("tls-cert"), self.certificate.option("tls-key"));
        let authority = format!("--upstream-tls-ca={}", self.authority.file().display());
        let client = ["--tls=required", &cert, &key];
        let server = ["--upstream-tls=verify-identity", &authority];
        let no_server = ["--upstream-tls=off"];
        vec![
            Way::direct(),
            Way::direct().named(DIRECT_TLS),
            Way::spillway_with(NO_TLS, &no_server),
            Way::spillway_with(CLIENT_TLS, &[&client[..], &no_server].concat()),
            Way::spillway_with(SERVER_TLS, &server),
            Way::spillway_with(BOTH_TLS, &[&client[..], &server].concat()),
        ]
    }

    fn title(&self, what: &str) -> String {
        format!("{} MB of wide rows, {what}, with TLS on either side", self.bytes / 1_000_000)
    }
}

/// Whether the client has TLS by this way.
fn is_tls(route: &Route) -> bool {
    [DIRECT_TLS, CLIENT_TLS, BOTH_TLS].contains(&route.name())
}

struct Relay {
    setting: Setting,
    answer: Answer,
}

impl Relay {
    fn log_in(&self, route: &Route) -> Result<Client> {
        match is_tls(route) {
            false => Client::login(route.address()),
            true => Client::login_with_tls(route.address(), self.setting.authority.file()),
        }
    }
}

impl Subject for Relay {
    fn title(&self) -> String {
        self.setting.title("read and thrown away by a raw client")
    }

    fn server(&self) -> Rc<Server> {
        Rc::clone(&self.setting.server)
    }

    fn ways(&self) -> Vec<Way> {
        self.setting.ways()
    }

    fn warm_up(&mut self, route: &mut Route) -> Result<()> {
        let mut client = self.log_in(route)?;
        self.answer.check_of(&mut client, STATEMENT)?;
        drop(client);
        route.settle(1).map(drop)
    }

    fn run(&mut self, route: &mut Route) -> Result<Run> {
        let mut client = self.log_in(route)?;
        let start = Instant::now();
        client.send(STATEMENT)?;
        client.discard(self.answer.length())?;
        let took = start.elapsed();
        drop(client);
        route.settle(1)?;
        Ok(Run { bytes: Some(self.answer.length()), ..Run::took(took) })
    }
}

struct Dump {
    setting: Setting,
}

impl Subject for Dump {
    fn title(&self) -> String {
        self.setting.title("mysqldump > /dev/null")
    }

    fn server(&self) -> Rc<Server> {
        Rc::clone(&self.setting.server)
    }

    fn ways(&self) -> Vec<Way> {
        self.setting.ways()
    }

    fn run(&mut self, route: &mut Route) -> Result<Run> {
        let mut dump = client::dumper("mysqldump", &route.endpoint());
        if is_tls(route) {
            dump.arg(format!("--ssl-ca={}", self.setting.authority.file().display()));
            dump.args(["--ssl", "--ssl-verify-server-cert"]);
        }
        dump.arg(DATABASE);
        let took = jobs::time_all(vec![dump], LIMIT)?;
        route.settle(1)?;
        Ok(Run::took(took))
    }
}

const NO_TLS: &str = "spillway, no TLS";
const DIRECT_TLS: &str = "direct, TLS";
const CLIENT_TLS: &str = "spillway, client TLS";
const SERVER_TLS: &str = "spillway, server TLS";
const BOTH_TLS: &str = "spillway, both TLS";

const DATABASE: &str = "wide";
const STATEMENT: &str = "SELECT * FROM wide.test";
const LIMIT: Duration = Duration::from_secs(300);
