//! Bounded runs of fuzz targets, as unit tests of the crates that have them: first each input of the target's corpus as
//! it is, then so many that are made of it by mistakes. What is made is the same in each run, and the smallest one found
//! on which a target panics is printed.
//!
//! `make fuzz` runs the same targets for longer, led by coverage (`main.rs`).

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};

/// Inputs that are made for one target, which take the slowest one ten seconds or so.
const CASES: u32 = 100_000;

/// Of all runs; `PROPTEST_RNG_SEED` gives another.
const SEED: u64 = 7;

/// The longest input that is made, and so the longest of a corpus.
const MOST_LEN: usize = 16 * 1024;

/// Runs a target, and panics on the smallest input on which it does.
///
/// # Panics
/// See above. Also where the target has no corpus.
pub fn check(target: &str, run: fn(&[u8])) {
    check_cases(target, CASES, run);
}

/// The same with so many inputs.
///
/// # Panics
/// The same.
pub fn check_cases(target: &str, cases: u32, run: fn(&[u8])) {
    let corpus = corpus(target);
    for (path, input) in &corpus {
        if catch_unwind(|| run(input)).is_err() {
            panic!("the target {target} panics on {}", path.display());
        }
    }
    let inputs = corpus.into_iter().map(|(_, input)| input).collect();
    let seed = match Config::default().rng_seed {
        RngSeed::Random => RngSeed::Fixed(SEED),
        given => given,
    };
    let config = Config {
        cases,
        rng_seed: seed,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    let tried = TestRunner::new(config).run(&mistaken(inputs), |input| {
        run(&input);
        Ok(())
    });
    match tried {
        Ok(()) => {}
        Err(TestError::Abort(reason)) => panic!("the target {target} cannot be tried: {reason}"),
        Err(TestError::Fail(reason, input)) => {
            let input: String = input.iter().map(|byte| format!("\\x{byte:02x}")).collect();
            panic!(
                "the target {target} panics (seed {seed}): {reason}\non this input, which belongs into \
                 tests/fuzz/corpus/{target}/ once it is understood:\nprintf '{input}'"
            );
        }
    }
}

/// Runs what must not have more memory than this at any time, beyond what it had. Memory that C libraries take is not
/// counted, nor is that of other threads.
///
/// # Panics
/// If it has more.
pub fn within<T>(most: usize, run: impl FnOnce() -> T) -> T {
    let mut result = None;
    // A panic must not leave the counting half done.
    let info = allocation_counter::measure(|| result = Some(catch_unwind(AssertUnwindSafe(run))));
    match result {
        Some(Ok(result)) => {
            assert!(
                info.bytes_max <= most as u64,
                "{} bytes of memory, and {most} are the most",
                info.bytes_max
            );
            result
        }
        Some(Err(panic)) => resume_unwind(panic),
        None => unreachable!("it is run"),
    }
}

/// A target's inputs, with the files that they stand in.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut paths: Vec<_> = match fs::read_dir(&dir) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
        Err(error) => panic!("{}: {error}; each target has a corpus", dir.display()),
    };
    paths.sort();
    let read = |path: PathBuf| match fs::read(&path) {
        Ok(input) => (path, input),
        Err(error) => panic!("{}: {error}", path.display()),
    };
    let inputs: Vec<_> = paths.into_iter().map(read).collect();
    assert!(!inputs.is_empty(), "no input in {}", dir.display());
    assert!(inputs.iter().all(|(_, input)| input.len() <= MOST_LEN), "an input that is too long");
    inputs
}

/// What can go wrong with an input.
#[derive(Clone, Debug)]
enum Mistake {
    Flip(Index, u8),
    Set(Index, u8),
    /// A number where a length may stand.
    Number(Index, Vec<u8>),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize, usize),
    End(Index),
    /// A part of another input of the corpus.
    Splice(Index, Index, Index, usize),
}

/// Inputs of the corpus with some mistakes in them, and now and then any bytes.
fn mistaken(corpus: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let base = prop_oneof![
        12 => select(corpus.clone()),
        1 => vec(any::<u8>(), 0..200),
    ];
    (base, vec(mistake(), 0..8)).prop_map(move |(mut input, mistakes)| {
        for mistake in &mistakes {
            mistake.make(&mut input, &corpus);
            input.truncate(MOST_LEN);
        }
        input
    })
}

fn mistake() -> impl Strategy<Value = Mistake> {
    let number = prop_oneof![
        select(vec![
            vec![0, 0],
            vec![0, 0, 0],
            vec![0xff, 0xff],
            vec![0xff, 0xff, 0xff],
            vec![0xff, 0xff, 0xff, 0x7f],
            vec![0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            vec![0xfc, 0xff, 0xff],
            vec![0xfd, 0xff, 0xff, 0xff],
            vec![0xff; 8],
        ]),
        any::<[u8; 2]>().prop_map(|number| number.to_vec()),
    ];
    let byte = prop_oneof![
        any::<u8>(),
        select(vec![0, 1, 2, 3, 5, 8, 0x7f, 0x80, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe, 0xff]),
    ];
    prop_oneof![
        4 => (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Mistake::Flip(at, 1 << bit)),
        4 => (any::<Index>(), byte).prop_map(|(at, byte)| Mistake::Set(at, byte)),
        2 => (any::<Index>(), number).prop_map(|(at, number)| Mistake::Number(at, number)),
        2 => (any::<Index>(), vec(any::<u8>(), 1..10)).prop_map(|(at, bytes)| Mistake::Insert(at, bytes)),
        2 => (any::<Index>(), 1..40_usize).prop_map(|(at, len)| Mistake::Remove(at, len)),
        2 => (any::<Index>(), 1..60_usize, 1..20_usize).prop_map(|(at, len, times)| Mistake::Repeat(at, len, times)),
        1 => any::<Index>().prop_map(Mistake::End),
        2 => (any::<Index>(), any::<Index>(), any::<Index>(), 1..300_usize)
            .prop_map(|(at, of, from, len)| Mistake::Splice(at, of, from, len)),
    ]
}

impl Mistake {
    fn make(&self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let between = |at: &Index, input: &[u8]| at.index(input.len() + 1);
        let within = |at: usize, len: usize, input: &[u8]| at..(at + len).min(input.len());
        match self {
            Self::Flip(at, bit) if !input.is_empty() => {
                let at = at.index(input.len());
                input[at] ^= bit;
            }
            Self::Set(at, byte) if !input.is_empty() => {
                let at = at.index(input.len());
                input[at] = *byte;
            }
            Self::Flip(..) | Self::Set(..) => {}
            Self::Number(at, number) => {
                let at = between(at, input);
                let range = within(at, number.len(), input);
                input.splice(range, number.iter().copied());
            }
            Self::Insert(at, bytes) => {
                let at = between(at, input);
                input.splice(at..at, bytes.iter().copied());
            }
            Self::Remove(at, len) => {
                let range = within(between(at, input), *len, input);
                input.drain(range);
            }
            Self::Repeat(at, len, times) => {
                let range = within(between(at, input), *len, input);
                let repeated = input[range.clone()].repeat(*times);
                input.splice(range.end..range.end, repeated);
            }
            Self::End(at) => input.truncate(between(at, input)),
            Self::Splice(at, of, from, len) => {
                let other = of.get(corpus);
                let part = within(between(from, other), *len, other);
                let at = between(at, input);
                input.splice(at..at, other[part].iter().copied());
            }
        }
    }
}
