//! What a process has used of the machine, by its number.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::time::ClockId;
use nix::unistd::Pid;
use spillway_tests::process::memory;

/// CPU time of all its threads so far, of those that have ended as well, in user mode and in the kernel. The process's
/// own clock counts nanoseconds; `/proc/PID/stat` has hundredths of a second, which is coarse for one run. What the
/// kernel does in threads of its own (writing back its cache, say) is in neither.
pub fn cpu(pid: u32) -> Result<Duration> {
    let number = Pid::from_raw(i32::try_from(pid).context("process number")?);
    let clock =
        ClockId::pid_cpu_clock_id(number).with_context(|| format!("the CPU clock of process {pid}"))?;
    Ok(clock.now().with_context(|| format!("reading the CPU clock of process {pid}"))?.into())
}

/// The most memory that it had resident so far, in bytes.
pub fn peak_memory(pid: u32) -> Result<u64> {
    memory(pid, "VmHWM")
}

/// The memory that it has resident now, in bytes.
pub fn resident_memory(pid: u32) -> Result<u64> {
    memory(pid, "VmRSS")
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn threads_that_have_ended_count() {
        let own = std::process::id();
        let work = Duration::from_millis(50);
        let before = cpu(own).unwrap();
        thread::spawn(move || {
            let clock = ClockId::CLOCK_THREAD_CPUTIME_ID;
            while Duration::from(clock.now().unwrap()) < work {}
        })
        .join()
        .unwrap();
        assert!(cpu(own).unwrap() - before >= work);
        assert!(peak_memory(own).unwrap() >= resident_memory(own).unwrap());
    }

    #[test]
    fn a_process_that_is_gone_has_used_nothing_that_can_be_told() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(cpu(child.id()).unwrap_err().to_string().contains(&child.id().to_string()));
    }
}
