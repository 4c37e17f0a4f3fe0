//! A simulated world around a session: scripted client, scripted server, and faults and delays that follow from a seed.
//!
//! ```text
//!  client ──── Unix socket ──── Proxy::session ──── Unix socket ──── server      one thread, tokio's paused clock
//!    │                              │                                  │
//!    └───────── what it saw ─────► oracle ◄── what is left of it ◄─────┘
//! ```
//!
//! What a seed does is the same each time, but for the disk's thread and for what Spillway itself draws by chance.

mod client;
mod oracle;
mod plan;
mod regressions;
mod script;
mod server;
mod wire;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, available_parallelism};
use std::time::Duration;

use client::{End, Login};
use oracle::judge_all;
use plan::Plan;
use server::Fault;
use world::{Outcome, Place};

/// Worlds of a test run; `make sim SEEDS=…` has more.
const SEEDS: u64 = 4000;

/// In real time. Virtual time ends every wait, so a world that takes so long turns in circles.
const LONGEST: Duration = Duration::from_secs(60);

/// Complaints that are shown.
const ENOUGH: usize = 10;

/// How often a seed is tried that is run alone.
const TRIES: usize = 20;

#[test]
fn every_world_ends_as_it_should() {
    if let Some(seed) = number("SPILLWAY_SEED") {
        let _ = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_test_writer().try_init();
        let plan = Plan::draw(seed);
        println!("{plan:#?}");
        plan.neighbours.iter().for_each(|neighbour| println!("{neighbour:#?}"));
        let place = Place::new();
        for _ in 0..TRIES {
            try_world(seed, &place).unwrap();
        }
        return;
    }
    let first = number("SPILLWAY_FIRST_SEED").unwrap_or(0);
    let count = number("SPILLWAY_SEEDS").unwrap_or(SEEDS);
    let seeds: Vec<u64> = (first..first + count).collect();
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for event in EVENTS {
        seen.insert(event, 0);
    }
    let failures = try_all(&seeds, &mut seen);
    println!("{seen:#?}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    // A simulation in which nothing happens finds nothing.
    if count >= SEEDS {
        let missing: Vec<_> = seen.iter().filter(|(_, count)| **count == 0).collect();
        assert!(missing.is_empty(), "in no world there was {missing:?}");
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|value| value.parse().unwrap())
}

/// Runs the worlds of all `seeds`, counts what has happened, and gives the complaints.
fn try_all(seeds: &[u64], seen: &mut BTreeMap<&'static str, u64>) -> Vec<String> {
    let next = Arc::new(AtomicU64::new(0));
    let (results, ended) = mpsc::channel();
    let workers = available_parallelism().map_or(1, usize::from);
    let under_way: Arc<Vec<AtomicU64>> = Arc::new((0..workers).map(|_| AtomicU64::new(u64::MAX)).collect());
    for worker in 0..workers {
        let (next, results, under_way) = (Arc::clone(&next), results.clone(), Arc::clone(&under_way));
        let seeds = seeds.to_vec();
        thread::spawn(move || {
            let place = Place::new();
            while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                under_way[worker].store(seed, Ordering::Relaxed);
                if results.send(try_world(seed, &place)).is_err() {
                    return;
                }
            }
            under_way[worker].store(u64::MAX, Ordering::Relaxed);
        });
    }
    drop(results);
    let mut failures = Vec::new();
    for _ in seeds {
        match ended.recv_timeout(LONGEST) {
            Ok(Ok(events)) => events.into_iter().for_each(|event| *seen.entry(event).or_default() += 1),
            Ok(Err(complaint)) => failures.push(complaint),
            Err(error) => {
                let running = under_way.iter().map(|seed| seed.load(Ordering::Relaxed));
                let running: Vec<_> = running.filter(|seed| *seed != u64::MAX).collect();
                failures.push(format!("nothing ends any more ({error}); under way: {running:?}"));
                break;
            }
        }
        if failures.len() >= ENOUGH {
            break;
        }
    }
    failures
}

/// Runs one world. Gives what has happened in it, or what is wrong and how to see that again.
fn try_world(seed: u64, place: &Place) -> Result<Vec<&'static str>, String> {
    let plan = Arc::new(Plan::draw(seed));
    let failed = |complaint: String| {
        let again = "cargo test -p spillway --lib every_world -- --nocapture";
        format!("seed {seed}: {complaint}\n    SPILLWAY_SEED={seed} {again}")
    };
    let outcomes = catch_unwind(AssertUnwindSafe(|| world::run(&plan, place)));
    let outcomes = outcomes.map_err(|_| failed("a panic; see above".to_owned()))?;
    judge_all(&plan, &outcomes).map_err(failed)?;
    Ok(events(&plan, &outcomes))
}

/// What is to happen in some world at least.
const EVENTS: [&str; 17] = [
    "all went well",
    "an error was told",
    "cut off inside a packet",
    "the client went away",
    "a login was refused",
    "a login was healed",
    "settings were made again",
    "session was stopped",
    "server cut the connection",
    "server stalled",
    "server said good-bye",
    "spooled to disk",
    "server was held back",
    "keepalives",
    "a packet of 16 MiB",
    "pipelined commands",
    "neighbours",
];

fn events(plan: &Plan, outcomes: &[Outcome]) -> Vec<&'static str> {
    let outcome = &outcomes[0];
    let (client, server) = (&outcome.client, &outcome.server);
    let expectation = plan.expectation();
    let is_short = client.received.len() < expectation.bytes.len();
    let is_right = expectation.bytes.starts_with(&client.received);
    let at_end = expectation.ends.iter().any(|&(end, _)| end == client.received.len());
    let has = |fault| server.faults.contains(&fault);
    let is_in = client.login == Login::In;
    let happened = [
        is_in && matches!(client.end, End::Done | End::Quit),
        is_in && !is_right,
        is_in && client.end == End::Closed && is_right && is_short && !at_end,
        client.end == End::Left || client.login == Login::Left,
        matches!(client.login, Login::Refused(_)),
        is_in && has(Fault::Login),
        server.replays > 0,
        outcome.stopped,
        has(Fault::Cut),
        has(Fault::Stall),
        has(Fault::Farewell),
        outcome.disk_peak > 0,
        outcome.totals.held_back_ms > 0,
        outcome.totals.keepalives > 0,
        client.received.len() > 16 << 20,
        plan.client.depth > 1 && client.sent > 1,
        outcomes.len() > 1,
    ];
    EVENTS.into_iter().zip(happened).filter(|(_, happened)| *happened).map(|(event, _)| event).collect()
}
