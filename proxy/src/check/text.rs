//! A report as people read it.

use std::fmt::{self, Write as _};
use std::time::Duration;

use super::report::{Finding, Outcome, Report, Step, Verdict};

/// Details that are longer do not push the times of all others to the right.
const WIDEST: usize = 60;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sections: Vec<(String, Vec<&Step>)> = Vec::new();
        for upstream in &self.upstreams {
            let steps = upstream.addresses.iter().flat_map(|address| &address.steps);
            let steps = upstream.resolve.iter().chain(steps).collect();
            sections.push((format!("server {}", upstream.upstream), steps));
        }
        sections.push((format!("spool {}", self.spool.dir), self.spool.steps.iter().collect()));
        sections.push(("memory".to_owned(), self.memory.steps.iter().collect()));

        let all = || sections.iter().flat_map(|(_, steps)| steps);
        let timed = all().filter(|step| step.seconds.is_some()).map(|step| step.detail.chars().count());
        let width = timed.filter(|&width| width <= WIDEST).max().unwrap_or(0);
        for (title, steps) in &sections {
            writeln!(f, "{title}")?;
            for step in steps {
                write_step(f, step, width)?;
            }
            writeln!(f)?;
        }
        write_findings(f, "problems", &self.problems)?;
        write_findings(f, "notes", &self.notes)?;
        f.write_str(match self.verdict() {
            Verdict::Fine => "a dump through this host would work, as far as could be seen\n",
            Verdict::Unreachable => {
                "a dump through this host would not work: a server cannot be reached, or refuses the login\n"
            }
            Verdict::Unfit => "a dump through this host would not work as it should\n",
        })
    }
}

fn write_step(f: &mut fmt::Formatter<'_>, step: &Step, width: usize) -> fmt::Result {
    let outcome = match step.outcome {
        Outcome::Ok => "ok",
        Outcome::Failed => "FAILED",
        Outcome::Skipped => "-",
    };
    let mut line = format!("  {outcome:<6}  {:<8}  {:<width$}", step.step, step.detail);
    if let Some(time) = step.seconds {
        write!(line, "  {}", shown(time))?;
    }
    writeln!(f, "{}", line.trim_end())
}

fn write_findings(f: &mut fmt::Formatter<'_>, title: &str, findings: &[Finding]) -> fmt::Result {
    if findings.is_empty() {
        return Ok(());
    }
    writeln!(f, "{title}")?;
    for finding in findings {
        writeln!(f, "  - {}", finding.text)?;
        if let Some(advice) = &finding.advice {
            writeln!(f, "    {advice}")?;
        }
    }
    writeln!(f)
}

fn shown(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 1.0 => format!("{:.1} ms", seconds * 1e3),
        seconds => format!("{seconds:.1} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::{About, AddressReport, Findings, MemoryReport, SpoolReport, UpstreamReport};
    use super::*;

    fn report(findings: Findings) -> Report {
        let address = AddressReport {
            address: "10.0.0.5:3306".to_owned(),
            steps: vec![
                Step::ok("connect", "10.0.0.5:3306", Some(Duration::from_micros(400))),
                Step::failed("greeting", "x".repeat(80), Some(Duration::from_secs(30))),
            ],
            server: None,
        };
        let upstream = UpstreamReport {
            upstream: "db1:3306".to_owned(),
            resolve: Some(Step::ok("resolve", "10.0.0.5", Some(Duration::from_millis(3)))),
            addresses: vec![address],
        };
        let spool = SpoolReport { dir: "/spool".to_owned(), ..SpoolReport::default() };
        let memory =
            MemoryReport { steps: vec![Step::skipped("memory", "untold")], ..MemoryReport::default() };
        Report::new(Duration::from_millis(1500), vec![upstream], spool, memory, findings)
    }

    #[test]
    fn times_stand_below_each_other() {
        let mut findings = Findings::default();
        findings.note(About::Memory, "note this", None);
        findings.problem(About::Upstream, "it is silent", Some("shout"));
        let text = report(findings).to_string();
        let expected = format!(
            "server db1:3306\n  ok      resolve   10.0.0.5       3.0 ms\n  ok      connect   10.0.0.5:3306  0.4 ms\n  \
             FAILED  greeting  {}  30.0 s\n\nspool /spool\n\nmemory\n  -       memory    untold\n\nproblems\n  - it is \
             silent\n    shout\n\nnotes\n  - note this\n\na dump through this host would not work: a server cannot be \
             reached, or refuses the login\n",
            "x".repeat(80)
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn the_worst_problem_decides() {
        let mut findings = Findings::default();
        findings.note(About::Upstream, "one of two addresses is dead", None);
        assert_eq!(report(findings).verdict(), Verdict::Fine);
        let mut findings = Findings::default();
        findings.problem(About::Spool, "no room", None);
        assert_eq!(report(findings).verdict(), Verdict::Unfit);
        let mut findings = Findings::default();
        findings.problem(About::Spool, "no room", None);
        findings.problem(About::Upstream, "dead", None);
        assert_eq!(report(findings).verdict(), Verdict::Unreachable);
    }

    #[test]
    fn the_same_is_told_once() {
        let mut findings = Findings::default();
        for _ in 0..2 {
            findings.note(About::Session, "not encrypted", None);
        }
        assert_eq!(findings.notes.len(), 1);
    }

    #[test]
    fn programs_get_an_object() {
        let json: serde_json::Value =
            serde_json::from_str(&report(Findings::default()).json().unwrap()).unwrap();
        assert_eq!(json["version"], 1);
        assert_eq!(json["verdict"], "fine");
        assert_eq!(json["seconds"], 1.5);
        assert_eq!(json["upstreams"][0]["addresses"][0]["steps"][1]["outcome"], "failed");
        assert_eq!(json["upstreams"][0]["resolve"]["seconds"], 0.003);
        assert!(json["memory"]["steps"][0]["seconds"].is_null());
    }
}
