//! Any bytes as a compressed block.

use std::sync::{Arc, LazyLock};

use super::block::MAX_BLOCK_LEN;
use super::packing::{Algorithm, Packing};

/// ```text
/// 1  which algorithm, and what follows
/// 2  its length when unpacked, in 16 bytes    n  a packed block
/// or
/// 3 × k  where a packed block is damaged, and how    n  what it is made of
/// ```
///
/// A block is unpacked to just so many bytes or not at all, and in the same way each time. An intact one comes back. A
/// damaged one is refused or gives other bytes, which its checksum tells; and then the next one is as good as ever.
pub(crate) fn spool_block(input: &[u8]) {
    let Some((&form, rest)) = input.split_first() else { return };
    static PACKINGS: LazyLock<[Arc<Packing>; 2]> =
        LazyLock::new(|| [Algorithm::Lz4, Algorithm::Zstd].map(|algorithm| Packing::new(Some(algorithm))));
    let packing = &PACKINGS[usize::from(form & 1)];
    if form & 2 == 0 {
        let Some(([low, high], block)) = rest.split_first_chunk() else { return };
        as_it_is(packing, usize::from(u16::from_le_bytes([*low, *high])) * 16, block);
    } else {
        let (damage, plain) = rest.split_at(rest.len().min(3 * usize::from(form >> 2 & 7)));
        damaged(packing, damage, &plain.repeat(1 + usize::from(form >> 5)));
    }
}

fn as_it_is(packing: &Packing, len: usize, block: &[u8]) {
    let len = len.min(MAX_BLOCK_LEN);
    let unpacked = [0x55, 0xaa].map(|filler| {
        let Some(mut packer) = packing.packer() else { panic!("no packer") };
        packer.packed.clear();
        let fits = block.len().min(packer.packed.room().len());
        packer.packed.room()[..fits].copy_from_slice(&block[..fits]);
        packer.packed.fill(fits);
        let mut plain = vec![filler; len];
        packer.unpack(&mut plain).then_some(plain)
    });
    assert!(unpacked[0] == unpacked[1], "it depends on what was there before");
}

fn damaged(packing: &Packing, damage: &[u8], plain: &[u8]) {
    let plain = &plain[..plain.len().min(MAX_BLOCK_LEN / 2)];
    let Some(mut packer) = packing.packer() else { panic!("no packer") };
    if !packer.pack(plain) {
        return;
    }
    let packed = packer.packed.payload_mut();
    let intact = packed.to_vec();
    for [low, high, flip] in damage.as_chunks().0 {
        let at = usize::from(u16::from_le_bytes([*low, *high])) % packed.len();
        packed[at] ^= flip;
    }
    let is_intact = intact == packed;
    let mut back = vec![0; plain.len()];
    let is_whole = packer.unpack(&mut back);
    assert!(is_whole || !is_intact, "an intact block is refused");
    if is_whole && back != plain {
        assert!(!is_intact, "other bytes of an intact block");
        assert_ne!(crc32c::crc32c(&back), crc32c::crc32c(plain));
    }
    assert!(packer.pack(plain) && packer.packed.payload() == intact, "packed differently after a bad block");
    assert!(packer.unpack(&mut back) && back == plain);
}
