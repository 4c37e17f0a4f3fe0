//! A relay that records, and what a recording consists of.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, bail, ensure};
use spillway_tests::Endpoint;

/// A relay to one server that keeps all that passes.
pub(crate) struct Tape {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    relay: JoinHandle<Result<Vec<Recording>>>,
}

/// One connection.
pub(crate) struct Recording {
    pub(crate) from_server: Vec<u8>,
    pub(crate) from_client: Vec<u8>,
}

impl Tape {
    pub(crate) fn start(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let relay = thread::spawn(move || {
            let mut connections = Vec::new();
            loop {
                let (client, _) = listener.accept()?;
                if over.load(Ordering::SeqCst) {
                    break;
                }
                let server = TcpStream::connect(server)?;
                let (from, to) = (client.try_clone()?, server.try_clone()?);
                let up = thread::spawn(move || copy(from, to));
                connections.push((up, thread::spawn(move || copy(server, client))));
            }
            let recordings = connections
                .into_iter()
                .map(|(up, down)| Ok(Recording { from_client: join(up)??, from_server: join(down)?? }));
            recordings.collect()
        });
        Ok(Self { address, is_over, relay })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::Tcp(self.address)
    }

    /// All connections, which must be over.
    pub(crate) fn finish(self) -> Result<Vec<Recording>> {
        self.is_over.store(true, Ordering::SeqCst);
        TcpStream::connect(self.address)?;
        let recordings = join(self.relay)??;
        ensure!(!recordings.is_empty(), "nobody has connected");
        Ok(recordings)
    }
}

fn join<T>(thread: JoinHandle<T>) -> Result<T> {
    thread.join().ok().context("a thread of the relay has panicked")
}

fn copy(mut from: TcpStream, mut to: TcpStream) -> Result<Vec<u8>> {
    let (mut all, mut room) = (Vec::new(), [0; 4096]);
    loop {
        // An end like any other: the client may leave before the server does.
        let len = from.read(&mut room).unwrap_or(0);
        if len == 0 || to.write_all(&room[..len]).is_err() {
            let _ = to.shutdown(Shutdown::Write);
            return Ok(all);
        }
        all.extend_from_slice(&room[..len]);
    }
}

/// A recording, taken apart.
pub(crate) struct Session {
    /// The packets of the connection phase.
    pub(crate) server_login: Vec<Vec<u8>>,
    pub(crate) client_login: Vec<Vec<u8>>,
    pub(crate) capabilities: u64,
    /// 0 for zlib, 1 for zstd.
    pub(crate) compression: Option<u8>,
    pub(crate) commands: Vec<u8>,
    /// The texts of COM_QUERYs.
    pub(crate) queries: Vec<Vec<u8>>,
}

pub(crate) const DEPRECATE_EOF: u64 = 1 << 24;
const COMPRESS: u64 = 1 << 5;
const ZSTD: u64 = 1 << 26;

impl Recording {
    pub(crate) fn session(&self) -> Result<Session> {
        let mut server_login = Vec::new();
        for packet in packets(&self.from_server) {
            server_login.push(packet.to_vec());
            if matches!(packet.get(4), Some(0x00 | 0xff)) {
                break;
            }
        }
        let client = packets(&self.from_client);
        let client_login: Vec<_> =
            client.iter().take_while(|packet| packet[3] != 0).map(|packet| packet.to_vec()).collect();
        let response = client_login.first().context("no answer to the greeting")?;
        let greeting = server_login.first().context("no greeting")?;
        let claimed = u64::from(u32::from_le_bytes(*response[4..].first_chunk().context("cut short")?));
        let extended = u32::from_le_bytes(*response[32..].first_chunk().context("cut short")?);
        let extended = if claimed & 1 == 0 { u64::from(extended) << 32 } else { 0 };
        let capabilities = claimed | extended;
        let offered = offered(&greeting[4..]).context("no greeting")?;
        let compression = match capabilities & offered {
            both if both & COMPRESS != 0 => Some(0),
            both if both & ZSTD != 0 => Some(1),
            _ => None,
        };
        let mut session = Session {
            server_login,
            client_login,
            capabilities: capabilities & (offered | !0xffff_ffff),
            compression,
            commands: Vec::new(),
            queries: Vec::new(),
        };
        if compression.is_none() {
            for packet in client.iter().filter(|packet| packet[3] == 0 && packet.len() > 4) {
                session.commands.push(packet[4]);
                if packet[4] == 0x03 {
                    session.queries.push(packet[5..].to_vec());
                }
            }
            if session.commands.is_empty() {
                bail!("no command");
            }
        }
        Ok(session)
    }
}

impl Session {
    /// The first responses that begin with a column count: from there on, up to a length that is enough for one.
    pub(crate) fn table_responses<'a>(&self, stream: &'a [u8]) -> Vec<&'a [u8]> {
        let mut at = 0;
        let mut found = Vec::new();
        for packet in packets(stream) {
            let begins = packet[3] == 1
                && packet.len() < 9
                && packet.get(4).is_some_and(|count| (1..30).contains(count));
            if begins && found.len() < 4 {
                found.push(&stream[at..stream.len().min(at + 1024)]);
            }
            at += packet.len();
        }
        found
    }
}

/// Packets with their headers.
fn packets(mut stream: &[u8]) -> Vec<&[u8]> {
    let mut packets = Vec::new();
    while let Some(&[a, b, c, _]) = stream.first_chunk() {
        let len = 4 + u32::from_le_bytes([a, b, c, 0]) as usize;
        let Some((packet, rest)) = stream.split_at_checked(len) else { break };
        packets.push(packet);
        stream = rest;
    }
    packets
}

/// The lower half of a greeting's capabilities.
fn offered(greeting: &[u8]) -> Option<u64> {
    let fixed = &greeting[greeting.iter().position(|&byte| byte == 0)? + 1..];
    let half = |at: usize| Some(u64::from(u16::from_le_bytes(*fixed.get(at..)?.first_chunk()?)));
    Some(half(13)? | half(18)? << 16)
}
