//! What all sessions together may use: memory, and disk space.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::statvfs::statvfs;

/// Memory that a session has from its first moment on and cannot be denied: four blocks of
/// [`MIN_BLOCK_LEN`](super::block::MIN_BLOCK_LEN) (one being filled, one on its way to the disk, two on their way
/// back) and as much again for its commands and its own bookkeeping.
pub(crate) const SESSION_FLOOR: u64 = 128 * 1024;

/// The part of [`SESSION_FLOOR`] that blocks may take.
const BLOCK_FLOOR: u64 = SESSION_FLOOR / 2;

/// The memory of all sessions together (`--memory`), in bytes, and what each may have of it.
#[derive(Debug)]
pub struct MemoryBudget {
    pool: Arc<Pool>,
    per_session: u64,
}

#[derive(Debug)]
struct Pool {
    limit: AtomicU64,
    used: AtomicU64,
    peak: AtomicU64,
}

impl MemoryBudget {
    /// `limit` bytes in all, `per_session` bytes (`--memory-per-session`) for each session at most.
    pub fn new(limit: u64, per_session: u64) -> Arc<Self> {
        let pool = Pool { limit: AtomicU64::new(limit), used: AtomicU64::new(0), peak: AtomicU64::new(0) };
        Arc::new(Self { pool: Arc::new(pool), per_session })
    }

    /// The same memory, of which other sessions may have this much each.
    #[must_use]
    pub fn with_per_session(&self, per_session: u64) -> Arc<Self> {
        Arc::new(Self { pool: Arc::clone(&self.pool), per_session })
    }

    /// Changes what there is in all. Where more is in use, nothing is given until enough has come back.
    pub fn set_limit(&self, limit: u64) {
        self.pool.limit.store(limit, Ordering::Relaxed);
    }

    /// The most that all sessions together may use.
    pub(crate) fn limit(&self) -> u64 {
        self.pool.limit.load(Ordering::Relaxed)
    }

    /// A share for a new session, or none if not even the least that a session needs is left.
    pub(crate) fn share(self: &Arc<Self>) -> Option<MemoryShare> {
        self.take(SESSION_FLOOR).then(|| MemoryShare { budget: Arc::clone(self), blocks: 0 })
    }

    /// Bytes in use by all sessions, what is reserved for them included.
    pub fn used(&self) -> u64 {
        self.pool.used.load(Ordering::Relaxed)
    }

    /// The most that was in use so far.
    pub fn peak(&self) -> u64 {
        self.pool.peak.load(Ordering::Relaxed)
    }

    /// What blocks may take. An eighth is kept back for newcomers' floors.
    fn free(&self) -> u64 {
        let limit = self.limit();
        (limit - limit / 8).saturating_sub(self.used())
    }

    fn take(&self, len: u64) -> bool {
        take_within(self.limit(), len, &self.pool.used, &self.pool.peak)
    }
}

/// Adds `len` to what is in use, if it stays within `limit`.
fn take_within(limit: u64, len: u64, used: &AtomicU64, peak: &AtomicU64) -> bool {
    let grow = |used: u64| used.checked_add(len).filter(|&used| used <= limit);
    match used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow) {
        Ok(before) => {
            raise(peak, before + len);
            true
        }
        Err(_) => false,
    }
}

/// Writes only what is a new peak: blocks are taken more often than that.
fn raise(peak: &AtomicU64, used: u64) {
    if used > peak.load(Ordering::Relaxed) {
        peak.fetch_max(used, Ordering::Relaxed);
    }
}

/// One session's part of a [`MemoryBudget`]; given back on drop.
///
/// How much a session may take depends on what is free: never more than the others leave. So the first session gets
/// all of its share, and the more there are, the less each may take (the "dynamic threshold" of shared-memory
/// switches). Who holds more than that moves it to disk. An eighth is kept back, so that a newcomer finds its floor.
#[derive(Debug)]
pub(crate) struct MemoryShare {
    budget: Arc<MemoryBudget>,
    /// Bytes of blocks.
    blocks: u64,
}

impl MemoryShare {
    /// Bytes of blocks that the session may hold at this moment.
    pub(crate) fn allowance(&self) -> u64 {
        self.budget.per_session.min(self.budget.free()).max(BLOCK_FLOOR)
    }

    /// Bytes of blocks that the session holds.
    pub(crate) fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Takes `len` bytes for a block, if the session may.
    pub(crate) fn try_grow(&mut self, len: u64) -> bool {
        let within = self.blocks + len <= self.allowance();
        let taken = within && self.budget.take(Self::charged(self.blocks + len) - Self::charged(self.blocks));
        if taken {
            self.blocks += len;
        }
        taken
    }

    /// Takes `len` bytes whether the session may or not: for the one block without which it could not go on.
    pub(crate) fn force_grow(&mut self, len: u64) {
        let more = Self::charged(self.blocks + len) - Self::charged(self.blocks);
        let before = self.budget.pool.used.fetch_add(more, Ordering::Relaxed);
        raise(&self.budget.pool.peak, before + more);
        self.blocks += len;
    }

    /// Gives `len` bytes back.
    pub(crate) fn shrink(&mut self, len: u64) {
        let less = Self::charged(self.blocks) - Self::charged(self.blocks - len);
        self.budget.pool.used.fetch_sub(less, Ordering::Relaxed);
        self.blocks -= len;
    }

    /// What blocks cost beyond the floor, which is paid already.
    fn charged(blocks: u64) -> u64 {
        blocks.saturating_sub(BLOCK_FLOOR)
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        self.budget.pool.used.fetch_sub(SESSION_FLOOR + Self::charged(self.blocks), Ordering::Relaxed);
    }
}

/// The disk space of all sessions together, or of those of a route within that, and where it is.
#[derive(Debug)]
pub struct DiskBudget {
    dir: PathBuf,
    max: AtomicU64,
    min_free: AtomicU64,
    used: AtomicU64,
    peak: AtomicU64,
    /// What this is a share of.
    whole: Option<Arc<Self>>,
}

impl DiskBudget {
    /// At most `max` bytes (`--spool-max`) in `dir`, as long as `min_free` bytes (`--spool-min-free`) stay free there.
    pub fn new(dir: PathBuf, max: u64, min_free: u64) -> Arc<Self> {
        let (max, min_free) = (AtomicU64::new(max), AtomicU64::new(min_free));
        Arc::new(Self { dir, max, min_free, used: AtomicU64::new(0), peak: AtomicU64::new(0), whole: None })
    }

    /// At most `max` bytes of what `whole` has.
    pub fn share_of(whole: &Arc<Self>, max: u64) -> Arc<Self> {
        let (dir, whole) = (whole.dir.clone(), Some(Arc::clone(whole)));
        Arc::new(Self {
            dir,
            max: AtomicU64::new(max),
            min_free: AtomicU64::new(0),
            used: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            whole,
        })
    }

    /// Changes the limits. Where more is in use, nothing is given until enough has come back.
    pub fn set_limits(&self, max: u64, min_free: u64) {
        self.max.store(max, Ordering::Relaxed);
        self.min_free.store(min_free, Ordering::Relaxed);
    }

    /// The spool directory.
    pub fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    /// The most bytes on disk of all sessions (`--spool-max`).
    pub(crate) fn max(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }

    /// Bytes that stay free for others (`--spool-min-free`).
    pub(crate) fn min_free(&self) -> u64 {
        self.min_free.load(Ordering::Relaxed)
    }

    /// Bytes that the file system has free for this user. Blocks.
    ///
    /// # Errors
    /// What `statvfs` fails with.
    pub(crate) fn free(&self) -> io::Result<u64> {
        let stat = statvfs(&self.dir)?;
        Ok(stat.blocks_available() * stat.fragment_size())
    }

    /// Bytes on disk of all sessions.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The most that was on disk so far.
    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// Whether `len` more bytes are within `--spool-max`.
    pub(crate) fn has_room(&self, len: u64) -> bool {
        let within = self.used().saturating_add(len) <= self.max();
        within && self.whole.as_ref().is_none_or(|whole| whole.has_room(len))
    }

    /// Takes `len` bytes of `--spool-max`, if they are left.
    pub(crate) fn try_take(&self, len: u64) -> bool {
        if !take_within(self.max(), len, &self.used, &self.peak) {
            return false;
        }
        let taken = self.whole.as_ref().is_none_or(|whole| whole.try_take(len));
        if !taken {
            self.used.fetch_sub(len, Ordering::Relaxed);
        }
        taken
    }

    pub(crate) fn give_back(&self, len: u64) {
        self.used.fetch_sub(len, Ordering::Relaxed);
        if let Some(whole) = &self.whole {
            whole.give_back(len);
        }
    }

    /// Asks the file system whether `len` more bytes leave `--spool-min-free` free. Blocks.
    ///
    /// # Errors
    /// `StorageFull` if they do not, or what `statvfs` fails with.
    pub(crate) fn check_free(&self, len: u64) -> io::Result<()> {
        if let Some(whole) = &self.whole {
            return whole.check_free(len);
        }
        let min_free = self.min_free.load(Ordering::Relaxed);
        if min_free == 0 {
            return Ok(()); // The write itself tells.
        }
        let available = self.free()?;
        if available < min_free.saturating_add(len) {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!("{available} bytes are free and --spool-min-free is {min_free}"),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_lone_session_gets_its_whole_share_and_no_more() {
        let budget = MemoryBudget::new(256 * MIB, 16 * MIB);
        let mut share = budget.share().unwrap();
        let blocks = std::iter::from_fn(|| share.try_grow(MIB).then_some(())).count();
        assert_eq!(blocks, 16);
        share.shrink(MIB);
        assert!(share.try_grow(MIB));
        drop(share);
        assert_eq!((budget.used(), budget.peak()), (0, 16 * MIB + SESSION_FLOOR - BLOCK_FLOOR));
    }

    #[test]
    fn many_sessions_stay_within_the_budget_and_leave_room_for_a_newcomer() {
        let budget = MemoryBudget::new(64 * MIB, 16 * MIB);
        let mut shares: Vec<_> = (0..50).map(|_| budget.share().unwrap()).collect();
        for _ in 0..100 {
            for share in &mut shares {
                share.try_grow(64 * 1024);
            }
        }
        assert!(budget.used() <= 64 * MIB);
        let newcomers: Vec<_> = (0..50).map_while(|_| budget.share()).collect();
        assert_eq!(newcomers.len(), 50, "{} of {} used", budget.used(), 64 * MIB);
    }

    #[test]
    fn sessions_are_refused_where_not_even_the_floor_is_left() {
        let budget = MemoryBudget::new(3 * SESSION_FLOOR, MIB);
        let shares: Vec<_> = (0..3).map_while(|_| budget.share()).collect();
        assert_eq!(shares.len(), 3);
        assert!(budget.share().is_none());
    }

    #[test]
    fn the_floor_is_always_there() {
        let budget = MemoryBudget::new(SESSION_FLOOR, MIB);
        let mut share = budget.share().unwrap();
        assert!((0..4).all(|_| share.try_grow(16 * 1024)));
        assert!(!share.try_grow(16 * 1024));
    }

    #[test]
    fn memory_is_one_whatever_a_session_may_have_of_it() {
        let budget = MemoryBudget::new(8 * MIB, 4 * MIB);
        let other = budget.with_per_session(MIB);
        let (mut large, mut small) = (budget.share().unwrap(), other.share().unwrap());
        assert!(small.try_grow(MIB) && !small.try_grow(MIB));
        assert!(large.try_grow(2 * MIB));
        assert_eq!(budget.used(), other.used());
        budget.set_limit(2 * MIB);
        assert!(!large.try_grow(MIB) && other.share().is_none());
        budget.set_limit(16 * MIB);
        assert!(large.try_grow(MIB));
        drop((large, small));
        assert_eq!(other.used(), 0);
    }

    #[test]
    fn a_share_of_the_disk_is_within_the_whole() {
        let whole = DiskBudget::new(PathBuf::from("/"), 10, 0);
        let (small, large) = (DiskBudget::share_of(&whole, 4), DiskBudget::share_of(&whole, u64::MAX));
        assert!(small.try_take(4) && !small.has_room(1) && !small.try_take(1));
        assert!(large.has_room(6) && !large.has_room(7) && !large.try_take(7));
        assert!(large.try_take(6) && !large.has_room(1));
        assert_eq!((small.used(), large.used(), whole.used()), (4, 6, 10));
        small.give_back(4);
        assert!(large.try_take(4));
        large.set_limits(5, 0);
        large.give_back(6);
        assert!(large.try_take(1) && !large.try_take(1));
        large.give_back(5);
        assert_eq!((large.used(), whole.used()), (0, 0));
    }
}
