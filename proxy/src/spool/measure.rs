//! How fast the spool's disk is, for `check`: blocks go there and back by the spool's own jobs.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use super::block::{Buffer, MAX_BLOCK_LEN};
use super::budget::DiskBudget;
use super::disk::{self, DiskTier, Extent, FileKind, ReadBackError, ReadJob, WriteError, WriteJob};
use super::packing::Packing;
use super::tiers::MAX_WRITES;

/// The most bytes that are written, and how long may be spent on that; reading back may take as long.
const MOST: u64 = 256 << 20;
const TIME: Duration = Duration::from_secs(2);

/// How much longer the last blocks may take. A disk that needs more is stuck, and its jobs are left behind: nothing can
/// call them back.
const PATIENCE: Duration = Duration::from_secs(10);

const TOO_SMALL: &str = "--spool-max leaves no room for a block of 1 MiB";

/// Bytes, and how long they took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) bytes: u64,
    pub(crate) time: Duration,
}

/// What the spool directory has shown.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) kind: Option<FileKind>,
    pub(crate) written: Pace,
    pub(crate) read: Pace,
    /// Why no more was written, if that was not because it was enough.
    pub(crate) stopped_by: Option<io::Error>,
}

/// Why there is nothing to tell.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MeasureError {
    #[error("nothing can be written there: {0}")]
    Write(#[source] io::Error),
    #[error("what was written there does not come back: {0}")]
    Read(#[from] ReadBackError),
    #[error("a block takes more than {} s there", PATIENCE.as_secs())]
    Stuck,
    #[error("writing there ended early: {0}")]
    Job(#[from] tokio::task::JoinError),
}

/// Writes blocks of noise within the budget, and reads them back. The space is given back in any case.
///
/// # Errors
/// [`MeasureError`] if not one block can be written, or if one does not come back as it was.
pub(crate) async fn measure(budget: Arc<DiskBudget>) -> Result<Measured, MeasureError> {
    let mut files = DiskTier::new(budget, Packing::new(None), false);
    let (written, extents, spares, stopped_by) = write(&mut files).await?;
    let kind = files.file_kind();
    let read = read_back(extents, spares).await?;
    // The last extent closes the file, which takes a while.
    spawn_blocking(move || drop(files)).await?;
    Ok(Measured { kind, written, read, stopped_by })
}

type Written = (Pace, VecDeque<Extent>, Vec<Buffer>, Option<io::Error>);

async fn write(files: &mut DiskTier) -> Result<Written, MeasureError> {
    let started = Instant::now();
    let deadline = started + TIME + PATIENCE;
    let (mut jobs, mut extents, mut spares) = (VecDeque::<WriteJob>::new(), VecDeque::new(), Vec::new());
    let (mut bytes, mut stopped_by) = (0, None);
    for number in 0..MOST / MAX_BLOCK_LEN as u64 {
        if started.elapsed() >= TIME || stopped_by.is_some() {
            break;
        }
        match files.write(number, spares.pop().unwrap_or_else(noise)) {
            Ok(job) => jobs.push_back(job),
            // What --spool-max allows is enough, if it is anything.
            Err(_) if number > 0 => break,
            Err(_) => stopped_by = Some(io::Error::new(io::ErrorKind::StorageFull, TOO_SMALL)),
        }
        // As many at a time as a session has.
        if jobs.len() == MAX_WRITES
            && let Some(job) = jobs.pop_front()
        {
            stopped_by = settle(job, deadline, &mut extents, &mut spares, &mut bytes).await?;
        }
    }
    for job in jobs {
        let failed = settle(job, deadline, &mut extents, &mut spares, &mut bytes).await?;
        stopped_by = stopped_by.or(failed);
    }
    match stopped_by {
        Some(error) if extents.is_empty() => Err(MeasureError::Write(error)),
        stopped_by => Ok((Pace { bytes, time: started.elapsed() }, extents, spares, stopped_by)),
    }
}

/// Waits for a block to be written. Gives why it was not.
async fn settle(
    job: WriteJob,
    deadline: Instant,
    extents: &mut VecDeque<Extent>,
    spares: &mut Vec<Buffer>,
    bytes: &mut u64,
) -> Result<Option<io::Error>, MeasureError> {
    let (buffer, written) = timeout_at(deadline, job).await.map_err(|_| MeasureError::Stuck)??;
    spares.push(buffer);
    match written {
        Ok(extent) => {
            *bytes += extent.disk_len();
            extents.push_back(extent);
            Ok(None)
        }
        Err(WriteError::Io(error)) => Ok(Some(error)),
        Err(WriteError::Lost(error)) => Err(error.into()),
    }
}

async fn read_back(mut extents: VecDeque<Extent>, mut spares: Vec<Buffer>) -> Result<Pace, MeasureError> {
    let started = Instant::now();
    let deadline = started + TIME + PATIENCE;
    let (mut jobs, mut bytes) = (VecDeque::<(u64, ReadJob)>::new(), 0);
    loop {
        while started.elapsed() < TIME
            && let Some(buffer) = spares.pop()
        {
            let Some(extent) = extents.pop_front() else { break };
            jobs.push_back((extent.disk_len(), disk::read(extent, buffer)));
        }
        let Some((len, job)) = jobs.pop_front() else { break };
        let (buffer, read) = timeout_at(deadline, job).await.map_err(|_| MeasureError::Stuck)??;
        read?;
        bytes += len;
        spares.push(buffer);
    }
    let pace = Pace { bytes, time: started.elapsed() };
    spawn_blocking(move || drop(extents)).await?;
    Ok(pace)
}

/// A full block that no file system can make smaller.
fn noise() -> Buffer {
    let mut buffer = Buffer::new(MAX_BLOCK_LEN);
    let room = buffer.room();
    rand::rng().fill_bytes(room);
    let len = room.len();
    buffer.fill(len);
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn blocks_go_there_and_back_and_leave_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let budget = DiskBudget::new(dir.path().to_owned(), 20 << 20, 0);
        let measured = measure(Arc::clone(&budget)).await.unwrap();
        // Not more than --spool-max; all of it in two seconds, unless the disk is a very slow one.
        assert!((1 << 20..=20 << 20).contains(&measured.written.bytes), "{measured:?}");
        assert!(measured.read.bytes <= measured.written.bytes && measured.read.bytes > 0, "{measured:?}");
        assert!(measured.stopped_by.is_none(), "{measured:?}");
        assert!(measured.kind.is_some());
        assert_eq!(budget.used(), 0);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_is_to_stay_free_stays_free() {
        let dir = tempfile::tempdir().unwrap();
        let budget = DiskBudget::new(dir.path().to_owned(), u64::MAX, 1 << 60);
        let failed = measure(budget).await;
        assert!(
            matches!(&failed, Err(MeasureError::Write(error)) if error.to_string().contains("--spool-min-free")),
            "{failed:?}"
        );
    }

    #[tokio::test]
    async fn a_spool_without_room_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let failed = measure(DiskBudget::new(dir.path().to_owned(), 4096, 0)).await;
        assert!(
            matches!(&failed, Err(MeasureError::Write(error)) if error.to_string().contains("--spool-max")),
            "{failed:?}"
        );
    }

    #[tokio::test]
    async fn a_missing_directory_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let budget = DiskBudget::new(dir.path().join("none"), u64::MAX, 0);
        assert!(matches!(measure(budget).await, Err(MeasureError::Write(_))));
    }
}
