use std::os::unix::fs::FileExt;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::super::packing::Algorithm;
use super::*;

const FORMS: [Option<Algorithm>; 3] = [None, Some(Algorithm::Lz4), Some(Algorithm::Zstd)];
const LEN: usize = 50_000;

fn tier(max: u64, form: Option<Algorithm>) -> (tempfile::TempDir, Arc<DiskBudget>, DiskTier) {
    let dir = tempfile::tempdir().unwrap();
    let budget = DiskBudget::new(dir.path().to_owned(), max, 0);
    let tier = DiskTier::new(Arc::clone(&budget), Packing::new(form));
    (dir, budget, tier)
}

/// Rows that shrink to a third or so.
fn rows(of: u8) -> Vec<u8> {
    let rows = (0u64..)
        .map(|i| format!("{of} {:x} and words that are always the same\n", i.wrapping_mul(0x9e37_79b9)));
    rows.flat_map(String::into_bytes).take(LEN).collect()
}

fn filled(bytes: &[u8]) -> Buffer {
    let mut buffer = Buffer::new(64 * 1024);
    buffer.room()[..bytes.len()].copy_from_slice(bytes);
    buffer.fill(bytes.len());
    buffer
}

async fn written(tier: &mut DiskTier, number: u64, of: u8) -> Extent {
    let job = tier.write(number, filled(&rows(of))).ok().unwrap();
    job.await.unwrap().1.unwrap()
}

async fn read_back(extent: Extent) -> Result<Buffer, ReadBackError> {
    let (buffer, read) = read(extent, Buffer::new(64 * 1024)).await.unwrap();
    read.map(|()| buffer)
}

/// The extent's file, without the demands of direct I/O.
fn file(extent: &Extent) -> &std::fs::File {
    let file = extent.segment.file().unwrap();
    fcntl(file, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    file
}

#[tokio::test]
async fn blocks_come_back_and_their_space_too() {
    for form in FORMS {
        let (dir, budget, mut tier) = tier(1 << 30, form);
        let extents = [written(&mut tier, 0, 7).await, written(&mut tier, 1, 8).await];
        assert_eq!(budget.used(), extents.iter().map(Extent::disk_len).sum::<u64>(), "{form:?}");
        if form.is_some() {
            assert!(budget.used() < LEN as u64, "{form:?}: {} bytes on disk", budget.used());
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "a spool file has a name");
        for (extent, of) in extents.into_iter().zip([7, 8]) {
            assert_eq!(extent.memory_len(), 13 * ALIGNMENT);
            assert!(read_back(extent).await.unwrap().payload() == rows(of), "{form:?}");
        }
        assert_eq!(budget.used(), 0);
    }
}

#[tokio::test]
async fn what_does_not_shrink_is_written_as_it_is() {
    let noise: Vec<u8> = (0..LEN).map(|_| rand::random()).collect();
    for form in FORMS {
        let (_dir, budget, mut tier) = tier(1 << 30, form);
        let extent = tier.write(0, filled(&noise)).ok().unwrap().await.unwrap().1.unwrap();
        assert!(extent.expected.algorithm.is_none());
        assert_eq!((extent.disk_len(), budget.used()), (13 * 4096, 13 * 4096));
        assert!(read_back(extent).await.unwrap().payload() == noise);
        assert_eq!(budget.used(), 0);
    }
}

#[tokio::test]
async fn a_flipped_bit_is_found() {
    for form in FORMS {
        let (_dir, _budget, mut tier) = tier(1 << 30, form);
        let end = BlockHeader::LEN + written(&mut tier, 0, 7).await.expected.stored.len as usize;
        // All of the header, where the stored bytes begin, in their middle, and where they end.
        for at in (0..BlockHeader::LEN + 8).chain([end / 2, end - 5, end - 1]) {
            let extent = written(&mut tier, 1, 7).await;
            let (file, at) = (file(&extent), extent.offset + at as u64);
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
            let error = read_back(extent).await.err().unwrap();
            assert!(matches!(error, ReadBackError::Corrupt { .. }), "{form:?}, byte {at}: {error}");
        }
    }
}

/// Header and expectation agree, as after a fault before the writing: only what comes out can tell.
#[tokio::test]
async fn a_lie_about_what_was_compressed_is_found() {
    type Lie = fn(&mut BlockHeader, &[u8]);
    let lies: [(&str, Lie); 4] = [
        ("what it decompresses to", |header, _| header.payload.len -= 1),
        ("what it decompresses to", |header, _| header.payload.len += 1),
        ("what it decompresses to", |header, stored| {
            header.stored = Checked::of(&stored[..stored.len() - 1]);
        }),
        ("the checksum of what it decompresses to", |header, _| header.payload.crc ^= 1),
    ];
    for form in [Algorithm::Lz4, Algorithm::Zstd] {
        for (found, lie) in lies {
            let (_dir, _budget, mut tier) = tier(1 << 30, Some(form));
            let mut extent = written(&mut tier, 0, 7).await;
            let mut stored = vec![0; extent.expected.stored.len as usize];
            let offset = extent.offset;
            file(&extent).read_exact_at(&mut stored, offset + BlockHeader::LEN as u64).unwrap();
            lie(&mut extent.expected, &stored);
            file(&extent).write_all_at(&extent.expected.encode(), offset).unwrap();
            let error = read_back(extent).await.err().unwrap();
            assert!(
                matches!(error, ReadBackError::Corrupt { what, .. } if what == found),
                "{form:?}: {error}"
            );
        }
    }
}

#[tokio::test]
async fn a_block_in_anothers_place_is_found() {
    for form in FORMS {
        let (_dir, _budget, mut tier) = tier(1 << 30, form);
        let first = written(&mut tier, 0, 7).await;
        let second = written(&mut tier, 1, 7).await;
        let swapped = Extent { offset: first.offset, ..second };
        let error = read_back(swapped).await.err().unwrap();
        assert!(matches!(error, ReadBackError::Corrupt { what: "its header", .. }));
    }
}

#[tokio::test]
async fn a_write_that_never_happened_is_found() {
    for form in FORMS {
        let (_dir, _budget, mut tier) = tier(1 << 30, form);
        let extent = written(&mut tier, 0, 7).await;
        extent.segment.punch(extent.offset, extent.disk_len);
        let error = read_back(extent).await.err().unwrap();
        assert!(matches!(error, ReadBackError::Corrupt { .. } | ReadBackError::Io { .. }));
    }
}

#[tokio::test]
async fn spool_max_is_kept_and_the_buffer_comes_back() {
    let (_dir, budget, mut tier) = tier(60_000, None);
    let extent = written(&mut tier, 0, 7).await;
    assert!(tier.write(1, filled(&rows(8))).is_err());
    drop((extent, tier));
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn spool_max_counts_what_is_on_disk() {
    let (_dir, budget, mut tier) = tier(80_000, Some(Algorithm::Zstd));
    // A block has to have room as it is, and takes what it shrinks to.
    let extents = [written(&mut tier, 0, 7).await, written(&mut tier, 1, 8).await];
    assert!(budget.used() < 40_000, "{} bytes", budget.used());
    drop((extents, tier));
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn a_failed_write_gives_its_space_back() {
    for form in FORMS {
        let (dir, budget, mut tier) = tier(1 << 30, form);
        dir.close().unwrap();
        let (buffer, written) = tier.write(0, filled(&rows(7))).ok().unwrap().await.unwrap();
        assert!(written.is_err() && buffer.payload() == rows(7));
        tier.abandon_segment();
        assert_eq!(budget.used(), 0);
    }
}
