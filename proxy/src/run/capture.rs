//! Asks a client about itself: runs it with options that end it at once and collects what it says, bounded in time and
//! size.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::error::{QueryProblem, RunError};
use crate::credentials::PASSWORD_VARIABLE;

/// What a helper run said.
pub(crate) struct Captured {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// What it wrote to stdout, which may be an option file with a password.
    pub(crate) stdout: Zeroizing<Vec<u8>>,
    /// What it wrote to stderr.
    pub(crate) stderr: Zeroizing<Vec<u8>>,
}

/// Runs `program` with `args`, which must be ours: never the user's own, as a client may act on them (`-r FILE`
/// truncates FILE) before it looks at `--help`.
pub(crate) fn capture(program: &OsStr, args: &[OsString]) -> Result<Captured, RunError> {
    capture_within(program, args, TIME_LIMIT)
}

/// How such a run is written in a message.
pub(crate) fn describe(program: &OsStr, args: &[OsString]) -> String {
    let words: Vec<_> = [program].into_iter().chain(args.iter().map(OsString::as_os_str)).collect();
    words.join(OsStr::new(" ")).to_string_lossy().into_owned()
}

fn capture_within(program: &OsStr, args: &[OsString], limit: Duration) -> Result<Captured, RunError> {
    let fault = |problem| RunError::Query { command: describe(program, args), problem };
    let broken = |error: io::Error| fault(QueryProblem::Io(error.to_string()));
    let deadline = Instant::now() + limit;
    let mut child = Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .env_remove(PASSWORD_VARIABLE)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| RunError::spawn(program.to_string_lossy().into(), error))?;
    let stdout = read_aside(child.stdout.take());
    let stderr = read_aside(child.stderr.take());
    let output = wait_for(&stdout, deadline).and_then(|out| Ok((out, wait_for(&stderr, deadline)?)));
    if output.is_err() {
        // It may have ended meanwhile; `wait` tells.
        let _ = child.kill();
    }
    let status = wait_until(&mut child, deadline).map_err(broken)?;
    let (stdout, stderr) = output.map_err(|wait| {
        fault(match wait {
            Wait::Slow => QueryProblem::Slow(limit),
            Wait::Long => QueryProblem::Long(SIZE_LIMIT),
            Wait::Broken(error) => QueryProblem::Io(error.to_string()),
        })
    })?;
    Ok(Captured { status, stdout, stderr })
}

enum Wait {
    Slow,
    Long,
    Broken(io::Error),
}

type Said = io::Result<Zeroizing<Vec<u8>>>;

/// Reads a pipe in a thread of its own. The thread ends with the pipe; if a grandchild holds that open past the time
/// limit, the thread is left behind until it closes.
fn read_aside(pipe: Option<impl Read + Send + 'static>) -> Receiver<Said> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // Room for more than option files are long: a vector that grows leaves what it held behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(USUAL_LEN));
        let read = pipe.map_or(Ok(0), |pipe| pipe.take(SIZE_LIMIT + 1).read_to_end(&mut bytes));
        // Nobody listens after the time limit.
        let _ = sender.send(read.map(|_| bytes));
    });
    receiver
}

fn wait_for(receiver: &Receiver<Said>, deadline: Instant) -> Result<Zeroizing<Vec<u8>>, Wait> {
    match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(Ok(bytes)) if bytes.len() as u64 > SIZE_LIMIT => Err(Wait::Long),
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => Err(Wait::Broken(error)),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Err(Wait::Slow),
    }
}

/// Reaps a child that has closed its output or was killed; one that lives on is killed at the deadline.
fn wait_until(child: &mut std::process::Child, deadline: Instant) -> io::Result<ExitStatus> {
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        thread::sleep(POLL_INTERVAL);
    }
    let _ = child.kill();
    child.wait()
}

/// A client answers within milliseconds; a disk that has to wake up takes seconds.
const TIME_LIMIT: Duration = Duration::from_secs(20);
/// The longest help, that of mysqldump, has 25 kB; option files may hold some more.
const SIZE_LIMIT: u64 = 4 << 20;
const USUAL_LEN: usize = 64 << 10;
/// The child has closed its output already and is about to end.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Result<Captured, RunError> {
        capture_within(OsStr::new("sh"), &["-c".into(), script.into()], limit)
    }

    #[test]
    fn output_and_status() {
        let captured = shell("echo out; echo err >&2; echo $LC_ALL; exit 3", TIME_LIMIT).expect("runs");
        assert_eq!(captured.stdout[..], b"out\nC\n"[..]);
        assert_eq!(captured.stderr[..], b"err\n"[..]);
        assert_eq!(captured.status.code(), Some(3));
    }

    #[test]
    fn stdin_is_empty() {
        assert!(shell("cat", TIME_LIMIT).expect("ends").stdout.is_empty());
    }

    #[test]
    fn endless_output_is_cut() {
        let error = shell("exec yes", TIME_LIMIT).map(|_| ()).expect_err("too long");
        assert!(error.to_string().contains("wrote more than"), "{error}");
    }

    #[test]
    fn a_run_that_hangs_is_killed() {
        let error = shell("exec sleep 1000", Duration::from_millis(50)).map(|_| ()).expect_err("too slow");
        assert!(error.to_string().contains("did not end within"), "{error}");
        // One that closes its output is waited for too. (A slow machine may see the first limit first.)
        match shell("exec >&- 2>&-; exec sleep 1000", Duration::from_millis(200)) {
            Ok(captured) => assert!(!captured.status.success()),
            Err(error) => assert!(error.to_string().contains("did not end within"), "{error}"),
        }
    }

    #[test]
    fn a_missing_program() {
        let error = capture(OsStr::new("/nonexistent/mysqldump"), &[]).map(|_| ()).expect_err("missing");
        assert_eq!(error.exit_code(), 127);
        let error = capture(OsStr::new("/etc/passwd"), &[]).map(|_| ()).expect_err("no program");
        assert_eq!(error.exit_code(), 126);
    }
}
