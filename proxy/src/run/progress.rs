//! The progress of `run` on a terminal.
//!
//! It is drawn by a thread of its own: a terminal that is stopped (Ctrl-S) must not stop the dump.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressStyle};

use crate::sessions::{SessionSnapshot, Sessions, State};

/// Time between two drawings.
const TICK: Duration = Duration::from_millis(200);

/// The time over which speeds are taken.
const WINDOW: Duration = Duration::from_secs(3);

/// The display, while the client runs.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Dropped to end the thread.
    end: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Shows the progress of `sessions` above which `lines` writes.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(crate) fn start(
        client: &'static str,
        sessions: Arc<Sessions>,
        lines: MultiProgress,
    ) -> std::io::Result<Self> {
        let (end, ended) = sync_channel(0);
        let draw = move || draw(client, &sessions, &lines, &ended);
        let thread = thread::Builder::new().name("progress".to_owned()).spawn(draw)?;
        Ok(Self { end: Some(end), thread: Some(thread) })
    }
}

/// Clears the display.
impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.end.take());
        // One that has panicked is over, too.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn draw(client: &str, sessions: &Sessions, lines: &MultiProgress, ended: &Receiver<()>) {
    let style = ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    let [first, second] = [(); 2].map(|()| lines.add(ProgressBar::new_spinner().with_style(style.clone())));
    let mut speeds = Speeds::new();
    while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
        let (snapshot, totals) = (sessions.snapshot(), sessions.totals());
        let (drained, fed) = speeds.add(totals.drained, totals.fed);
        first.set_message(what(client, speeds.began.elapsed(), &snapshot));
        second.set_message(how(&snapshot, (totals.drained, drained), (totals.fed, fed)));
    }
    first.finish_and_clear();
    second.finish_and_clear();
    let _ = lines.clear();
}

/// What the dump does now.
fn what(client: &str, since: Duration, sessions: &[SessionSnapshot]) -> String {
    let clock = since.as_secs();
    let clock = format!("{:02}:{:02}:{:02}", clock / 3600, clock / 60 % 60, clock % 60);
    // Of several, the one that has more to do.
    let busiest = sessions.iter().max_by_key(|session| (session.state != State::Idle, session.backlog));
    let doing = match busiest {
        None => "no session".to_owned(),
        Some(session) if session.state == State::Login => {
            let attempt = match session.attempts {
                0 | 1 => String::new(),
                attempt => format!(", attempt {attempt}"),
            };
            format!("logging in for {} s{attempt}", session.age_ms / 1000)
        }
        Some(session) => {
            let subject: &str = session.subject.as_deref().unwrap_or("logged in");
            let subject: String = subject.chars().filter(|c| !c.is_control()).take(60).collect();
            format!("{subject}  {} rows", HumanCount(session.subject_rows))
        }
    };
    let others = match sessions.len() {
        0 | 1 => String::new(),
        many => format!("  ({many} sessions)"),
    };
    format!("{clock} {client}  {doing}{others}")
}

/// How fast it goes on either side, and what lies between.
fn how(sessions: &[SessionSnapshot], drained: (u64, f64), fed: (u64, f64)) -> String {
    let backlog: u64 = sessions.iter().map(|session| session.backlog).sum();
    let on_disk: u64 = sessions.iter().map(|session| session.on_disk).sum();
    let lead = sessions.iter().map(|session| session.lead_ms).max().unwrap_or_default();
    let lead = if lead >= 1000 { format!("   lead {} s", lead / 1000) } else { String::new() };
    let [backlog, on_disk] = [backlog, on_disk].map(short);
    let speed = |(bytes, speed): (u64, f64)| format!("{}, {}/s", short(bytes), short(speed as u64));
    let (drained, fed) = (speed(drained), speed(fed));
    format!("  server {drained}  ▸  backlog {backlog}, {on_disk} on disk  ▸  client {fed}{lead}")
}

/// A size in three digits or so: `9.6 MiB`, `128 MiB`.
fn short(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 10.0);
    format!("{value:.digits$} {}", units[unit])
}

/// Speeds of the last seconds.
struct Speeds {
    began: Instant,
    points: VecDeque<(Instant, u64, u64)>,
}

impl Speeds {
    fn new() -> Self {
        let began = Instant::now();
        Self { began, points: VecDeque::from([(began, 0, 0)]) }
    }

    /// Gives both speeds, in bytes a second.
    fn add(&mut self, drained: u64, fed: u64) -> (f64, f64) {
        let now = Instant::now();
        self.points.push_back((now, drained, fed));
        // The oldest stays until the next one is out of the window, too.
        while self.points.get(1).is_some_and(|(then, ..)| now - *then > WINDOW) {
            self.points.pop_front();
        }
        let (then, old_drained, old_fed) = self.points.front().copied().unwrap_or((now, drained, fed));
        let seconds = (now - then).as_secs_f64().max(0.001);
        ((drained - old_drained) as f64 / seconds, (fed - old_fed) as f64 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_tell_what_goes_on() {
        assert_eq!(what("mysqldump", Duration::from_secs(3723), &[]), "01:02:03 mysqldump  no session");
        let line = how(&[], (3 << 20, 2048.0), (1 << 30, 0.0));
        assert_eq!(
            line,
            "  server 3.0 MiB, 2.0 KiB/s  ▸  backlog 0 B, 0 B on disk  ▸  client 1.0 GiB, 0 B/s"
        );
        assert_eq!([1023, 10 << 10, 999 << 20].map(short), ["1.0 KiB", "10 KiB", "999 MiB"]);
    }
}
