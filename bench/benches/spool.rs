//! The spool without sockets: blocks in memory and through the disk, checksums, compression, encryption.
//!
//! `cargo bench --bench spool`; with `-- --test` each is only tried once. The disk is that of the directory for temporary
//! files (`TMPDIR`).

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nobody else to tell")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use spillway::spool::bench::{Packed, Pipe, Sealing};
use spillway::spool::packing::{Algorithm, Packing};

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = memory, disk, checksum, pack, unpack, seal
}
criterion_main!(benches);

/// A feed that keeps up: no byte goes to the disk.
fn memory(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("spool/memory");
    let (dir, piece) = (dir(), text(PIECE));
    let mut pipe = Pipe::new(MEMORY, dir.path(), Packing::new(None), false).unwrap();
    group.throughput(Throughput::Bytes(16 << 20));
    group.bench_function("16 MiB in pieces of 256 KiB", |bencher| {
        bencher.iter(|| pipe.response(black_box(&piece), 16 << 20, true).unwrap());
    });
    group.throughput(Throughput::Elements(10_000));
    group.bench_function("10,000 responses of 11 bytes", |bencher| {
        bencher.iter(|| pipe.responses(10_000, black_box(&piece[..11])).unwrap());
    });
    group.finish();
}

/// A feed that begins when all is drained: all but the oldest few MiB go to the disk and come back.
fn disk(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("spool/disk");
    let dir = dir();
    group.sample_size(10).throughput(Throughput::Bytes(BACKLOG as u64));
    for (of, piece) in [("text", text(4 << 20)), ("noise", noise(4 << 20))] {
        for (name, packing) in packings() {
            for (encryption, encrypts) in [("", false), (", encrypted", true)] {
                let mut pipe = Pipe::new(MEMORY, dir.path(), Arc::clone(&packing), encrypts).unwrap();
                group.bench_function(format!("{of}, {name}{encryption}"), |bencher| {
                    bencher.iter(|| pipe.response(black_box(&piece), BACKLOG, false).unwrap());
                });
            }
        }
    }
    group.finish();
}

fn checksum(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("spool/checksum");
    let block = noise(BLOCK);
    group.throughput(Throughput::Bytes(BLOCK as u64));
    group.bench_function("crc32c of 1 MiB", |bencher| bencher.iter(|| crc32c::crc32c(black_box(&block))));
    group.finish();
}

fn pack(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("spool/pack");
    group.throughput(Throughput::Bytes(BLOCK as u64));
    for (of, block) in [("text", text(BLOCK)), ("noise", noise(BLOCK))] {
        for (name, packing) in packings().into_iter().skip(1) {
            group.bench_function(format!("1 MiB of {of}, {name}"), |bencher| {
                bencher.iter(|| Packed::new(&packing, black_box(&block)).is_some());
            });
        }
    }
    group.finish();
}

fn unpack(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("spool/unpack");
    let (block, mut back) = (text(BLOCK), vec![0; BLOCK]);
    group.throughput(Throughput::Bytes(BLOCK as u64));
    for (name, packing) in packings().into_iter().skip(1) {
        let mut packed = Packed::new(&packing, &block).unwrap();
        group.bench_function(format!("1 MiB of text, {name}"), |bencher| {
            bencher.iter(|| assert!(packed.unpack(black_box(&mut back))));
        });
        assert!(block == back);
    }
    group.finish();
}

fn seal(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("spool/seal");
    let (plain, mut sealing) = (text(BLOCK), Sealing::default());
    let mut block = plain.clone();
    group.throughput(Throughput::Bytes(BLOCK as u64));
    group.bench_function("1 MiB there", |bencher| {
        bencher.iter(|| assert!(sealing.seal(black_box(&mut block))));
    });
    block.copy_from_slice(&plain);
    group.bench_function("1 MiB there and back", |bencher| {
        bencher.iter(|| assert!(sealing.seal(black_box(&mut block)) && sealing.open(&mut block)));
    });
    assert!(block == plain);
    group.finish();
}

fn packings() -> [(&'static str, Arc<Packing>); 3] {
    [
        ("off", Packing::new(None)),
        ("lz4", Packing::new(Some(Algorithm::Lz4))),
        ("zstd", Packing::new(Some(Algorithm::Zstd))),
    ]
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Rows as tables have them: a number, words, a date, an amount, a hash. They shrink to a third or so.
fn text(len: usize) -> Vec<u8> {
    let mut numbers = numbers();
    let mut next = |below: u64| numbers.next().unwrap_or_default() % below;
    let mut bytes = Vec::with_capacity(len + 300);
    while bytes.len() < len {
        let words: Vec<&str> = (0..20).map(|_| WORDS[next(WORDS.len() as u64) as usize]).collect();
        let date = format!("2026-{:02}-{:02} {:02}:{:02}", 1 + next(12), 1 + next(28), next(24), next(60));
        let (id, amount, hash) = (bytes.len(), next(100_000), next(u64::MAX));
        bytes.extend(format!("{id}\t{}\t{date}\t{amount}.00\t{hash:016x}\n", words.join(" ")).into_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Bytes that do not shrink.
fn noise(len: usize) -> Vec<u8> {
    numbers().flat_map(|number| ((number >> 32) as u32).to_le_bytes()).take(len).collect()
}

/// The same ones each time (xorshift64).
fn numbers() -> impl Iterator<Item = u64> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    })
}

/// As of one read: the proxy has buffers of 16 KiB to 1 MiB.
const PIECE: usize = 256 << 10;
/// The largest block that the spool makes.
const BLOCK: usize = 1 << 20;
/// The default of `--memory-per-session`.
const MEMORY: u64 = 16 << 20;
/// Four times that: most of it goes through the disk.
const BACKLOG: usize = 64 << 20;
const WORDS: [&str; 40] = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "customer",
    "order",
    "paid",
    "shipped",
    "invoice",
    "address",
    "street",
    "city",
    "pending",
    "returned",
    "warehouse",
    "article",
    "number",
    "colour",
    "size",
    "blue",
    "green",
    "delivered",
    "payment",
    "transfer",
    "note",
    "comment",
    "please",
    "call",
    "before",
    "because",
    "with",
    "from",
    "after",
    "quantity",
    "discount",
    "total",
    "price",
    "tax",
];
