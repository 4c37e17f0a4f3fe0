//! `mysqldump` among a hundred sessions that are looked at: by the web page, by metrics and by the console.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use spillway_tests::wire::NATIVE;
use spillway_tests::{Raw, Server, client, http};

use crate::case::{Run, Subject};
use crate::client::Client;
use crate::jobs;
use crate::stock::Stock;
use crate::way::{Route, Way};

pub(super) fn prepare(stock: &mut Stock) -> Result<Box<dyn Subject>> {
    let bytes = stock.size().of(900_000_000, 120_000_000);
    let database = stock.wide(bytes)?;
    Ok(Box::new(LookedAt { server: stock.server()?, database }))
}

struct LookedAt {
    server: Rc<Server>,
    database: String,
}

impl Subject for LookedAt {
    fn title(&self) -> String {
        format!(
            "mysqldump of wide rows > /dev/null beside {SESSIONS} idle sessions; looked at: web page, metrics and console, \
             each {} times a second",
            Duration::from_secs(1).as_millis() / PAUSE.as_millis()
        )
    }

    fn server(&self) -> Rc<Server> {
        Rc::clone(&self.server)
    }

    fn ways(&self) -> Vec<Way> {
        vec![Way::direct(), Way::spillway_with(UNSEEN, &DOORS), Way::spillway_with(SEEN, &DOORS)]
    }

    fn run(&mut self, route: &mut Route) -> Result<Run> {
        let idle: Vec<_> = (0..SESSIONS).map(|_| Client::login(route.address())).collect::<Result<_>>()?;
        let mut dump = client::dumper("mysqldump", &route.endpoint());
        dump.arg(&self.database);
        let dump = || jobs::time_all(vec![dump], LIMIT);
        let run = match route.name() {
            SEEN => Onlookers::at(route)?.during(dump)?,
            _ => Run::took(dump()?),
        };
        drop(idle);
        route.settle(SESSIONS + 1)?;
        Ok(run)
    }
}

/// Where to look.
struct Onlookers {
    page: SocketAddr,
    console: SocketAddr,
}

impl Onlookers {
    fn at(route: &Route) -> Result<Self> {
        let proxy = route.spillway().context("not by Spillway")?;
        let (page, console) = (proxy.told("web page on http://")?, proxy.told("console on ")?);
        Ok(Self { page: page.trim_end_matches('/').parse()?, console: console.parse()? })
    }

    /// Looks as long as `dump` takes.
    fn during(&self, dump: impl FnOnce() -> Result<Duration>) -> Result<Run> {
        let (is_over, looks) = (AtomicBool::new(false), AtomicU64::new(0));
        let again = || {
            looks.fetch_add(1, Ordering::Relaxed);
            thread::sleep(PAUSE);
            !is_over.load(Ordering::Relaxed)
        };
        let took = thread::scope(|scope| {
            let pages = ["/api/sessions", "/metrics"].map(|path| {
                scope.spawn(move || -> Result<()> {
                    while again() {
                        http::get(self.page, path)?;
                    }
                    Ok(())
                })
            });
            let console = scope.spawn(|| -> Result<()> {
                let mut admin = Raw::connect(self.console)?;
                admin.log_in(NATIVE, "admin", "", None)?.ok()?;
                while again() {
                    admin.query("SHOW SESSIONS")?;
                }
                Ok(())
            });
            let took = dump();
            is_over.store(true, Ordering::Relaxed);
            for onlooker in pages.into_iter().chain([console]) {
                onlooker.join().map_err(|_| anyhow::anyhow!("an onlooker panicked"))??;
            }
            took
        })?;
        let per_second = looks.into_inner() as f64 / took.as_secs_f64();
        Ok(Run { figures: vec![("looks/s", per_second)], ..Run::took(took) })
    }
}

/// The way on which nobody looks.
pub const UNSEEN: &str = "spillway, unseen";
/// The way that is looked at.
pub const SEEN: &str = "spillway, looked at";

const DOORS: [&str; 6] = ["--metrics", "127.0.0.1:0", "--web", "127.0.0.1:0", "--console", "127.0.0.1:0"];
const SESSIONS: usize = 100;
/// Ten times as often as the page itself asks.
const PAUSE: Duration = Duration::from_millis(100);
const LIMIT: Duration = Duration::from_secs(300);
