//! Finds the socket path that was built into a client.
//!
//! No client tells it: `--help` says `(No default value)`. It is the same for most clients of a distribution, but
//! differs between distributions and vendors, and the wrong one may belong to another server. The clients have it as
//! a string constant, as they are linked with the client library statically; where that is not so (mydumper) the
//! caller has to assume the usual path.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Looks into the program that `command` starts with this `PATH`.
pub(crate) fn find(command: &OsStr, path: Option<&OsStr>) -> Option<PathBuf> {
    let program = if command.as_bytes().contains(&b'/') {
        PathBuf::from(command)
    } else {
        std::env::split_paths(path?).map(|dir| dir.join(command)).find(|file| file.is_file())?
    };
    find_in_file(&program)
}

fn find_in_file(program: &Path) -> Option<PathBuf> {
    let mut image = Vec::new();
    File::open(program).ok()?.take(MAX_IMAGE).read_to_end(&mut image).ok()?;
    let mut paths = image.split(|&byte| byte == 0).filter(|string| is_socket_path(string));
    let first = paths.next()?;
    // With more than one there is no telling which.
    paths.all(|other| other == first).then(|| PathBuf::from(OsStr::from_bytes(first)))
}

fn is_socket_path(string: &[u8]) -> bool {
    string.starts_with(b"/")
        && string.ends_with(b".sock")
        && string.len() <= crate::endpoint::MAX_SOCKET_PATH
        && string.iter().all(u8::is_ascii_graphic)
        && [b"mysql".as_slice(), b"maria"]
            .iter()
            .any(|name| string.windows(name.len()).any(|part| part == *name))
}

/// The clients of MySQL 9 have about 10 MB.
const MAX_IMAGE: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn find_in(image: &[u8]) -> Option<PathBuf> {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("client"), image).expect("written");
        find(OsStr::new("client"), Some(dir.path().as_os_str()))
    }

    #[test]
    fn a_string_constant() {
        let image = b"\x7fELF\0%s/mysql.sock\0/dev/log.sock\0/run/mysqld/mysqld.sock\0use /x/mysql.sock\0";
        assert_eq!(find_in(image), Some("/run/mysqld/mysqld.sock".into()));
        assert_eq!(find_in(b"\0/tmp/mysql.sock\0\0/tmp/mysql.sock\0"), Some("/tmp/mysql.sock".into()));
    }

    #[test]
    fn none_or_several() {
        assert_eq!(find_in(b"#!/bin/sh\nexec mysql --socket=/tmp/mysql.sock\n"), None);
        assert_eq!(find_in(b"\0/tmp/mysql.sock\0/tmp/mysqlx.sock\0"), None);
        assert_eq!(find(OsStr::new("/nonexistent/client"), None), None);
        assert_eq!(find(OsStr::new("client"), None), None);
    }
}
