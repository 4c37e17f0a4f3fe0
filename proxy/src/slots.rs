//! How many sessions there may be at a time: `--max-sessions`, and what of it is taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Room for so many sessions of all routes, or of one route within that.
#[derive(Debug)]
pub(crate) struct Slots {
    max: AtomicU32,
    taken: AtomicU32,
    /// What these are a share of.
    whole: Option<Arc<Self>>,
}

/// All slots are taken; there are this many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full(pub(crate) u32);

impl Slots {
    /// So many in all.
    pub(crate) fn new(max: u32) -> Arc<Self> {
        Arc::new(Self { max: AtomicU32::new(max), taken: AtomicU32::new(0), whole: None })
    }

    /// At most so many of what `whole` has.
    pub(crate) fn share_of(whole: &Arc<Self>, max: u32) -> Arc<Self> {
        let whole = Some(Arc::clone(whole));
        Arc::new(Self { max: AtomicU32::new(max), taken: AtomicU32::new(0), whole })
    }

    /// Changes how many there are. Where more are taken, none is given until enough have come back.
    pub(crate) fn set_max(&self, max: u32) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// One for a session.
    ///
    /// # Errors
    /// [`Full`] if there is none, here or in the whole.
    pub(crate) fn take(self: &Arc<Self>) -> Result<Slot, Full> {
        self.occupy()?;
        Ok(Slot(Arc::clone(self)))
    }

    fn occupy(&self) -> Result<(), Full> {
        let max = self.max.load(Ordering::Relaxed);
        let more = |taken: u32| (taken < max).then(|| taken + 1);
        let taken = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.map_err(|_| Full(max))?;
        let Some(whole) = &self.whole else { return Ok(()) };
        whole.occupy().inspect_err(|_| {
            self.taken.fetch_sub(1, Ordering::Relaxed);
        })
    }

    fn vacate(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
        if let Some(whole) = &self.whole {
            whole.vacate();
        }
    }
}

/// A session's slot; free again on drop.
#[derive(Debug)]
pub(crate) struct Slot(Arc<Slots>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.vacate();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(slots: &Arc<Slots>) -> Option<u32> {
        slots.take().err().map(|Full(max)| max)
    }

    #[test]
    fn a_slot_is_free_again_when_its_session_ends() {
        let slots = Slots::new(2);
        let (one, two) = (slots.take().unwrap(), slots.take().unwrap());
        assert_eq!(full(&slots), Some(2));
        drop(one);
        let three = slots.take().unwrap();
        slots.set_max(1);
        drop(three);
        assert_eq!(full(&slots), Some(1));
        drop(two);
        assert_eq!(full(&slots), None);
    }

    #[test]
    fn a_share_is_within_the_whole() {
        let whole = Slots::new(3);
        let (small, large) = (Slots::share_of(&whole, 1), Slots::share_of(&whole, u32::MAX));
        let one = small.take().unwrap();
        assert_eq!(full(&small), Some(1));
        let others = [large.take().unwrap(), large.take().unwrap()];
        assert_eq!(full(&large), Some(3));
        drop(one);
        // Who was refused by the whole has taken nothing of the share.
        let again = large.take().unwrap();
        assert_eq!(full(&small), Some(3));
        drop((others, again));
        assert_eq!((full(&small), whole.taken.load(Ordering::Relaxed)), (None, 0));
    }

    #[test]
    fn a_rush_leaves_nothing_taken() {
        let slots = Slots::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).filter_map(|_| slots.take().ok()).for_each(drop));
            }
        });
        assert_eq!(slots.taken.load(Ordering::Relaxed), 0);
    }
}
