//! The disk tier: unnamed segment files that blocks are written to and read back from, checked.
//!
//! All that blocks the thread here runs in `spawn_blocking` jobs, a block each. A block is on disk only between its
//! writing and its reading: what was read back is punched out of the file, so the disk holds the backlog and no more.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, fallocate, fcntl};
use tokio::task::{JoinHandle, spawn_blocking};

use super::block::Buffer;
use super::budget::DiskBudget;

/// The first segment's length. Each next one is twice as long, so that a backlog of any size needs few open files,
/// and a file system that cannot punch holes still gives back all but the segment being read.
const FIRST_SEGMENT_LEN: u64 = 64 << 20;
const MAX_SEGMENT_LEN: u64 = 1 << 30;

/// A block that came back from the disk is not the one that was written, or did not come back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadBackError {
    #[error("block {number} of the spool cannot be read back from {dir}: {source}")]
    Io { number: u64, dir: String, source: io::Error },
    #[error("block {number} of the spool in {dir} is not what was written there: {what} differs")]
    Corrupt { number: u64, dir: String, what: &'static str },
    #[error("block {number} of the spool is lost: its job ended early ({source})")]
    Job { number: u64, source: tokio::task::JoinError },
}

/// What stands before a block's payload on disk, and what is expected to stand there.
///
/// ```text
/// 8  magic    8  session nonce    8  block number    4  payload length    4  crc32c of the payload
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockHeader {
    nonce: u64,
    number: u64,
    payload_len: u32,
    crc: u32,
}

impl BlockHeader {
    pub(super) const LEN: usize = 32;
    const MAGIC: [u8; 8] = *b"SPILLWAY";

    fn encode(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&Self::MAGIC);
        bytes[8..16].copy_from_slice(&self.nonce.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.payload_len.to_le_bytes());
        bytes[28..].copy_from_slice(&self.crc.to_le_bytes());
        bytes
    }
}

/// Where a written block lies, and what it must be when it is read back. The expectation stays in memory: a checksum
/// beside the data would be as wrong as the data if the disk returned another block's, or an old one.
pub(super) struct Extent {
    segment: Arc<Segment>,
    offset: u64,
    len: u64,
    expected: BlockHeader,
}

impl Extent {
    /// Bytes of memory that it needs to be read back.
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }
}

/// A write under way: gives the buffer back, with the extent if it could be written.
pub(super) type WriteJob = JoinHandle<(Buffer, io::Result<Extent>)>;

/// A read under way: gives the block, checked.
pub(super) type ReadJob = JoinHandle<Result<Buffer, ReadBackError>>;

/// One session's segments.
pub(super) struct DiskTier {
    budget: Arc<DiskBudget>,
    nonce: u64,
    current: Option<Arc<Segment>>,
    next_offset: u64,
}

impl DiskTier {
    pub(super) fn new(budget: Arc<DiskBudget>) -> Self {
        Self { budget, nonce: rand::random(), current: None, next_offset: 0 }
    }

    /// Whether no file is open for writing.
    pub(super) fn is_unused(&self) -> bool {
        self.current.is_none()
    }

    /// Whether `--spool-max` leaves room for `len` more bytes at this moment.
    pub(super) fn has_room(&self, len: usize) -> bool {
        self.budget.has_room(len as u64)
    }

    /// Begins to write a block. Gives the buffer back at once if `--spool-max` is reached.
    pub(super) fn write(&mut self, number: u64, mut buffer: Buffer) -> Result<WriteJob, Buffer> {
        let len = buffer.sectors().len() as u64;
        if !self.budget.try_take(len) {
            return Err(buffer);
        }
        let segment = self.segment_for(len);
        segment.held.fetch_add(len, Ordering::Relaxed);
        let offset = self.next_offset;
        self.next_offset += len;
        let nonce = self.nonce;
        Ok(spawn_blocking(move || {
            let written = segment.write(offset, &mut buffer, nonce, number);
            (buffer, written.map(|expected| Extent { segment, offset, len, expected }))
        }))
    }

    /// The spool directory.
    pub(super) fn dir(&self) -> &Path {
        self.budget.dir()
    }

    /// After a failed write: goes on in a new file.
    pub(super) fn abandon_segment(&mut self) {
        self.current = None;
    }

    fn segment_for(&mut self, len: u64) -> Arc<Segment> {
        let (segment_len, full) = match &self.current {
            Some(segment) => (segment.len, self.next_offset + len > segment.len),
            None => (FIRST_SEGMENT_LEN / 2, true),
        };
        if full {
            self.next_offset = 0;
            self.current = None;
        }
        let budget = &self.budget;
        Arc::clone(self.current.get_or_insert_with(|| {
            Arc::new(Segment {
                budget: Arc::clone(budget),
                file: OnceLock::new(),
                len: (2 * segment_len).min(MAX_SEGMENT_LEN),
                held: AtomicU64::new(0),
            })
        }))
    }
}

/// Begins to read a block back into `buffer`, which must be at least as long as the extent. The extent's disk space is
/// given back.
pub(super) fn read(extent: Extent, mut buffer: Buffer) -> ReadJob {
    spawn_blocking(move || {
        let (number, dir) = (extent.expected.number, extent.segment.budget.dir().display().to_string());
        buffer.clear();
        buffer.fill(extent.expected.payload_len as usize);
        let read = extent.segment.file().and_then(|file| file.read_exact_at(buffer.sectors(), extent.offset));
        if let Err(source) = read {
            return Err(ReadBackError::Io { number, dir, source });
        }
        let header: Option<&[u8; BlockHeader::LEN]> = buffer.sectors().first_chunk();
        if header != Some(&extent.expected.encode()) {
            return Err(ReadBackError::Corrupt { number, dir, what: "its header" });
        }
        if crc32c::crc32c(buffer.payload()) != extent.expected.crc {
            return Err(ReadBackError::Corrupt { number, dir, what: "its checksum" });
        }
        extent.segment.punch(extent.offset, extent.len);
        Ok(buffer)
    })
}

/// One file. It has no name, so it is gone with the process; it is opened by the first job that needs it.
struct Segment {
    budget: Arc<DiskBudget>,
    file: OnceLock<Result<File, Errno>>,
    len: u64,
    /// Bytes of the budget that this segment's blocks hold.
    held: AtomicU64,
}

impl Segment {
    fn file(&self) -> io::Result<&File> {
        match self.file.get_or_init(|| open_unnamed(self.budget.dir())) {
            Ok(file) => Ok(file),
            Err(errno) => Err((*errno).into()),
        }
    }

    fn write(&self, offset: u64, buffer: &mut Buffer, nonce: u64, number: u64) -> io::Result<BlockHeader> {
        let payload_len = buffer.payload().len() as u32;
        let header = BlockHeader { nonce, number, payload_len, crc: crc32c::crc32c(buffer.payload()) };
        let sectors = buffer.sectors();
        sectors[..BlockHeader::LEN].copy_from_slice(&header.encode());
        let written = self.write_sectors(offset, sectors);
        if written.is_err() {
            self.punch(offset, sectors.len() as u64);
        }
        written.map(|()| header)
    }

    fn write_sectors(&self, offset: u64, sectors: &[u8]) -> io::Result<()> {
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

    /// Gives the disk space of a block back. Where the file system cannot punch holes it comes back with the file.
    fn punch(&self, offset: u64, len: u64) {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let punched = self.file().is_ok_and(|file| fallocate(file, flags, offset as i64, len as i64).is_ok());
        if punched {
            self.held.fetch_sub(len, Ordering::Relaxed);
            self.budget.give_back(len);
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.budget.give_back(*self.held.get_mut());
    }
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

/// Whether a spool file can be made in `dir`; blocks.
///
/// # Errors
/// What the file system says.
pub(crate) fn probe(dir: &Path) -> io::Result<()> {
    open_unnamed(dir)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tier(max: u64) -> (tempfile::TempDir, Arc<DiskBudget>, DiskTier) {
        let dir = tempfile::tempdir().unwrap();
        let budget = DiskBudget::new(dir.path().to_owned(), max, 0);
        let tier = DiskTier::new(Arc::clone(&budget));
        (dir, budget, tier)
    }

    fn filled(byte: u8, len: usize) -> Buffer {
        let mut buffer = Buffer::new(64 * 1024);
        buffer.room()[..len].fill(byte);
        buffer.fill(len);
        buffer
    }

    async fn written(tier: &mut DiskTier, number: u64, byte: u8) -> Extent {
        let job = tier.write(number, filled(byte, 50_000)).ok().unwrap();
        job.await.unwrap().1.unwrap()
    }

    #[tokio::test]
    async fn blocks_come_back_and_their_space_too() {
        let (dir, budget, mut tier) = tier(1 << 30);
        let extents = [written(&mut tier, 0, 7).await, written(&mut tier, 1, 8).await];
        assert!(budget.used() >= 100_000);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "a spool file has a name");
        for (extent, byte) in extents.into_iter().zip([7, 8]) {
            let buffer = read(extent, Buffer::new(64 * 1024)).await.unwrap().unwrap();
            assert_eq!(buffer.payload(), vec![byte; 50_000]);
        }
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn a_flipped_bit_is_found() {
        for at in [3, 9, 20, 30, 40, 49_999] {
            let (_dir, _budget, mut tier) = tier(1 << 30);
            let extent = written(&mut tier, 0, 7).await;
            let file = extent.segment.file().unwrap();
            fcntl(file, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
            let error = read(extent, Buffer::new(64 * 1024)).await.unwrap().err().unwrap();
            assert!(matches!(error, ReadBackError::Corrupt { .. }), "byte {at}: {error}");
        }
    }

    #[tokio::test]
    async fn a_block_in_anothers_place_is_found() {
        let (_dir, _budget, mut tier) = tier(1 << 30);
        let first = written(&mut tier, 0, 7).await;
        let second = written(&mut tier, 1, 7).await;
        let swapped = Extent { offset: first.offset, ..second };
        let error = read(swapped, Buffer::new(64 * 1024)).await.unwrap().err().unwrap();
        assert!(matches!(error, ReadBackError::Corrupt { what: "its header", .. }));
    }

    #[tokio::test]
    async fn a_write_that_never_happened_is_found() {
        let (_dir, _budget, mut tier) = tier(1 << 30);
        let extent = written(&mut tier, 0, 7).await;
        extent.segment.punch(extent.offset, extent.len);
        let error = read(extent, Buffer::new(64 * 1024)).await.unwrap().err().unwrap();
        assert!(matches!(error, ReadBackError::Corrupt { .. } | ReadBackError::Io { .. }));
    }

    #[tokio::test]
    async fn spool_max_is_kept_and_the_buffer_comes_back() {
        let (_dir, budget, mut tier) = tier(60_000);
        let extent = written(&mut tier, 0, 7).await;
        assert!(tier.write(1, filled(8, 50_000)).is_err());
        drop((extent, tier));
        assert_eq!(budget.used(), 0);
    }
}
