//! What all routes share, and what outlives a change of their settings.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::connection_ids::ConnectionIds;
use crate::drain_limit::DrainLimit;
use crate::journal::Ledger;
use crate::session::Probes;
use crate::sessions::Sessions;
use crate::slots::Slots;
use crate::spool::budget::{DiskBudget, MemoryBudget};
use crate::spool::packing::{Algorithm, Packing};
use crate::tls::{SelfSigned, TlsError};

/// What all sessions of the process share.
#[derive(Debug)]
pub struct Common {
    /// Memory of all sessions.
    pub(crate) memory: Arc<MemoryBudget>,
    /// Disk space of all sessions.
    pub(crate) disk: Arc<DiskBudget>,
    /// Room for sessions (`--max-sessions`).
    pub(crate) slots: Arc<Slots>,
    /// Two routes may lead to one server.
    pub(crate) connection_ids: Arc<ConnectionIds>,
    pub(crate) probes: Arc<Probes>,
    /// Responses that Spillway ended with an error of its own.
    pub(crate) told_errors: Arc<AtomicU64>,
    /// How fast all sessions together drain their servers, at most (`--drain-limit-total`).
    pub(crate) drain_limit_total: Option<Arc<DrainLimit>>,
    /// Those that run.
    pub(crate) sessions: Arc<Sessions>,
    /// What they have found.
    pub(crate) ledger: Arc<Ledger>,
    packings: Packings,
    /// Clients may know it by its fingerprint, so there is one for the life of the process.
    self_signed: Mutex<Option<Arc<SelfSigned>>>,
}

/// What a route may use of what there is, or all of it.
#[derive(Clone, Debug)]
pub(crate) struct Shares {
    pub(crate) disk: Arc<DiskBudget>,
    pub(crate) slots: Arc<Slots>,
}

/// How blocks are compressed; what that takes of memory is taken once for all routes.
#[derive(Debug, Default)]
struct Packings {
    off: OnceLock<Arc<Packing>>,
    lz4: OnceLock<Arc<Packing>>,
    zstd: OnceLock<Arc<Packing>>,
}

impl Common {
    /// There may be so many sessions; they may use this much memory and disk space, and drain this fast.
    pub(crate) fn new(
        slots: Arc<Slots>,
        memory: u64,
        disk: Arc<DiskBudget>,
        drain_limit_total: Option<Arc<DrainLimit>>,
    ) -> Self {
        Self {
            memory: MemoryBudget::new(memory, memory),
            disk,
            slots,
            connection_ids: Arc::default(),
            probes: Arc::default(),
            told_errors: Arc::default(),
            drain_limit_total,
            sessions: Arc::default(),
            ledger: Arc::new(Ledger::of_sessions()),
            packings: Packings::default(),
            self_signed: Mutex::new(None),
        }
    }

    /// All of what routes may have shares of.
    pub(crate) fn shares(&self) -> Shares {
        Shares { disk: Arc::clone(&self.disk), slots: Arc::clone(&self.slots) }
    }

    /// Responses that ended with an error of Spillway's own, of sessions that are over.
    pub(crate) fn told_errors(&self) -> u64 {
        self.told_errors.load(Ordering::Relaxed)
    }

    /// What compresses blocks in this way.
    pub(crate) fn packing(&self, algorithm: Option<Algorithm>) -> Arc<Packing> {
        let packing = match algorithm {
            None => &self.packings.off,
            Some(Algorithm::Lz4) => &self.packings.lz4,
            Some(Algorithm::Zstd) => &self.packings.zstd,
        };
        Arc::clone(packing.get_or_init(|| Packing::new(algorithm)))
    }

    /// The certificate of `--tls-self-signed`, made when it is first asked for.
    ///
    /// # Errors
    /// [`TlsError::Setup`] if the library cannot make one.
    pub(crate) fn self_signed(&self) -> Result<Arc<SelfSigned>, TlsError> {
        let mut made = self.self_signed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = &*made {
            return Ok(Arc::clone(made));
        }
        Ok(Arc::clone(made.insert(Arc::new(SelfSigned::make()?))))
    }
}
