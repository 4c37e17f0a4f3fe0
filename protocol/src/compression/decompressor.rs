//! From compressed packets to bytes.

use std::fmt;

use super::inflater::Inflater;
use super::{COMPRESSED_HEADER_LEN, Compression, CompressionError};

/// Takes compressed packets that come in pieces cut anywhere, and gives what they hold, piece by piece as well.
///
/// Nothing is allocated for a length that a header tells. Its memory is the state of the algorithm, taken when the
/// first compressed packet comes: 50 KiB for zlib; for zstd 0.3 MiB and the frame's own window, which fills up with
/// what comes out, to 16 MiB at the most (2 MiB at zstd's default level), and is given back behind a packet of more
/// than 1 MiB.
pub struct Decompressor {
    algorithm: Compression,
    header: [u8; COMPRESSED_HEADER_LEN],
    /// Bytes of the header seen; all of them while inside the packet.
    header_len: usize,
    /// Bytes of the packet that follow.
    left: u32,
    body: Body,
    kept: Option<Inflater>,
    next_sequence_id: u8,
    packets: u64,
}

enum Body {
    Stored,
    Compressed {
        inflater: Inflater,
        declared: u32,
        inflated: u32,
        /// It has given all that it has, and needs more of the packet.
        starved: bool,
    },
}

/// What one step of a [`Decompressor`] has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inflated {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// Bytes of the output that are filled.
    pub produced: usize,
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { algorithm, next_sequence_id, .. } = self;
        write!(f, "Decompressor({algorithm:?}, next_sequence_id: {next_sequence_id})")
    }
}

impl Decompressor {
    /// A decompressor that expects the sequence id 0 first.
    pub fn new(algorithm: Compression) -> Self {
        Self {
            algorithm,
            header: [0; COMPRESSED_HEADER_LEN],
            header_len: 0,
            left: 0,
            body: Body::Stored,
            kept: None,
            next_sequence_id: 0,
            packets: 0,
        }
    }

    /// The sequence id behind that of the last packet.
    pub const fn next_sequence_id(&self) -> u8 {
        self.next_sequence_id
    }

    /// Packets whose header has come.
    pub const fn packets(&self) -> u64 {
        self.packets
    }

    /// Gives the memory of the algorithm back, if it stands between two packets.
    pub fn rest(&mut self) {
        self.kept = None;
    }

    /// Inflates some of `input` into `output`; stops behind each packet. A packet must have the sequence id that
    /// follows the one before, or one that `is_due`: that of a new command or response.
    ///
    /// Where it has neither consumed nor produced anything it needs more input. Call it again even if all input is
    /// consumed: it may hold more than the output had room for.
    ///
    /// # Errors
    /// [`CompressionError`]; the decompressor is of no use any more.
    pub fn advance(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        is_due: impl Fn(u8) -> bool,
    ) -> Result<Inflated, CompressionError> {
        let mut done = Inflated::default();
        if self.header_len < COMPRESSED_HEADER_LEN {
            done.consumed = self.take_header(input);
            if self.header_len < COMPRESSED_HEADER_LEN {
                return Ok(done);
            }
            self.begin(is_due)?;
        }
        loop {
            let (input, output) = (&input[done.consumed..], &mut output[done.produced..]);
            let step = self.step(input, output)?;
            done.consumed += step.consumed;
            done.produced += step.produced;
            if self.header_len == 0 || step == Inflated::default() {
                return Ok(done);
            }
        }
    }

    fn take_header(&mut self, input: &[u8]) -> usize {
        let n = input.len().min(COMPRESSED_HEADER_LEN - self.header_len);
        self.header[self.header_len..self.header_len + n].copy_from_slice(&input[..n]);
        self.header_len += n;
        n
    }

    fn begin(&mut self, is_due: impl Fn(u8) -> bool) -> Result<(), CompressionError> {
        let [a, b, c, sequence_id, d, e, f] = self.header;
        if sequence_id != self.next_sequence_id && !is_due(sequence_id) {
            let expected = self.next_sequence_id;
            return Err(CompressionError::SequenceGap { expected, got: sequence_id });
        }
        self.next_sequence_id = sequence_id.wrapping_add(1);
        self.packets += 1;
        self.left = u32::from_le_bytes([a, b, c, 0]);
        let declared = u32::from_le_bytes([d, e, f, 0]);
        self.body = if declared == 0 {
            Body::Stored
        } else {
            let inflater = Inflater::begin(self.kept.take(), self.algorithm, declared)?;
            Body::Compressed { inflater, declared, inflated: 0, starved: false }
        };
        Ok(())
    }

    /// One step inside a packet. At its end `header_len` is 0 again.
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Inflated, CompressionError> {
        let input = &input[..input.len().min(self.left as usize)];
        let step = match &mut self.body {
            Body::Stored => {
                let n = input.len().min(output.len());
                output[..n].copy_from_slice(&input[..n]);
                Inflated { consumed: n, produced: n }
            }
            // zstd takes it amiss to be called without input time and again.
            Body::Compressed { starved: true, .. } if input.is_empty() && self.left > 0 => {
                Inflated::default()
            }
            Body::Compressed { inflater, declared, inflated, starved } => {
                let room = output.len().min((*declared - *inflated) as usize);
                if room == 0 && *inflated < *declared {
                    return Ok(Inflated::default());
                }
                // All has come out that should: the end is to follow, and not another byte.
                let mut beyond = [0];
                let output = if room == 0 { &mut beyond[..] } else { &mut output[..room] };
                let run = inflater.run(input, output)?;
                if room == 0 && run.produced > 0 {
                    return Err(CompressionError::Longer { declared: *declared });
                }
                *inflated += run.produced as u32;
                *starved = run.produced < output.len();
                let left = self.left - run.consumed as u32;
                let (declared, inflated) = (*declared, *inflated);
                match run.ended {
                    true if left > 0 => return Err(CompressionError::Trailing { left }),
                    true if inflated < declared => {
                        return Err(CompressionError::Shorter { declared, inflated });
                    }
                    false if left == 0 && *starved => {
                        return Err(CompressionError::Unfinished { declared, inflated });
                    }
                    _ => {}
                }
                self.left = left;
                if run.ended {
                    self.end();
                }
                return Ok(Inflated { consumed: run.consumed, produced: run.produced });
            }
        };
        self.left -= step.consumed as u32;
        if self.left == 0 && matches!(self.body, Body::Stored) {
            self.end();
        }
        Ok(step)
    }

    fn end(&mut self) {
        self.header_len = 0;
        if let Body::Compressed { inflater, declared, .. } = std::mem::replace(&mut self.body, Body::Stored) {
            self.kept = inflater.is_kept(declared).then_some(inflater);
        }
    }
}
