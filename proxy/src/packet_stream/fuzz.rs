//! Any bytes as packets of the connection phase, compressed or not.

use spillway_protocol::{Compression, HEADER_LEN, PacketHeader};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::runtime::Builder;
use tokio::task::yield_now;

use super::{MAX_PACKET, PacketStream, Stream};
use crate::fuzzing::{pieces, within};

/// Packets that are read of an input: a few compressed bytes can be millions.
const MOST_PACKETS: usize = 500;
/// And their bytes.
const MOST_LEN: usize = 512 * 1024;

/// ```text
/// 1  0: not compressed, 1: zlib, 2: zstd    1  where it is cut    n  what the peer sends
/// ```
///
/// However it is cut, the same packets are read, up to what is nonsense, and nothing that a length says is allocated before it comes.
pub(crate) fn packet_stream(input: &[u8]) {
    let [form, plan, wire @ ..] = input else { return };
    let compression = [None, Some(Compression::Zlib), Some(Compression::ZSTD)][usize::from(form % 3)];
    let whole = within(MOST_MEMORY, || read(compression, &[wire]));
    let cut = read(compression, &pieces(wire, *plan));
    if compression.is_none() {
        assert_eq!(whole.packets, plain_packets(wire));
    }
    // zstd's library takes a whole frame at once where it can, without a look at how long a window it asks for.
    if [&whole, &cut].iter().any(|read| read.error.contains("memory")) {
        return;
    }
    assert_eq!(whole.is_nonsense, cut.is_nonsense);
    let same = whole.packets.iter().zip(&cut.packets).take_while(|(a, b)| a == b).count();
    // Of a compressed packet that is broken inside, what comes out before that depends on how it comes.
    let may_lack = compression.is_some() && whole.is_nonsense;
    let longest = whole.packets.len().max(cut.packets.len());
    let shortest = whole.packets.len().min(cut.packets.len());
    assert_eq!(same, if may_lack { shortest } else { longest }, "{whole:?} {cut:?}");
}

#[derive(Debug)]
struct Read {
    packets: Vec<(u8, Vec<u8>)>,
    is_nonsense: bool,
    error: String,
}

fn read(compression: Option<Compression>, pieces: &[&[u8]]) -> Read {
    let Ok(runtime) = Builder::new_current_thread().enable_io().enable_time().build() else {
        panic!("no runtime")
    };
    runtime.block_on(async {
        let Ok((here, mut there)) = UnixStream::pair() else { panic!("no sockets") };
        let mut stream = PacketStream::new(Stream::unix(here));
        stream.begin_compression(compression);
        let sent = async move {
            for piece in pieces {
                // Who has read enough is gone.
                let _ = there.write_all(piece).await;
                yield_now().await;
            }
        };
        tokio::join!(read_all(stream), sent).0
    })
}

async fn read_all(mut stream: PacketStream) -> Read {
    let (mut packets, mut len) = (Vec::new(), 0);
    while packets.len() < MOST_PACKETS && len < MOST_LEN {
        match stream.read_packet().await {
            Ok(packet) => {
                len += packet.payload.len();
                packets.push((packet.sequence_id, packet.payload.to_vec()));
            }
            Err(error) => {
                return Read { packets, is_nonsense: error.is_nonsense(), error: error.to_string() };
            }
        }
    }
    Read { packets, is_nonsense: false, error: String::new() }
}

fn plain_packets(mut wire: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let (mut packets, mut len) = (Vec::new(), 0);
    while packets.len() < MOST_PACKETS && len < MOST_LEN {
        let Some((header, rest)) = wire.split_first_chunk::<HEADER_LEN>() else { break };
        let header = PacketHeader::decode(*header);
        if header.payload_len > MAX_PACKET {
            break;
        }
        let Some((payload, rest)) = rest.split_at_checked(header.payload_len as usize) else { break };
        packets.push((header.sequence_id, payload.to_vec()));
        len += payload.len();
        wire = rest;
    }
    packets
}

/// Runtime and sockets, the packets that are kept, two copies of the longest one.
const MOST_MEMORY: usize = 256 * 1024 + 2 * MOST_LEN + 6 * MAX_PACKET as usize;
