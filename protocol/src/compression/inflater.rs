//! The two algorithms behind one face: bytes in, bytes out, and whether that was the end.

use zlib_rs::{Inflate, InflateFlush, Status};
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, get_error_name};

use super::{Compression, CompressionError};

/// A window up to this (8 MiB) is taken of any zstd frame: RFC 8878 (3.1.1.1.2) asks decoders for no less. It is
/// touched only as far as it is filled.
const USUAL_WINDOW_LOG: u32 = 23;

/// The longest window, 16 MiB: a compressed packet holds no more.
const LONGEST_WINDOW_LOG: u32 = 24;

/// Of zlib: 32 KiB, the longest there is.
pub(super) const WINDOW_BITS: u8 = 15;

/// A state that has inflated a packet of more bytes than this is given up behind it, with its window.
const KEPT_LEN: u32 = 1 << 20;

/// The state of an algorithm, kept from one packet to the next.
pub(super) enum Inflater {
    Zlib(Inflate),
    Zstd(DCtx<'static>),
}

/// What one run has done.
pub(super) struct Run {
    pub(super) consumed: usize,
    pub(super) produced: usize,
    /// The compressed data is over.
    pub(super) ended: bool,
}

impl Inflater {
    /// For a packet that is said to inflate to `declared` bytes; `kept` is the state of the one before.
    pub(super) fn begin(
        kept: Option<Self>,
        algorithm: Compression,
        declared: u32,
    ) -> Result<Self, CompressionError> {
        match (kept, algorithm) {
            (Some(Self::Zlib(mut state)), Compression::Zlib) => {
                state.reset(true);
                Ok(Self::Zlib(state))
            }
            (_, Compression::Zlib) => Ok(Self::Zlib(Inflate::new(true, WINDOW_BITS))),
            (kept, Compression::Zstd { .. }) => {
                let context = match kept {
                    Some(Self::Zstd(context)) => Some(context),
                    _ => DCtx::try_create(),
                };
                let mut context =
                    context.ok_or_else(|| malformed("zstd", "no memory for its state".to_owned()))?;
                let usual = declared <= 1 << USUAL_WINDOW_LOG;
                let window_log = if usual { USUAL_WINDOW_LOG } else { LONGEST_WINDOW_LOG };
                context
                    .reset(ResetDirective::SessionOnly)
                    .and_then(|_| context.set_parameter(DParameter::WindowLogMax(window_log)))
                    .map_err(zstd_error)?;
                Ok(Self::Zstd(context))
            }
        }
    }

    /// Whether the state is worth keeping behind a packet of `declared` bytes.
    pub(super) fn is_kept(&self, declared: u32) -> bool {
        matches!(self, Self::Zlib(_)) || declared <= KEPT_LEN
    }

    /// Inflates as much of `input` as `output` has room for.
    pub(super) fn run(&mut self, input: &[u8], output: &mut [u8]) -> Result<Run, CompressionError> {
        match self {
            Self::Zlib(state) => {
                let (total_in, total_out) = (state.total_in(), state.total_out());
                let status = state.decompress(input, output, InflateFlush::NoFlush).map_err(|error| {
                    malformed("zlib", state.error_message().unwrap_or_else(|| error.as_str()).to_owned())
                })?;
                Ok(Run {
                    consumed: (state.total_in() - total_in) as usize,
                    produced: (state.total_out() - total_out) as usize,
                    ended: status == Status::StreamEnd,
                })
            }
            Self::Zstd(context) => {
                let mut input = InBuffer::around(input);
                let mut output = OutBuffer::around(output);
                let left = context.decompress_stream(&mut output, &mut input).map_err(zstd_error)?;
                Ok(Run { consumed: input.pos(), produced: output.pos(), ended: left == 0 })
            }
        }
    }
}

fn zstd_error(code: usize) -> CompressionError {
    malformed("zstd", get_error_name(code).to_owned())
}

fn malformed(algorithm: &'static str, message: String) -> CompressionError {
    CompressionError::Malformed { algorithm, message }
}
