//! What is in `packaging/`: units, manifests, image and dashboard say nothing that Spillway does not know.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use spillway_tests::binary::workspace;
use spillway_tests::process;
use spillway_tests::{Spillway, spillway_bin};

fn packaging(file: &str) -> PathBuf {
    workspace().join("packaging").join(file)
}

fn read(file: &str) -> Result<String> {
    fs::read_to_string(packaging(file)).with_context(|| file.to_owned())
}

#[test]
fn the_units_are_sound_and_confined() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let unit = |name: &str| dir.path().join(name);
    // What they start is not installed here.
    let binary = spillway_bin().canonicalize()?.display().to_string();
    let service = read("systemd/spillway.service")?.replace("/usr/bin/spillway", &binary);
    fs::write(unit("spillway.service"), service)?;
    fs::write(unit("spillway.socket"), read("systemd/spillway.socket")?)?;

    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]).args([unit("spillway.service"), unit("spillway.socket")]);
    let verified = process::run(&mut verify, LIMIT)?.success()?;
    ensure!(verified.stderr.is_empty(), "{}", verified.stderr);

    // Of 100, where less is better: without the network it could not be much less.
    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--offline=yes", "--no-pager", "--threshold=20"]);
    process::run(security.arg(unit("spillway.service")), LIMIT)?.success()?;
    Ok(())
}

#[test]
fn the_manifests_start_spillway() -> Result<()> {
    let known = options()?;
    for (file, grace_in) in
        [("kubernetes/sidecar.yaml", "initContainers"), ("kubernetes/service.yaml", "containers")]
    {
        let documents: Vec<Value> = serde_saphyr::from_multiple(&read(file)?).context(file)?;
        let pod = documents
            .iter()
            .find_map(|document| {
                let template = [
                    "/spec/template/spec",                  // Deployment
                    "/spec/jobTemplate/spec/template/spec", // CronJob
                ];
                template.iter().find_map(|path| document.pointer(path))
            })
            .with_context(|| format!("{file}: no pod"))?;
        let container = &pod[grace_in][0];
        ensure!(container["name"] == "spillway", "{file}: {container}");
        let args: Vec<&str> =
            container["args"].as_array().context("args")?.iter().filter_map(Value::as_str).collect();
        check_args(file, &args, &known)?;
        check_probes(file, container)?;

        let grace = args.iter().find_map(|arg| arg.strip_prefix("--shutdown-grace=")).context("no grace")?;
        let killed_after = pod["terminationGracePeriodSeconds"].as_u64().context("no time to end")?;
        ensure!(seconds(grace)? < killed_after, "{file}: killed after {killed_after} s of {grace}");
    }
    Ok(())
}

/// Starts it with these arguments, but for the places that belong to a pod.
fn check_args(file: &str, args: &[&str], known: &BTreeSet<String>) -> Result<()> {
    let (first, rest) = args.split_first().context("no arguments")?;
    ensure!(*first == "serve", "{file}: {first}");
    let mut options = Vec::new();
    let mut upstream = None;
    for arg in rest {
        let (name, value) =
            arg.trim_start_matches("--").split_once('=').with_context(|| format!("{file}: {arg}"))?;
        ensure!(known.contains(name), "{file}: spillway has no --{name}");
        match name {
            "upstream" => upstream = Some(value),
            "listen" | "spool-dir" | "metrics" => {}
            _ => options.push(*arg),
        }
    }
    Spillway::to(upstream.context("no upstream")?)
        .options(&options)
        .start()
        .with_context(|| file.to_owned())?;
    Ok(())
}

fn check_probes(file: &str, container: &Value) -> Result<()> {
    let ports = container["ports"].as_array().context("ports")?;
    let mut probes = 0;
    for name in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let Some(get) = container[name].get("httpGet") else { continue };
        let path = if name == "livenessProbe" { "/healthz" } else { "/readyz" };
        ensure!(get["path"] == path, "{file}: {name} asks {get}");
        let port = ports.iter().find(|port| port["name"] == get["port"]);
        let port = port.with_context(|| format!("{file}: {name} has no port"))?;
        ensure!(port["containerPort"] == METRICS_PORT, "{file}: {name} at {port}");
        probes += 1;
    }
    ensure!(probes == 2, "{file}: {probes} probes");
    Ok(())
}

#[test]
fn the_image_sets_variables_that_exist() -> Result<()> {
    let known = options()?;
    let dockerfile = read("docker/Dockerfile")?;
    let variables = dockerfile.split_whitespace().filter_map(|word| word.strip_prefix("SPILLWAY_"));
    let mut found = 0;
    for variable in variables {
        let (name, _) = variable.split_once('=').context("an assignment")?;
        let option = name.to_lowercase().replace('_', "-");
        ensure!(known.contains(&option), "spillway knows no SPILLWAY_{name}");
        found += 1;
    }
    ensure!(found == 3, "{found} variables");
    Ok(())
}

#[test]
fn the_image_tells_a_healthy_spillway_from_a_sick_one() -> Result<()> {
    let dockerfile = read("docker/Dockerfile")?.replace("\\\n", "");
    let line = dockerfile.lines().find(|line| line.starts_with("HEALTHCHECK")).context("no HEALTHCHECK")?;
    let (_, words) = line.split_once("CMD ").context("no command")?;
    let words: Vec<String> = serde_json::from_str(words)?;
    for (answer, expected) in [("200 OK", true), ("503 Service Unavailable", false)] {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = format!("/{}", listener.local_addr()?.port());
        let mut check = Command::new(&words[0]);
        check.args(words[1..].iter().map(|word| word.replace(&format!("/{METRICS_PORT}"), &port)));
        let asked = thread::spawn(move || answer_once(&listener, answer));
        let finished = process::run(&mut check, LIMIT)?;
        let Ok(asked) = asked.join() else { bail!("the web server failed") };
        ensure!(asked?.starts_with("GET /healthz HTTP/1.0\r\n"), "{finished:?}");
        ensure!(finished.status.success() == expected, "{answer}: {finished:?}");
    }
    Ok(())
}

fn answer_once(listener: &TcpListener, status: &str) -> Result<String> {
    let (mut stream, _) = listener.accept()?;
    let mut request = [0; 1024];
    let length = stream.read(&mut request)?;
    write!(stream, "HTTP/1.0 {status}\r\n\r\n")?;
    Ok(String::from_utf8_lossy(&request[..length]).into_owned())
}

#[test]
fn the_dashboard_asks_for_metrics_that_exist() -> Result<()> {
    let dashboard: Value = serde_json::from_str(&read("grafana/spillway.json")?)?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let mut asked = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in panels {
        ensure!(ids.insert(panel["id"].as_u64()), "two panels {}", panel["id"]);
        let targets = panel["targets"].as_array().map_or(&[][..], Vec::as_slice);
        ensure!(panel["type"] == "row" || !targets.is_empty(), "{} shows nothing", panel["title"]);
        for target in targets {
            let expression = target["expr"].as_str().context("no expression")?;
            let names = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            asked.extend(names.filter(|name| name.starts_with("spillway_")).map(str::to_owned));
        }
    }
    let unknown: Vec<_> = asked.iter().filter(|name| !is_metric(name)).collect();
    ensure!(unknown.is_empty(), "no such metrics: {unknown:?}");
    let missing: Vec<_> =
        METRICS.iter().filter(|metric| !asked.iter().any(|name| name.starts_with(**metric))).collect();
    ensure!(missing.is_empty(), "not on the dashboard: {missing:?}");
    Ok(())
}

fn is_metric(name: &str) -> bool {
    METRICS.contains(&name.strip_suffix("_bucket").unwrap_or(name))
}

/// The options of `spillway serve`, without the dashes.
fn options() -> Result<BTreeSet<String>> {
    let help = process::run(Command::new(spillway_bin()).args(["serve", "--help"]), LIMIT)?.success()?.text();
    let words = help.split_whitespace().filter_map(|word| word.strip_prefix("--"));
    Ok(words.map(|word| word.split(['[', '=']).next().unwrap_or_default().to_owned()).collect())
}

/// `1h`, `30m` or `60s`.
fn seconds(time: &str) -> Result<u64> {
    let (number, unit) = time.split_at(time.len() - 1);
    let unit = match unit {
        "h" => 3600,
        "m" => 60,
        "s" => 1,
        _ => bail!("{time}: no unit"),
    };
    Ok(number.parse::<u64>()? * unit)
}

/// Where the exporter listens by convention.
const METRICS_PORT: u64 = 9307;

/// What the exporter has.
const METRICS: [&str; 19] = [
    "spillway_sessions",
    "spillway_sessions_total",
    "spillway_drained_bytes_total",
    "spillway_fed_bytes_total",
    "spillway_backlog_bytes",
    "spillway_spool_memory_bytes",
    "spillway_spool_disk_bytes",
    "spillway_spool_peak_bytes",
    "spillway_held_back_seconds_total",
    "spillway_lead_seconds",
    "spillway_failed_attempts_total",
    "spillway_healed_logins_total",
    "spillway_login_attempts",
    "spillway_keepalives_total",
    "spillway_errors_total",
    "spillway_warnings_total",
    "spillway_spooled_bytes_total",
    "spillway_refused_proxy_headers_total",
    "spillway_clients_without_login_total",
];
const LIMIT: Duration = Duration::from_secs(30);
