//! `make bench`: Spillway beside its peers and direct connections, as ratios in the same run.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use clap::builder::PossibleValuesParser;
use spillway_bench::case::Case;
use spillway_bench::clock::Progress;
use spillway_bench::machine::{self, Machine};
use spillway_bench::measure::measure;
use spillway_bench::report::Report;
use spillway_bench::stock::{Size, Stock};
use spillway_bench::{case, mbuffer, peers, programs};
use spillway_tests::readme::splice;

/// Measures Spillway beside its peers and direct connections; the report goes to stdout and to bench/ in the target
/// directory. The spillway measured is $SPILLWAY_BIN, or the one beside this program.
#[derive(Debug, Parser)]
struct Options {
    /// Rounds of each case, all ways by turns, after a warm-up [default: 5, with --quick 2]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// An eighth of the data, or less
    #[arg(long)]
    quick: bool,
    /// Only this case; may be repeated
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(case::ALL.map(|case| case.name)))]
    only: Vec<String>,
    /// Puts the table into this file, between its lines <!-- bench:begin --> and <!-- bench:end -->
    #[arg(long, value_name = "FILE")]
    readme: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    programs::check_mariadb()?;
    let spillway = programs::spillway()?;
    let machine = Machine::look()?;
    let progress = Progress::start();
    progress.say(&format!("measuring {}", spillway.display()));
    let rounds = options.rounds.unwrap_or(if options.quick { 2 } else { 5 });
    let size = if options.quick { Size::Quick } else { Size::Full };
    let mut stock = Stock::new(size, progress);
    let mut report = Report::new(machine, versions(&mut stock)?, options.quick, rounds);
    let dir = report_dir()?;
    for case in &case::ALL {
        if options.only.is_empty() || options.only.iter().any(|name| name == case.name) {
            measure_into(&mut report, case, &mut stock, rounds);
            // After each case, so that what was measured is not lost whatever comes.
            report.write(&dir)?;
        }
    }
    report.draw(&dir)?;
    progress.say(&format!("written to {}", dir.display()));
    if let Some((name, _)) = report.failed.first() {
        bail!("{} of the cases failed, first {name}; the report has the rest", report.failed.len());
    }
    if let Some(path) = &options.readme {
        put_into(path, &report)?;
    }
    Ok(())
}

/// A case that fails does not take the others with it, but the run fails in the end.
fn measure_into(report: &mut Report, case: &Case, stock: &mut Stock, rounds: u32) {
    match measure(case, stock, rounds) {
        Ok(measured) => {
            report.add(measured);
            if let Some(measured) = report.cases.last() {
                println!("{}", report.case_markdown(measured));
            }
        }
        Err(error) => {
            stock.say(&format!("{} FAILED: {error:#}", case.name));
            report.failed.push((case.name, format!("{error:#}")));
        }
    }
}

fn versions(stock: &mut Stock) -> Result<Vec<(String, String)>> {
    let server = stock.server()?.query("SELECT VERSION()")?.into_iter().next().context("no version")?;
    let spillway = programs::spillway()?;
    let mut versions = vec![
        ("MariaDB".to_owned(), server),
        ("mysqldump".to_owned(), machine::version("mysqldump", "--version")?),
        ("gzip".to_owned(), machine::version("gzip", "--version")?),
    ];
    versions.extend(peers::versions()?.into_iter().map(|(name, version)| (name.to_owned(), version)));
    versions.push(("mbuffer".to_owned(), mbuffer::version()?));
    versions.push(("Spillway".to_owned(), machine::version(&spillway.to_string_lossy(), "--version")?));
    Ok(versions)
}

fn put_into(readme: &Path, report: &Report) -> Result<()> {
    let text = fs::read_to_string(readme).with_context(|| readme.display().to_string())?;
    let text = splice(&text, "bench", &report.readme())
        .with_context(|| format!("the table's place in {}", readme.display()))?;
    fs::write(readme, text).with_context(|| format!("writing {}", readme.display()))
}

/// `bench` in cargo's target directory, where this program is.
fn report_dir() -> Result<PathBuf> {
    let own = env::current_exe()?;
    let target = own.ancestors().find(|dir| dir.join("CACHEDIR.TAG").is_file());
    Ok(target.unwrap_or_else(|| Path::new("target")).join("bench"))
}
