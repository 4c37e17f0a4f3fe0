//! `--memory` against what this machine, and the control group, has.

use std::fs;
use std::path::Path;

use bytesize::ByteSize;
use tokio::task::spawn_blocking;

use super::report::{About, Findings, MemoryReport, Step};
use crate::spool::budget::MemoryBudget;

/// Where control groups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Looks at the memory.
pub(super) async fn check_memory(budget: &MemoryBudget, findings: &mut Findings) -> MemoryReport {
    // Nothing is known where even that fails.
    let known = spawn_blocking(read).await.unwrap_or_default();
    let mut report = MemoryReport { memory: budget.limit(), ..known };
    judge(&mut report, findings);
    report
}

/// What the system tells of its memory. Blocks.
fn read() -> MemoryReport {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let machine = kibibytes(&meminfo, "MemTotal");
    let limit = cgroup_limit(&groups, Path::new(CGROUPS));
    MemoryReport {
        machine,
        available: kibibytes(&meminfo, "MemAvailable"),
        // Without a limit version 1 has one beyond all memory.
        cgroup_limit: limit.filter(|&limit| machine.is_none_or(|all| limit < all)),
        ..MemoryReport::default()
    }
}

fn judge(report: &mut MemoryReport, findings: &mut Findings) {
    let memory = ByteSize(report.memory);
    let (has, whose) = match (report.cgroup_limit, report.machine) {
        (Some(limit), _) => (limit, "its control group lets this process have"),
        (None, Some(all)) => (all, "this machine has"),
        (None, None) => {
            report.steps.push(Step::skipped(
                "memory",
                format!("--memory {memory}; the system does not tell its own"),
            ));
            return;
        }
    };
    let detail = format!("--memory {memory}, {whose} {}", ByteSize(has));
    if report.memory > has {
        report.steps.push(Step::failed("memory", detail, None));
        let text = format!(
            "--memory is {memory}, and {whose} {}: spillway would be killed in the middle of a dump",
            ByteSize(has)
        );
        findings.problem(About::Memory, text, Some("lower --memory; the rest of a backlog goes to disk"));
        return;
    }
    report.steps.push(Step::ok("memory", detail, None));
    if report.memory > has - has / 4 {
        let text = format!(
            "--memory is {memory} of the {} that {whose}: little is left for all else",
            ByteSize(has)
        );
        findings.note(About::Memory, text, Some("lower --memory"));
    } else if let Some(available) = report.available.filter(|&available| report.memory > available) {
        let text =
            format!("--memory is {memory}, and only {} are available at this moment", ByteSize(available));
        findings.note(About::Memory, text, Some("lower --memory, or see what takes the memory"));
    }
}

/// A line of `/proc/meminfo`, in bytes.
fn kibibytes(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// The smallest limit of the groups in `/proc/self/cgroup`, and of those above them; see cgroups(7).
fn cgroup_limit(groups: &str, root: &Path) -> Option<u64> {
    groups
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            match (fields.next()?, fields.next()?) {
                ("", path) => Some((root.to_owned(), path, "memory.max")),
                (controllers, path) if controllers.split(',').any(|name| name == "memory") => {
                    Some((root.join("memory"), path, "memory.limit_in_bytes"))
                }
                _ => None,
            }
        })
        .flat_map(|(root, path, file)| {
            // Inside of a container the path may be that outside, and the limit at the root.
            let above = Path::new(path).ancestors().map(|group| group.strip_prefix("/").unwrap_or(group));
            above.map(|group| root.join(group).join(file)).collect::<Vec<_>>()
        })
        .filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok())
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn meminfo() {
        let text = "MemTotal:       24684084 kB\nMemFree: 1 kB\nMemAvailable:   2 kB\n";
        assert_eq!(kibibytes(text, "MemTotal"), Some(24_684_084 * 1024));
        assert_eq!(kibibytes(text, "MemAvailable"), Some(2048));
        assert_eq!(kibibytes(text, "Mem"), None);
    }

    #[test]
    fn the_smallest_limit_on_the_way_up_counts() {
        let root = tempfile::tempdir().unwrap();
        let set = |path: &str, value: &str| {
            let file = root.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, value).unwrap();
        };
        set("a/memory.max", "2000\n");
        set("a/b/memory.max", "max\n");
        assert_eq!(cgroup_limit("0::/a/b\n", root.path()), Some(2000));
        assert_eq!(cgroup_limit("0::/\n", root.path()), None);
        set("memory/memory.limit_in_bytes", "3000\n");
        set("memory/x/memory.limit_in_bytes", "1000\n");
        assert_eq!(cgroup_limit("4:memory:/x\n1:cpu:/a\n0::/a/b\n", root.path()), Some(1000));
        assert_eq!(cgroup_limit("4:cpu,memory:/not/there\n", root.path()), Some(3000));
    }

    /// What is told of so much `--memory`: problems and notes.
    fn findings(memory: u64, available: u64, cgroup_limit: Option<u64>) -> (usize, usize) {
        let mut report = MemoryReport {
            memory,
            machine: Some(8 * GIB),
            available: Some(available),
            cgroup_limit,
            ..MemoryReport::default()
        };
        let mut findings = Findings::default();
        judge(&mut report, &mut findings);
        (findings.problems.len(), findings.notes.len())
    }

    #[test]
    fn too_much_is_told() {
        assert_eq!(findings(GIB, 4 * GIB, None), (0, 0));
        assert_eq!(findings(9 * GIB, 8 * GIB, None), (1, 0));
        assert_eq!(findings(2 * GIB, 4 * GIB, Some(GIB)), (1, 0));
        assert_eq!(findings(7 * GIB, 8 * GIB, None), (0, 1));
        assert_eq!(findings(2 * GIB, GIB, None), (0, 1));
    }
}
