//! The compressed protocol by hand, as libmysql speaks it: one counter of compressed packets for both directions, which
//! every command sets to 0 and every packet must match. Code of its own, so that it shares no mistake with the proxy.

use std::io::Read as _;

use anyhow::{Context as _, Result, ensure};

use crate::wire::capability;

/// The algorithm of a compressed connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Zlib,
    Zstd,
}

impl Algorithm {
    /// Its capability.
    pub fn capability(self) -> u32 {
        match self {
            Self::Zlib => capability::COMPRESS,
            Self::Zstd => capability::ZSTD_COMPRESSION_ALGORITHM,
        }
    }

    /// `plain` compressed.
    pub fn compress(self, plain: &[u8]) -> Result<Vec<u8>> {
        match self {
            Self::Zlib => {
                let mut packed = Vec::new();
                flate2::read::ZlibEncoder::new(plain, flate2::Compression::default())
                    .read_to_end(&mut packed)?;
                Ok(packed)
            }
            Self::Zstd => Ok(zstd::bulk::compress(plain, 3)?),
        }
    }

    fn decompress(self, packed: &[u8], length: usize) -> Result<Vec<u8>> {
        match self {
            Self::Zlib => {
                let mut plain = Vec::new();
                flate2::read::ZlibDecoder::new(packed).read_to_end(&mut plain)?;
                Ok(plain)
            }
            Self::Zstd => Ok(zstd::bulk::decompress(packed, length)?),
        }
    }
}

/// One side of a compressed connection.
#[derive(Debug)]
pub struct Packed {
    algorithm: Algorithm,
    /// The number of the next compressed packet in either direction.
    pub next: u8,
    /// Compressed packets read so far.
    pub received: usize,
    wire: Vec<u8>,
}

impl Packed {
    pub fn new(algorithm: Algorithm) -> Self {
        Self { algorithm, next: 0, received: 0, wire: Vec::new() }
    }

    /// Compressed packets for `plain`.
    pub fn pack(&mut self, plain: &[u8]) -> Result<Vec<u8>> {
        let mut wire = Vec::new();
        for piece in plain.chunks(LONGEST) {
            let packed = if piece.len() < SHORT { None } else { Some(self.algorithm.compress(piece)?) };
            wire.extend(match packed.filter(|packed| packed.len() < piece.len()) {
                Some(packed) => packet(self.next, piece.len(), &packed),
                None => packet(self.next, 0, piece),
            });
            self.next = self.next.wrapping_add(1);
        }
        Ok(wire)
    }

    /// Takes in what was read.
    pub fn push(&mut self, wire: &[u8]) {
        self.wire.extend_from_slice(wire);
    }

    /// The next compressed packet may have any number.
    pub fn take_any_number(&mut self) {
        if let Some(number) = self.wire.get(3) {
            self.next = *number;
        }
    }

    /// What the next compressed packet holds, if all of it is there.
    pub fn unpack(&mut self) -> Result<Option<Vec<u8>>> {
        let Some(&[a, b, c, number, d, e, f]) = self.wire.first_chunk() else { return Ok(None) };
        let [length, plain] = [[a, b, c, 0], [d, e, f, 0]].map(|int| u32::from_le_bytes(int) as usize);
        if self.wire.len() < HEADER + length {
            return Ok(None);
        }
        ensure!(number == self.next, "compressed packet {number} where {} was due", self.next);
        self.next = number.wrapping_add(1);
        self.received += 1;
        let body: Vec<u8> = self.wire.drain(..HEADER + length).skip(HEADER).collect();
        if plain == 0 {
            return Ok(Some(body));
        }
        ensure!(length < plain, "{plain} bytes were compressed to {length}");
        let unpacked = self.algorithm.decompress(&body, plain).context("a compressed packet")?;
        ensure!(unpacked.len() == plain, "{} bytes where {plain} were told", unpacked.len());
        Ok(Some(unpacked))
    }
}

/// A compressed packet with any header.
pub fn packet(number: u8, plain: usize, body: &[u8]) -> Vec<u8> {
    let [a, b, c, ..] = body.len().to_le_bytes();
    let [d, e, f, ..] = plain.to_le_bytes();
    [&[a, b, c, number, d, e, f], body].concat()
}

const HEADER: usize = 7;
const LONGEST: usize = 0xff_ffff;
/// Shorter ones are stored.
const SHORT: usize = 50;
