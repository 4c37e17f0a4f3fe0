//! Where and when it was measured, and what.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use serde::Serialize;
use spillway_tests::client;

/// The machine and the time.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Cores that a run can use.
    pub cores: usize,
    /// Memory in bytes.
    pub memory: u64,
    /// The kernel's release.
    pub kernel: String,
    /// The kernel's 1-minute load average before the start: over 0.5 or so, others were at work.
    pub load: f64,
    /// The day, in UTC.
    pub date: String,
}

impl Machine {
    /// As it is now.
    pub fn look() -> Result<Self> {
        let load = read("/proc/loadavg")?;
        Ok(Self {
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(|_| "unknown processor".to_owned()),
            cores: thread::available_parallelism()?.get(),
            memory: memory()?,
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            load: load.split(' ').next().and_then(|word| word.parse().ok()).context("/proc/loadavg")?,
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string()[..DATE_LEN].to_owned(),
        })
    }

    /// In a line.
    pub fn text(&self) -> String {
        format!(
            "{}, {} cores, {:.0} GiB, Linux {}",
            self.cpu,
            self.cores,
            self.memory as f64 / f64::from(1 << 30),
            self.kernel
        )
    }
}

/// What a program says of its version in the first line, without its name and what follows a comma.
pub fn version(program: &str, argument: &str) -> Result<String> {
    let mut command: Command = client::clean(program);
    let output = command
        .arg(argument)
        .output()
        .with_context(|| format!("starting {program} (not installed? make bench installs what it needs)"))?;
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().next().unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or_default();
    let version = line.trim_start().strip_prefix(name).unwrap_or(line);
    Ok(version.split(',').next().unwrap_or_default().trim().to_owned())
}

fn memory() -> Result<u64> {
    let text = field("/proc/meminfo", "MemTotal")?;
    let kib: u64 = text.trim_end_matches("kB").trim().parse().with_context(|| text.clone())?;
    Ok(kib * 1024)
}

/// The value in the first line `name : value`.
fn field(path: &str, name: &str) -> Result<String> {
    let text = read(path)?;
    let value = text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    });
    value.with_context(|| format!("no {name} in {path}"))
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.to_owned())
}

const DATE_LEN: usize = "2026-11-21".len();
