//! Child processes with a time limit, and what the kernel tells of them.

use std::fs;
use std::io::{Read, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use crate::leash::Leash;
use crate::wait::wait_for;

/// What a program that ran to its end left.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// All of its standard error, invalid UTF-8 replaced.
    pub stderr: String,
    /// From start to end.
    pub took: Duration,
}

impl Finished {
    /// The exit code, or 128+n as a shell shows signal n.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or_default())
    }

    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Itself, where the program ended with status 0; else an error with what it said.
    pub fn success(self) -> Result<Self> {
        if self.status.success() {
            return Ok(self);
        }
        bail!("ended with {}: {}", self.status, self.stderr.trim());
    }
}

/// Runs `command` to its end with nothing on stdin. After `limit` it is killed, by its number, and that is an error.
pub fn run(command: &mut Command, limit: Duration) -> Result<Finished> {
    run_with_input(command, &[], limit)
}

/// As [`run`], with `input` on stdin.
pub fn run_with_input(command: &mut Command, input: &[u8], limit: Duration) -> Result<Finished> {
    let mut running = Running::start(command.stdin(Stdio::piped()))?;
    let stdin = running.child.stdin.take();
    thread::scope(|scope| {
        scope.spawn(move || {
            if let Some(mut stdin) = stdin {
                // A program that does not read all of its input (an error came first) is no fault of the test.
                let _ = stdin.write_all(input);
            }
        });
        running.finish(limit)
    })
}

/// A program under way. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    /// The program itself; its stdout may be taken to feed a slow sink.
    pub child: Child,
    leash: Option<Leash>,
    started: Instant,
    name: String,
}

impl Running {
    /// Starts `command`; its stdout and stderr are pipes, its stdin is empty unless it was set.
    pub fn start(command: &mut Command) -> Result<Self> {
        Self::start_as_is(command.stdout(Stdio::piped()).stderr(Stdio::piped()))
    }

    /// Starts `command` with the files that it was given.
    pub fn start_as_is(command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| {
            format!("starting {name} (not installed? scripts/setup installs what the tests need)")
        })?;
        let leash = Some(Leash::new(Some(child.id()), None)?);
        Ok(Self { child, leash, started: Instant::now(), name })
    }

    /// The process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end, reading whatever of stdout and stderr was not taken; kills it after `limit`.
    pub fn finish(mut self, limit: Duration) -> Result<Finished> {
        let stdout = self.child.stdout.take();
        let stderr = self.child.stderr.take();
        thread::scope(|scope| {
            let stdout = scope.spawn(move || read_all(stdout));
            let stderr = scope.spawn(move || read_all(stderr));
            let status = self.wait(limit);
            if status.is_err() {
                // Unblocks the readers.
                self.end();
            }
            let took = self.started.elapsed();
            let stdout = stdout.join().unwrap_or_default();
            let stderr = String::from_utf8_lossy(&stderr.join().unwrap_or_default()).into_owned();
            let status = status.with_context(|| format!("stderr so far: {}", stderr.trim()))?;
            Ok(Finished { status, stdout, stderr, took })
        })
    }

    /// Waits for the end only.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        let child = &mut self.child;
        let status = wait_for(limit, &what, || Ok(child.try_wait()?))?;
        self.leash = None;
        Ok(status)
    }

    /// The exit status, where it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Kills it (SIGKILL) and waits for it. Nothing happens where it has ended.
    pub fn end(&mut self) {
        self.leash = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Sends `signal` to one process.
pub fn send(pid: u32, signal: Signal) -> Result<()> {
    let number = i32::try_from(pid).context("process number")?;
    signal::kill(Pid::from_raw(number), signal).with_context(|| format!("sending {signal} to {pid}"))
}

/// A field of `/proc/PID/status` that the kernel gives in kB, in bytes: `VmHWM` is the peak of resident memory.
pub fn memory(pid: u32, field: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
        .with_context(|| format!("no {field} in {path}"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().with_context(|| line.to_owned())?;
    Ok(kib * 1024)
}

/// Bytes on disk of the files under `dir` that the process has open, removed ones and nameless ones included.
pub fn open_file_space(pid: u32, dir: &Path) -> Result<u64> {
    let mut space = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        // A descriptor may be closed between the listing and the look at it.
        let Ok(path) = entry.map(|entry| entry.path()) else {
            continue;
        };
        let (Ok(target), Ok(file)) = (fs::read_link(&path), fs::metadata(&path)) else {
            continue;
        };
        if target.starts_with(dir) && file.is_file() {
            space += file.blocks() * 512;
        }
    }
    Ok(space)
}

fn read_all(stream: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        let _ = stream.read_to_end(&mut bytes);
    }
    bytes
}
