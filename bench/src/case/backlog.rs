//! A backlog as long as the disk allows: Spillway's memory does not grow with it, and all of it comes back.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::statvfs::statvfs;
use spillway_tests::{Server, data};

use super::done::Done;
use super::relay::Answer;
use crate::case::{Run, Subject};
use crate::client::Client;
use crate::memory_watch::{MemoryWatch, Moment};
use crate::plot::{Limit, Panel, Series, TimePlot};
use crate::sockets;
use crate::stock::Stock;
use crate::way::{Route, SPILLWAY, Way};

/// The wide table, sent so often in one answer that it comes to so many bytes.
pub(super) fn prepare(stock: &mut Stock) -> Result<Box<dyn Subject>> {
    let table = stock.size().of(900_000_000, 120_000_000);
    let wanted = stock.size().of(20_000_000_000, 1_000_000_000);
    let database = stock.wide(table)?;
    let server = stock.server()?;
    let rows = server.query(&format!("SELECT COUNT(*) FROM {database}.test"))?;
    let rows: u64 = rows.first().context("no count")?.parse()?;
    let room = free_space()?.saturating_sub(LEFT_FREE);
    let times = (wanted.min(room) / (rows * data::report::ROW)).max(1);
    if wanted > room {
        stock.say(&format!("{} MB of disk are free for a backlog of {} MB", room / MB, wanted / MB));
    }
    let statement = format!("SELECT t.* FROM test.seq_1_to_{times} AS s STRAIGHT_JOIN {database}.test AS t");
    Ok(Box::new(Backlog {
        bytes: times * rows * data::report::ROW,
        command: Done::command(&statement),
        answer: Answer::default(),
        done: Done::new(&server)?,
        moments: Vec::new(),
        server,
    }))
}

struct Backlog {
    server: Rc<Server>,
    bytes: u64,
    command: String,
    answer: Answer,
    done: Done,
    /// Of the last round.
    moments: Vec<Moment>,
}

impl Backlog {
    fn read_on(&mut self, client: &mut Client) -> Result<Run> {
        let start = Instant::now();
        client.send(&self.command)?;
        client.discard(self.answer.length())?;
        let took = start.elapsed();
        self.done.wait()?;
        Ok(Run::took(took))
    }

    /// The client takes 1 MiB, and the rest when the server is done; it looks at every byte.
    fn stall(&mut self, client: &mut Client) -> Result<Run> {
        let mut checksum = 0;
        let mut read = |client: &mut Client, bytes| {
            client.take(bytes, |piece| checksum = crc32c::crc32c_append(checksum, piece))
        };
        let first = READ_BEFORE_STALL.min(self.answer.length());
        let start = Instant::now();
        client.send(&self.command)?;
        read(client, first)?;
        self.done.wait()?;
        let drained = sockets::wait_until_read(self.server.port())?;
        read(client, self.answer.length() - first)?;
        let fed = drained.elapsed();
        self.answer.compare(self.answer.length(), checksum)?;
        let mut run = Run::took(drained - start);
        run.figures.push(("read back s", fed.as_secs_f64()));
        Ok(run)
    }
}

impl Subject for Backlog {
    fn title(&self) -> String {
        format!(
            "{:.1} GB of wide rows; Spillway's client stalls after 1 MiB until the server is done, and then reads all",
            self.bytes as f64 / 1e9
        )
    }

    fn server(&self) -> Rc<Server> {
        Rc::clone(&self.server)
    }

    fn ways(&self) -> Vec<Way> {
        vec![Way::direct(), Way::spillway()]
    }

    /// So long a backlog says all at once.
    fn rounds(&self, _wanted: u32) -> u32 {
        1
    }

    /// Only what is to be compared with: the answer as it comes directly.
    fn warm_up(&mut self, route: &mut Route) -> Result<()> {
        if route.is_spillway() { Ok(()) } else { self.answer.check(&self.command, route) }
    }

    fn run(&mut self, route: &mut Route) -> Result<Run> {
        let mut client = Client::login(route.address())?;
        self.done.arm(&mut client)?;
        let Some(pid) = route.pid() else {
            let run = self.read_on(&mut client)?;
            drop(client);
            self.done.disarm()?;
            return Ok(run);
        };
        let watch = MemoryWatch::start(pid, SPOOL_DIR.as_ref(), PERIOD);
        let mut run = self.stall(&mut client)?;
        drop(client);
        let session = route.settle(1)?.context("no session")?;
        self.moments = watch.finish()?;
        ensure!(
            session.backlog_peak + SOCKETS >= self.answer.length(),
            "the backlog was {} bytes at most, of an answer of {}",
            session.backlog_peak,
            self.answer.length()
        );
        run.figures.push(("backlog GB", session.backlog_peak as f64 / 1e9));
        run.figures.push(("GB on disk", session.on_disk_peak as f64 / 1e9));
        self.done.disarm()?;
        Ok(run)
    }

    fn plots(&self) -> Vec<(&'static str, TimePlot)> {
        let series = |value: fn(&Moment) -> f64| Series {
            name: SPILLWAY.to_owned(),
            points: self.moments.iter().map(|moment| (moment.at.as_secs_f64(), value(moment))).collect(),
        };
        let memory = series(|moment| moment.resident as f64 / f64::from(1 << 20));
        let disk = series(|moment| moment.on_disk as f64 / 1e9);
        let limit = Limit { name: "to stay under: 64 MiB".to_owned(), value: 64.0 };
        let plot = TimePlot {
            title: format!("A backlog of {:.0} GB: what Spillway holds", self.bytes as f64 / 1e9),
            time: "time since the query, s".to_owned(),
            panels: vec![
                Panel::lines("resident memory, MiB", vec![memory]).with_limit(limit),
                Panel::lines("spool on disk, GB", vec![disk]),
            ],
        };
        vec![("memory", plot)]
    }
}

/// What others may have of the disk.
fn free_space() -> Result<u64> {
    let space = statvfs(SPOOL_DIR).context(SPOOL_DIR)?;
    Ok(space.blocks_available() as u64 * space.fragment_size() as u64)
}

/// The default of `--spool-dir`.
const SPOOL_DIR: &str = "/var/tmp";
const LEFT_FREE: u64 = 10_000_000_000;
const MB: u64 = 1_000_000;
const READ_BEFORE_STALL: u64 = 1 << 20;
/// What may be on the way to the client: 1 MiB that it has read, and the sockets' buffers.
const SOCKETS: u64 = 32 << 20;
const PERIOD: Duration = Duration::from_millis(50);
