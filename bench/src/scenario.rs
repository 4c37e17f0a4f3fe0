//! What is measured, and the rounds in which it is: direct and through Spillway by turns.

mod drain;
mod dump;

use std::time::Duration;

use crate::clock::Progress;
use crate::proxy::Proxy;
use crate::report::{Measured, Target};
use crate::server::LoneServer;
use crate::stats::{Sample, range};
use crate::{data, programs};
use anyhow::{Context as _, Result};
use clap::ValueEnum;

/// A scenario's name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// A stalled client, 1 GB of wide rows.
    DrainWide,
    /// A stalled client, 4 million rows of 24 bytes.
    DrainNarrow,
    /// `mysqldump` of the wide table to /dev/null.
    DumpWide,
    /// `mysqldump` of 2,000 empty tables to /dev/null.
    DumpTables,
}

impl Name {
    /// As on the command line.
    pub fn text(self) -> &'static str {
        match self {
            Self::DrainWide => "drain-wide",
            Self::DrainNarrow => "drain-narrow",
            Self::DumpWide => "dump-wide",
            Self::DumpTables => "dump-tables",
        }
    }
}

/// How much data.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// At least so many bytes of wide rows, then doubled to the next power of two.
    pub wide: u64,
    /// Narrow rows.
    pub narrow: u64,
    /// Empty tables.
    pub tables: u32,
}

impl Size {
    /// What the targets are for.
    pub const FULL: Self = Self { wide: 900_000_000, narrow: 4_000_000, tables: 2_000 };
    /// Enough to see that all works.
    pub const QUICK: Self = Self { wide: 120_000_000, narrow: 500_000, tables: 200 };
}

/// One thing that is done directly and through Spillway.
trait Subject {
    /// Both once, unmeasured: fills caches, and looks at what is not looked at later.
    fn warm_up(&mut self, proxy: &mut Proxy) -> Result<()>;
    /// Once directly.
    fn direct(&mut self) -> Result<Duration>;
    /// Once through Spillway.
    fn through(&mut self, proxy: &mut Proxy) -> Result<Through>;
}

/// A run through Spillway.
#[derive(Clone, Copy, Debug)]
struct Through {
    took: Duration,
    /// Bytes taken off the server.
    bytes: u64,
}

/// The server with the data, and the scenarios on it.
#[derive(Debug)]
pub struct Bench {
    server: LoneServer,
    size: Size,
    progress: Progress,
    wide_loaded: bool,
}

impl Bench {
    /// Starts the server.
    pub fn start(size: Size, progress: Progress) -> Result<Self> {
        let server = LoneServer::start(&SERVER_OPTIONS)?;
        Ok(Self { server, size, progress, wide_loaded: false })
    }

    /// The server's version.
    pub fn server_version(&self) -> Result<String> {
        self.server.query("SELECT VERSION()")?.into_iter().next().context("no version")
    }

    /// Loads what `name` needs and measures it, `rounds` times each way after a warm-up.
    pub fn measure(&mut self, name: Name, rounds: u32) -> Result<Measured> {
        self.load(name)?;
        let server = &self.server;
        let mut subject: Box<dyn Subject + '_> = match name {
            Name::DrainWide => Box::new(drain::Drain::new(server, "report.test")?),
            Name::DrainNarrow => Box::new(drain::Drain::new(server, "narrow.test")?),
            Name::DumpWide => Box::new(dump::Dump::new(server, &["report"])),
            // Under LOCK TABLES, the default, the server looks at all 2,000 tables at the end of every statement (3 ms a
            // table here), beside which nothing that a proxy does would show.
            Name::DumpTables => Box::new(dump::Dump::new(server, &["--single-transaction", "tables"])),
        };
        self.run(name, subject.as_mut(), rounds).with_context(|| name.text())
    }

    fn load(&mut self, name: Name) -> Result<()> {
        let say = |what: &str| self.progress.say(&format!("{}: loading {what}", name.text()));
        match name {
            Name::DrainWide | Name::DumpWide => {
                if !self.wide_loaded {
                    say("the wide table");
                    spillway_tests::data::report::load(&self.server, "report", self.size.wide)?;
                    self.wide_loaded = true;
                }
                Ok(())
            }
            Name::DrainNarrow => {
                say(&format!("{} narrow rows", self.size.narrow));
                data::load_narrow(&self.server, self.size.narrow)
            }
            Name::DumpTables => {
                say(&format!("{} tables", self.size.tables));
                data::load_tables(&self.server, self.size.tables)
            }
        }
    }

    fn run(&self, name: Name, subject: &mut dyn Subject, rounds: u32) -> Result<Measured> {
        // A new one, so that its peak of memory is this scenario's.
        let mut proxy = Proxy::start(&programs::spillway()?, &self.server)?;
        self.progress.say(&format!("{}: warming up", name.text()));
        subject.warm_up(&mut proxy)?;

        let (mut direct, mut through) = (Sample::default(), Sample::default());
        let (mut cpu, mut bytes) = (Duration::ZERO, 0);
        for round in 1..=rounds {
            let without = subject.direct()?;
            direct.push(without);
            let cpu_before = proxy.cpu()?;
            let with = subject.through(&mut proxy)?;
            cpu += proxy.cpu()? - cpu_before;
            bytes += with.bytes;
            through.push(with.took);
            self.progress.say(&format!(
                "{}: round {round} of {rounds}: direct {:.3} s, through Spillway {:.3} s",
                name.text(),
                without.as_secs_f64(),
                with.took.as_secs_f64()
            ));
        }

        let target = target(name);
        let ratios: Vec<f64> =
            direct.seconds().iter().zip(through.seconds()).map(|(d, t)| target.ratio(*d, *t)).collect();
        let ratio = target.ratio(direct.median(), through.median());
        Ok(Measured {
            name: name.text(),
            title: self.title(name),
            bytes: bytes / u64::from(rounds),
            direct,
            through,
            ratio,
            ratio_range: range(&ratios),
            target,
            met: target.is_met(ratio),
            cpu_seconds: cpu.as_secs_f64() / f64::from(rounds),
            cpu_seconds_per_gb: cpu.as_secs_f64() / (bytes as f64 / 1e9),
            peak_memory: proxy.peak_memory()?,
        })
    }

    fn title(&self, name: Name) -> String {
        let Size { narrow, tables, .. } = self.size;
        match name {
            Name::DrainWide => "drain of wide rows, stalled client".to_owned(),
            Name::DrainNarrow => format!("drain of {narrow} rows of 24 bytes, stalled client"),
            Name::DumpWide => "mysqldump of the wide table to /dev/null".to_owned(),
            Name::DumpTables => {
                format!("mysqldump --single-transaction of {tables} empty tables to /dev/null")
            }
        }
    }
}

/// What has to be reached (the issue "A dump through Spillway survives any slow sink", Speed).
fn target(name: Name) -> Target {
    match name {
        Name::DrainWide => Target::SpeedAtLeast(0.8),
        Name::DrainNarrow => Target::SpeedAtLeast(0.9),
        Name::DumpWide => Target::TimeAtMost(1.10),
        Name::DumpTables => Target::TimeAtMost(1.4),
    }
}

/// All tables stay open, and their rows in the page cache (the reason for MyISAM): the server is as fast as it can be.
const SERVER_OPTIONS: [&str; 5] = [
    "--table-open-cache=6000",
    "--table-definition-cache=6000",
    "--open-files-limit=16000",
    "--sync-frm=OFF",
    "--net-write-timeout=600",
];
