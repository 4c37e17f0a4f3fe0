//! A fuzzer's input: first the choices, then what a peer sends.

/// What is left of an input. Where it is over there is nothing but zeroes.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub(super) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let taken = self.take(N);
        bytes[..taken.len()].copy_from_slice(taken);
        bytes
    }

    /// So many bytes, or as many as there are.
    pub(super) fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// Cuts `bytes` by a plan: 0 not at all, 1 behind each byte, others at random places, which the plan alone decides.
pub(super) fn pieces(bytes: &[u8], plan: u8) -> Vec<&[u8]> {
    let mut dice = u32::from(plan).wrapping_mul(0x9e37_79b9) | 1;
    let mut rest = bytes;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        dice ^= dice << 13;
        dice ^= dice >> 17;
        dice ^= dice << 5;
        let len = match plan {
            0 => rest.len(),
            1 => 1,
            // Short ones as a rule, long ones at times.
            _ => 1 + (dice >> 8) as usize % (2 << (dice % u32::from(plan % 10 + 1))),
        };
        let (piece, behind) = rest.split_at(len.min(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    pieces
}
