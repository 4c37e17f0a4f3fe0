//! Files that hold a password: nobody else may read or change them.

use std::fs::{File, Metadata, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use zeroize::Zeroizing;

use super::CredentialsError;

/// Reads such a file. What is checked is what was opened, whatever the path leads to by then.
pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, CredentialsError> {
    let unreadable = |source| CredentialsError::Unreadable { path: path.to_owned(), source };
    // Without waiting for the other end of a pipe.
    let open = || OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let file = open().map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(CredentialsError::NoFile { path: path.to_owned() });
    }
    check(path, &metadata)?;
    read_all(file)
        .map_err(unreadable)?
        .ok_or_else(|| CredentialsError::TooLong { path: path.to_owned(), most: MOST })
}

/// Refuses a file that is another user's, or open to others.
pub(crate) fn check(path: &Path, metadata: &Metadata) -> Result<(), CredentialsError> {
    check_passed(path, metadata, std::env::var_os("CREDENTIALS_DIRECTORY").as_deref().map(Path::new))
}

/// A credential that systemd passes (`LoadCredential=`, in the directory `passed`) may be root's, with an ACL that lets
/// this service alone read it. The ACL's mask shows as the group's permissions then.
fn check_passed(path: &Path, metadata: &Metadata, passed: Option<&Path>) -> Result<(), CredentialsError> {
    let by_others = if passed.is_some() && path.parent() == passed { 0o037 } else { 0o077 };
    let (owner, own) = (metadata.uid(), geteuid().as_raw());
    if owner != 0 && owner != own {
        return Err(CredentialsError::Foreign { path: path.to_owned(), owner, own });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & by_others != 0 {
        return Err(CredentialsError::Exposed { path: path.to_owned(), mode });
    }
    Ok(())
}

/// The content in a buffer that is never moved, so that no copy is left behind; none if it is too long.
fn read_all(file: File) -> std::io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut text = Zeroizing::new(Vec::with_capacity(MOST as usize + 1));
    file.take(MOST + 1).read_to_end(&mut text)?;
    Ok(Some(text).filter(|text| text.len() as u64 <= MOST))
}

const MOST: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_group_may_read_only_what_systemd_passes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("account");
        fs::write(&path, "").unwrap();
        let is_fine = |mode, passed| {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            check_passed(&path, &fs::metadata(&path).unwrap(), passed).is_ok()
        };
        let here = Some(dir.path());
        assert!(is_fine(0o400, None) && is_fine(0o400, here));
        assert!(is_fine(0o440, here) && !is_fine(0o440, None) && !is_fine(0o440, Some(Path::new("/run"))));
        assert!(!is_fine(0o460, here) && !is_fine(0o444, here));
    }
}
