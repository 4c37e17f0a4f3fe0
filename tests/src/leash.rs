//! Ties a child process, and a directory, to the life of the test process.
//!
//! A `Drop` does not run for a static, nor after a panic that aborts, nor after a SIGKILL. So each child has a tiny
//! shell beside it that waits on a pipe: when the pipe closes, for whatever reason, the child is killed and the
//! directory removed. (`prctl(PR_SET_PDEATHSIG)` would need `unsafe` code here and ends with the starting *thread*.)

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context as _, Result};

/// Kills a process and removes a directory when the test process ends before this was dropped.
#[derive(Debug)]
pub struct Leash {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Leash {
    /// Leashes the process `pid` (to be killed), the directory `dir` (to be removed), or both.
    pub fn new(pid: Option<u32>, dir: Option<&Path>) -> Result<Self> {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "leash"])
            .arg(pid.map_or_else(String::new, |pid| pid.to_string()))
            .arg(dir.unwrap_or_else(|| Path::new("")))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting the shell that guards a child process")?;
        let pipe = shell.stdin.take();
        Ok(Self { shell, pipe })
    }
}

impl Drop for Leash {
    /// Lets go: what it held stays as it is. To be dropped before the process is reaped, or its number may be another's.
    fn drop(&mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            let _ = pipe.write_all(b"free\n");
        }
        let _ = self.shell.wait();
    }
}

// A Ctrl-C reaches the whole process group; the guard has to outlive it. The process needs a moment to die before its
// directory can be removed for good, hence the second try.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
read -r word && exit 0
[ -z "$1" ] || kill -9 "$1"
[ -z "$2" ] || rm -rf "$2" || { sleep 1; rm -rf "$2"; }
"#;
