//! The rounds in which a case is measured: A B C A B C …, so that what else the machine does falls on all ways alike.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;
use spillway_tests::Server;

use crate::case::{Case, Run, Subject};
use crate::plot::TimePlot;
use crate::stats::Sample;
use crate::stock::Stock;
use crate::way::Route;

/// What a case gave.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// The case, as on the command line.
    pub name: &'static str,
    /// What it is.
    pub title: String,
    /// The ways; the first is what the others are compared with.
    pub ways: Vec<Figures>,
    /// What it was like over time, each with a name for its files.
    #[serde(skip)]
    pub plots: Vec<(&'static str, TimePlot)>,
}

/// What one way gave: a value for each round, where there is one.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// The way's name.
    pub way: &'static str,
    /// Seconds from start to end.
    pub wall: Sample,
    /// Seconds in which the server was busy with the queries.
    pub server: Sample,
    /// Seconds in which the client was busy.
    pub client: Sample,
    /// Bytes that came off the server.
    pub bytes: Sample,
    /// CPU seconds of the proxy.
    pub cpu: Sample,
    /// The most memory that the proxy ever had resident, in bytes.
    pub peak_memory: Option<u64>,
    /// What else the case measures.
    pub more: BTreeMap<&'static str, Sample>,
}

impl Measured {
    /// The figures of a way.
    pub fn way(&self, name: &str) -> Option<&Figures> {
        self.ways.iter().find(|figures| figures.way == name)
    }
}

impl Figures {
    fn new(way: &'static str) -> Self {
        Self {
            way,
            wall: Sample::default(),
            server: Sample::default(),
            client: Sample::default(),
            bytes: Sample::default(),
            cpu: Sample::default(),
            peak_memory: None,
            more: BTreeMap::new(),
        }
    }

    /// CPU seconds of the proxy for 10^9 bytes, of all rounds together. Nothing without a proxy, or where there is too
    /// little data to say.
    pub fn cpu_per_gb(&self) -> Option<f64> {
        let bytes = self.bytes.sum();
        (!self.cpu.is_empty() && bytes >= LEAST_BYTES).then(|| self.cpu.sum() / (bytes / 1e9))
    }

    fn push(&mut self, run: Run, cpu: Option<Duration>, sent: u64) {
        self.wall.push_duration(run.wall);
        self.server.extend(run.server.map(|server| server.as_secs_f64()));
        self.client.extend(run.client.map(|client| client.as_secs_f64()));
        self.bytes.push(run.bytes.unwrap_or(sent) as f64);
        self.cpu.extend(cpu.map(|cpu| cpu.as_secs_f64()));
        for (name, value) in run.figures {
            self.more.entry(name).or_default().push(value);
        }
    }
}

/// Prepares a case and measures it, `rounds` times each way after a warm-up that does not count.
pub fn measure(case: &Case, stock: &mut Stock, rounds: u32) -> Result<Measured> {
    let mut subject = (case.prepare)(stock).context("preparing")?;
    let server = subject.server();
    // New processes for each case, so that a peak of memory is the case's.
    let mut routes: Vec<Route> =
        subject.ways().into_iter().map(|way| way.open(&server)).collect::<Result<_>>()?;
    for route in &mut routes {
        stock.say(&format!("{}: warming up, {}", case.name, route.name()));
        subject.warm_up(route).with_context(|| format!("warming up, {}", route.name()))?;
    }
    let mut ways: Vec<Figures> = routes.iter().map(|route| Figures::new(route.name())).collect();
    let rounds = subject.rounds(rounds);
    for round in 1..=rounds {
        let mut line = format!("{}: round {round} of {rounds}:", case.name);
        for (route, figures) in routes.iter_mut().zip(&mut ways) {
            let took = once(subject.as_mut(), &server, route, figures)
                .with_context(|| format!("round {round}, {}", route.name()))?;
            line += &format!(" {} {:.3} s", route.name(), took.as_secs_f64());
        }
        stock.say(&line);
    }
    for (route, figures) in routes.iter().zip(&mut ways) {
        figures.peak_memory = route.peak_memory()?;
    }
    Ok(Measured { name: case.name, title: subject.title(), ways, plots: subject.plots() })
}

fn once(
    subject: &mut dyn Subject,
    server: &Server,
    route: &mut Route,
    figures: &mut Figures,
) -> Result<Duration> {
    let (sent, cpu) = (bytes_sent(server)?, route.cpu()?);
    let run = subject.run(route)?;
    let cpu = route.cpu()?.zip(cpu).map(|(after, before)| after.saturating_sub(before));
    let sent = bytes_sent(server)? - sent;
    let took = run.wall;
    figures.push(run, cpu, sent);
    Ok(took)
}

/// What the server has ever sent to anybody.
fn bytes_sent(server: &Server) -> Result<u64> {
    let rows = server.query("SHOW GLOBAL STATUS LIKE 'Bytes_sent'")?;
    let value = rows.first().and_then(|row| row.split('\t').nth(1)).context("no Bytes_sent")?;
    value.parse().with_context(|| format!("Bytes_sent is {value}"))
}

/// Of less in all rounds a figure for a GB says nothing.
const LEAST_BYTES: f64 = 50e6;
