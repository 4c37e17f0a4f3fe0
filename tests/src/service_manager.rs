//! What systemd does for a service, played without it: sockets that are opened for it, and a socket to which it says how
//! it fares.

use std::ffi::OsString;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Hears what a service says.
#[derive(Debug)]
pub struct ServiceManager {
    ear: UnixDatagram,
    dir: tempfile::TempDir,
}

impl ServiceManager {
    /// One that has heard nothing yet.
    pub fn new() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("spillway-manager-").tempdir()?;
        let ear = UnixDatagram::bind(dir.path().join("notify"))?;
        Ok(Self { ear, dir })
    }

    /// The words that start a program as its service, with a watchdog of so many milliseconds.
    pub fn prefix(&self, watchdog: u64) -> Vec<OsString> {
        let mut notify = OsString::from("NOTIFY_SOCKET=");
        notify.push(self.dir.path().join("notify"));
        let mut words = vec!["env".into(), notify];
        words.push(format!("WATCHDOG_USEC={}", watchdog * 1000).into());
        // The process number stays the same in all that follows.
        words.extend(["sh", "-c", "WATCHDOG_PID=$$ exec \"$@\"", "sh"].map(OsString::from));
        words
    }

    /// The next message.
    pub fn next(&self) -> Result<String> {
        self.ear.set_read_timeout(Some(LIMIT))?;
        let mut message = [0; 4096];
        let length = self.ear.recv(&mut message).context("waiting for a word of the service")?;
        Ok(String::from_utf8_lossy(&message[..length]).into_owned())
    }

    /// The next message that has a line which begins like this; all before it are passed over.
    pub fn wait_for(&self, line: &str) -> Result<String> {
        let start = Instant::now();
        let mut passed = Vec::new();
        while start.elapsed() < LIMIT {
            let message = self.next().with_context(|| format!("waiting for {line}; so far {passed:?}"))?;
            if message.lines().any(|found| found.starts_with(line)) {
                return Ok(message);
            }
            passed.push(message);
        }
        bail!("no {line} in {passed:?}")
    }
}

/// The words that open sockets and start a program with them, as systemd does for the unit of a .socket: `tcp` on a
/// free port of 127.0.0.1, `unix:PATH`, `deaf` for a TCP socket that does not listen, `udp`.
pub fn passing(sockets: &[&str]) -> Vec<OsString> {
    let mut words: Vec<OsString> = ["python3", "-c", PASS].map(OsString::from).into();
    words.extend(sockets.iter().map(OsString::from));
    words.push("--".into());
    words
}

const PASS: &str = r#"
import os, socket, sys
at = sys.argv.index("--")
held = []
for kind in sys.argv[1:at]:
    if kind.startswith("unix:"):
        opened = socket.socket(socket.AF_UNIX)
        opened.bind(kind[5:])
    else:
        opened = socket.socket(type=socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
        opened.bind(("127.0.0.1", 0))
    if kind not in ("udp", "deaf"):
        opened.listen()
    held.append(os.dup(opened.fileno()))
held = [os.dup2(number, 100 + index) for index, number in enumerate(held)]
for index, number in enumerate(held):
    os.dup2(number, 3 + index)
    os.set_inheritable(number, False)
os.environ.update(LISTEN_FDS=str(len(held)), LISTEN_PID=str(os.getpid()))
os.execvp(sys.argv[at + 1], sys.argv[at + 1:])
"#;
const LIMIT: Duration = Duration::from_secs(20);
