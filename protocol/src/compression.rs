//! The compressed protocol: the stream of packets cut into pieces, each compressed or not, behind a header of its own.
//!
//! ```text
//! 3  length of what follows the header     3  its length when inflated; 0: it is stored as it is
//! 1  sequence id, of this layer alone      n  zlib stream, zstd frame, or bytes of the inner stream
//! ```
//!
//! A piece may hold many packets or a part of one. Its sequence ids count for themselves, but begin anew with each
//! command, as those inside do; a response goes on behind the command's last piece.
//! Source: [compressed packet](https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_compression_packet.html).

mod compressor;
mod decompressor;
mod inflater;

use crate::capabilities::Capabilities;
use crate::handshake::HandshakeResponse;

pub use compressor::Compressor;
pub use decompressor::{Decompressor, Inflated};

/// Bytes of the header before each piece.
const COMPRESSED_HEADER_LEN: usize = 7;

/// Pieces shorter than this are stored, as servers and clients do (`MIN_COMPRESS_LENGTH`).
const MIN_COMPRESS_LEN: usize = 50;

/// Levels of zstd that MySQL's clients can ask for.
const ZSTD_LEVELS: (u8, u8) = (1, 22);

/// The level where nobody asks for another: MySQL's and zstd's own default.
pub(crate) const DEFAULT_ZSTD_LEVEL: u8 = 3;

/// How one side's pieces are compressed. What comes from the peer is of the same algorithm, at its own level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// By zlib, at its default level, which is what servers take.
    Zlib,
    /// By zstd.
    Zstd {
        /// 1 to 22.
        level: u8,
    },
}

impl Compression {
    /// By zstd, at MySQL's default level.
    pub const ZSTD: Self = Self::Zstd { level: DEFAULT_ZSTD_LEVEL };

    /// What a client asks for in its answer to a greeting that has offered both.
    pub fn asked_for(response: &HandshakeResponse) -> Option<Self> {
        match Self::agreed(response.capabilities())? {
            Self::Zstd { level } => {
                let level = response.zstd_level().unwrap_or(level);
                Some(Self::Zstd { level: level.clamp(ZSTD_LEVELS.0, ZSTD_LEVELS.1) })
            }
            Self::Zlib => Some(Self::Zlib),
        }
    }

    /// What both sides have agreed to by these flags, zstd at its default level. Zlib if both are set, as with MySQL's
    /// server (tried: 9.7).
    pub const fn agreed(capabilities: Capabilities) -> Option<Self> {
        if capabilities.contains(Capabilities::COMPRESS) {
            Some(Self::Zlib)
        } else if capabilities.contains(Capabilities::ZSTD_COMPRESSION_ALGORITHM) {
            Some(Self::ZSTD)
        } else {
            None
        }
    }

    /// The flag by which both sides agree to it.
    pub const fn capability(self) -> Capabilities {
        match self {
            Self::Zlib => Capabilities::COMPRESS,
            Self::Zstd { .. } => Capabilities::ZSTD_COMPRESSION_ALGORITHM,
        }
    }

    /// Its name in settings and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zlib => "zlib",
            Self::Zstd { .. } => "zstd",
        }
    }
}

/// A compressed packet that cannot be followed. The stream is of no use any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompressionError {
    /// A packet is missing, or this is another protocol.
    #[error("compressed packets out of order: sequence id {got} where {expected} was due")]
    SequenceGap {
        /// The id behind the packet before.
        expected: u8,
        /// The id that came.
        got: u8,
    },
    /// More comes out than the header says.
    #[error("a compressed packet holds more than the {declared} bytes that its header tells")]
    Longer {
        /// Bytes, as the header tells.
        declared: u32,
    },
    /// Less comes out than the header says.
    #[error("a compressed packet holds {inflated} bytes where its header tells {declared}")]
    Shorter {
        /// Bytes, as the header tells.
        declared: u32,
        /// Bytes that came out.
        inflated: u32,
    },
    /// The packet is over before its compressed data is.
    #[error("a compressed packet ends inside its data, after {inflated} of {declared} bytes")]
    Unfinished {
        /// Bytes, as the header tells.
        declared: u32,
        /// Bytes that came out.
        inflated: u32,
    },
    /// The compressed data is over, and more follows in the packet.
    #[error("a compressed packet goes on for {left} bytes behind the end of its data")]
    Trailing {
        /// Bytes that follow.
        left: u32,
    },
    /// What is compressed is not of this algorithm, or damaged.
    #[error("a compressed packet is no {algorithm}: {message}")]
    Malformed {
        /// Which algorithm it should be of.
        algorithm: &'static str,
        /// What the library says.
        message: String,
    },
}

#[cfg(test)]
mod tests;
