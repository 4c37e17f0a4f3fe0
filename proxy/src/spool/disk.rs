//! The disk tier: blocks are written to segment files and read back from there, checked, and compressed and encrypted on
//! the way if that is asked for.
//!
//! All that blocks the thread here runs in `spawn_blocking` jobs, a block each. A block is on disk only between its
//! writing and its reading: what was read back is punched out of the file, so the disk holds the backlog and no more.

mod header;
mod segment;

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::task::{JoinHandle, spawn_blocking};

use super::block::{ALIGNMENT, Buffer};
use super::budget::DiskBudget;
use super::packing::{Packer, Packing};
use super::sealing::{OneUse, Seal, Sealer};
pub(super) use header::BlockHeader;
use header::Checked;
use segment::Segment;
pub(crate) use segment::{FileKind, probe};

/// A block that came back from the disk is not the one that was written, or did not come back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadBackError {
    #[error("block {number} of the spool cannot be read back from {dir}: {source}")]
    Io { number: u64, dir: String, source: io::Error },
    #[error("block {number} of the spool in {dir} is not what was written there: {what} differs")]
    Corrupt { number: u64, dir: String, what: &'static str },
    #[error("block {number} of the spool is lost: its job ended early ({source})")]
    Job { number: u64, source: tokio::task::JoinError },
    #[error("block {number} of the spool is lost: {what} failed on this machine")]
    Sealing { number: u64, what: &'static str },
}

/// Why a block is not on disk.
#[derive(Debug)]
pub(super) enum WriteError {
    /// The disk did not take it. It is in its buffer as before.
    Io(io::Error),
    /// And it is not in its buffer any more.
    Lost(ReadBackError),
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A write under way: gives the buffer back, with the extent if it could be written.
pub(super) type WriteJob = JoinHandle<(Buffer, Result<Extent, WriteError>)>;

/// A read under way: gives the buffer back, with the block in it if that is what was written.
pub(super) type ReadJob = JoinHandle<(Buffer, Result<(), ReadBackError>)>;

/// One session's segments.
pub(super) struct DiskTier {
    budget: Arc<DiskBudget>,
    packing: Arc<Packing>,
    /// None if blocks are not encrypted.
    sealer: Option<Sealer>,
    nonce: u64,
    current: Option<Arc<Segment>>,
}

impl DiskTier {
    /// Files within `budget` of blocks that are compressed by `packing`, and encrypted or not.
    pub(super) fn new(budget: Arc<DiskBudget>, packing: Arc<Packing>, encrypts: bool) -> Self {
        let sealer = encrypts.then(Sealer::default);
        Self { budget, packing, sealer, nonce: rand::random(), current: None }
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
    ///
    /// Whether it will shrink is not known yet, so it must have room as it is; what it does not need is given back when
    /// that is known.
    pub(super) fn write(&mut self, number: u64, mut buffer: Buffer) -> Result<WriteJob, Buffer> {
        let len = buffer.sectors().len() as u64;
        if !self.budget.try_take(len) {
            return Err(buffer);
        }
        let segment = self.segment_for(len);
        segment.hold(len);
        let (packing, nonce) = (Arc::clone(&self.packing), self.nonce);
        let sealing = self.sealer.as_mut().map(Sealer::for_next_write).transpose();
        Ok(spawn_blocking(move || {
            let written = match sealing {
                Ok(sealing) => write(segment, packing, sealing, &mut buffer, nonce, number),
                Err(error) => Err(error.into()),
            };
            (buffer, written)
        }))
    }

    /// The spool directory.
    pub(super) fn dir(&self) -> &Path {
        self.budget.dir()
    }

    /// What kind of file was written last; none before the first.
    pub(super) fn file_kind(&self) -> Option<FileKind> {
        self.current.as_ref()?.kind().ok()
    }

    /// After a failed write: goes on in a new file.
    pub(super) fn abandon_segment(&mut self) {
        self.current = None;
    }

    fn segment_for(&mut self, len: u64) -> Arc<Segment> {
        if let Some(current) = self.current.as_ref().filter(|current| current.has_room(len)) {
            return Arc::clone(current);
        }
        let next = Arc::new(Segment::next(self.current.as_deref(), Arc::clone(&self.budget)));
        Arc::clone(self.current.insert(next))
    }
}

/// Where a written block lies, and what it must be when it is read back. The expectation stays in memory: a checksum
/// beside the data would be as wrong as the data if the disk returned another block's, or an old one.
pub(super) struct Extent {
    segment: Arc<Segment>,
    packing: Arc<Packing>,
    offset: u64,
    disk_len: u64,
    expected: BlockHeader,
    /// If it is encrypted.
    seal: Option<Seal>,
}

/// Compresses a block, if it is to be and that is worth it, encrypts it if it is to be, and writes it.
fn write(
    segment: Arc<Segment>,
    packing: Arc<Packing>,
    sealing: Option<OneUse>,
    buffer: &mut Buffer,
    nonce: u64,
    number: u64,
) -> Result<Extent, WriteError> {
    let held = buffer.sectors().len() as u64;
    let mut packer = packing.pack(buffer.payload());
    let is_sealed = sealing.is_some();
    let checked: fn(&[u8]) -> Checked = if is_sealed { Checked::by_seal } else { Checked::of };
    let expected = match &packer {
        Some(packer) => {
            // No seal tells what will come out of the decompressor.
            let payload = Checked::of(buffer.payload());
            let stored = checked(packer.packed.payload());
            BlockHeader { nonce, number, algorithm: Some(packer.algorithm()), is_sealed, payload, stored }
        }
        None => {
            let stored = checked(buffer.payload());
            BlockHeader { nonce, number, algorithm: None, is_sealed, payload: stored, stored }
        }
    };
    let block = packer.as_mut().map_or(&mut *buffer, |packer| &mut packer.packed);
    let seal = sealing.map(|sealing| seal(block, sealing, &expected)).transpose()?;
    let sectors = block.sectors();
    sectors[..BlockHeader::LEN].copy_from_slice(&expected.encode());
    let disk_len = sectors.len() as u64;
    let appended = segment.append(sectors, held);
    drop(packer);
    match appended {
        Ok(offset) => Ok(Extent { segment, packing, offset, disk_len, expected, seal }),
        Err(error) => Err(keep(buffer, &expected, seal, error)),
    }
}

/// Encrypts a block as it stands in its buffer.
fn seal(block: &mut Buffer, sealing: OneUse, header: &BlockHeader) -> Result<Seal, WriteError> {
    block.clear_behind();
    let failed = |_| WriteError::Lost(ReadBackError::Sealing { number: header.number, what: "encryption" });
    sealing.seal(&header.encode(), block.payload_mut()).map_err(failed)
}

/// Has a block in its buffer as it was, for the session to go on with, if it cannot be written for this reason.
fn keep(buffer: &mut Buffer, header: &BlockHeader, seal: Option<Seal>, error: io::Error) -> WriteError {
    // What was compressed is encrypted elsewhere.
    let in_place = seal.filter(|_| header.algorithm.is_none());
    if in_place.is_none_or(|seal| seal.open(&header.encode(), buffer.payload_mut())) {
        WriteError::Io(error)
    } else {
        WriteError::Lost(ReadBackError::Sealing { number: header.number, what: "decryption" })
    }
}

/// Begins to read a block back into `buffer`, which must be of the extent's [`memory_len`](Extent::memory_len) at
/// least. The extent's disk space is given back.
pub(super) fn read(extent: Extent, mut buffer: Buffer) -> ReadJob {
    spawn_blocking(move || {
        let read = extent.read(&mut buffer).map_err(|fault| extent.error(fault));
        if read.is_ok() {
            extent.segment.punch(extent.offset, extent.disk_len);
        }
        (buffer, read)
    })
}

/// What is wrong with a block that was read.
enum Fault {
    Io(io::Error),
    Differs(&'static str),
}

impl Extent {
    /// Bytes of memory that it needs to be read back.
    pub(super) fn memory_len(&self) -> usize {
        (BlockHeader::LEN + self.expected.payload.len as usize).next_multiple_of(ALIGNMENT)
    }

    /// Bytes that it takes on disk.
    pub(super) fn disk_len(&self) -> u64 {
        self.disk_len
    }

    fn read(&self, buffer: &mut Buffer) -> Result<(), Fault> {
        let BlockHeader { algorithm, payload, .. } = self.expected;
        buffer.clear();
        buffer.fill(payload.len as usize);
        if algorithm.is_none() {
            return self.read_stored(buffer);
        }
        // There is one, as there was when the block was packed.
        let mut packer = self.packing.packer().ok_or(Fault::Differs("the way of compression"))?;
        self.read_packed(&mut packer, buffer)
    }

    /// Reads the packed block and unpacks it. Nothing is decompressed that is not what was written; and what comes out
    /// must be what was compressed.
    fn read_packed(&self, packer: &mut Packer, buffer: &mut Buffer) -> Result<(), Fault> {
        packer.packed.clear();
        packer.packed.fill(self.expected.stored.len as usize);
        self.read_stored(&mut packer.packed)?;
        if !packer.unpack(buffer.payload_mut()) {
            return Err(Fault::Differs("what it decompresses to"));
        }
        if !self.expected.payload.fits(buffer.payload()) {
            return Err(Fault::Differs("the checksum of what it decompresses to"));
        }
        Ok(())
    }

    /// Reads the stored bytes, for which there is just room, checks them, and decrypts them if they are encrypted.
    fn read_stored(&self, buffer: &mut Buffer) -> Result<(), Fault> {
        self.segment.read(buffer.sectors(), self.offset).map_err(Fault::Io)?;
        let header = self.expected.encode();
        if buffer.sectors().first_chunk() != Some(&header) {
            return Err(Fault::Differs("its header"));
        }
        if let Some(seal) = &self.seal {
            let is_whole = seal.open(&header, buffer.payload_mut());
            return if is_whole { Ok(()) } else { Err(Fault::Differs("its seal")) };
        }
        if !self.expected.stored.fits(buffer.payload()) {
            return Err(Fault::Differs("its checksum"));
        }
        Ok(())
    }

    fn error(&self, fault: Fault) -> ReadBackError {
        let (number, dir) = (self.expected.number, self.segment.dir().display().to_string());
        match fault {
            Fault::Io(source) => ReadBackError::Io { number, dir, source },
            Fault::Differs(what) => ReadBackError::Corrupt { number, dir, what },
        }
    }
}

#[cfg(test)]
mod tests;
