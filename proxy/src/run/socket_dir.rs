//! The private directory that holds the socket between the client and its Spillway.

use std::env;
use std::fs::Permissions;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::error::RunError;
use crate::endpoint::MAX_SOCKET_PATH;

/// A directory that nobody else can enter, with a name for a socket in it; removed when dropped.
#[derive(Debug)]
pub struct SocketDir {
    _dir: TempDir,
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
        let dir = tempfile::Builder::new()
            .prefix("spillway-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(parent)?;
        let socket = dir.path().join("mysql.sock");
        if socket.as_os_str().as_bytes().len() > MAX_SOCKET_PATH {
            return Err(io::Error::new(
                io::ErrorKind::InvalidFilename,
                "its name is too long for a socket's path",
            ));
        }
        Ok(Self { _dir: dir, socket })
    }
}

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
    fn a_path_too_long_falls_back() {
        let temp = tempfile::tempdir().expect("a directory");
        let long = temp.path().join("x".repeat(100));
        std::fs::create_dir(&long).expect("made");
        let parents = || [long.clone(), PathBuf::from("/nonexistent"), temp.path().to_owned()].into_iter();
        let created = SocketDir::create_in_first_of(parents()).expect("the last one will do");
        assert!(created.socket().starts_with(temp.path()) && !created.socket().starts_with(&long));
        let left = std::fs::read_dir(&long).expect("readable").count();
        assert_eq!(left, 0);
        let error = SocketDir::create_in_first_of(parents().take(1)).expect_err("too long");
        assert!(error.to_string().contains("too long"), "{error}");
        let error = SocketDir::create_in_first_of(parents().take(2)).expect_err("no such directory");
        assert!(error.to_string().contains("/nonexistent"), "{error}");
        assert_eq!(error.exit_code(), 78);
    }
}
