//! What compression and encryption of the spool cost, and what compression saves on disk.

use anyhow::Result;

use super::drain::Drain;
use crate::case::Subject;
use crate::stock::{Size, Stock};
use crate::way::Way;

pub(super) fn text(stock: &mut Stock) -> Result<Box<dyn Subject>> {
    let database = stock.text(bytes(stock.size()))?;
    drain(stock, &database, "wide rows of text")
}

pub(super) fn random(stock: &mut Stock) -> Result<Box<dyn Subject>> {
    let database = stock.random(bytes(stock.size()))?;
    drain(stock, &database, "wide rows of random bytes")
}

fn drain(stock: &mut Stock, database: &str, what: &str) -> Result<Box<dyn Subject>> {
    let mut ways = vec![Way::direct()];
    ways.extend(MODES.map(|(name, options)| Way::spillway_with(name, options)));
    Ok(Box::new(Drain::new(stock.server()?, database, what, ways)?))
}

fn bytes(size: Size) -> u64 {
    size.of(900_000_000, 120_000_000)
}

/// Encryption is beside the way without it, so that a change of the machine's mood spoils neither.
const MODES: [(&str, &[&str]); 5] = [
    ("off", &[]),
    ("encrypt", &["--spool-encrypt"]),
    ("lz4", &["--spool-compress", "lz4"]),
    ("lz4-encrypt", &["--spool-compress", "lz4", "--spool-encrypt"]),
    ("zstd", &["--spool-compress", "zstd"]),
];
