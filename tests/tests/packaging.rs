//! What is in `packaging/`: units, manifests and image say nothing that Spillway does not know.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
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
            "listen" | "spool-dir" => {}
            _ => options.push(*arg),
        }
    }
    Spillway::to(upstream.context("no upstream")?)
        .options(&options)
        .start()
        .with_context(|| file.to_owned())?;
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
    ensure!(found == 2, "{found} variables");
    Ok(())
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

const LIMIT: Duration = Duration::from_secs(30);
