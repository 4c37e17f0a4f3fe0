//! `make demo`: a dump that dies of a slow sink, and the same one through Spillway.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use spillway_bench::clock::Progress;
use spillway_bench::programs;
use spillway_bench::proxy::Session;
use spillway_bench::sink::{self, Stalling, Stalls, Taken};
use spillway_bench::watch::{Seen, Watch};
use spillway_tests::log::Log;
use spillway_tests::process::{Finished, Running};
use spillway_tests::{Server, client, data};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    programs::check_mariadb()?;
    let spillway = programs::spillway()?;
    let progress = Progress::start();
    let demo = Demo::set_up(progress)?;

    progress.say("mysqldump, directly, into a sink that takes all");
    let fast = demo.dump(demo.mysqldump(), None)?;
    fast.assert_complete(None)?;

    progress.say("mysqldump, directly, into a slow sink");
    let dead = demo.dump(demo.mysqldump(), Some(STALLS))?;
    dead.assert_lost()?;
    progress.say(&format!("  it says: {}", dead.message()));

    progress.say("spillway run -- mysqldump, into the same slow sink");
    let saved = demo.dump(demo.spillway(&spillway), Some(STALLS))?;
    saved.assert_complete(Some(&fast.taken))?;

    print_table(&fast, &dead, &saved)
}

/// The server with the table.
struct Demo {
    server: Server,
    progress: Progress,
}

impl Demo {
    fn set_up(progress: Progress) -> Result<Self> {
        let option = format!("--net-write-timeout={NET_WRITE_TIMEOUT}");
        progress.say(&format!("starting a MariaDB server of the demo's own, {option}"));
        let server = Server::start(&[&option])?;
        progress.say("loading the table of the failure report");
        let rows = data::report::load(&server, DATABASE, TABLE_SIZE)?;
        progress.say(&format!("{rows} rows, {} MB", megabytes(rows * data::report::ROW)));
        Ok(Self { server, progress })
    }

    /// `mysqldump` of the table, as a person would call it.
    fn mysqldump(&self) -> Command {
        let mut command = client::dumper("mysqldump", &self.server.tcp());
        command.arg(DATABASE);
        command
    }

    /// The same behind `spillway run --`.
    fn spillway(&self, spillway: &Path) -> Command {
        let dump = self.mysqldump();
        let mut command = client::clean(spillway);
        command.args(["run", "--log-level", "info", "--"]).arg(dump.get_program()).args(dump.get_args());
        command
    }

    fn dump(&self, mut command: Command, stalls: Option<Stalls>) -> Result<Dump> {
        let mut running = Running::start(&mut command)?;
        let dump = running.child.stdout.take().context("no stdout")?;
        let log = Log::collect(running.child.stderr.take().context("no stderr")?);
        let watch = Watch::start(&self.server, running.pid(), self.progress)?;
        let progress = self.progress;
        let sink = thread::spawn(move || match stalls {
            Some(stalls) => sink::take(Stalling::new(dump, stalls, progress)),
            None => sink::take(dump),
        });
        let finished = running.finish(LIMIT)?;
        let taken = sink.join().map_err(|_| anyhow::anyhow!("the sink panicked"))??;
        let seen = watch.finish()?;
        Ok(Dump { finished, log, taken, seen })
    }
}

/// A dump that has ended, well or not.
struct Dump {
    finished: Finished,
    log: Log,
    taken: Taken,
    seen: Seen,
}

impl Dump {
    fn assert_complete(&self, expected: Option<&Taken>) -> Result<()> {
        ensure!(
            self.finished.status.success(),
            "this dump had to succeed, but ended with {}:\n{}",
            self.finished.status,
            self.log.tail()
        );
        if let Some(expected) = expected {
            ensure!(
                self.taken == *expected,
                "the dump differs from the fast direct one: {} bytes where {} were due, or other ones",
                self.taken.bytes,
                expected.bytes
            );
        }
        Ok(())
    }

    fn assert_lost(&self) -> Result<()> {
        if self.finished.status.success() {
            bail!("this dump had to die of its slow sink, but succeeded: nothing is shown by this run");
        }
        ensure!(
            self.message().contains("2013"),
            "this dump had to die of error 2013, but died of another:\n{}",
            self.log.tail()
        );
        Ok(())
    }

    /// The client's own error message.
    fn message(&self) -> String {
        self.log.matching("rror").into_iter().next_back().unwrap_or_else(|| self.log.tail())
    }

    fn session(&self) -> Result<Session> {
        let line = self.log.wait_for("session ended", LIMIT)?;
        Session::parse(&line)
    }

    fn wall(&self) -> String {
        format!("{:.1} s", self.finished.took.as_secs_f64())
    }

    fn busy(&self) -> String {
        format!("{:.1} s", self.seen.busy.as_secs_f64())
    }

    fn size(&self) -> String {
        format!("{} MB", megabytes(self.taken.bytes))
    }
}

fn print_table(fast: &Dump, dead: &Dump, saved: &Dump) -> Result<()> {
    let session = saved.session()?;
    let backlog =
        format!("{} MB ({} MB on disk)", megabytes(session.backlog_peak), megabytes(session.spooled_peak));
    let memory = format!("{:.0} MiB", saved.seen.peak_memory as f64 / f64::from(1 << 20));
    let none = String::from("-");
    let same = "byte for byte the first".to_owned();
    let rows = [
        ["".to_owned(), "direct, fast sink".into(), "direct, slow sink".into(), "Spillway, slow sink".into()],
        ["outcome".to_owned(), "success".into(), "error 2013".into(), "success".into()],
        ["dump".to_owned(), fast.size(), format!("{}, cut off", dead.size()), saved.size()],
        ["compared".to_owned(), none.clone(), none.clone(), same],
        ["wall time".to_owned(), fast.wall(), dead.wall(), saved.wall()],
        ["server busy with the query".to_owned(), fast.busy(), dead.busy(), saved.busy()],
        ["peak backlog in Spillway".to_owned(), none.clone(), none.clone(), backlog],
        ["peak memory of Spillway".to_owned(), none.clone(), none, memory],
    ];
    println!();
    for [what, fast, dead, saved] in &rows {
        println!("{what:26}  {fast:17}  {dead:18}  {saved}");
    }
    println!();
    println!("The slow sink: {} MB, then nothing for {} s,", megabytes(STALLS.first), STALLS.pause.as_secs());
    println!("and so {} times in all. The server gives a client {NET_WRITE_TIMEOUT} s.", STALLS.times);
    println!("mysqldump's own words: {}", dead.message());
    Ok(())
}

fn megabytes(bytes: u64) -> u64 {
    bytes / 1_000_000
}

const DATABASE: &str = "report";
/// Seconds.
const NET_WRITE_TIMEOUT: u32 = 2;
/// Doubled from one row: 131,072 rows, a GB to within two thousandths.
const TABLE_SIZE: u64 = 900_000_000;
/// Each pause is three times as long as the server waits, and begins when far more is left than sockets and a pipe hold.
const STALLS: Stalls =
    Stalls { first: 64_000_000, every: 300_000_000, times: 3, pause: Duration::from_secs(6) };
const LIMIT: Duration = Duration::from_secs(120);
