//! Chance that can be had again: numbers that follow from a seed.

use std::env;

/// A row of numbers, the same for the same seed.
#[derive(Clone, Debug)]
pub struct Chance {
    state: u64,
}

impl Chance {
    /// The row that belongs to a seed.
    pub fn from_seed(seed: u64) -> Self {
        Self { state: mix(seed) }
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.state = mix(self.state);
        self.state
    }

    /// The next number, as one below `limit`; 0 where that is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.roll().checked_rem(limit).unwrap_or_default()
    }

    /// The next number, as one from 0 to 1.
    pub fn share(&mut self) -> f64 {
        (self.roll() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The seed of a test that takes chances: `$SPILLWAY_SEED`, or always the same. A failure tells it.
pub fn seed() -> u64 {
    env::var("SPILLWAY_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// The step of splitmix64: one number in, one that seems unrelated out.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
