//! Many clients of all kinds at once, for as long as is wanted: all that they get is right, and in the end nothing is left.
//!
//! `SPILLWAY_SOAK` is the time in seconds (`make soak`); without it the test is a short one.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use spillway_tests::chance::{self, Chance};
use spillway_tests::exposition::Metrics;
use spillway_tests::process;
use spillway_tests::server::USER;
use spillway_tests::{Endpoint, Raw, Server, Spillway, client, data, wait_until};

#[test]
fn a_hundred_clients_of_all_kinds() -> Result<()> {
    let time = std::env::var("SPILLWAY_SOAK").ok().and_then(|text| text.parse().ok());
    let time = time.map_or(SHORT, Duration::from_secs);
    let server = Server::start(&["--max-connections=500"])?;
    data::report::load(&server, "report", 4 << 20)?;
    let expected = client::normalised(&process::run(&mut dump(&server.tcp()), LIMIT)?.success()?.stdout);
    let options = ["--metrics", "127.0.0.1:0", "--memory", "64MiB", "--memory-per-session", "2MiB"];
    let spillway = Spillway::to(&server.tcp()).options(&options).start()?;
    let soak = Soak { spillway: &spillway, expected: &expected, deeds: AtomicU64::new(0) };

    // What is taken for good is taken once: threads of the runtime, certificates, caches.
    soak.run(WARM_UP)?;
    let before = soak.at_rest(&server)?;
    soak.run(time)?;
    let after = soak.at_rest(&server)?;
    ensure!(after.descriptors <= before.descriptors, "{before:?}, then {after:?}");
    ensure!(after.memory <= before.memory + MEMORY_MARGIN, "{before:?}, then {after:?}");
    println!("{} deeds in {time:?}: {before:?}, then {after:?}", soak.deeds.into_inner());
    Ok(())
}

struct Soak<'a> {
    spillway: &'a Spillway,
    expected: &'a [u8],
    /// What was done.
    deeds: AtomicU64,
}

/// What the proxy has while nobody is there.
#[derive(Debug)]
struct Rest {
    descriptors: usize,
    memory: u64,
}

impl Soak<'_> {
    /// All clients, for this long.
    fn run(&self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        let seed = chance::seed();
        thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|number| {
                    scope.spawn(move || -> Result<()> {
                        let mut chance = Chance::from_seed(seed.wrapping_mul(1000).wrapping_add(number));
                        while Instant::now() < end {
                            let deed = chance.below(100);
                            self.act(number, deed, &mut chance).with_context(|| {
                                format!("client {number}, deed {deed}, SPILLWAY_SEED={seed}")
                            })?;
                            self.deeds.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(())
                    })
                })
                .collect();
            for client in clients {
                client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
            }
            Ok(())
        })
    }

    fn act(&self, number: u64, deed: u64, chance: &mut Chance) -> Result<()> {
        let address = self.spillway.address()?;
        if number < DUMPERS {
            return self.dump();
        }
        let mut raw = Raw::login(address)?;
        raw.set_limit(LIMIT)?;
        match deed {
            0..20 => (0..20).try_for_each(|_| small(&mut raw, chance)),
            20..40 => rows(&mut raw, chance, Duration::ZERO),
            40..55 => rows(&mut raw, chance, SLOW),
            55..70 => leave_in_a_result(raw, chance),
            70..80 => several_queries(&mut raw),
            80..90 => fail(&mut raw),
            _ => {
                thread::sleep(Duration::from_millis(chance.below(200)));
                small(&mut raw, chance)
            }
        }
    }

    fn dump(&self) -> Result<()> {
        let finished = process::run(&mut dump(self.spillway.endpoint()), LIMIT)?.success()?;
        let difference = client::difference(self.expected, &client::normalised(&finished.stdout));
        ensure!(difference.is_none(), "{}", difference.unwrap_or_default());
        Ok(())
    }

    /// Waits until nobody is there any more, and nothing of anybody.
    fn at_rest(&self, server: &Server) -> Result<Rest> {
        let metrics = self.spillway.http_address("metrics on")?;
        let value = |name: &str| -> Result<f64> { Metrics::scrape(metrics)?.value(name) };
        let is_zero = |name: &str| value(name).is_ok_and(|value| value == 0.0);
        for name in [
            "spillway_sessions{route=\"default\"}",
            "spillway_backlog_bytes",
            "spillway_spool_memory_bytes",
            "spillway_spool_disk_bytes",
        ] {
            wait_until(LIMIT, name, || is_zero(name))?;
        }
        server.wait_for_no_thread(LIMIT, "the server's sessions to end", |thread| thread.user == USER)?;
        wait_until(LIMIT, "the spool's files to be gone", || {
            self.spillway.spool_space().is_ok_and(|space| space == 0)
        })?;
        let descriptors =
            || -> Result<usize> { Ok(fs::read_dir(format!("/proc/{}/fd", self.spillway.pid()))?.count()) };
        // The one of the last request may still be closing.
        let mut last = descriptors()?;
        wait_until(LIMIT, "descriptors to stay the same", || {
            let now = descriptors().unwrap_or(usize::MAX);
            std::mem::replace(&mut last, now) == now
        })?;
        Ok(Rest { descriptors: last, memory: self.spillway.memory()? })
    }
}

fn small(raw: &mut Raw, chance: &mut Chance) -> Result<()> {
    let number = chance.below(1 << 40);
    let answer = raw.value(&format!("SELECT {number} * 2"))?;
    ensure!(answer == (number * 2).to_string(), "{number} twice is {answer}");
    Ok(())
}

/// Numbered rows of a text, with a pause here and there.
fn rows(raw: &mut Raw, chance: &mut Chance, pause: Duration) -> Result<()> {
    let (count, width) = (1 + chance.below(3000), 1 + chance.below(2000));
    raw.start(&format!("SELECT seq, REPEAT('x', {width}) FROM seq_1_to_{count}"))?;
    let mut seen = 0;
    let mut wrong = None;
    raw.rows(|row| {
        seen += 1;
        let number = format!("{seen}");
        if row.get(1..=number.len()) != Some(number.as_bytes()) || !row.ends_with(b"x") {
            wrong.get_or_insert_with(|| format!("row {seen}: {}", row.escape_ascii()));
        }
        if seen % 500 == 0 {
            thread::sleep(pause);
        }
    })?
    .ok()?;
    match wrong {
        Some(wrong) => bail!(wrong),
        None if seen != count => bail!("{seen} rows of {count}"),
        None => Ok(()),
    }
}

fn leave_in_a_result(mut raw: Raw, chance: &mut Chance) -> Result<()> {
    raw.start("SELECT seq, REPEAT('y', 1000) FROM seq_1_to_20000")?;
    for _ in 0..chance.below(50) {
        raw.row()?.map_err(|_| anyhow::anyhow!("the result ended early"))?;
    }
    Ok(())
}

fn several_queries(raw: &mut Raw) -> Result<()> {
    for number in 0..5 {
        let rows = raw.query(&format!("SELECT {number}, seq FROM seq_1_to_7"))?;
        ensure!(rows.len() == 7 && rows[6] == [number.to_string(), "7".to_owned()], "{rows:?}");
    }
    Ok(())
}

fn fail(raw: &mut Raw) -> Result<()> {
    let error = raw.query("SELECT * FROM nowhere.nothing").err().context("rows of nothing")?;
    ensure!(format!("{error:#}").contains("1146"), "{error:#}");
    ensure!(raw.value("SELECT 1")? == "1", "behind an error");
    Ok(())
}

fn dump(endpoint: &Endpoint) -> Command {
    let mut command = client::dumper("mysqldump", endpoint);
    command.args(["--single-transaction", "report"]);
    command
}

const CLIENTS: u64 = 100;
/// Of these, unmodified dump programs.
const DUMPERS: u64 = 4;
/// Between two hundreds of rows or so.
const SLOW: Duration = Duration::from_millis(2);
const SHORT: Duration = Duration::from_secs(20);
const WARM_UP: Duration = Duration::from_secs(5);
/// What an allocator may keep for itself.
const MEMORY_MARGIN: u64 = 32 << 20;
const LIMIT: Duration = Duration::from_secs(60);
