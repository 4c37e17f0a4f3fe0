//! `make bench`: Spillway beside direct connections, as ratios in the same run.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, thread};

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum as _};
use spillway_bench::clock::Progress;
use spillway_bench::programs;
use spillway_bench::report::Report;
use spillway_bench::scenario::{Bench, Name, Size};

/// Measures Spillway beside direct connections; the report goes to stdout and to bench/ in the target directory. The
/// spillway measured is $SPILLWAY_BIN, or the one beside this program.
#[derive(Debug, Parser)]
struct Options {
    /// Rounds of each scenario, direct and through Spillway by turns, after a warm-up [default: 7, with --quick 3]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// An eighth of the data
    #[arg(long)]
    quick: bool,
    /// Only this scenario; may be repeated
    #[arg(long, value_name = "NAME")]
    only: Vec<Name>,
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
    let load = load_average()?;
    let progress = Progress::start();
    progress.say(&format!("measuring {}", spillway.display()));
    let rounds = options.rounds.unwrap_or(if options.quick { 3 } else { 7 });
    let size = if options.quick { Size::QUICK } else { Size::FULL };
    let mut bench = Bench::start(size, progress)?;
    let mut report = Report {
        server: bench.server_version()?,
        cores: thread::available_parallelism()?.get(),
        load,
        quick: options.quick,
        rounds,
        scenarios: Vec::new(),
    };
    for &name in Name::value_variants() {
        if options.only.is_empty() || options.only.contains(&name) {
            report.scenarios.push(bench.measure(name, rounds)?);
        }
    }
    print!("{}", report.markdown());
    let dir = report_dir()?;
    report.write(&dir)?;
    progress.say(&format!("written to {}", dir.display()));
    Ok(())
}

/// `bench` in cargo's target directory, where this program is.
fn report_dir() -> Result<PathBuf> {
    let own = env::current_exe()?;
    let target = own.ancestors().find(|dir| dir.join("CACHEDIR.TAG").is_file());
    Ok(target.unwrap_or_else(|| Path::new("target")).join("bench"))
}

fn load_average() -> Result<f64> {
    let line = fs::read_to_string("/proc/loadavg")?;
    line.split(' ').next().and_then(|field| field.parse().ok()).context("/proc/loadavg")
}
