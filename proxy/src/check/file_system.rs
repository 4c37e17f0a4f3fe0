//! Which file system a directory is on.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};

/// Where a file system keeps its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Medium {
    Memory,
    Network,
    /// A container's own layer.
    Overlay,
    /// As far as can be told.
    Disk,
}

/// A mounted file system.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FileSystem {
    /// As the kernel calls it: `ext4`, `tmpfs` …
    pub(super) name: String,
    mount_point: PathBuf,
    device: String,
}

impl FileSystem {
    /// Where it keeps its data.
    pub(super) fn medium(&self) -> Medium {
        match self.name.as_str() {
            "tmpfs" | "ramfs" | "devtmpfs" | "hugetlbfs" => Medium::Memory,
            "nfs" | "nfs4" | "cifs" | "smb3" | "ceph" | "9p" | "afs" | "lustre" | "glusterfs" | "gpfs"
            | "fuse.sshfs" | "fuse.glusterfs" | "fuse.ceph" | "fuse.s3fs" | "virtiofs" => Medium::Network,
            "overlay" | "aufs" => Medium::Overlay,
            _ => Medium::Disk,
        }
    }
}

/// The file system of a directory; none where the kernel does not tell. Blocks.
///
/// # Errors
/// If there is no such directory.
pub(super) fn file_system_of(dir: &Path) -> io::Result<Option<FileSystem>> {
    let dir = dir.canonicalize()?;
    let device = dir.metadata()?.dev();
    let device = format!("{}:{}", major(device), minor(device));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    Ok(find(&mounts, &dir, &device))
}

/// The mount that `dir` is on: the deepest above it, the last one where several are. The device tells which of them are
/// hidden by others; but a subvolume of btrfs has a number of its own.
fn find(mountinfo: &str, dir: &Path, device: &str) -> Option<FileSystem> {
    let above = mountinfo.lines().filter_map(parse).filter(|mount| dir.starts_with(&mount.mount_point));
    above.max_by_key(|mount| (mount.device == device, mount.mount_point.components().count()))
}

/// One line; see proc_pid_mountinfo(5):
///
/// ```text
/// 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
///       device     mount point      optional   file system
/// ```
fn parse(line: &str) -> Option<FileSystem> {
    let (before, behind) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(2);
    let (device, mount_point) = (before.next()?, before.nth(1)?);
    Some(FileSystem {
        name: behind.split(' ').next()?.to_owned(),
        mount_point: unescaped(mount_point).into(),
        device: device.to_owned(),
    })
}

/// Blanks, tabs, line breaks and backslashes are written as three octal digits.
fn unescaped(text: &str) -> String {
    let escapes = [(r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", r"\")];
    escapes.iter().fold(text.to_owned(), |text, (escape, char)| text.replace(escape, char))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
31 27 0:40 / /var/tmp rw shared:3 master:1 - tmpfs tmpfs rw,size=1024k
32 27 0:41 / /mnt/with\\040blank rw - nfs4 server:/x rw
33 27 0:42 / /hidden/deep rw - xfs /dev/vdb rw
34 27 0:43 / /hidden rw - overlay overlay rw
35 27 0:44 /sub /twice rw - ext4 /dev/vdc rw
36 27 0:45 / /twice rw - btrfs /dev/vdd rw
not a mount
";

    fn name(dir: &str, device: &str) -> Option<(String, Medium)> {
        find(MOUNTS, Path::new(dir), device).map(|found| (found.name.clone(), found.medium()))
    }

    #[test]
    fn the_deepest_mount_counts() {
        for (dir, device, expected, medium) in [
            ("/var/tmp/spool", "0:40", "tmpfs", Medium::Memory),
            ("/var/tmpfile", "254:0", "ext4", Medium::Disk),
            ("/mnt/with blank", "0:41", "nfs4", Medium::Network),
            // What was mounted later, above, hides what is below.
            ("/hidden/deep", "0:43", "overlay", Medium::Overlay),
            ("/twice/a", "0:45", "btrfs", Medium::Disk),
            ("/twice/a", "0:99", "btrfs", Medium::Disk),
        ] {
            assert_eq!(name(dir, device), Some((expected.to_owned(), medium)), "{dir}");
        }
        assert_eq!(find("", Path::new("/"), "254:0"), None);
    }

    #[test]
    fn a_directory_of_this_machine() {
        let dir = tempfile::tempdir().unwrap();
        let found = file_system_of(dir.path()).unwrap().unwrap();
        assert!(!found.name.is_empty());
        assert!(file_system_of(&dir.path().join("none")).is_err());
        assert_eq!(file_system_of(Path::new("/proc")).unwrap().unwrap().name, "proc");
    }
}
