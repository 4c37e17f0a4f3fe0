//! Holds back the signals that would end Spillway, to pass them on to the client.
//!
//! The client stays in Spillway's process group, so that the terminal treats both alike: Ctrl-C reaches the client
//! without our doing. A signal that somebody sent to Spillway alone does not, and is passed on. The kernel tells the
//! two apart in the signal's `si_code`, which a signalfd shows and a signal handler of tokio's does not.

use std::io;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::error::RunError;

/// The signals that would end Spillway, held back to be passed on to the client.
#[derive(Debug)]
pub struct BlockedSignals {
    fd: SignalFd,
    /// What was blocked before, and is to be blocked in the client: nothing, as a rule.
    before: SigSet,
}

impl BlockedSignals {
    /// Holds the signals back in this thread and in all that it starts: call it before there are other threads, that
    /// is, before the async runtime starts. Signals that are ignored (`nohup`) stay so.
    pub fn block() -> Result<Self, RunError> {
        let ignored = ignored_signals()?;
        let signals: SigSet = PASSED_ON.into_iter().filter(|&signal| !is_in(ignored, signal)).collect();
        let before = signals
            .thread_swap_mask(SigmaskHow::SIG_BLOCK)
            .map_err(|errno| signals_error("block signals", errno))?;
        let fd = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .map_err(|errno| signals_error("make a signalfd", errno))?;
        Ok(Self { fd, before })
    }

    /// The signal mask that the client is to have.
    pub(crate) fn mask_before(&self) -> SigSet {
        self.before
    }

    /// The next signal that has come, if one has.
    pub(crate) fn next(&self) -> Result<Option<Received>, RunError> {
        read(&self.fd)
    }

    /// Lets the signals be waited for. To be called in the async runtime.
    #[expect(
        deprecated,
        reason = "what replaces it is unsafe; a SignalFd owns its descriptor, which is all that is asked for"
    )]
    pub(crate) fn watch(self) -> Result<WatchedSignals, RunError> {
        let fd = AsyncFd::with_interest(self.fd, Interest::READABLE).map_err(watch_error)?;
        Ok(WatchedSignals { fd })
    }
}

/// The signals that are held back, in the async runtime.
#[derive(Debug)]
pub(crate) struct WatchedSignals {
    fd: AsyncFd<SignalFd>,
}

impl WatchedSignals {
    /// Waits for the next signal. May be dropped: a signal that is not given back is kept.
    pub(crate) async fn next(&mut self) -> Result<Received, RunError> {
        loop {
            let mut ready = self.fd.readable().await.map_err(watch_error)?;
            if let Some(received) = read(ready.get_inner())? {
                return Ok(received);
            }
            ready.clear_ready();
        }
    }
}

/// A signal that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// Which one.
    pub(crate) signal: Signal,
    /// The process that sent it; 0 for the kernel.
    pub(crate) sender: u32,
    /// The kernel sent it: then the terminal did, and to the whole process group.
    pub(crate) from_kernel: bool,
}

impl Received {
    /// Whether the client does not have it yet. SIGTERM never comes from a terminal.
    pub(crate) fn is_for_us_alone(&self) -> bool {
        !self.from_kernel || self.signal == Signal::SIGTERM
    }
}

fn read(fd: &SignalFd) -> Result<Option<Received>, RunError> {
    let failed = |errno| signals_error("read a signal", errno);
    let Some(info) = fd.read_signal().map_err(failed)? else {
        return Ok(None);
    };
    let signal = Signal::try_from(info.ssi_signo.cast_signed()).map_err(failed)?;
    Ok(Some(Received { signal, sender: info.ssi_pid, from_kernel: info.ssi_code == libc::SI_KERNEL }))
}

/// The mask of ignored signals: bit n-1 stands for signal n.
fn ignored_signals() -> Result<u64, RunError> {
    let failed =
        |source| RunError::Signals { action: "read the ignored signals in /proc/self/status", source };
    let status = std::fs::read_to_string("/proc/self/status").map_err(failed)?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .ok_or_else(|| failed(io::Error::new(io::ErrorKind::InvalidData, "no line `SigIgn:`")))
}

fn is_in(mask: u64, signal: Signal) -> bool {
    mask >> (signal as i32 - 1) & 1 == 1
}

pub(crate) fn signals_error(action: &'static str, errno: Errno) -> RunError {
    RunError::Signals { action, source: errno.into() }
}

fn watch_error(source: io::Error) -> RunError {
    RunError::Signals { action: "watch for signals", source }
}

/// All that end a program by default and that people send.
const PASSED_ON: [Signal; 6] =
    [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals() {
        assert!(is_in(0b1, Signal::SIGHUP));
        assert!(is_in(0x4000, Signal::SIGTERM));
        assert!(!is_in(0x1000, Signal::SIGTERM)); // SIGPIPE, which Rust ignores
        let ignored = ignored_signals().expect("readable");
        assert!(is_in(ignored, Signal::SIGPIPE));
        assert!(!is_in(ignored, Signal::SIGTERM));
    }

    #[test]
    fn who_has_the_signal() {
        let received = |signal, from_kernel| Received { signal, sender: 1, from_kernel };
        assert!(received(Signal::SIGINT, false).is_for_us_alone());
        assert!(!received(Signal::SIGINT, true).is_for_us_alone());
        assert!(!received(Signal::SIGHUP, true).is_for_us_alone());
        assert!(received(Signal::SIGTERM, true).is_for_us_alone());
    }
}
