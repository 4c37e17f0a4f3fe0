use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;

use proptest::prelude::*;
use tempfile::TempDir;

use super::budget::MemoryBudget;
use super::packing::Algorithm;
use super::*;

const MIB: u64 = 1 << 20;

fn spool(memory: u64, disk: u64) -> (TempDir, Arc<DiskBudget>, Arc<MemoryBudget>, Spool) {
    packed_spool(memory, disk, None, false)
}

fn packed_spool(
    memory: u64,
    disk: u64,
    algorithm: Option<Algorithm>,
    encrypts: bool,
) -> (TempDir, Arc<DiskBudget>, Arc<MemoryBudget>, Spool) {
    let dir = tempfile::tempdir().unwrap();
    let disk = DiskBudget::new(dir.path().to_owned(), disk, 0);
    let memory = MemoryBudget::new(4 * memory, memory);
    let spool = Spool::new(memory.share().unwrap(), Arc::clone(&disk), Packing::new(algorithm), encrypts);
    (dir, disk, memory, spool)
}

/// A byte of the test stream: its position tells it. Every other 2 MiB can be compressed.
fn byte_at(position: u64) -> u8 {
    let position = if (position >> 21) & 1 == 0 { position } else { position >> 5 };
    let mixed = position.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 56) as u8
}

/// Drains up to `len` bytes into `id`; returns how many there was room for.
fn drain(spool: &mut Spool, id: ResponseId, position: u64, len: usize) -> usize {
    drain_packets(spool, id, position, len, 1)
}

/// The same, where every packet ends at a multiple of `packet_len`.
fn drain_packets(spool: &mut Spool, id: ResponseId, position: u64, len: usize, packet_len: u64) -> usize {
    let mut done = 0;
    while done < len {
        let Some(room) = spool.room(false) else { break };
        let n = room.len().min(len - done);
        for (i, byte) in room[..n].iter_mut().enumerate() {
            *byte = byte_at(position + (done + i) as u64);
        }
        spool.filled(n);
        done += n;
        spool.append(id, n, (position + done as u64) % packet_len, 1);
    }
    done
}

/// Feeds up to `len` bytes and checks each.
fn feed(spool: &mut Spool, position: &mut u64, len: usize) -> usize {
    let mut done = 0;
    while done < len {
        let Feed::Data(bytes) = spool.feed() else { break };
        let n = bytes.len().min(len - done);
        for (i, byte) in bytes[..n].iter().enumerate() {
            assert_eq!(*byte, byte_at(*position + i as u64), "byte {}", *position + i as u64);
        }
        *position += n as u64;
        spool.consume(n);
        done += n;
    }
    done
}

async fn turn(spool: &mut Spool) {
    poll_fn(|cx| Poll::Ready(spool.poll_disk(cx))).await.unwrap();
    tokio::task::yield_now().await;
}

/// Lets disk jobs run until there is something to feed, or the end.
async fn until_feedable(spool: &mut Spool) {
    poll_fn(|cx| {
        spool.poll_disk(cx).unwrap();
        if matches!(spool.feed(), Feed::Wait) { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
}

async fn feed_all(spool: &mut Spool) -> u64 {
    let mut position = 0;
    loop {
        until_feedable(spool).await;
        if feed(spool, &mut position, usize::MAX) == 0 {
            return position;
        }
    }
}

#[tokio::test]
async fn a_backlog_far_beyond_memory_comes_back_byte_for_byte() {
    let (_dir, disk, memory, mut spool) = spool(16 * MIB, u64::MAX);
    let id = spool.open(1);
    let total = 200 * MIB;
    let mut drained = 0;
    while drained < total {
        drained += drain(&mut spool, id, drained, (total - drained).min(MIB) as usize) as u64;
        assert!(memory.used() <= 17 * MIB, "{} bytes of memory", memory.used());
        turn(&mut spool).await;
    }
    spool.complete(id);
    assert!(spool.stats().spooled > total - 16 * MIB);
    assert_eq!(feed_all(&mut spool).await, total);
    assert!(matches!(spool.feed(), Feed::Complete));
    spool.finish_front();
    assert!(disk.used() < MIB, "{} bytes on disk", disk.used());
    spool.close().await;
    assert_eq!((disk.used(), memory.used()), (0, 0));
}

#[tokio::test]
async fn a_compressed_backlog_comes_back_and_takes_less_of_the_disk() {
    for (algorithm, encrypts) in [(Algorithm::Lz4, false), (Algorithm::Zstd, false), (Algorithm::Lz4, true)] {
        let (_dir, disk, memory, mut spool) = packed_spool(4 * MIB, u64::MAX, Some(algorithm), encrypts);
        let id = spool.open(1);
        let total = 64 * MIB;
        let mut drained = 0;
        while drained < total {
            drained += drain(&mut spool, id, drained, (total - drained).min(MIB) as usize) as u64;
            turn(&mut spool).await;
        }
        spool.complete(id);
        while !spool.writes.is_empty() {
            turn(&mut spool).await;
        }
        let stats = spool.stats();
        assert!(stats.on_disk <= disk.used() && disk.used() < stats.spooled / 4 * 3, "{stats:?}");
        assert_eq!(feed_all(&mut spool).await, total);
        spool.finish_front();
        spool.close().await;
        assert_eq!((disk.used(), memory.used()), (0, 0));
    }
}

#[tokio::test]
async fn an_encrypted_backlog_comes_back_byte_for_byte() {
    let (_dir, disk, memory, mut spool) = packed_spool(4 * MIB, u64::MAX, None, true);
    let id = spool.open(1);
    let total = 64 * MIB;
    let mut drained = 0;
    while drained < total {
        drained += drain(&mut spool, id, drained, (total - drained).min(MIB) as usize) as u64;
        turn(&mut spool).await;
    }
    spool.complete(id);
    assert!(spool.stats().spooled > total - 4 * MIB);
    assert_eq!(feed_all(&mut spool).await, total);
    spool.finish_front();
    spool.close().await;
    assert_eq!((disk.used(), memory.used()), (0, 0));
}

#[tokio::test]
async fn a_feed_that_keeps_up_never_touches_the_disk() {
    let (_dir, _disk, _memory, mut spool) = spool(16 * MIB, u64::MAX);
    let id = spool.open(1);
    let (mut drained, mut fed) = (0, 0);
    for _ in 0..400 {
        drained += drain(&mut spool, id, drained, 500_000) as u64;
        turn(&mut spool).await;
        feed(&mut spool, &mut fed, usize::MAX);
    }
    assert_eq!((drained, fed), (400 * 500_000, 400 * 500_000));
    assert_eq!(spool.stats().spooled_peak, 0);
}

#[tokio::test]
async fn at_the_limits_the_drain_waits_and_nothing_is_lost() {
    let (_dir, disk, _memory, mut spool) = spool(2 * MIB, 8 * MIB);
    let id = spool.open(1);
    let (mut drained, mut fed, total) = (0, 0, 64 * MIB);
    let mut waited = 0;
    while fed < total {
        if drained < total {
            let n = drain(&mut spool, id, drained, (total - drained).min(MIB) as usize) as u64;
            waited += u32::from(n == 0);
            drained += n;
        }
        turn(&mut spool).await;
        assert!(disk.used() <= 8 * MIB);
        if drained == total {
            spool.complete(id);
        }
        feed(&mut spool, &mut fed, 200_000);
    }
    assert!(waited > 0, "the limit was never reached");
}

/// The front's last packet ends in a block that is on disk, and memory is full of later blocks.
#[tokio::test]
async fn a_packet_across_blocks_does_not_stick_at_the_limits() {
    let (_dir, _disk, memory, mut spool) = spool(2 * MIB, 8 * MIB);
    let id = spool.open(1);
    let (mut drained, mut fed, total) = (0, 0, 64 * MIB);
    while fed < total {
        while drained < total {
            let n = drain_packets(&mut spool, id, drained, (total - drained).min(MIB) as usize, 7_700);
            drained += n as u64;
            turn(&mut spool).await;
            if n == 0 {
                break;
            }
        }
        if drained == total {
            spool.complete(id);
        }
        until_feedable(&mut spool).await;
        feed(&mut spool, &mut fed, 500_000);
        assert!(memory.used() <= 3 * MIB + MIB / 4, "{} bytes of memory", memory.used());
    }
}

/// Packets about as long as what the feed holds back, in the least memory: every wait for the other side's move shows.
#[tokio::test]
async fn the_least_memory_is_enough_for_any_packet() {
    for (memory, disk) in [(64, u64::MAX), (128, u64::MAX), (512, u64::MAX), (64, 0), (128, MIB)] {
        for packet_len in [1, 20_000, 50_000, 64_000, 65_500, 80_000, 300_000] {
            let (_dir, _disk, _memory, mut spool) = spool(memory * 1024, disk);
            let id = spool.open(1);
            let (mut drained, mut fed, total) = (0, 0, 2_400_000);
            let mut idle = 0;
            while fed < total {
                let n = drain_packets(&mut spool, id, drained, (total - drained) as usize, packet_len) as u64;
                drained += n;
                if drained == total {
                    spool.complete(id);
                }
                let fed_now = feed(&mut spool, &mut fed, 30_000);
                idle = if n == 0 && fed_now == 0 { idle + 1 } else { 0 };
                assert!(idle < 1000, "{memory} KiB, disk {disk}, packets of {packet_len}: {drained} {fed}");
                turn(&mut spool).await;
                if idle > 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        }
    }
}

/// The server never waits for a stalled client while the disk has room, however little memory there is.
#[tokio::test]
async fn the_least_memory_is_enough_to_drain_past_a_stalled_client() {
    for packet_len in [1, 7_700, 65_500] {
        let (_dir, _disk, _memory, mut spool) = spool(64 * 1024, u64::MAX);
        let id = spool.open(1);
        let (mut drained, total) = (0, 4_000_000);
        let deadline = Instant::now() + Duration::from_secs(60);
        while drained < total {
            drained += drain_packets(&mut spool, id, drained, (total - drained) as usize, packet_len) as u64;
            assert!(Instant::now() < deadline, "packets of {packet_len}: {drained} drained");
            turn(&mut spool).await;
        }
        spool.complete(id);
        assert_eq!(feed_all(&mut spool).await, total);
    }
}

#[tokio::test]
async fn a_disk_that_fails_leaves_the_session_in_memory() {
    for encrypts in [false, true] {
        let (dir, _disk, _memory, mut spool) = packed_spool(4 * MIB, u64::MAX, None, encrypts);
        dir.close().unwrap();
        let id = spool.open(1);
        let (mut drained, mut fed, total) = (0, 0, 32 * MIB);
        while fed < total {
            drained += drain(&mut spool, id, drained, (total - drained).min(MIB) as usize) as u64;
            turn(&mut spool).await;
            if drained == total {
                spool.complete(id);
            }
            feed(&mut spool, &mut fed, 100_000);
        }
    }
}

#[tokio::test]
async fn many_small_responses_keep_their_order() {
    let (_dir, _disk, memory, mut spool) = spool(16 * MIB, u64::MAX);
    let (mut ids, mut drained, mut fed) = (VecDeque::new(), 0, 0);
    for i in 0..10_000u64 {
        let id = spool.open(1);
        let len = 11 + (i % 40) as usize;
        assert_eq!(drain(&mut spool, id, drained, len), len);
        drained += len as u64;
        spool.complete(id);
        ids.push_back(len);
    }
    assert!(memory.used() < MIB);
    for len in ids {
        assert_eq!(feed(&mut spool, &mut fed, usize::MAX), len);
        assert!(matches!(spool.feed(), Feed::Complete));
        spool.finish_front();
    }
    assert!(matches!(spool.feed(), Feed::Idle));
}

#[tokio::test]
async fn a_lost_response_is_fed_to_its_last_whole_packet() {
    let (_dir, _disk, _memory, mut spool) = spool(16 * MIB, u64::MAX);
    let id = spool.open(1);
    spool.room(false).unwrap()[..10].copy_from_slice(b"0123456789");
    spool.filled(10);
    spool.append(id, 10, 4, 7);
    spool.lose_open();
    assert!(matches!(spool.feed(), Feed::Data(b"012345")));
    spool.consume(6);
    assert!(matches!(spool.feed(), Feed::Lost { err_sequence_id: Some(8) }));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Random drains, feeds, turns and responses: what comes out is what went in.
    #[test]
    fn bytes_out_are_bytes_in(ops in prop::collection::vec((0u8..4, 1usize..700_000), 1..120), disk: bool, algorithm in 0usize..3, encrypts: bool, packet_len in 1u64..200_000) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let algorithm = [None, Some(Algorithm::Lz4), Some(Algorithm::Zstd)][algorithm];
            let (_dir, _budget, _memory, mut spool) = packed_spool(MIB, if disk { u64::MAX } else { 0 }, algorithm, encrypts);
            let mut open = spool.open(1);
            let (mut drained, mut fed) = (0, 0);
            for (op, len) in ops {
                match op {
                    0 | 1 => drained += drain_packets(&mut spool, open, drained, len, packet_len) as u64,
                    2 => {
                        feed(&mut spool, &mut fed, len);
                    }
                    _ => {
                        spool.complete(open);
                        open = spool.open(1);
                    }
                }
                while matches!(spool.feed(), Feed::Complete) {
                    spool.finish_front();
                }
                turn(&mut spool).await;
            }
            spool.complete(open);
            while !matches!(spool.feed(), Feed::Idle) {
                until_feedable(&mut spool).await;
                feed(&mut spool, &mut fed, usize::MAX);
                if matches!(spool.feed(), Feed::Complete) {
                    spool.finish_front();
                }
            }
            assert_eq!(fed, drained);
            spool.close().await;
        });
    }
}
