//! Places for a dump to go to that are far too slow, all of which keep what arrives for comparison.
//!
//! Each is *held* rather than throttled: it takes nothing until it is let go, for as long as the test wants. To the
//! server that is the worst of slow sinks, and the point at which it gives up (`net_write_timeout`) does not depend on
//! the speed of the machine.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;

use crate::process::{self, Running};

/// A reader of a pipe that stops after `ahead` bytes until [`Held::release`], and then reads on to the end.
#[derive(Debug)]
pub struct Held {
    source: Box<dyn Source>,
    bytes: Vec<u8>,
}

/// What a sink reads from.
pub trait Source: Read + Send + std::fmt::Debug {}

impl<T: Read + Send + std::fmt::Debug> Source for T {}

impl Held {
    /// Reads `ahead` bytes of `source` (waiting for them), then nothing.
    pub fn after(mut source: impl Source + 'static, ahead: u64) -> Result<Self> {
        let mut bytes = Vec::new();
        (&mut source).take(ahead).read_to_end(&mut bytes)?;
        Ok(Self { source: Box::new(source), bytes })
    }

    /// What it has read so far.
    pub fn so_far(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads the rest, in the background.
    pub fn release(mut self) -> Draining {
        Draining(thread::spawn(move || {
            self.source.read_to_end(&mut self.bytes)?;
            Ok(self.bytes)
        }))
    }
}

/// A sink that takes all there is.
#[derive(Debug)]
pub struct Draining(JoinHandle<io::Result<Vec<u8>>>);

impl Draining {
    /// All that came.
    pub fn finish(self) -> Result<Vec<u8>> {
        let bytes = self.0.join().map_err(|_| anyhow!("the reading thread panicked"))?;
        bytes.context("reading the sink")
    }
}

/// `| gzip`, as a compressor that gets no CPU: stopped (SIGSTOP) until it is released.
#[derive(Debug)]
pub struct Gzip {
    running: Running,
    output: Draining,
}

impl Gzip {
    /// Starts a stopped gzip that reads `input`, the stdout of the dump.
    pub fn stopped(input: impl Into<Stdio>) -> Result<Self> {
        let mut command = Command::new("gzip");
        command.arg("-1").stdin(input).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut running = Running::start_as_is(&mut command)?;
        process::send(running.pid(), Signal::SIGSTOP)?;
        let output = running.child.stdout.take().context("no stdout")?;
        let output = Held { source: Box::new(output), bytes: Vec::new() }.release();
        Ok(Self { running, output })
    }

    /// Lets it work.
    pub fn release(&self) -> Result<()> {
        process::send(self.running.pid(), Signal::SIGCONT)
    }

    /// What it got, decompressed again.
    pub fn finish(mut self, limit: Duration) -> Result<Vec<u8>> {
        self.running.wait(limit)?;
        let packed = self.output.finish()?;
        let mut gunzip = Command::new("gzip");
        Ok(process::run_with_input(gunzip.arg("-dc"), &packed, limit)?.success()?.stdout)
    }
}

/// A file on a file system that stalls.
///
/// What a stalling file system (a hanging NFS server, a frozen or thrashing disk) does to a dump is that write(2) does
/// not return. A FIFO that nobody reads does just that, at a time that the test chooses, without a kernel module, a
/// mount or root; it is opened for writing by its name, as any file is. (A loop mount under `fsfreeze` does the same
/// with more luggage, and leaves unkillable processes behind when a test dies in between.)
#[derive(Debug)]
pub struct StallingFile {
    path: PathBuf,
    reader: Held,
}

impl StallingFile {
    /// A stalled file in `dir`.
    pub fn create(dir: &Path) -> Result<Self> {
        let path = dir.join("dump.sql");
        nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).context("mkfifo")?;
        // A plain open would wait for the writer; O_NONBLOCK counts for this side only.
        let file = OpenOptions::new().read(true).custom_flags(libc_o_nonblock()).open(&path)?;
        let reader = Held { source: Box::new(Blocking(file)), bytes: Vec::new() };
        Ok(Self { path, reader })
    }

    /// Where the dump is to write to.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file system recovers. To be called while the writer has it open.
    pub fn release(self) -> Draining {
        self.reader.release()
    }
}

/// A file opened with O_NONBLOCK that reads as one without.
#[derive(Debug)]
struct Blocking(File);

impl Read for Blocking {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(PAUSE),
                other => return other,
            }
        }
    }
}

fn libc_o_nonblock() -> i32 {
    nix::fcntl::OFlag::O_NONBLOCK.bits()
}

const PAUSE: Duration = Duration::from_millis(1);
