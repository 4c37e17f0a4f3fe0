//! Core dumps: Spillway has passwords and rows in memory, so none is written unless somebody wants one, to find a fault
//! by it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::prctl::set_dumpable;

/// The variable by which they are allowed, with the value `1`. It is no setting, as those are read too late.
pub const VARIABLE: &str = "SPILLWAY_CORE_DUMPS";

/// What a process may be dumped for is its own affair, so this is no more global than that.
static ALLOWED: AtomicBool = AtomicBool::new(false);

/// Forbids core dumps of this process, unless `SPILLWAY_CORE_DUMPS=1` allows them. To be called before anything else.
///
/// It is the process's own attribute and not its limit for core files, as that says nothing to a program that the kernel
/// hands core dumps to (systemd-coredump). With it, only root can look into memory or at descriptors through
/// /proc/PID, and by a debugger. What is executed later has its own attribute.
///
/// # Errors
/// If the system does not let this be forbidden.
pub fn forbid_unless_wanted() -> io::Result<()> {
    if std::env::var_os(VARIABLE).is_some_and(|value| value == "1") {
        ALLOWED.store(true, Ordering::Relaxed);
        return Ok(());
    }
    Ok(set_dumpable(false)?)
}

/// Whether there may be one, from which rows are to be kept out.
pub(crate) fn are_allowed() -> bool {
    ALLOWED.load(Ordering::Relaxed)
}
