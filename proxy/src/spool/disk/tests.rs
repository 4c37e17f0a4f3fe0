use std::os::unix::fs::FileExt;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::super::packing::Algorithm;
use super::*;

/// How blocks are written: compressed, and encrypted.
type Form = (Option<Algorithm>, bool);

const FORMS: [Form; 6] = [
    (None, false),
    (Some(Algorithm::Lz4), false),
    (Some(Algorithm::Zstd), false),
    (None, true),
    (Some(Algorithm::Lz4), true),
    (Some(Algorithm::Zstd), true),
];
const LEN: usize = 50_000;

fn tier(max: u64, (algorithm, encrypts): Form) -> (tempfile::TempDir, Arc<DiskBudget>, DiskTier) {
    let dir = tempfile::tempdir().unwrap();
    let budget = DiskBudget::new(dir.path().to_owned(), max, 0);
    let tier = DiskTier::new(Arc::clone(&budget), Packing::new(algorithm), encrypts);
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
        if form.0.is_some() {
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

/// Where a disk does worse than to flip a bit: bytes of another place, of nothing, or no more bytes.
#[test]
fn a_block_that_is_damaged_anyhow_is_never_another_one() {
    let damage = prop_oneof![
        vec((0..13 * ALIGNMENT as u64, vec(any::<u8>(), 1..600)), 1..4).prop_map(Damage::Written),
        (0..13 * ALIGNMENT as u64).prop_map(Damage::CutOff),
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let tiers: Vec<_> = FORMS.map(|form| tier(1 << 30, form)).into();
    let tiers = std::cell::RefCell::new(tiers);
    let config = ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() };
    let tried = TestRunner::new(config).run(&(0..FORMS.len(), damage), |(form, damage)| {
        let mut tiers = tiers.borrow_mut();
        let (_, _, tier) = &mut tiers[form];
        let back = runtime.block_on(async {
            let extent = written(tier, 1, 7).await;
            damage.inflict(&extent);
            tier.abandon_segment();
            read_back(extent).await
        });
        match back {
            Ok(buffer) => prop_assert!(buffer.payload() == rows(7)),
            Err(ReadBackError::Corrupt { .. } | ReadBackError::Io { .. }) => {}
            Err(other) => prop_assert!(false, "{other}"),
        }
        Ok(())
    });
    tried.unwrap();
}

#[derive(Clone, Debug)]
enum Damage {
    Written(Vec<(u64, Vec<u8>)>),
    CutOff(u64),
}

impl Damage {
    fn inflict(&self, extent: &Extent) {
        let file = file(extent);
        match self {
            Self::Written(pieces) => {
                for (at, bytes) in pieces {
                    file.write_all_at(bytes, extent.offset + at).unwrap();
                }
            }
            Self::CutOff(len) => file.set_len(extent.offset + len).unwrap(),
        }
    }
}

/// Header and expectation agree, as after a fault before the writing: only what comes out can tell.
#[tokio::test]
async fn a_lie_about_what_was_compressed_is_found() {
    type Lie = fn(&mut BlockHeader, &[u8]);
    // By what it is found: without encryption, and with it, where all of the header is sealed as well.
    let lies: [([&str; 2], Lie); 4] = [
        (["what it decompresses to", "its seal"], |header, _| header.payload.len -= 1),
        (["what it decompresses to", "its seal"], |header, _| header.payload.len += 1),
        (["what it decompresses to", "its seal"], |header, stored| {
            header.stored = Checked::of(&stored[..stored.len() - 1]);
        }),
        (["the checksum of what it decompresses to"; 2], |header, _| {
            header.payload.crc = header.payload.crc.map(|crc| crc ^ 1);
        }),
    ];
    for form in FORMS.into_iter().filter(|(algorithm, _)| algorithm.is_some()) {
        for (found, lie) in lies {
            let found = found[usize::from(form.1)];
            let (_dir, _budget, mut tier) = tier(1 << 30, form);
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

/// As by somebody who can write to the disk, and makes headers and checksums right.
#[tokio::test]
async fn a_forged_block_is_found_by_its_seal() {
    for form in FORMS.into_iter().filter(|(_, encrypts)| *encrypts) {
        let (_dir, _budget, mut tier) = tier(1 << 30, form);
        let (_other_dir, _other_budget, mut other) = self::tier(1 << 30, form);
        let anothers = written(&mut tier, 0, 7).await;
        let another_sessions = written(&mut other, 1, 7).await;
        let before = written(&mut tier, 1, 7).await;
        for (what, forged) in [
            ("another block", &anothers),
            ("another session's", &another_sessions),
            ("what stood there before", &before),
        ] {
            let extent = written(&mut tier, 1, 7).await;
            let stored = |of: &Extent| {
                let mut bytes = vec![0; of.expected.stored.len as usize];
                file(of).read_exact_at(&mut bytes, of.offset + BlockHeader::LEN as u64).unwrap();
                bytes
            };
            // lz4 and zstd make the same of the same rows, so only the seals differ.
            assert_eq!(stored(&extent).len(), stored(forged).len(), "{form:?}");
            assert!(stored(&extent) != stored(forged), "{form:?}: {what} looks the same");
            let at = extent.offset + BlockHeader::LEN as u64;
            file(&extent).write_all_at(&stored(forged), at).unwrap();
            let error = read_back(extent).await.err().unwrap();
            assert!(
                matches!(error, ReadBackError::Corrupt { what: "its seal", .. }),
                "{form:?}, {what}: {error}"
            );
        }
    }
}

/// Nor behind a block in its last sector, where the buffer still has what it held before.
#[tokio::test]
async fn nothing_of_the_rows_is_on_disk_but_sealed() {
    for form in FORMS {
        let (_dir, _budget, mut tier) = tier(1 << 30, form);
        let extent = tier.write(0, filled(&rows(7))).ok().unwrap().await.unwrap().1.unwrap();
        let mut used = filled(&rows(8));
        used.clear();
        used.fill(10_000);
        let shorter = tier.write(1, used).ok().unwrap().await.unwrap().1.unwrap();
        let mut bytes = vec![0; (shorter.offset + shorter.disk_len) as usize];
        file(&extent).read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes.len() > 10_000 && bytes.len().is_multiple_of(ALIGNMENT));
        let words = b"and words that are always";
        let found = bytes.windows(words.len()).any(|window| window == words);
        // lz4 leaves them as they are where they stand first.
        assert_eq!(found, !form.1 && form.0 != Some(Algorithm::Zstd), "{form:?}");
        let crc = crc32c::crc32c(&rows(7)).to_le_bytes();
        assert_eq!(bytes[..BlockHeader::LEN].windows(4).any(|window| window == crc), !form.1, "{form:?}");
        for (extent, plain) in [(extent, rows(7)), (shorter, rows(8)[..10_000].to_vec())] {
            assert!(read_back(extent).await.unwrap().payload() == plain, "{form:?}");
        }
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
    let (_dir, budget, mut tier) = tier(60_000, (None, true));
    let extent = written(&mut tier, 0, 7).await;
    assert!(tier.write(1, filled(&rows(8))).is_err());
    drop((extent, tier));
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn spool_max_counts_what_is_on_disk() {
    let (_dir, budget, mut tier) = tier(80_000, (Some(Algorithm::Zstd), true));
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
