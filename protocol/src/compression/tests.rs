use proptest::prelude::*;

use super::*;

const ZSTD: Compression = Compression::ZSTD;
const BOTH: [Compression; 2] = [Compression::Zlib, ZSTD];

/// From the documentation of the compressed packet: a COM_QUERY of 46 bytes.
const DOCUMENTED: &[u8] = b"\x22\x00\x00\x00\x32\x00\x00\x78\x9c\xd3\x63\x60\x60\x60\x2e\x4e\xcd\x49\x4d\x2e\x51\x50\x32\x30\x34\x32\x36\x31\x35\x33\xb7\xb0\xc4\xcd\x52\x02\x00\x0c\xd1\x0a\x6c";
const DOCUMENTED_PLAIN: &[u8] = b"\x2e\x00\x00\x00\x03select \"012345678901234567890123456789012345\"";

/// Inflates all of `input`, which comes in pieces of `size`, into rooms of `room` bytes.
fn inflate_by(
    decompressor: &mut Decompressor,
    input: &[u8],
    size: usize,
    room: usize,
) -> Result<Vec<u8>, CompressionError> {
    let mut plain = Vec::new();
    let mut room = vec![0; room];
    for piece in input.chunks(size) {
        let mut piece = piece;
        loop {
            let step = decompressor.advance(piece, &mut room, |_| false)?;
            plain.extend_from_slice(&room[..step.produced]);
            piece = &piece[step.consumed..];
            if step == Inflated::default() {
                break;
            }
        }
        assert!(piece.is_empty(), "input is left and nothing is done");
    }
    Ok(plain)
}

fn inflate(algorithm: Compression, input: &[u8]) -> Result<Vec<u8>, CompressionError> {
    inflate_by(&mut Decompressor::new(algorithm), input, usize::MAX, 1 << 16)
}

fn encode(algorithm: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Compressor::new(algorithm).encode(bytes, &mut out);
    out
}

/// A packet with a header of one's own choice.
fn packet(sequence_id: u8, declared: u32, body: &[u8]) -> Vec<u8> {
    let [a, b, c, _] = (body.len() as u32).to_le_bytes();
    let [d, e, f, _] = declared.to_le_bytes();
    [&[a, b, c, sequence_id, d, e, f], body].concat()
}

/// `plain` compressed without a header.
fn body(algorithm: Compression, plain: &[u8]) -> Vec<u8> {
    match algorithm {
        Compression::Zlib => {
            let mut deflate = zlib_rs::Deflate::new(9, true, 15);
            let mut body = vec![0; plain.len() + 1024];
            let status = deflate.compress(plain, &mut body, zlib_rs::DeflateFlush::Finish).unwrap();
            assert_eq!(status, zlib_rs::Status::StreamEnd);
            body.truncate(deflate.total_out() as usize);
            body
        }
        Compression::Zstd { level } => {
            let mut body = Vec::with_capacity(zstd::zstd_safe::compress_bound(plain.len()));
            zstd::zstd_safe::compress(&mut body, plain, level.into()).unwrap();
            body
        }
    }
}

/// Bytes that compress to about half.
fn text(len: usize) -> Vec<u8> {
    let mut state = 7_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b'a' + (state >> 28) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn the_documented_packet_is_read() {
    assert_eq!(inflate(Compression::Zlib, DOCUMENTED).unwrap(), DOCUMENTED_PLAIN);
    let stored = b"\x0d\x00\x00\x00\x00\x00\x00\x09\x00\x00\x00\x03SELECT 1";
    assert_eq!(inflate(Compression::Zlib, stored).unwrap(), &stored[7..]);
    assert_eq!(encode(Compression::Zlib, &stored[7..]), stored);
}

#[test]
fn any_length_round_trips() {
    for algorithm in BOTH {
        for len in [0, 1, 49, 50, 51, 1000, 65_535, 65_536, 65_537, 300_000] {
            for plain in [text(len), noise(len), vec![7; len]] {
                let packed = encode(algorithm, &plain);
                let packets = len.div_ceil(64 * 1024);
                assert!(packed.len() <= len + 7 * packets, "{} bytes of {len}", packed.len());
                for (size, room) in [(usize::MAX, 1 << 16), (1, 1 << 16), (1000, 100), (17, 3)] {
                    if len > 70_000 && room < 100 {
                        continue;
                    }
                    let mut decompressor = Decompressor::new(algorithm);
                    let inflated = inflate_by(&mut decompressor, &packed, size, room).unwrap();
                    assert!(inflated == plain, "{algorithm:?}, {len} bytes by {size} into {room}");
                    assert_eq!(decompressor.packets(), packets as u64);
                }
            }
        }
    }
}

#[test]
fn short_and_incompressible_bytes_are_stored() {
    for algorithm in BOTH {
        for plain in [text(49), noise(3000)] {
            assert_eq!(encode(algorithm, &plain), packet(0, 0, &plain));
        }
        let packed = encode(algorithm, &text(1000));
        assert!(packed.len() < 700, "{} bytes", packed.len());
    }
}

#[test]
fn packets_are_numbered_and_the_numbers_checked() {
    let mut compressor = Compressor::new(ZSTD);
    compressor.set_next_sequence_id(254);
    let mut out = Vec::new();
    compressor.encode(&text(150_000), &mut out);
    assert_eq!(compressor.next_sequence_id(), 1);
    let ids = |is_due: fn(u8) -> bool| {
        let mut decompressor = Decompressor::new(ZSTD);
        let mut room = vec![0; 1 << 20];
        let mut rest = out.as_slice();
        while !rest.is_empty() {
            rest = &rest[decompressor.advance(rest, &mut room, is_due)?.consumed..];
        }
        Ok(decompressor.next_sequence_id())
    };
    assert_eq!(ids(|id| id == 254), Ok(1));
    assert_eq!(ids(|_| false), Err(CompressionError::SequenceGap { expected: 0, got: 254 }));
    let again = [packet(0, 0, b"a"), packet(1, 0, b"b"), packet(1, 0, b"c")].concat();
    assert_eq!(inflate(ZSTD, &again), Err(CompressionError::SequenceGap { expected: 2, got: 1 }));
}

#[test]
fn lengths_that_lie_are_errors() {
    for algorithm in BOTH {
        let plain = text(1000);
        let body = body(algorithm, &plain);
        assert_eq!(inflate(algorithm, &packet(0, 1000, &body)).unwrap(), plain);
        assert_eq!(
            inflate(algorithm, &packet(0, 999, &body)),
            Err(CompressionError::Longer { declared: 999 }),
            "{algorithm:?}"
        );
        assert_eq!(inflate(algorithm, &packet(0, 1, &body)), Err(CompressionError::Longer { declared: 1 }));
        for declared in [1001, 0xff_ffff] {
            let shorter = CompressionError::Shorter { declared, inflated: 1000 };
            assert_eq!(inflate(algorithm, &packet(0, declared, &body)), Err(shorter), "{algorithm:?}");
        }
        let trailing = [&body[..], b"more"].concat();
        assert_eq!(
            inflate(algorithm, &packet(0, 1000, &trailing)),
            Err(CompressionError::Trailing { left: 4 })
        );
        let twice = [&body[..], &body].concat();
        let left = body.len() as u32;
        assert_eq!(inflate(algorithm, &packet(0, 2000, &twice)), Err(CompressionError::Trailing { left }));
        for len in 0..body.len() {
            let error = inflate(algorithm, &packet(0, 1000, &body[..len])).unwrap_err();
            assert!(matches!(error, CompressionError::Unfinished { declared: 1000, .. }), "{len}: {error}");
        }
        // The frame is over where its last byte is, whatever the pieces and the room.
        for (size, room) in [(1, 1), (1, 1000), (3, 7)] {
            let mut decompressor = Decompressor::new(algorithm);
            let lie = packet(0, 999, &body);
            let inflated = inflate_by(&mut decompressor, &lie, size, room);
            assert_eq!(
                inflated,
                Err(CompressionError::Longer { declared: 999 }),
                "{algorithm:?} {size} {room}"
            );
        }
    }
}

#[test]
fn garbage_is_an_error() {
    for algorithm in BOTH {
        let error = inflate(algorithm, &packet(0, 1000, &noise(500))).unwrap_err();
        assert!(matches!(error, CompressionError::Malformed { .. }), "{error}");
        // A flipped bit in the data or, for zlib, in its checksum. (zstd's frames have none here.)
        let body = body(algorithm, &text(1000));
        for at in [2, body.len() / 2] {
            let mut body = body.clone();
            body[at] ^= 0x10;
            let inflated = inflate(algorithm, &packet(0, 1000, &body));
            assert_ne!(inflated.as_deref(), Ok(&text(1000)[..]), "byte {at} flipped");
        }
    }
    let mut body = body(Compression::Zlib, &text(1000));
    *body.last_mut().unwrap() ^= 1;
    let error = inflate(Compression::Zlib, &packet(0, 1000, &body)).unwrap_err();
    assert!(error.to_string().starts_with("a compressed packet is no zlib: "), "{error}");
}

#[test]
fn the_longest_packets_inflate_piece_by_piece() {
    let plain = text(0xff_ffff);
    for algorithm in [Compression::Zlib, Compression::Zstd { level: 3 }, Compression::Zstd { level: 22 }] {
        // Level 22 is slow, and wants the longest window.
        let plain =
            if algorithm == (Compression::Zstd { level: 22 }) { vec![9; 0xff_ffff] } else { plain.clone() };
        let packed = packet(0, 0xff_ffff, &body(algorithm, &plain));
        let mut decompressor = Decompressor::new(algorithm);
        let inflated = inflate_by(&mut decompressor, &packed, 16 * 1024, 64 * 1024).unwrap();
        assert!(inflated == plain, "{algorithm:?}");
    }
}

#[test]
fn a_bomb_gives_no_more_than_it_is_asked_for() {
    for algorithm in BOTH {
        let bomb = packet(0, 0xff_ffff, &body(algorithm, &vec![0; 0xff_ffff]));
        assert!(bomb.len() < 20_000, "{} bytes", bomb.len());
        let mut decompressor = Decompressor::new(algorithm);
        let mut room = [1; 100];
        let step = decompressor.advance(&bomb, &mut room, |_| false).unwrap();
        assert_eq!(step.produced, room.len());
        let more = decompressor.advance(&bomb[step.consumed..], &mut room, |_| false).unwrap();
        assert_eq!(more.produced, room.len());
    }
}

#[test]
fn a_window_beyond_a_packets_length_is_refused() {
    let mut context = zstd::zstd_safe::CCtx::create();
    context.set_parameter(zstd::zstd_safe::CParameter::WindowLog(27)).unwrap();
    context.set_parameter(zstd::zstd_safe::CParameter::ContentSizeFlag(false)).unwrap();
    let mut body = vec![0; 1000];
    let mut output = zstd::zstd_safe::OutBuffer::around(&mut body[..]);
    let mut input = zstd::zstd_safe::InBuffer::around(b"a stream whose length nobody knows");
    context.compress_stream(&mut output, &mut input).unwrap();
    context.end_stream(&mut output).unwrap();
    let len = output.pos();
    let error = inflate(ZSTD, &packet(0, 0xff_ffff, &body[..len])).unwrap_err();
    assert!(error.to_string().contains("no zstd: "), "{error}");
}

#[test]
fn a_rest_changes_nothing() {
    for algorithm in BOTH {
        let (mut compressor, mut decompressor) = (Compressor::new(algorithm), Decompressor::new(algorithm));
        for round in 0..3 {
            let mut packed = Vec::new();
            compressor.encode(&text(1000), &mut packed);
            assert_eq!(compressor.next_sequence_id(), round + 1);
            compressor.rest();
            // In the middle of a packet as well.
            let (begin, end) = packed.split_at(300);
            let mut inflated = inflate_by(&mut decompressor, begin, 100, 100).unwrap();
            decompressor.rest();
            inflated.extend(inflate_by(&mut decompressor, end, 100, 100).unwrap());
            decompressor.rest();
            assert_eq!(inflated, text(1000));
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_round_trip(
        writes in prop::collection::vec(prop::collection::vec(0..4_u8, 0..3000), 0..8),
        zlib: bool,
        size in 1..2000_usize,
        room in 1..2000_usize,
    ) {
        let algorithm = if zlib { Compression::Zlib } else { ZSTD };
        let mut compressor = Compressor::new(algorithm);
        let mut packed = Vec::new();
        for bytes in &writes {
            compressor.encode(bytes, &mut packed);
        }
        let mut decompressor = Decompressor::new(algorithm);
        let inflated = inflate_by(&mut decompressor, &packed, size, room).unwrap();
        prop_assert_eq!(inflated, writes.concat());
        prop_assert_eq!(decompressor.next_sequence_id(), compressor.next_sequence_id());
    }

    #[test]
    fn hostile_bytes_never_panic_and_never_loop(
        mut bytes in prop::collection::vec(any::<u8>(), 0..300),
        declared in 0..0xff_ffff_u32,
        zlib: bool,
        size in 1..300_usize,
    ) {
        let algorithm = if zlib { Compression::Zlib } else { ZSTD };
        // Often enough the beginning of a frame.
        if bytes.len() > 8 && bytes[0] & 1 == 0 {
            bytes[..4].copy_from_slice(if zlib { &[0x78, 0x9c, 0xd3, 0x63] } else { &[0x28, 0xb5, 0x2f, 0xfd] });
        }
        let input = packet(0, declared, &bytes);
        if let Ok(inflated) = inflate_by(&mut Decompressor::new(algorithm), &input, size, 4096) {
            prop_assert!(inflated.len() == declared as usize || declared == 0);
        }
    }
}
