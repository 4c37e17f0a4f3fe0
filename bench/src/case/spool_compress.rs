//! What compression of the spool costs, and what it saves on disk.

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
    ways.extend(MODES.map(|mode| Way::spillway_with(mode, &["--spool-compress", mode])));
    Ok(Box::new(Drain::new(stock.server()?, database, what, ways)?))
}

fn bytes(size: Size) -> u64 {
    size.of(900_000_000, 120_000_000)
}

const MODES: [&str; 3] = ["off", "lz4", "zstd"];
