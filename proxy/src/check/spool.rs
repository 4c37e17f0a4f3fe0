//! The spool directory: its file system, its room, its pace.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};

use super::file_system::{FileSystem, Medium, file_system_of};
use super::report::{About, Findings, SpoolReport, Step};
use crate::spool::budget::DiskBudget;
use crate::spool::disk::{FileKind, probe};
use crate::spool::measure::{Measured, Pace, measure};

/// How long a file system may take to tell about itself: one whose network is gone takes for ever.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a line of 1 Gbit/s brings, in bytes a second: the least that a spool should keep up with.
const GIGABIT: u64 = 118_000_000;

/// Looks at the directory, and writes to it.
pub(super) async fn check_spool(disk: &Arc<DiskBudget>, findings: &mut Findings) -> SpoolReport {
    let mut report = SpoolReport { dir: disk.dir().display().to_string(), ..SpoolReport::default() };
    let facts = match look_at(disk).await {
        Ok(facts) => facts,
        Err(error) => {
            let text = format!("nothing can be spooled into {}: {error}", disk.dir().display());
            report.steps.push(Step::failed("file", error.to_string(), None));
            findings.problem(
                About::Spool,
                text,
                Some("name a directory by --spool-dir that exists and that spillway may write to"),
            );
            return report;
        }
    };
    report.file_system = facts.file_system.as_ref().map(|found| found.name.clone());
    note_medium(disk, &facts, findings);
    note_room(disk, facts.free, &mut report, findings);

    match measure(Arc::clone(disk)).await {
        Ok(measured) => note_pace(disk, &measured, &mut report, findings),
        Err(error) => {
            let text = format!("the spool in {} is of no use: {error}", disk.dir().display());
            report.steps.push(Step::failed("write", error.to_string(), None));
            findings.problem(
                About::Spool,
                text,
                Some("free space there, or name another directory by --spool-dir"),
            );
        }
    }
    // What takes O_DIRECT when a file is opened may refuse it when it is written, so this comes last.
    let kind = report.nameless.zip(report.direct);
    let kind = kind.map_or(facts.kind, |(is_nameless, is_direct)| FileKind { is_nameless, is_direct });
    note_kind(disk, &facts, kind, &mut report, findings);
    report
}

/// What the system tells of the directory.
struct Facts {
    file_system: Option<FileSystem>,
    kind: FileKind,
    free: u64,
    time: Duration,
}

async fn look_at(disk: &Arc<DiskBudget>) -> io::Result<Facts> {
    let disk = Arc::clone(disk);
    let looked = spawn_blocking(move || {
        let began = Instant::now();
        let file_system = file_system_of(disk.dir())?;
        let kind = probe(disk.dir())?;
        Ok(Facts { file_system, kind, free: disk.free()?, time: began.elapsed() })
    });
    match timeout(PATIENCE, looked).await {
        Ok(looked) => looked.map_err(io::Error::other)?,
        // The job is left behind: nothing can call it back.
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("its file system gives no answer within {} s", PATIENCE.as_secs()),
        )),
    }
}

fn note_medium(disk: &DiskBudget, facts: &Facts, findings: &mut Findings) {
    let Some(file_system) = &facts.file_system else { return };
    let (dir, name) = (disk.dir().display(), &file_system.name);
    match file_system.medium() {
        Medium::Memory => findings.note(
            About::Spool,
            format!("{dir} is on {name}: memory, not disk; what is spooled there comes on top of --memory"),
            Some("name a directory on a disk by --spool-dir"),
        ),
        Medium::Network => findings.note(
            About::Spool,
            format!("{dir} is on {name}: a backlog goes over the network, and is lost with it"),
            Some("name a directory on a local disk by --spool-dir"),
        ),
        Medium::Overlay => findings.note(
            About::Spool,
            format!(
                "{dir} is on {name}: a container's own layer, which may be slow, and has a limit of its own"
            ),
            Some("mount a volume there, or name one by --spool-dir"),
        ),
        Medium::Disk => {}
    }
}

fn note_room(disk: &DiskBudget, free: u64, report: &mut SpoolReport, findings: &mut Findings) {
    let left = free.saturating_sub(disk.min_free());
    let usable = left.min(disk.max());
    if free == 0 && disk.min_free() == 0 {
        // A ramfs has no numbers, or nothing is left: writing tells.
        report.steps.push(Step::skipped("space", "the file system tells of none"));
        return;
    }
    (report.free, report.usable) = (Some(free), Some(usable));
    let max = if disk.max() == u64::MAX { "none".to_owned() } else { ByteSize(disk.max()).to_string() };
    let detail = format!(
        "{} free, room for a backlog of {} (--spool-min-free {}, --spool-max {max})",
        ByteSize(free),
        ByteSize(usable),
        ByteSize(disk.min_free()),
    );
    if usable == 0 {
        report.steps.push(Step::failed("space", detail, None));
        return;
    }
    report.steps.push(Step::ok("space", detail, None));
    if disk.max() != u64::MAX && left < disk.max() {
        let text =
            format!("--spool-max is {max}, and {} has only {} of that", disk.dir().display(), ByteSize(left));
        findings.note(About::Spool, text, Some("free space there, or lower --spool-max"));
    }
}

fn note_pace(disk: &DiskBudget, measured: &Measured, report: &mut SpoolReport, findings: &mut Findings) {
    if let Some(kind) = measured.kind {
        (report.nameless, report.direct) = (Some(kind.is_nameless), Some(kind.is_direct));
    }
    let (written, read) = (per_second(measured.written), per_second(measured.read));
    (report.write_bytes_per_second, report.read_bytes_per_second) = (Some(written), Some(read));
    for (step, pace, speed) in [("write", measured.written, written), ("read", measured.read, read)] {
        let detail = format!("{}, {}/s", ByteSize(pace.bytes), ByteSize(speed).display().si());
        report.steps.push(Step::ok(step, detail, Some(pace.time)));
    }
    let text = format!(
        "the spool takes {}/s: a server that sends faster is held back to that when --memory-per-session is full",
        ByteSize(written).display().si()
    );
    let is_slow = written < GIGABIT;
    findings.note(
        About::Spool,
        text,
        is_slow.then_some("a faster disk for --spool-dir frees the server sooner"),
    );
    if let Some(error) = &measured.stopped_by {
        let text = format!(
            "after {} nothing more could be spooled into {}: {error}",
            ByteSize(measured.written.bytes),
            disk.dir().display()
        );
        findings.note(About::Spool, text, Some("give it more room"));
    }
}

fn per_second(pace: Pace) -> u64 {
    (pace.bytes as f64 / pace.time.as_secs_f64().max(1e-6)) as u64
}

fn note_kind(
    disk: &DiskBudget,
    facts: &Facts,
    kind: FileKind,
    report: &mut SpoolReport,
    findings: &mut Findings,
) {
    (report.nameless, report.direct) = (Some(kind.is_nameless), Some(kind.is_direct));
    let name = facts.file_system.as_ref().map_or("an unknown file system", |found| found.name.as_str());
    let nameless = if kind.is_nameless { "O_TMPFILE" } else { "no O_TMPFILE" };
    let direct = if kind.is_direct { "O_DIRECT" } else { "no O_DIRECT" };
    report.steps.insert(0, Step::ok("file", format!("{name}, {nameless}, {direct}"), Some(facts.time)));
    if !kind.is_direct {
        let text = format!(
            "{} takes no O_DIRECT: what is spooled goes through the page cache, which takes memory and CPU time, and the \
             measured speeds may be those of memory",
            disk.dir().display()
        );
        findings.note(About::Spool, text, None);
    }
}
