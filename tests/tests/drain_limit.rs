//! `--drain-limit`: a dump that takes its time, and is the same.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use spillway_tests::{Server, client, data, run};

/// Bytes of the table, and how many a second may be drained.
const SIZE: u64 = 8 << 20;
const LIMIT: u64 = 4 << 20;

#[test]
fn a_limited_dump_takes_its_time_and_is_the_same() -> Result<()> {
    let server = Server::start(&[])?;
    data::report::load(&server, "report", SIZE)?;
    let arguments = run::arguments("mysqldump", &server.tcp(), &["report"]);
    let direct = run::direct(&arguments)?.success()?;
    for option in ["--drain-limit", "--drain-limit-total"] {
        let began = Instant::now();
        let limited = run::to_end(&["--quiet", option, &LIMIT.to_string()], &arguments)?.success()?;
        let took = began.elapsed();
        let difference =
            client::difference(&client::normalised(&direct.stdout), &client::normalised(&limited.stdout));
        ensure!(difference.is_none(), "{}", difference.unwrap_or_default());
        // What is read at once after a pause is not waited for.
        let least = Duration::from_secs(SIZE / LIMIT).mul_f64(0.8);
        ensure!(took > least, "{option}: {took:?}");
    }
    let refused = run::to_end(&["--drain-limit", "1000"], &arguments)?;
    ensure!(refused.code() == 78 && refused.stderr.contains("--drain-limit 1000"), "{}", refused.stderr);
    Ok(())
}
