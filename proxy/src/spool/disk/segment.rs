//! Segments: unnamed files that hold blocks, one behind the other, and give back the space of each when it was read.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, fallocate, fcntl};

use super::super::budget::DiskBudget;

/// One file. It has no name, so it is gone with the process; it is opened by the first job that needs it.
pub(super) struct Segment {
    budget: Arc<DiskBudget>,
    file: OnceLock<Result<File, Errno>>,
    len: u64,
    /// Where the next block goes.
    end: AtomicU64,
    /// Bytes of the budget that this segment's blocks hold.
    held: AtomicU64,
}

impl Segment {
    /// The segment that follows `last`, twice as long.
    pub(super) fn next(last: Option<&Self>, budget: Arc<DiskBudget>) -> Self {
        let len = last.map_or(FIRST_SEGMENT_LEN, |last| (2 * last.len).min(MAX_SEGMENT_LEN));
        Self { budget, file: OnceLock::new(), len, end: AtomicU64::new(0), held: AtomicU64::new(0) }
    }

    /// Whether another block should go here. Those on their way are not counted, so a segment may become a few blocks
    /// longer than it should.
    pub(super) fn has_room(&self, len: u64) -> bool {
        self.end.load(Ordering::Relaxed) + len <= self.len
    }

    /// `len` bytes that were taken of the budget are for a block of this segment.
    pub(super) fn hold(&self, len: u64) {
        self.held.fetch_add(len, Ordering::Relaxed);
    }

    fn give_back(&self, len: u64) {
        self.held.fetch_sub(len, Ordering::Relaxed);
        self.budget.give_back(len);
    }

    /// Writes a block behind the others; tells where it is. It holds `held` bytes of the budget, of which those that it
    /// does not need are given back.
    pub(super) fn append(&self, sectors: &[u8], held: u64) -> io::Result<u64> {
        let len = sectors.len() as u64;
        self.give_back(held - len);
        let offset = self.end.fetch_add(len, Ordering::Relaxed);
        let written = self.write(sectors, offset);
        if written.is_err() {
            self.punch(offset, len);
        }
        written.map(|()| offset)
    }

    fn write(&self, sectors: &[u8], offset: u64) -> io::Result<()> {
        self.budget.check_free(sectors.len() as u64)?;
        let file = self.file()?;
        match file.write_all_at(sectors, offset) {
            // Some file systems take O_DIRECT when opened and refuse it when written.
            Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => {
                fcntl(file, FcntlArg::F_SETFL(OFlag::empty()))?;
                file.write_all_at(sectors, offset)
            }
            result => result,
        }
    }

    /// Reads what stands at `offset`.
    pub(super) fn read(&self, sectors: &mut [u8], offset: u64) -> io::Result<()> {
        self.file()?.read_exact_at(sectors, offset)
    }

    /// Gives the disk space of a block back. Where the file system cannot punch holes it comes back with the file.
    pub(super) fn punch(&self, offset: u64, len: u64) {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        if self.file().is_ok_and(|file| fallocate(file, flags, offset as i64, len as i64).is_ok()) {
            self.give_back(len);
        }
    }

    pub(super) fn dir(&self) -> &Path {
        self.budget.dir()
    }

    /// What kind of file it is now.
    pub(super) fn kind(&self) -> io::Result<FileKind> {
        Ok(FileKind::of(self.file()?)?)
    }

    pub(super) fn file(&self) -> io::Result<&File> {
        match self.file.get_or_init(|| open_unnamed(self.budget.dir())) {
            Ok(file) => Ok(file),
            Err(errno) => Err((*errno).into()),
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.budget.give_back(*self.held.get_mut());
    }
}

/// What a file system lets spool files be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileKind {
    /// It never had a name (O_TMPFILE); otherwise it had one for a moment.
    pub(crate) is_nameless: bool,
    /// It is read and written past the page cache (O_DIRECT).
    pub(crate) is_direct: bool,
}

impl FileKind {
    fn of(file: &File) -> Result<Self, Errno> {
        let flags = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?);
        Ok(Self { is_nameless: flags.contains(OFlag::O_TMPFILE), is_direct: flags.contains(OFlag::O_DIRECT) })
    }
}

/// Makes a spool file in `dir` and drops it; tells of which kind it was. Blocks.
///
/// # Errors
/// What the file system says.
pub(crate) fn probe(dir: &Path) -> io::Result<FileKind> {
    Ok(FileKind::of(&open_unnamed(dir)?)?)
}

/// A file without a name in `dir`, mode 0600, for direct I/O if the file system takes it.
fn open_unnamed(dir: &Path) -> Result<File, Errno> {
    let direct = open_tmpfile(dir, OFlag::O_DIRECT);
    match direct {
        Err(Errno::EINVAL) => open_tmpfile(dir, OFlag::empty()),
        result => result,
    }
}

fn open_tmpfile(dir: &Path, extra: OFlag) -> Result<File, Errno> {
    let open = |path: &Path, flags: OFlag, create_new: bool| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(create_new)
            .mode(0o600)
            .custom_flags((flags | extra | OFlag::O_CLOEXEC).bits())
            .open(path)
            .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
    };
    match open(dir, OFlag::O_TMPFILE, false) {
        // Not known to this kernel, or to this file system.
        Err(Errno::EISDIR | Errno::ENOENT | Errno::EOPNOTSUPP) if dir.is_dir() => {
            let path = dir.join(format!(".spillway-{:016x}", rand::random::<u64>()));
            let file = open(&path, OFlag::empty(), true)?;
            std::fs::remove_file(&path)
                .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
            Ok(file)
        }
        result => result,
    }
}

/// The first segment's length. Each next one is twice as long, so that a backlog of any size needs few open files,
/// and a file system that cannot punch holes still gives back all but the segment being read.
const FIRST_SEGMENT_LEN: u64 = 64 << 20;
const MAX_SEGMENT_LEN: u64 = 1 << 30;
