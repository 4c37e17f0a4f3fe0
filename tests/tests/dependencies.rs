//! What Spillway is built from: licences, sources and what must not be in it, by the lists of `deny.toml`.

use std::collections::HashMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use spdx::{Expression, LicenseReq};
use spillway_tests::binary::workspace;
use spillway_tests::process;

/// The parts of `deny.toml` that are read here.
#[derive(Deserialize)]
struct Lists {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
    exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Banned>,
}

#[derive(Deserialize)]
struct Banned {
    #[serde(rename = "crate")]
    name: String,
}

/// What `cargo metadata` prints of Cargo.lock.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    /// None is this workspace.
    source: Option<String>,
}

fn lists() -> Result<Lists> {
    Ok(toml::from_str(&fs::read_to_string(workspace().join("deny.toml"))?)?)
}

/// Of all features, for this platform: those of others are not here.
fn packages() -> Result<Vec<Package>> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version=1", "--locked", "--all-features"]);
    cargo.arg("--filter-platform=host-tuple");
    let printed = process::run(cargo.current_dir(workspace()), LIMIT)?.success()?;
    let metadata: Metadata = serde_json::from_slice(&printed.stdout)?;
    ensure!(metadata.packages.len() > 100, "only {} packages", metadata.packages.len());
    Ok(metadata.packages)
}

#[test]
fn every_licence_is_one_of_the_list() -> Result<()> {
    let Licenses { allow, exceptions } = lists()?.licenses;
    let exceptions: HashMap<_, _> = exceptions.iter().map(|it| (it.name.as_str(), &it.allow)).collect();
    for package in packages()? {
        let Package { name, version, license, .. } = package;
        let license = license.with_context(|| format!("{name} {version} names no licence"))?;
        let expression = Expression::parse_mode(&license, spdx::ParseMode::LAX)
            .with_context(|| format!("{name} {version}: {license}"))?;
        let more = exceptions.get(name.as_str()).copied();
        let is_listed = |required: &LicenseReq| {
            let required = required.to_string();
            allow.iter().chain(more.into_iter().flatten()).any(|allowed| *allowed == required)
        };
        ensure!(expression.evaluate(is_listed), "{name} {version}: {license} is not in deny.toml");
    }
    Ok(())
}

#[test]
fn all_comes_from_the_registry_and_nothing_is_banned() -> Result<()> {
    let banned: Vec<String> = lists()?.bans.deny.into_iter().map(|banned| banned.name).collect();
    for Package { name, version, source, .. } in packages()? {
        let is_known = source.as_ref().is_none_or(|source| source.starts_with("registry+"));
        ensure!(is_known, "{name} {version} comes from {source:?}");
        ensure!(!banned.contains(&name), "{name} {version} is banned by deny.toml");
    }
    Ok(())
}

const LIMIT: Duration = Duration::from_secs(60);
