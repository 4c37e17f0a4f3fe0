//! How much has left the server and how much has reached the sink, over time, seen from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use spillway_tests::{Raw, Server};

/// A watch under way. It asks the server twenty times a second, so what is watched is not to be measured as well.
#[derive(Debug)]
pub struct Flow {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Moment>>>,
}

/// What was seen at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// Seconds since the start.
    pub at: f64,
    /// Bytes that the server had sent since then.
    pub sent: u64,
    /// Bytes that the sink had taken.
    pub taken: u64,
}

impl Flow {
    /// Watches the server, and `taken`, which a sink counts up; time counts from now.
    pub fn watch(server: &Server, taken: Arc<AtomicU64>) -> Result<Self> {
        let mut connection = Raw::login(server.address())?;
        let before = bytes_sent(&mut connection)?;
        let start = Instant::now();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut moments = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let taken = taken.load(Ordering::Relaxed);
                let sent = bytes_sent(&mut connection)? - before;
                moments.push(Moment { at: start.elapsed().as_secs_f64(), sent, taken });
                thread::sleep(PERIOD);
            }
            Ok(moments)
        });
        Ok(Self { stop, thread })
    }

    /// Ends the watch.
    pub fn finish(self) -> Result<Vec<Moment>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the watching thread panicked"))?
    }
}

fn bytes_sent(connection: &mut Raw) -> Result<u64> {
    let value = connection.value(BYTES_SENT)?;
    value.parse().with_context(|| format!("Bytes_sent is {value}"))
}

const BYTES_SENT: &str =
    "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'BYTES_SENT'";
const PERIOD: Duration = Duration::from_millis(50);
