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
    let (owner, own) = (metadata.uid(), geteuid().as_raw());
    if owner != 0 && owner != own {
        return Err(CredentialsError::Foreign { path: path.to_owned(), owner, own });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
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
