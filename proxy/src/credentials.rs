//! The account that Spillway knows by itself, if it knows one, and the file that names it.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod option_file;
mod private_file;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

pub(crate) use private_file::check as check_private;

/// The variable that may hold the password. There is no flag for it: others could see it in the list of processes.
pub(crate) const PASSWORD_VARIABLE: &str = "SPILLWAY_PASSWORD";

/// Who checks the client's password.
#[derive(Clone, Debug, Default)]
pub enum Auth {
    /// The server: the password is passed on, and Spillway knows none.
    #[default]
    Passthrough,
    /// Spillway: a client that proves to know these is logged in with them.
    Stored(Arc<Credentials>),
}

/// User and password with which Spillway logs in by itself.
#[derive(Clone)]
pub struct Credentials {
    user: Vec<u8>,
    password: Zeroizing<Vec<u8>>,
}

impl Credentials {
    /// For this account; an empty password is one, too.
    pub fn new(user: Vec<u8>, password: Vec<u8>) -> Self {
        Self { user, password: Zeroizing::new(password) }
    }

    /// Reads an option file as the clients have them: `user` and `password` of the group `[client]`, or of
    /// `[spillway]` where they are in that, too.
    ///
    /// # Errors
    /// [`CredentialsError`] if it cannot be read, if others could read it, or if one of the two is missing.
    pub fn from_file(path: &Path) -> Result<Self, CredentialsError> {
        let text = private_file::read(path)?;
        let account = option_file::parse(&text).map_err(|error| error.at(path))?;
        let missing = |problem| CredentialsError::Missing { path: path.to_owned(), problem };
        if !account.has_group {
            return Err(missing(Missing::Group));
        }
        let user = account.user.filter(|user| !user.is_empty()).ok_or_else(|| missing(Missing::User))?;
        let password = account.password.ok_or_else(|| missing(Missing::Password))?;
        Ok(Self { user: user.to_vec(), password })
    }

    /// The account's name.
    pub fn user(&self) -> &[u8] {
        &self.user
    }

    /// The account's password.
    pub(crate) fn password(&self) -> &[u8] {
        &self.password
    }
}

/// Without the password.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = String::from_utf8_lossy(&self.user);
        f.debug_struct("Credentials").field("user", &user).finish_non_exhaustive()
    }
}

/// A file with a password that cannot be used. Its content is never told.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// It cannot be read.
    #[error("{}: {source}; credentials are read from an option file with a [client] group", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is a directory, a pipe or a device.
    #[error("{} is no regular file: credentials are read from an option file with a [client] group", path.display())]
    NoFile {
        /// The file.
        path: PathBuf,
    },
    /// It is longer than such files are.
    #[error("{} has more than {most} bytes: it should hold user and password and not much more", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The most.
        most: u64,
    },
    /// Others may read or change it.
    #[error("{} holds a password and is open to others (mode {mode:04o}): run chmod 600 on it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is another user's.
    #[error(
        "{} holds a password and belongs to another user (uid {owner}): it must be root's or of spillway's own user \
         (uid {own})",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Spillway's user.
        own: u32,
    },
    /// A line that is none of an option file's.
    #[error("{}, line {line}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// It has not all that is needed.
    #[error("{} {problem}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What is missing.
        problem: Missing,
    },
}

/// What a file of credentials lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// The group.
    #[error("has no group [client]: write user and password below that line")]
    Group,
    /// The user.
    #[error("has no user in its group [client]: add a line `user = NAME`")]
    User,
    /// The password.
    #[error(
        "has no password in its group [client]: add a line `password = …`, or `password =` if there is none"
    )]
    Password,
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn from_text(text: &str, mode: u32) -> Result<Credentials, CredentialsError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, text).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
        Credentials::from_file(file.path())
    }

    fn refusal(text: &str, mode: u32) -> String {
        let error = from_text(text, mode).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        error.to_string()
    }

    const GOOD: &str = "[client]\nuser=backup\npassword=secret\n";

    #[test]
    fn a_private_file() {
        for mode in [0o600, 0o400, 0o700] {
            let credentials = from_text(GOOD, mode).unwrap();
            assert_eq!(
                (credentials.user(), credentials.password()),
                (b"backup".as_slice(), b"secret".as_slice())
            );
        }
    }

    #[test]
    fn files_that_others_may_read_are_refused() {
        for mode in [0o640, 0o604, 0o620, 0o610, 0o666] {
            let refusal = refusal(GOOD, mode);
            assert!(refusal.contains("chmod 600") && refusal.contains(&format!("{mode:04o}")), "{refusal}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        for (text, part) in [
            ("", "[client]"),
            ("[mysqldump]\nuser=a\npassword=secret", "[client]"),
            ("[client]\npassword=secret", "user = NAME"),
            ("[client]\nuser=\npassword=secret", "user = NAME"),
            ("[client]\nuser=a", "password ="),
            ("[client]\nuser=a\nhunter-secret;\n", "line 3"),
        ] {
            let refusal = refusal(text, 0o600);
            assert!(refusal.contains(part), "{refusal}");
        }
    }

    #[test]
    fn only_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(matches!(Credentials::from_file(dir.path()), Err(CredentialsError::NoFile { .. })));
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(matches!(Credentials::from_file(&pipe), Err(CredentialsError::NoFile { .. })));
        let missing = dir.path().join("missing");
        assert!(matches!(Credentials::from_file(&missing), Err(CredentialsError::Unreadable { .. })));
        let long = format!("{GOOD}#{}", "x".repeat(1 << 20));
        assert!(matches!(from_text(&long, 0o600), Err(CredentialsError::TooLong { .. })));
    }

    #[test]
    fn the_password_is_not_shown() {
        let credentials = Credentials::new(b"backup".to_vec(), b"secret".to_vec());
        let shown = format!("{:?}", Auth::Stored(Arc::new(credentials)));
        assert!(shown.contains("backup") && !shown.contains("secret") && !shown.contains("115"), "{shown}");
    }
}
