//! What happens in one simulated world: all of it follows from a seed.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::script::{Dialect, Exchange, Packets, draw_exchange, draw_giant, setting};
use super::wire::Pace;
use crate::spool::packing::Algorithm;

/// One world.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    /// Whether Spillway logs in by itself, so that it can go on over another connection.
    pub(super) is_stored: bool,
    pub(super) dialect: Dialect,
    pub(super) exchanges: Vec<Exchange>,
    pub(super) spool: SpoolPlan,
    pub(super) drain_limit: Option<u64>,
    /// `--keepalive`.
    pub(super) keepalive: Duration,
    /// After so long without a command the server ends a session.
    pub(super) wait_timeout: Duration,
    pub(super) client: ClientPlan,
    /// By connection; those that come later are without fault.
    pub(super) servers: Vec<ServerPlan>,
    pub(super) stop: Option<StopPlan>,
    /// Other sessions, with which it shares memory and disk.
    pub(super) neighbours: Vec<Arc<Self>>,
}

#[derive(Debug)]
pub(super) struct SpoolPlan {
    pub(super) memory_per_session: u64,
    pub(super) disk_max: u64,
    pub(super) algorithm: Option<Algorithm>,
    pub(super) encrypts: bool,
    /// When the disk is full, because of others.
    pub(super) full: Option<Range<Duration>>,
}

#[derive(Debug)]
pub(super) struct ClientPlan {
    pub(super) reads: Pace,
    pub(super) writes: Pace,
    /// Commands that are sent before the first of them is answered.
    pub(super) depth: usize,
    /// Before each command.
    pub(super) think: Duration,
    /// Before the answer to the greeting.
    pub(super) login_delay: Duration,
    /// After so many bytes it reads nothing for so long.
    pub(super) stall: Option<(usize, Duration)>,
    /// When it goes away.
    pub(super) leaves: Option<Leaves>,
    /// Between the last answer and the end.
    pub(super) linger: Duration,
    /// Whether it says COM_QUIT then.
    pub(super) quits: bool,
    /// Of Spillway's end of its connection.
    pub(super) send_buffer: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Leaves {
    BeforeResponse,
    AfterResponse,
    /// After so many bytes of commands.
    Sent(usize),
    /// After so many bytes of answers.
    Received(usize),
}

/// One connection to the server.
#[derive(Clone, Debug)]
pub(super) struct ServerPlan {
    pub(super) greeting: GreetingFault,
    pub(super) login: LoginFault,
    pub(super) pace: Pace,
    /// Before each answer.
    pub(super) latency: Duration,
    /// After so many bytes in the command phase.
    pub(super) end: Option<(usize, Ending)>,
    /// After so many commands the server says good-bye.
    pub(super) farewell: Option<usize>,
    pub(super) send_buffer: Option<usize>,
}

impl Default for ServerPlan {
    fn default() -> Self {
        Self {
            greeting: GreetingFault::None,
            login: LoginFault::None,
            pace: Pace::AT_ONCE,
            latency: Duration::ZERO,
            end: None,
            farewell: None,
            send_buffer: None,
        }
    }
}

impl ServerPlan {
    /// Whether connecting takes its time.
    fn is_slow(&self) -> bool {
        matches!(self.greeting, GreetingFault::Late(_) | GreetingFault::Stall)
            || matches!(self.login, LoginFault::Late(_) | LoginFault::Stall)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GreetingFault {
    None,
    /// The connection is closed after so many bytes.
    Cut(usize),
    /// Too many connections.
    Crowded,
    Late(Duration),
    /// It never comes.
    Stall,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoginFault {
    None,
    /// The connection is closed when the answer to the greeting has come.
    Close,
    /// The answer takes its time.
    Late(Duration),
    /// Nothing is said to it.
    Stall,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Closed at once: a reset, if something was not read.
    Close,
    /// Closed in the one direction.
    HalfClose,
    /// Nothing is read or written any more.
    Stall,
}

#[derive(Debug)]
pub(super) struct StopPlan {
    pub(super) after: Duration,
    /// Or when the client has received so many bytes.
    pub(super) received: usize,
    /// By its id, as the console does it, instead of all sessions.
    pub(super) kill: bool,
}

impl Plan {
    /// The world of this seed.
    pub(super) fn draw(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let is_calm = rng.random_ratio(1, 4);
        let mut plan = Self::calm(seed, &mut rng);
        plan.draw_paces(&mut rng);
        if !is_calm {
            plan.draw_faults(&mut rng);
        }
        if seed < NEIGHBOURS && rng.random_ratio(1, 8) {
            let count = rng.random_range(1..4);
            plan.neighbours =
                (1..=count).map(|number| Arc::new(Self::draw(seed + number * NEIGHBOURS))).collect();
        }
        plan
    }

    /// Nothing goes wrong in it, and all are as fast as they can be.
    pub(super) fn calm(seed: u64, rng: &mut StdRng) -> Self {
        let dialect = Dialect { is_mariadb: rng.random(), deprecate_eof: rng.random() };
        let most = match rng.random_range(0..1000) {
            0..650 => 4_000,
            650..950 => 200_000,
            _ => 3_000_000,
        };
        let count = rng.random_range(0..14);
        // Only a session of settings can be continued elsewhere.
        let settings = if rng.random_ratio(1, 3) { rng.random_range(0..6) } else { 0 };
        let draw = |number: usize| match number < settings {
            true => setting(number),
            false => draw_exchange(rng, number, dialect, most / (1 + number / 3)),
        };
        let mut exchanges: Vec<Exchange> = (0..count).map(draw).collect();
        if rng.random_ratio(1, 200) {
            let number = exchanges.len();
            exchanges.push(draw_giant(rng, number, dialect));
        }
        let memory_per_session = [64, 128, 256, 1024, 16 * 1024][rng.random_range(0..5)] * 1024;
        Self {
            seed,
            is_stored: rng.random_ratio(1, 3),
            dialect,
            exchanges,
            spool: SpoolPlan {
                memory_per_session,
                disk_max: [0, 100_000, 600_000, u64::MAX][rng.random_range(0..4)],
                algorithm: [None, None, Some(Algorithm::Lz4), Some(Algorithm::Zstd)][rng.random_range(0..4)],
                encrypts: rng.random_bool(0.25),
                full: None,
            },
            drain_limit: rng.random_ratio(1, 10).then(|| rng.random_range(64 * 1024..10_000_000)),
            keepalive: Duration::from_secs(rng.random_range(10..60)),
            wait_timeout: Duration::from_secs(log_uniform(rng, 15..28_800) as u64),
            client: ClientPlan {
                reads: Pace::AT_ONCE,
                writes: Pace::AT_ONCE,
                depth: [1, 1, 2, 100][rng.random_range(0..4)],
                think: Duration::ZERO,
                login_delay: Duration::ZERO,
                stall: None,
                leaves: None,
                linger: Duration::from_secs(1),
                quits: rng.random(),
                send_buffer: None,
            },
            servers: vec![ServerPlan::default(); 6],
            stop: None,
            neighbours: Vec::new(),
        }
    }

    /// Who takes how long, and how small the pieces are.
    fn draw_paces(&mut self, rng: &mut StdRng) {
        let total = self.answers_len();
        let client = &mut self.client;
        client.reads = draw_pace(rng, Duration::from_secs(120));
        // A command that takes its time looks to the server like an idle session.
        client.writes = draw_pace(rng, Duration::from_millis(2));
        client.send_buffer = draw_buffer(rng);
        if rng.random_ratio(1, 4) {
            client.think = some_time(rng, Duration::from_secs(3600));
        }
        if rng.random_ratio(1, 10) {
            client.login_delay = some_time(rng, Duration::from_secs(60));
        }
        if rng.random_ratio(1, 3) {
            let at = rng.random_range(0..=total);
            client.stall = Some((at, some_time(rng, Duration::from_secs(20 * 3600))));
        }
        if rng.random_ratio(1, 4) {
            client.linger = some_time(rng, Duration::from_secs(20 * 3600));
        }
        for server in &mut self.servers {
            server.pace = draw_pace(rng, Duration::from_secs(20));
            server.send_buffer = draw_buffer(rng);
            if rng.random_ratio(1, 8) {
                server.latency = some_time(rng, Duration::from_secs(3600));
            }
        }
    }

    fn draw_faults(&mut self, rng: &mut StdRng) {
        // A few kinds in each world; all at once would hide each other.
        let mut has = |one_in| rng.random_ratio(1, one_in);
        let (greetings, logins, ends, farewells) = (has(5), has(6), has(2), has(10));
        let (leaves, stop, full) = (has(5), has(5), has(4));
        let total = self.answers_len();
        let own = if self.is_stored { 800 } else { 400 };
        for server in &mut self.servers {
            if greetings && rng.random_ratio(1, 2) {
                server.greeting = draw_greeting_fault(rng);
            }
            if logins && rng.random_ratio(1, 2) {
                server.login = match rng.random_range(0..5) {
                    0 => LoginFault::Stall,
                    1 => LoginFault::Late(Duration::from_millis(rng.random_range(1..4000))),
                    _ => LoginFault::Close,
                };
            }
            if ends && rng.random_ratio(2, 3) {
                let ending = [Ending::Close, Ending::Close, Ending::HalfClose, Ending::Stall];
                // What Spillway asks for itself comes first.
                let longest = if rng.random_ratio(1, 3) { own } else { own + total };
                server.end = Some((rng.random_range(1..longest), ending[rng.random_range(0..ending.len())]));
            }
            if farewells {
                server.farewell = Some(rng.random_range(0..20));
            }
        }
        if self.servers.iter().filter(|server| server.is_slow()).count() > 1 {
            // The time for all attempts could end in the middle of one.
            for server in &mut self.servers {
                if matches!(server.login, LoginFault::Late(_)) {
                    server.login = LoginFault::None;
                }
            }
        }
        if leaves {
            self.client.leaves = Some(match rng.random_range(0..6) {
                0 => Leaves::BeforeResponse,
                1 => Leaves::AfterResponse,
                2 => Leaves::Sent(rng.random_range(0..=self.commands_len())),
                _ => Leaves::Received(rng.random_range(0..=total)),
            });
        }
        if stop {
            let (after, kill) = (some_time(rng, Duration::from_secs(20 * 3600)), rng.random());
            self.stop = Some(StopPlan { after, received: rng.random_range(0..=total), kill });
        }
        if full {
            let from = some_time(rng, Duration::from_secs(3600));
            self.spool.full = Some(from..from + some_time(rng, Duration::from_secs(3600)));
        }
    }

    fn answers_len(&self) -> usize {
        self.exchanges.iter().map(|exchange| exchange.answer.bytes.len()).sum()
    }

    fn commands_len(&self) -> usize {
        self.exchanges.iter().map(|exchange| 4 + exchange.payload.len()).sum()
    }

    /// Whether the client must be let in, whatever happens to its server.
    pub(super) fn must_log_in(&self) -> bool {
        let lost = self.servers.iter().filter(|server| server.login != LoginFault::None).count();
        // With the client's own answers there is one more try.
        let can_be_healed = self.is_stored || lost <= 1;
        self.stop.is_none() && can_be_healed && !self.servers.iter().any(ServerPlan::is_slow)
    }

    /// What the client is to see.
    pub(super) fn expectation(&self) -> Expectation {
        let ends = vec![(0, FIRST_ID)];
        let mut expectation = Expectation { bytes: Vec::new(), ends, answers: Vec::new() };
        for exchange in &self.exchanges {
            expectation.add(&exchange.answer);
        }
        expectation
    }
}

/// All answers, one behind the other.
#[derive(Debug)]
pub(super) struct Expectation {
    pub(super) bytes: Vec<u8>,
    /// Where logical packets end, and the sequence id of an ERR that may follow; the first is the beginning.
    pub(super) ends: Vec<(usize, u8)>,
    /// Where the answer to each command ends.
    pub(super) answers: Vec<usize>,
}

impl Expectation {
    fn add(&mut self, answer: &Packets) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&answer.bytes);
        self.ends.extend(answer.ends.iter().map(|&(end, next)| (start + end, next)));
        if let Some(last) = self.ends.last_mut() {
            // The next packet answers the next command.
            last.1 = FIRST_ID;
        }
        self.answers.push(self.bytes.len());
    }

    /// Where the answers to the first `commands` end.
    pub(super) fn due(&self, commands: usize) -> usize {
        commands.checked_sub(1).map_or(0, |last| self.answers[last])
    }
}

/// From this one on, seeds are those of neighbours.
const NEIGHBOURS: u64 = 1 << 40;

/// Of an answer's first packet.
const FIRST_ID: u8 = 1;

/// A number of which each order of magnitude is as likely as the others.
pub(super) fn log_uniform(rng: &mut StdRng, range: Range<usize>) -> usize {
    let (low, high) = (range.start.max(1) as f64, range.end.max(range.start + 1).max(2) as f64);
    (low * (high / low).powf(rng.random::<f64>())) as usize
}

fn some_time(rng: &mut StdRng, longest: Duration) -> Duration {
    Duration::from_millis(log_uniform(rng, 1..longest.as_millis() as usize) as u64)
}

fn draw_pace(rng: &mut StdRng, longest_pause: Duration) -> Pace {
    if rng.random_ratio(1, 3) {
        return Pace::AT_ONCE;
    }
    Pace {
        piece: log_uniform(rng, 1..64 * 1024),
        pause_in: [0, 1, 10, 50][rng.random_range(0..4)],
        pause: some_time(rng, longest_pause),
    }
}

/// The size of a socket's buffer; none for the kernel's own.
fn draw_buffer(rng: &mut StdRng) -> Option<usize> {
    rng.random_bool(0.7).then(|| log_uniform(rng, 2048..200_000))
}

fn draw_greeting_fault(rng: &mut StdRng) -> GreetingFault {
    match rng.random_range(0..8) {
        0..3 => GreetingFault::Cut(rng.random_range(0..90)),
        3..6 => GreetingFault::Crowded,
        6 => GreetingFault::Late(some_time(rng, Duration::from_secs(40))),
        _ => GreetingFault::Stall,
    }
}
