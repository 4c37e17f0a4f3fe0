//! Metrics as Prometheus reads them, taken strictly.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};

use crate::http;

/// All samples of a scrape.
#[derive(Debug, Default)]
pub struct Metrics {
    samples: BTreeMap<String, f64>,
    types: BTreeMap<String, String>,
    helped: BTreeSet<String>,
}

impl Metrics {
    /// Scrapes `/metrics`.
    pub fn scrape(address: SocketAddr) -> Result<Self> {
        let answer = http::get(address, "/metrics")?;
        ensure!(answer.status == 200, "{answer:?}");
        let content_type = answer.header("content-type").unwrap_or_default();
        ensure!(content_type.starts_with("text/plain; version=0.0.4"), "{content_type}");
        Self::parse(&answer.body)
    }

    /// Reads the text format: every metric must have its HELP and TYPE lines before its samples, and no sample may
    /// come twice.
    pub fn parse(text: &str) -> Result<Self> {
        ensure!(text.ends_with('\n'), "the last line is not ended");
        let mut metrics = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            metrics.take(line).with_context(|| line.to_owned())?;
        }
        Ok(metrics)
    }

    fn take(&mut self, line: &str) -> Result<()> {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (kind, name, rest) = (words.next(), words.next(), words.next());
            let (name, rest) =
                (name.context("no name")?.to_owned(), rest.context("nothing behind the name")?);
            match kind {
                Some("HELP") => ensure!(self.helped.insert(name), "a second HELP"),
                Some("TYPE") => ensure!(self.types.insert(name, rest.to_owned()).is_none(), "a second TYPE"),
                _ => bail!("neither HELP nor TYPE"),
            }
            return Ok(());
        }
        let (sample, value) = line.rsplit_once(' ').context("no value")?;
        let name = sample.split_once('{').map_or(sample, |(name, _)| name);
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        ensure!(!name.is_empty() && name.chars().all(is_name), "a bad name");
        ensure!(sample.len() == name.len() || sample.ends_with('}'), "labels without an end");
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|part| {
            let family = name.strip_suffix(part)?;
            (self.types.get(family)? == "histogram").then_some(family)
        });
        let family = family.unwrap_or(name);
        ensure!(self.types.contains_key(family) && self.helped.contains(family), "no TYPE or HELP before it");
        ensure!(self.samples.insert(sample.to_owned(), value.parse()?).is_none(), "comes twice");
        Ok(())
    }

    /// The value of a sample, named with its labels as they are written.
    pub fn value(&self, sample: &str) -> Result<f64> {
        let names = || self.samples.keys().cloned().collect::<Vec<_>>().join("\n");
        self.samples.get(sample).copied().with_context(|| format!("no {sample} in\n{}", names()))
    }

    /// The sum over all labels.
    pub fn sum(&self, name: &str) -> f64 {
        let of_name = |sample: &str| sample.split_once('{').map_or(sample, |(name, _)| name) == name;
        self.samples.iter().filter(|(sample, _)| of_name(sample)).map(|(_, value)| value).sum()
    }

    /// Names of all metrics and their types.
    pub fn types(&self) -> &BTreeMap<String, String> {
        &self.types
    }
}
