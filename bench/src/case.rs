//! What is measured. Each case has a file of its own.
//!
//! To add one: write `case/NAME.rs` with a type that is a [`Subject`] and a function that makes it from a [`Stock`]
//! (which has the servers and the data), and name it in [`ALL`]. Rounds, CPU time, memory and the report are none of
//! its business: [`measure`](crate::measure) opens each of its ways, warms each up, and then runs them by turns. What
//! a figure has to reach is said in [`target`](crate::target).

mod backlog;
mod connect;
mod done;
mod drain;
mod dump;
mod gzip;
pub mod looked_at;
mod parallel;
mod relay;
mod slow_line;
mod slow_sink;
mod spool_compress;
mod tables;
mod tls;

use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use spillway_tests::Server;

use crate::plot::TimePlot;
use crate::query_times::{QueryTimes, Statement};
use crate::stock::Stock;
use crate::way::{Route, Way};

/// A case that has not been prepared yet.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name on the command line and in the report.
    pub name: &'static str,
    /// Loads its data.
    pub prepare: fn(&mut Stock) -> Result<Box<dyn Subject>>,
}

/// All of them, in the order in which they run.
pub const ALL: [Case; 20] = [
    Case { name: "drain-wide", prepare: drain::wide },
    Case { name: "drain-narrow", prepare: drain::narrow },
    Case { name: "relay-wide", prepare: relay::wide },
    Case { name: "relay-narrow", prepare: relay::narrow },
    Case { name: "dump-wide", prepare: dump::wide },
    Case { name: "dump-narrow", prepare: dump::narrow },
    Case { name: "dump-gzip", prepare: gzip::prepare },
    Case { name: "slow-sink", prepare: slow_sink::prepare },
    Case { name: "dump-tables", prepare: tables::prepare },
    Case { name: "parallel", prepare: parallel::prepare },
    Case { name: "looked-at", prepare: looked_at::prepare },
    Case { name: "connect", prepare: connect::alone },
    Case { name: "connect-8", prepare: connect::eight },
    Case { name: "backlog", prepare: backlog::prepare },
    Case { name: "tls-relay", prepare: tls::relay },
    Case { name: "tls-dump", prepare: tls::dump },
    Case { name: "slow-line-mariadb", prepare: slow_line::mariadb },
    Case { name: "slow-line-mysql", prepare: slow_line::mysql },
    Case { name: "spool-compress-text", prepare: spool_compress::text },
    Case { name: "spool-compress-random", prepare: spool_compress::random },
];

/// One thing that is done by every way.
pub trait Subject {
    /// What it is, in a line for people, with the amount of data.
    fn title(&self) -> String;

    /// The server that the ways lead to.
    fn server(&self) -> Rc<Server>;

    /// By which ways; the first is what the others are compared with.
    fn ways(&self) -> Vec<Way> {
        Way::all()
    }

    /// How often, where so many rounds are asked for.
    fn rounds(&self, wanted: u32) -> u32 {
        wanted
    }

    /// Once, unmeasured, before the rounds: fills caches, and looks at what is not looked at later.
    fn warm_up(&mut self, route: &mut Route) -> Result<()> {
        self.run(route).map(drop)
    }

    /// Once, measured. All that it starts has ended when it returns ([`Route::settle`]).
    fn run(&mut self, route: &mut Route) -> Result<Run>;

    /// What it was like over time, each with a name of small letters for its files.
    fn plots(&self) -> Vec<(&'static str, TimePlot)> {
        Vec::new()
    }
}

/// What a run gave.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// How long it took.
    pub wall: Duration,
    /// How long the server was busy with the queries.
    pub server: Option<Duration>,
    /// How long the client was busy, where it ends before the run does.
    pub client: Option<Duration>,
    /// What came off the server, where that is not what the server itself says it has sent.
    pub bytes: Option<u64>,
    /// More figures, by name and unit (`connects/s`).
    pub figures: Vec<(&'static str, f64)>,
}

impl Run {
    /// A run of which only this is known.
    pub fn took(wall: Duration) -> Self {
        Self { wall, ..Self::default() }
    }
}

/// The statements of the last run that read a table's rows.
fn data_queries(times: &QueryTimes) -> Result<Vec<Statement>> {
    let mut statements = times.take(DATA_QUERY)?;
    statements.retain(|statement| statement.text.starts_with(DATA_QUERY));
    Ok(statements)
}

/// For how long the server was busy with them.
fn total(statements: &[Statement]) -> Duration {
    statements.iter().map(|statement| statement.took).sum()
}

/// How the statement begins with which `mysqldump` reads a table.
const DATA_QUERY: &str = "SELECT /*!40001 SQL_NO_CACHE */";
