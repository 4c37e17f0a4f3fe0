//! Starts the client, passes signals on to it and waits for its end.

use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawnp};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use tokio::task::JoinHandle;

use super::error::RunError;
use super::signals::{BlockedSignals, Received, WatchedSignals, signals_error};
use crate::credentials::PASSWORD_VARIABLE;

/// The client, running.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    signals: WatchedSignals,
    /// Ends when the client has ended, and does not reap it: as long as we have not, its number is nobody else's and
    /// can be signalled.
    ended: JoinHandle<Result<(), Errno>>,
    exit: Option<ClientExit>,
}

impl Child {
    /// Starts the client with Spillway's own stdin and stdout, and its stderr or the one given. If a signal came before, it is not started: the
    /// terminal's Ctrl-C would not have reached it.
    ///
    /// To be called in the async runtime. Dropping the value kills a client that still runs.
    pub fn spawn(
        argv: &[OsString],
        signals: BlockedSignals,
        stderr: Option<&OwnedFd>,
    ) -> Result<Self, RunError> {
        if let Some(received) = signals.next()? {
            return Err(RunError::Interrupted { signal: received.signal as i32 });
        }
        let mask = signals.mask_before();
        let signals = signals.watch()?;
        let pid = spawn(argv, &mask, stderr)?;
        let ended = tokio::task::spawn_blocking(move || wait_without_reaping(pid));
        Ok(Self { pid, signals, ended, exit: None })
    }

    /// Waits until the client ends, and passes signals on to it meanwhile. May be dropped and called again.
    pub async fn wait(&mut self) -> Result<ClientExit, RunError> {
        if let Some(exit) = self.exit {
            return Ok(exit);
        }
        loop {
            tokio::select! {
                ended = &mut self.ended => {
                    let ended = ended.map_err(|source| RunError::Wait { source: source.into() })?;
                    let status = ended.and_then(|()| waitpid(self.pid, None));
                    let exit = status.and_then(ClientExit::from_status);
                    let exit = exit.map_err(|errno| RunError::Wait { source: errno.into() })?;
                    return Ok(*self.exit.insert(exit));
                }
                received = self.signals.next() => pass_on(received?, self.pid)?,
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.exit.is_none() {
            // It may have ended just now; nobody else has its number before it is reaped.
            let _ = kill(self.pid, Signal::SIGKILL);
        }
    }
}

/// How the client ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientExit {
    /// By itself, with this status.
    Status(u8),
    /// By this signal.
    Signal(i32),
}

impl ClientExit {
    /// Whether the client ended with status 0.
    pub fn success(self) -> bool {
        self == Self::Status(0)
    }

    /// The exit status for `run`: the client's own, or 128 + n if signal n ended it.
    pub fn code(self) -> u8 {
        match self {
            Self::Status(status) => status,
            Self::Signal(signal) => code_of_signal(signal),
        }
    }

    fn from_status(status: WaitStatus) -> Result<Self, Errno> {
        match status {
            WaitStatus::Exited(_, status) => Ok(Self::Status(u8::try_from(status).unwrap_or(u8::MAX))),
            WaitStatus::Signaled(_, signal, _) => Ok(Self::Signal(signal as i32)),
            // Not asked for.
            _ => Err(Errno::EINVAL),
        }
    }
}

impl fmt::Display for ClientExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "exit status {status}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// The number of stderr.
const STDERR: i32 = 2;

/// What a shell makes of a program that a signal ended.
pub(crate) fn code_of_signal(signal: i32) -> u8 {
    u8::try_from(signal).map_or(u8::MAX, |signal| 128u8.saturating_add(signal))
}

/// Starts a program found by PATH, with this signal mask.
///
/// Not by `std::process::Command`: that hands our own mask down, and the client would never see the signals that we
/// block.
fn spawn(argv: &[OsString], mask: &SigSet, stderr: Option<&OwnedFd>) -> Result<Pid, RunError> {
    let program = argv.first().ok_or(RunError::NoCommand)?;
    let failed = |errno: Errno| RunError::spawn(program.to_string_lossy().into_owned(), errno.into());
    let spawned = || {
        let args = argv.iter().map(|arg| c_string(arg)).collect::<Result<Vec<_>, _>>()?;
        // Spillway's own password is none of the client's business.
        let env = std::env::vars_os().filter(|(name, _)| name != PASSWORD_VARIABLE);
        let env = env.map(variable).collect::<Result<Vec<_>, _>>()?;
        let mut attributes = PosixSpawnAttr::init()?;
        attributes
            .set_flags(PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF)?;
        attributes.set_sigmask(mask)?;
        // Rust ignores it from the start, and the client is to end when its reader does.
        attributes.set_sigdefault(&SigSet::from(Signal::SIGPIPE))?;
        let mut actions = PosixSpawnFileActions::init()?;
        if let Some(stderr) = stderr {
            actions.add_dup2(stderr.as_raw_fd(), STDERR)?;
        }
        posix_spawnp(&c_string(program)?, &actions, &attributes, &args, &env)
    };
    spawned().map_err(failed)
}

fn c_string(text: &OsStr) -> Result<CString, Errno> {
    CString::new(text.as_bytes()).map_err(|_| Errno::EINVAL)
}

fn variable((name, value): (OsString, OsString)) -> Result<CString, Errno> {
    c_string(&[name, value].join(OsStr::new("=")))
}

fn wait_without_reaping(pid: Pid) -> Result<(), Errno> {
    loop {
        match waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
            Err(Errno::EINTR) => {}
            // By a signal that nix has no name for (a real-time one): the reaping tells of it.
            Ok(_) | Err(Errno::EINVAL) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
}

/// Gives a signal to the client, unless the terminal has done so.
fn pass_on(received: Received, client: Pid) -> Result<(), RunError> {
    let Received { signal, sender, .. } = received;
    if !received.is_for_us_alone() {
        tracing::debug!(%signal, "the client has the terminal's signal too");
        return Ok(());
    }
    tracing::debug!(%signal, sender, "signal passed on to the client");
    kill(client, signal).map_err(|errno| signals_error("pass a signal on to the client", errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    /// Blocks in a thread of its own that drives its own runtime, as `main` does: the mask is a thread's.
    fn in_runtime<T: Send + 'static>(
        argv: Vec<OsString>,
        then: impl AsyncFnOnce(Result<Child, RunError>) -> T + Send + 'static,
    ) -> T {
        let thread = std::thread::spawn(move || {
            let signals = BlockedSignals::block().expect("blocked");
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async { then(Child::spawn(&argv, signals, None)).await })
        });
        thread.join().expect("no panic")
    }

    fn run(words: &[&str]) -> ClientExit {
        in_runtime(command(words), async |child| {
            let mut child = child.expect("started");
            let exit = child.wait().await.expect("waited for");
            assert_eq!(child.wait().await.expect("once more"), exit);
            exit
        })
    }

    #[test]
    fn the_clients_own_status() {
        for (script, code) in [
            ("exit 0", 0),
            ("exit 74", 74),
            ("kill -KILL $$", 137),
            ("kill -TERM $$", 143),
            ("kill -PIPE $$", 141),
        ] {
            let exit = run(&["sh", "-c", script]);
            assert_eq!((exit.code(), exit.success()), (code, code == 0), "{script}: {exit}");
        }
    }

    #[test]
    fn codes() {
        assert_eq!(ClientExit::Signal(2).code(), 130);
        assert_eq!(code_of_signal(64), 192);
        assert_eq!(code_of_signal(-1), 255);
    }

    #[test]
    fn the_client_starts_with_a_clean_mask() {
        // Not by way of a shell: dash clears the mask of what it starts.
        let exit = run(&["grep", "-q", "^SigBlk:\t0*$", "/proc/self/status"]);
        assert_eq!(exit.code(), 0);
    }

    #[test]
    fn the_environment_is_handed_down() {
        let path = format!("PATH={}", std::env::var("PATH").expect("set"));
        let exit = run(&["sh", "-c", "test \"PATH=$PATH\" = \"$0\"", &path]);
        assert_eq!(exit.code(), 0);
    }

    #[test]
    fn a_program_that_cannot_be_started() {
        for (program, code) in
            [("/nonexistent/mysqldump", 127), ("mysqldump-of-nobody", 127), ("/etc/passwd", 126)]
        {
            let error = in_runtime(command(&[program]), async |child| child.expect_err("not started"));
            assert_eq!(error.exit_code(), code, "{error}");
        }
        let error = in_runtime(Vec::new(), async |child| child.expect_err("nothing to start"));
        assert!(matches!(error, RunError::NoCommand));
    }

    /// Sends to one thread, so that no other test sees the signal.
    #[test]
    fn a_signal_for_us_alone_is_passed_on() {
        let exit = in_runtime(command(&["sleep", "1000"]), async |child| {
            let mut child = child.expect("started");
            nix::sys::signal::raise(Signal::SIGUSR1).expect("raised");
            child.wait().await.expect("waited for")
        });
        assert_eq!(exit, ClientExit::Signal(Signal::SIGUSR1 as i32));
    }

    #[test]
    fn nothing_is_started_after_a_signal() {
        let thread = std::thread::spawn(|| {
            let signals = BlockedSignals::block().expect("blocked");
            nix::sys::signal::raise(Signal::SIGTERM).expect("raised");
            Child::spawn(&command(&["sleep", "1000"]), signals, None).expect_err("not started")
        });
        let error = thread.join().expect("no panic");
        assert_eq!(error.exit_code(), 143);
    }

    #[test]
    fn dropping_kills() {
        let pid = in_runtime(command(&["sleep", "1000"]), async |child| child.expect("started").pid);
        // The runtime has waited for the thread that waits for the client, so it has ended.
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("not reaped yet");
        assert!(state.contains(") Z "), "{state}");
        assert!(waitpid(pid, None).is_ok());
    }
}
