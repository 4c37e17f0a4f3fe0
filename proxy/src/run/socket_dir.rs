//! The private directory that holds the socket between the client and its Spillway.
//!
//! A process that is killed leaves its directory behind; the next one removes it. Its name has the process number in it, and
//! whoever lives holds a lock on it: the one alone would not do where `/tmp` is shared by containers, the other not in the
//! moment before it is taken.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::{env, io, process};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use nix::sys::signal::kill;
use nix::unistd::{Pid, getuid};
use tempfile::TempDir;
use tracing::debug;

use super::error::RunError;
use crate::endpoint::MAX_SOCKET_PATH;

/// A directory that nobody else can enter, with a name for a socket in it; removed when dropped.
#[derive(Debug)]
pub struct SocketDir {
    _dir: TempDir,
    /// Tells others that it is in use.
    _lock: Flock<File>,
    socket: PathBuf,
}

impl SocketDir {
    /// Makes the directory in `$XDG_RUNTIME_DIR`, else in the temporary directory, else (where the path of the socket
    /// would be too long for the system) in `/tmp`.
    pub fn create() -> Result<Self, RunError> {
        let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute());
        let parents = runtime.into_iter().chain([env::temp_dir(), PathBuf::from("/tmp")]);
        Self::create_in_first_of(parents)
    }

    /// Where the socket is to be bound.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    fn create_in_first_of(parents: impl Iterator<Item = PathBuf>) -> Result<Self, RunError> {
        let mut failed = None;
        for parent in parents {
            match Self::create_in(&parent) {
                Ok(created) => return Ok(created),
                Err(source) => failed = Some(RunError::SocketDir { parent, source }),
            }
        }
        let nowhere = || io::Error::new(io::ErrorKind::NotFound, "no directory to try");
        Err(failed.unwrap_or_else(|| RunError::SocketDir { parent: PathBuf::new(), source: nowhere() }))
    }

    fn create_in(parent: &Path) -> io::Result<Self> {
        remove_left_behind(parent);
        let dir = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{}-", process::id()))
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(parent)?;
        let socket = dir.path().join(SOCKET);
        if socket.as_os_str().as_bytes().len() > MAX_SOCKET_PATH {
            return Err(io::Error::new(
                io::ErrorKind::InvalidFilename,
                "its name is too long for a socket's path",
            ));
        }
        let lock = Flock::lock(File::open(dir.path())?, FlockArg::LockExclusiveNonblock);
        Ok(Self { _dir: dir, _lock: lock.map_err(|(_, errno)| errno)?, socket })
    }
}

/// Removes the directories of this user's processes that are dead. What cannot be removed stays.
fn remove_left_behind(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let owner = entry.file_name().to_str().and_then(owner_of);
        if owner.is_some_and(|owner| !lives(owner)) && remove_unlocked(&entry.path()).is_ok() {
            debug!(dir = %entry.path().display(), "removed what a dead process has left behind");
        }
    }
}

/// The process that a directory of this name belongs to.
fn owner_of(name: &str) -> Option<Pid> {
    let (pid, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
    pid.parse().ok().filter(|pid| *pid > 0).map(Pid::from_raw)
}

/// Signal 0 reaches nobody; that it may not be sent shows that there is somebody.
fn lives(pid: Pid) -> bool {
    kill(pid, None) != Err(Errno::ESRCH)
}

/// Others' directories cannot be opened, as nobody else may enter.
fn remove_unlocked(dir: &Path) -> io::Result<()> {
    let opened =
        OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_DIRECTORY).open(dir)?;
    let owner = opened.metadata()?.uid();
    let _lock = Flock::lock(opened, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno)?;
    if owner != getuid().as_raw() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    match fs::remove_file(dir.join(SOCKET)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::remove_dir(dir)
}

/// The process number follows.
const PREFIX: &str = "spillway-run-";
const SOCKET: &str = "mysql.sock";

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn private_and_gone_at_the_end() {
        let created = SocketDir::create().expect("created");
        let dir = created.socket().parent().expect("a directory").to_owned();
        let _listener = UnixListener::bind(created.socket()).expect("bound");
        let mode = dir.metadata().expect("there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o700);
        drop(created);
        assert!(!dir.exists());
    }

    #[test]
    fn what_the_dead_leave_behind_is_removed() {
        let temp = tempfile::tempdir().expect("a directory");
        // Ended and awaited, so its number is nobody's for now.
        let mut dead = process::Command::new("true").spawn().expect("started");
        let pid = dead.id();
        dead.wait().expect("ended");
        let make = |name: String| {
            let dir = temp.path().join(name);
            fs::create_dir(&dir).expect("made");
            drop(UnixListener::bind(dir.join(SOCKET)).expect("bound"));
            dir
        };
        let left = make(format!("{PREFIX}{pid}-abc"));
        let locked = make(format!("{PREFIX}{pid}-def"));
        let _lock = Flock::lock(File::open(&locked).expect("there"), FlockArg::LockExclusiveNonblock);
        let used = make(format!("{PREFIX}{pid}-ghi"));
        fs::write(used.join("somebody's"), "").expect("written");
        let living = make(format!("{PREFIX}{}-abc", process::id()));
        let others = make("spillway-something".to_owned());
        let created = SocketDir::create_in(temp.path()).expect("created");
        let kept = [&locked, &used, &living, &others].map(|dir| dir.exists());
        assert_eq!((left.exists(), kept), (false, [true; 4]));
        assert!(created.socket().parent().is_some_and(Path::exists));
    }

    #[test]
    fn a_path_too_long_falls_back() {
        let temp = tempfile::tempdir().expect("a directory");
        let long = temp.path().join("x".repeat(100));
        fs::create_dir(&long).expect("made");
        let parents = || [long.clone(), PathBuf::from("/nonexistent"), temp.path().to_owned()].into_iter();
        let created = SocketDir::create_in_first_of(parents()).expect("the last one will do");
        assert!(created.socket().starts_with(temp.path()) && !created.socket().starts_with(&long));
        let left = fs::read_dir(&long).expect("readable").count();
        assert_eq!(left, 0);
        let error = SocketDir::create_in_first_of(parents().take(1)).expect_err("too long");
        assert!(error.to_string().contains("too long"), "{error}");
        let error = SocketDir::create_in_first_of(parents().take(2)).expect_err("no such directory");
        assert!(error.to_string().contains("/nonexistent"), "{error}");
        assert_eq!(error.exit_code(), 78);
    }
}
