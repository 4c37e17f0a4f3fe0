//! What the kernel knows of this process, under the names that Prometheus's own client libraries give it.

use std::fs;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike as _;

use super::exposition::{Exposition, Kind};

/// Writes what can be found out.
pub(super) fn expose(out: &mut Exposition) {
    if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
        let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        let help = "User and system CPU time of the process.";
        out.value(Kind::Counter, "process_cpu_seconds_total", help, micros as f64 / 1e6);
    }
    let memory = [
        ("VmRSS:", "process_resident_memory_bytes", "Resident memory of the process."),
        ("VmSize:", "process_virtual_memory_bytes", "Virtual memory of the process."),
    ];
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let number = |field: &str| -> Option<u64> {
        let value = status.lines().find_map(|line| line.strip_prefix(field))?;
        value.trim().trim_end_matches(" kB").parse().ok()
    };
    for (field, name, help) in memory {
        if let Some(kib) = number(field) {
            out.value(Kind::Gauge, name, help, kib * 1024);
        }
    }
    if let Some(threads) = number("Threads:") {
        out.value(Kind::Gauge, "process_threads", "Threads of the process.", threads);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        out.value(Kind::Gauge, "process_open_fds", "Open file descriptors.", open.count());
    }
    if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        out.value(Kind::Gauge, "process_max_fds", "File descriptors that may be open.", soft);
    }
}
