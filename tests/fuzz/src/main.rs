//! The fuzz targets under libFuzzer, one in each run: that of `SPILLWAY_FUZZ`. `make fuzz` builds it, with coverage of
//! Spillway's crates, and runs all.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| TARGET(input));

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("SPILLWAY_FUZZ").unwrap_or_default();
    let all = || spillway_protocol::fuzzing::TARGETS.into_iter().chain(spillway::fuzzing::TARGETS);
    match all().find(|(known, _)| *known == name) {
        Some((_, run)) => run,
        None => panic!("SPILLWAY_FUZZ is none of {:?}", all().map(|(name, _)| name).collect::<Vec<_>>()),
    }
});
