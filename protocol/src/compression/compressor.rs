//! From bytes to compressed packets.

use std::fmt;

use zlib_rs::{Deflate, DeflateFlush, Status};
use zstd::zstd_safe::{CCtx, CParameter};

use super::inflater::WINDOW_BITS;
use super::{COMPRESSED_HEADER_LEN, Compression, MIN_COMPRESS_LEN};

/// Bytes that go into one compressed packet at most, which bounds the output and the time of one step: 1.4 ms with zlib,
/// 0.2 ms with zstd at level 3 (measured). Longer ones would compress a little better.
const CHUNK_LEN: usize = 64 * 1024;

/// The same for levels of zstd above [`QUICK_LEVELS`], which take 5 ms for it. It is a server's `net_buffer_length`.
const SLOW_CHUNK_LEN: usize = 16 * 1024;

/// The last level of zstd that is no slower than zlib.
const QUICK_LEVELS: u8 = 9;

/// The usual one.
const ZLIB_LEVEL: i32 = 6;

/// Makes compressed packets, and numbers them.
///
/// Its memory is that of the algorithm, taken when something is compressed for the first time: 0.4 MiB for zlib, 0.6 MiB
/// for zstd at level 3, and never more than 1 MiB, as the tables are made for no more bytes than there are (measured).
pub struct Compressor {
    algorithm: Compression,
    next_sequence_id: u8,
    state: State,
}

enum State {
    /// Nothing was compressed yet.
    Fresh,
    Zlib(Deflate),
    Zstd(CCtx<'static>),
    /// The algorithm's library gets no memory: everything is stored.
    Unavailable,
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { algorithm, next_sequence_id, .. } = self;
        write!(f, "Compressor({algorithm:?}, next_sequence_id: {next_sequence_id})")
    }
}

impl Compressor {
    /// A compressor whose first packet has the sequence id 0.
    pub fn new(algorithm: Compression) -> Self {
        Self { algorithm, next_sequence_id: 0, state: State::Fresh }
    }

    /// The sequence id of the next compressed packet.
    pub const fn next_sequence_id(&self) -> u8 {
        self.next_sequence_id
    }

    /// Sets the sequence id of the next compressed packet: a command begins, or a response, or the peer has had its
    /// turn.
    pub const fn set_next_sequence_id(&mut self, sequence_id: u8) {
        self.next_sequence_id = sequence_id;
    }

    /// Gives the memory of the algorithm back, until something is to be compressed again.
    pub fn rest(&mut self) {
        self.state = State::Fresh;
    }

    /// The most bytes that go into one compressed packet: what to [`encode`](Self::encode) in one step.
    pub const fn chunk_len(&self) -> usize {
        match self.algorithm {
            Compression::Zstd { level } if level > QUICK_LEVELS => SLOW_CHUNK_LEN,
            _ => CHUNK_LEN,
        }
    }

    /// Appends `bytes` to `out`, as one compressed packet for each [`chunk_len`](Self::chunk_len). Nothing is held
    /// back.
    pub fn encode(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for chunk in bytes.chunks(self.chunk_len()) {
            self.encode_chunk(chunk, out);
        }
    }

    fn encode_chunk(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        let header_at = out.len();
        let body_at = header_at + COMPRESSED_HEADER_LEN;
        // Room for less than the chunk: what does not shrink is stored.
        out.resize(body_at + chunk.len() - 1, 0);
        let compressed =
            if chunk.len() < MIN_COMPRESS_LEN { None } else { self.compress(chunk, &mut out[body_at..]) };
        out.truncate(body_at + compressed.unwrap_or(0));
        let declared = match compressed {
            Some(_) => chunk.len(),
            None => {
                out.extend_from_slice(chunk);
                0
            }
        };
        let [a, b, c, ..] = (out.len() - body_at).to_le_bytes();
        let [d, e, f, ..] = declared.to_le_bytes();
        out[header_at..body_at].copy_from_slice(&[a, b, c, self.next_sequence_id, d, e, f]);
        self.next_sequence_id = self.next_sequence_id.wrapping_add(1);
    }

    /// The length of `chunk` compressed into `room`; none if it does not fit.
    fn compress(&mut self, chunk: &[u8], room: &mut [u8]) -> Option<usize> {
        if matches!(self.state, State::Fresh) {
            self.state = State::new(self.algorithm);
        }
        match &mut self.state {
            State::Zlib(deflate) => {
                deflate.reset();
                let ended =
                    matches!(deflate.compress(chunk, room, DeflateFlush::Finish), Ok(Status::StreamEnd));
                ended.then(|| deflate.total_out() as usize)
            }
            State::Zstd(context) => context.compress2(room, chunk).ok(),
            State::Fresh | State::Unavailable => None,
        }
    }
}

impl State {
    fn new(algorithm: Compression) -> Self {
        match algorithm {
            Compression::Zlib => Self::Zlib(Deflate::new(ZLIB_LEVEL, true, WINDOW_BITS)),
            Compression::Zstd { level } => {
                let Some(mut context) = CCtx::try_create() else { return Self::Unavailable };
                match context.set_parameter(CParameter::CompressionLevel(level.into())) {
                    Ok(_) => Self::Zstd(context),
                    Err(_) => Self::Unavailable,
                }
            }
        }
    }
}
