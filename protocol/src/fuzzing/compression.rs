//! Compressed packets.

use super::input::{Input, pieces};
use super::within;
use crate::compression::{Compression, CompressionError, Compressor, Decompressor};

/// What is compared, and so inflated, of an input at most: a few bytes can be many.
const MOST: usize = 1 << 20;

/// ```text
/// 1  which algorithm, and what follows    1  where it is cut    1  room for what comes out, less 1
/// n  compressed packets, or damage, and what is to be compressed and damaged by it
/// ```
///
/// However it is cut, the same comes out. What is not damaged comes back.
pub(super) fn compression(input: &[u8]) {
    let mut input = Input(input);
    let (form, plan, room) = (input.byte(), input.byte(), usize::from(input.byte()) + 1);
    let algorithm = if form & 1 == 0 { Compression::Zlib } else { Compression::ZSTD };
    let mut wire = input.0.to_vec();
    let mut intact = None;
    if form & 2 != 0 {
        let damage: Vec<[u8; 3]> = (0..form >> 2 & 3).map(|_| input.array()).collect();
        wire.clear();
        Compressor::new(algorithm).encode(input.0, &mut wire);
        let len = wire.len().max(1);
        for [low, high, flip] in &damage {
            let at = usize::from(u16::from_le_bytes([*low, *high])) % len;
            wire.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= flip);
        }
        intact = damage.is_empty().then_some(input.0);
    }
    // The decompressor's own memory, and that of what it has said.
    let whole = within(ROOM, || Run::of(algorithm, &[&wire], 64 * 1024));
    if let Some(intact) = intact {
        assert!(whole.error.is_none() && whole.bytes == intact, "does not come back");
    }
    for (plan, room) in [(1, 64 * 1024), (plan, room)] {
        let cut = Run::of(algorithm, &pieces(&wire, plan), room);
        whole.assert_like(&cut);
    }
}

/// What a decompressor has given.
struct Run {
    bytes: Vec<u8>,
    error: Option<CompressionError>,
    /// Compressed packets, and the id behind the last one.
    packets: (u64, u8),
}

impl Run {
    fn of(algorithm: Compression, pieces: &[&[u8]], room: usize) -> Self {
        let mut decompressor = Decompressor::new(algorithm);
        let mut run = Self { bytes: Vec::with_capacity(MOST), error: None, packets: (0, 0) };
        let mut room = vec![0; room];
        for mut piece in pieces.iter().copied() {
            loop {
                let left = room.len().min(MOST - run.bytes.len());
                if left == 0 {
                    return run;
                }
                match decompressor.advance(piece, &mut room[..left], |id| id == 0) {
                    Ok(step) => {
                        run.bytes.extend_from_slice(&room[..step.produced]);
                        piece = &piece[step.consumed..];
                        if step.consumed == 0 && step.produced == 0 {
                            assert!(piece.is_empty(), "stopped before {} bytes", piece.len());
                            break;
                        }
                    }
                    Err(error) => {
                        run.error = Some(error);
                        return run;
                    }
                }
            }
        }
        run.packets = (decompressor.packets(), decompressor.next_sequence_id());
        run
    }

    fn assert_like(&self, cut: &Self) {
        if self.bytes.len() == MOST || cut.bytes.len() == MOST {
            return;
        }
        // zstd's library takes a whole frame at once where it can, without a look at how long a window it asks for.
        let is_of_window =
            |run: &Self| run.error.as_ref().is_some_and(|error| error.to_string().contains("memory"));
        match (&self.error, &cut.error) {
            (None, None) => {
                assert!(self.bytes == cut.bytes, "other bytes where it is cut");
                assert_eq!(self.packets, cut.packets);
            }
            (Some(_), Some(_)) => {
                let shared = self.bytes.len().min(cut.bytes.len());
                assert!(self.bytes[..shared] == cut.bytes[..shared], "other bytes where it is cut");
            }
            (one, other) => {
                assert!(is_of_window(self) || is_of_window(cut), "whole: {one:?}, cut: {other:?}");
            }
        }
    }
}

/// For what came out, the room for it, and the state of zlib.
const ROOM: usize = MOST + 64 * 1024 + 128 * 1024;
