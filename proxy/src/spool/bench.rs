//! What the micro-benchmarks in `bench/benches/spool.rs` see of the spool, and nothing else uses: it is public only for
//! them.

use std::future::poll_fn;
use std::hint::black_box;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;

use tokio::runtime::{Builder, Runtime};

use super::budget::{DiskBudget, MemoryBudget};
use super::packing::{Lent, Packing};
use super::sealing::{Seal, Sealer};
use super::{Feed, ResponseId, Spool};

/// A session's spool without a session: bytes are copied into its blocks, as the kernel does for a socket, and looked at
/// by nobody when they come out.
pub struct Pipe {
    runtime: Runtime,
    spool: Spool,
}

impl Pipe {
    /// With so many bytes of memory, and a disk without limits, on which blocks are encrypted or not.
    ///
    /// # Errors
    /// If there can be no runtime.
    pub fn new(memory: u64, dir: &Path, packing: Arc<Packing>, encrypts: bool) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_time().build()?;
        let disk = DiskBudget::new(dir.to_owned(), u64::MAX, 0);
        let share = MemoryBudget::new(4 * memory, memory).share();
        let share = share.ok_or_else(|| io::Error::other("less than a session's floor"))?;
        Ok(Self { runtime, spool: Spool::new(share, disk, packing, encrypts) })
    }

    /// One response of `total` bytes, drained in pieces like this one, and fed as they come (`keeps_up`) or only when
    /// all of it is there.
    ///
    /// # Errors
    /// If a block does not come back from the disk.
    pub fn response(&mut self, piece: &[u8], total: usize, keeps_up: bool) -> io::Result<()> {
        self.runtime.block_on(pass(&mut self.spool, piece, total, keeps_up))
    }

    /// So many responses of these bytes, each fed before the next one comes.
    ///
    /// # Errors
    /// If a block does not come back from the disk.
    pub fn responses(&mut self, count: usize, bytes: &[u8]) -> io::Result<()> {
        self.runtime.block_on(async {
            for _ in 0..count {
                pass(&mut self.spool, bytes, bytes.len(), true).await?;
            }
            Ok(())
        })
    }
}

async fn pass(spool: &mut Spool, piece: &[u8], total: usize, keeps_up: bool) -> io::Result<()> {
    let id = spool.open(1);
    let mut drained = 0;
    while drained < total {
        drained += drain(spool, id, &piece[..piece.len().min(total - drained)]).await?;
        while keeps_up && feed(spool) {}
    }
    spool.complete(id);
    poll_fn(|cx| {
        loop {
            // What was fed has made room to read more.
            spool.poll_disk(cx).map_err(io::Error::other)?;
            match spool.feed() {
                Feed::Data(_) => while feed(spool) {},
                Feed::Complete => return Poll::Ready(io::Result::Ok(())),
                _ => return Poll::Pending,
            }
        }
    })
    .await?;
    spool.finish_front();
    Ok(())
}

/// Drains what there is room for; waits for room.
async fn drain(spool: &mut Spool, id: ResponseId, piece: &[u8]) -> io::Result<usize> {
    poll_fn(|cx| {
        spool.poll_disk(cx).map_err(io::Error::other)?;
        let Some(room) = spool.room(false) else {
            // For the timer that was set just now.
            spool.poll_disk(cx).map_err(io::Error::other)?;
            return Poll::Pending;
        };
        let len = room.len().min(piece.len());
        room[..len].copy_from_slice(&piece[..len]);
        spool.filled(len);
        spool.append(id, len, 0, 1);
        Poll::Ready(Ok(len))
    })
    .await
}

fn feed(spool: &mut Spool) -> bool {
    let Feed::Data(bytes) = spool.feed() else { return false };
    let len = black_box(bytes).len();
    spool.consume(len);
    true
}

/// A compressed block.
pub struct Packed<'a>(Lent<'a>);

impl<'a> Packed<'a> {
    /// None if `plain` does not shrink, or is not to.
    pub fn new(packing: &'a Packing, plain: &[u8]) -> Option<Self> {
        packing.pack(plain).map(Self)
    }

    /// Whether it decompresses to just as many bytes.
    pub fn unpack(&mut self, plain: &mut [u8]) -> bool {
        self.0.unpack(plain)
    }
}

/// What encrypts blocks, and decrypts the last one.
#[derive(Default)]
pub struct Sealing {
    sealer: Sealer,
    last: Option<Seal>,
}

impl Sealing {
    /// Whether the block could be encrypted.
    pub fn seal(&mut self, block: &mut [u8]) -> bool {
        self.last = self.sealer.for_next_write().ok().and_then(|one_use| one_use.seal(HEADER, block).ok());
        self.last.is_some()
    }

    /// Whether it is the last one that was encrypted, and is as it was before.
    pub fn open(&self, block: &mut [u8]) -> bool {
        self.last.as_ref().is_some_and(|seal| seal.open(HEADER, block))
    }
}

const HEADER: &[u8] = &[7; 40];
