//! The hot path without sockets: framing, and the tracker that finds the ends of responses.
//!
//! `cargo bench --bench protocol`; with `-- --test` each is only tried once.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use spillway_protocol::{
    Capabilities, PacketScanner, ResponseEvent, ResponseForm, ResponseTracker, StatusFlags, encode_packet,
};

criterion_group!(benches, scan, track);
criterion_main!(benches);

/// Ends of packets, whatever they hold.
fn scan(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scan");
    for stream in streams() {
        group.throughput(Throughput::Bytes(stream.bytes.len() as u64));
        group.bench_function(stream.name, |bencher| {
            bencher.iter_batched(
                PacketScanner::default,
                |mut scanner| {
                    let mut packets = 0;
                    for mut chunk in stream.bytes.chunks(CHUNK) {
                        while !chunk.is_empty() {
                            let (consumed, packet) = scanner.scan(black_box(chunk));
                            chunk = &chunk[consumed..];
                            packets += u64::from(packet.is_some());
                        }
                    }
                    assert_eq!(packets, stream.packets);
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// A whole response, from the column count to the EOF.
fn track(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("track");
    for stream in streams() {
        group.throughput(Throughput::Bytes(stream.bytes.len() as u64));
        group.bench_function(stream.name, |bencher| {
            bencher.iter_batched(
                || {
                    let mut tracker = ResponseTracker::new(Capabilities::PROTOCOL_41);
                    tracker.expect(ResponseForm::Query);
                    tracker
                },
                |mut tracker| {
                    let mut ended = false;
                    for chunk in stream.bytes.chunks(CHUNK) {
                        match tracker.advance(black_box(chunk)) {
                            Ok(step) => ended = matches!(step.event, Some(ResponseEvent::End(_))),
                            Err(error) => panic!("{error}"),
                        }
                    }
                    assert!(ended && tracker.is_idle());
                    assert_eq!(tracker.rows(), stream.rows);
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

struct Stream {
    name: &'static str,
    bytes: Vec<u8>,
    packets: u64,
    rows: u64,
}

fn streams() -> [Stream; 3] {
    [
        stream("wide rows of 7.6 KB", 7_616),
        stream("rows of 200 bytes", 200),
        stream("narrow rows of 24 bytes", 24),
    ]
}

/// The response to a SELECT with rows of this length, one column.
fn stream(name: &'static str, row_len: usize) -> Stream {
    let rows = STREAM_LEN / (row_len + 4);
    // The first byte of a row is the length of its first column; 0xFC says that two bytes of length follow.
    let row = [&[0xfc][..], &vec![b'b'; row_len - 1]].concat();
    let eof = [&[0xfe, 0, 0][..], &StatusFlags::default().0.to_le_bytes()].concat();
    let head = [&[1][..], b"\x03def\0\0\0\x01b\0\x0c\x08\0\xff\0\0\0\xfd\0\0\0\0\0", &eof];
    let packets = head.into_iter().chain((0..rows).map(|_| row.as_slice())).chain([eof.as_slice()]);
    let bytes: Vec<u8> = packets
        .enumerate()
        .flat_map(|(number, payload)| encode_packet((number + 1) as u8, payload))
        .collect();
    Stream { name, bytes, packets: rows as u64 + 4, rows: rows as u64 }
}

/// As of one read: the proxy has buffers of 16 KiB to 1 MiB.
const CHUNK: usize = 256 << 10;
/// Enough packets for a steady figure. (A scan looks at headers only, so that wide rows cost next to nothing.)
const STREAM_LEN: usize = 16 << 20;
