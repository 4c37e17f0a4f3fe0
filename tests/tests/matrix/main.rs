//! Every server with every client, in every way: the dump through Spillway is the direct one.
//!
//! So few cells are run that each two values meet; with `SPILLWAY_MATRIX=all` (`make matrix`) all are, and the
//! tables of `docs/compatibility.md` are made of the outcome.

mod rust_driver;

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use spillway_tests::binary::workspace;
use spillway_tests::matrix::{Bench, Cell, Outcome, Product, pairs, table};
use spillway_tests::readme::splice;

#[test]
fn dumps_are_the_direct_ones() -> Result<()> {
    match std::env::var("SPILLWAY_MATRIX").as_deref() {
        Ok("all") => every_cell_for_the_readme(&Cell::all()),
        Ok(other) => bail!("SPILLWAY_MATRIX={other}: `all` or nothing"),
        Err(_) => each_two_values(&Cell::all()),
    }
}

/// Not all ways, but each two values meet in one of them: this client and that plugin, TLS here and compression there.
fn each_two_values(cells: &[Cell]) -> Result<()> {
    let rows: Vec<_> = cells.iter().map(Cell::values).collect();
    let picked: Vec<Cell> = pairs::covering(&rows).into_iter().map(|number| cells[number]).collect();
    let bench = Bench::start(rust_driver::dump)?;
    all_right(&bench.run_all(&picked, |_, _| {}))
}

fn every_cell_for_the_readme(cells: &[Cell]) -> Result<()> {
    let bench = Bench::start(rust_driver::dump)?;
    let (start, count) = (Instant::now(), AtomicUsize::new(0));
    let outcomes = bench.run_all(cells, |cell, result| {
        if let Err(error) = result {
            eprintln!("WRONG: {cell}: {error:#}");
        }
        let count = count.fetch_add(1, Ordering::Relaxed) + 1;
        if count.is_multiple_of(100) {
            eprintln!("{count} of {} after {} s", cells.len(), start.elapsed().as_secs());
        }
    });
    let versions = Product::ALL
        .iter()
        .map(|&product| {
            let name = product.to_string();
            let maker = name.split(' ').next().unwrap_or_default();
            Ok((product, format!("{maker} {}", bench.version(product)?)))
        })
        .collect::<Result<Vec<_>>>()?;
    let tables = table::render(&outcomes, |product| {
        versions.iter().find(|(of, _)| *of == product).map_or_else(String::new, |(_, title)| title.clone())
    });
    let page = workspace().join("docs/compatibility.md");
    let text = splice(&fs::read_to_string(&page)?, "matrix", &tables).context("docs/compatibility.md")?;
    fs::write(&page, text)?;
    all_right(&outcomes)
}

fn all_right(outcomes: &[Outcome]) -> Result<()> {
    let wrong: Vec<String> = outcomes
        .iter()
        .filter_map(|(cell, result)| Some(format!("{cell}\n{:#}\n", result.as_ref().err()?)))
        .collect();
    ensure!(!outcomes.is_empty(), "no cell was run");
    ensure!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), outcomes.len(), wrong.join("\n"));
    Ok(())
}
