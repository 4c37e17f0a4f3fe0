//! Programs run to their ends, side by side or as a pipe, and the moments of their ends.

use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use spillway_tests::process;

/// Runs programs side by side, their output going to /dev/null; gives the time until the last has ended. Each has to
/// end with status 0.
pub fn time_all(commands: Vec<Command>, limit: Duration) -> Result<Duration> {
    let mut jobs = Jobs::new();
    for mut command in commands {
        jobs.start(command.stdin(Stdio::null()).stdout(Stdio::null()))?;
    }
    jobs.wait(limit)?.into_iter().max().context("no program to run")
}

/// Runs `commands` as a shell's pipe into /dev/null; gives the time until each has ended. Each has to end with status 0.
pub fn time_pipe(commands: Vec<Command>, limit: Duration) -> Result<Vec<Duration>> {
    Pipe::start_into(commands, Stdio::null())?.wait(limit)
}

/// A shell's pipe under way. Dropping it kills what still runs.
#[derive(Debug)]
pub struct Pipe {
    jobs: Jobs,
    /// What comes out of it.
    pub output: Option<ChildStdout>,
}

impl Pipe {
    /// Starts a pipe with an open end, `output`.
    pub fn start(commands: Vec<Command>) -> Result<Self> {
        Self::start_into(commands, Stdio::piped())
    }

    fn start_into(commands: Vec<Command>, end: Stdio) -> Result<Self> {
        let mut jobs = Jobs::new();
        let mut output = None;
        let mut end = Some(end);
        let last = commands.len().saturating_sub(1);
        for (number, mut command) in commands.into_iter().enumerate() {
            let input = output.take().map_or_else(Stdio::null, Stdio::from);
            let piped = if number == last { end.take() } else { None };
            let mut child = command.stdin(input).stdout(piped.unwrap_or_else(Stdio::piped)).spawn_named()?;
            output = child.stdout.take();
            jobs.add(&command, child);
        }
        Ok(Self { jobs, output })
    }

    /// When the first program was started.
    pub fn started(&self) -> Instant {
        self.jobs.start
    }

    /// Waits until all have ended; gives the time until each had.
    pub fn wait(self, limit: Duration) -> Result<Vec<Duration>> {
        self.jobs.wait(limit)
    }
}

/// Programs under way. Polling for their ends, as [`spillway_tests::process`] does, is too coarse for half a second.
#[derive(Debug)]
struct Jobs {
    start: Instant,
    jobs: Vec<Job>,
    sender: Sender<(usize, Result<Duration>)>,
    ended: Receiver<(usize, Result<Duration>)>,
}

#[derive(Debug)]
struct Job {
    pid: u32,
    name: String,
    has_ended: bool,
}

impl Jobs {
    fn new() -> Self {
        let (sender, ended) = mpsc::channel();
        Self { start: Instant::now(), jobs: Vec::new(), sender, ended }
    }

    fn start(&mut self, command: &mut Command) -> Result<()> {
        let child = command.spawn_named()?;
        self.add(command, child);
        Ok(())
    }

    fn add(&mut self, command: &Command, mut child: Child) {
        let name = command.get_program().to_string_lossy().into_owned();
        let (number, start, sender) = (self.jobs.len(), self.start, self.sender.clone());
        self.jobs.push(Job { pid: child.id(), name: name.clone(), has_ended: false });
        thread::spawn(move || {
            let status = child.wait();
            let took = start.elapsed();
            let result = status.with_context(|| format!("waiting for {name}")).and_then(|status| {
                ensure!(status.success(), "{name} ended with {status}");
                Ok(took)
            });
            // Nobody listens any more after another one's error.
            let _ = sender.send((number, result));
        });
    }

    fn wait(mut self, limit: Duration) -> Result<Vec<Duration>> {
        let mut took = vec![Duration::ZERO; self.jobs.len()];
        for _ in 0..took.len() {
            let left = limit.saturating_sub(self.start.elapsed());
            let (number, result) = self.ended.recv_timeout(left).with_context(|| {
                format!("{} not done after {} s", self.names_of_running(), limit.as_secs())
            })?;
            self.jobs[number].has_ended = true;
            took[number] = result?;
        }
        Ok(took)
    }

    fn running(&self) -> impl Iterator<Item = &Job> {
        self.jobs.iter().filter(|job| !job.has_ended)
    }

    fn names_of_running(&self) -> String {
        self.running().map(|job| job.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

impl Drop for Jobs {
    /// After an error of one the others are of no use.
    fn drop(&mut self) {
        for (number, _) in self.ended.try_iter() {
            self.jobs[number].has_ended = true;
        }
        for job in self.running() {
            // It may have ended by itself in this moment.
            let _ = process::send(job.pid, Signal::SIGKILL);
        }
    }
}

trait SpawnNamed {
    fn spawn_named(&mut self) -> Result<Child>;
}

impl SpawnNamed for Command {
    fn spawn_named(&mut self) -> Result<Child> {
        let name = self.get_program().to_string_lossy().into_owned();
        self.spawn()
            .with_context(|| format!("starting {name} (not installed? make bench installs what it needs)"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_pipe_hands_on_what_it_gets() {
        let stages = vec![sh("echo 7"), sh("read x; echo $((x + 1))"), sh("read x; test $x = 8")];
        assert_eq!(time_pipe(stages, LIMIT).unwrap().len(), 3);
    }

    #[test]
    fn one_that_fails_ends_the_others() {
        let start = Instant::now();
        let error = time_all(vec![sh("exec sleep 100"), sh("exit 3")], LIMIT).unwrap_err();
        assert!(format!("{error:#}").contains("status: 3"), "{error:#}");
        assert!(start.elapsed() < LIMIT);
    }

    const LIMIT: Duration = Duration::from_secs(60);
}
