//! A server that says what a test has it say, for what no real one does: keys that are none, several factors, plugins
//! of releases that are not here.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::wire::{Reader, command};

/// A server on a free port of 127.0.0.1. Each connection is served by a thread of its own.
#[derive(Debug)]
pub struct Scripted {
    address: SocketAddr,
    failures: Arc<Mutex<Vec<String>>>,
}

/// A connection to a [`Scripted`] server, as the server sees it.
#[derive(Debug)]
pub struct Peer {
    stream: TcpStream,
    sequence: u8,
}

impl Scripted {
    /// One that has `log_in` answer each client that it has greeted, up to the end of the login; commands are answered by
    /// OK then.
    pub fn start(
        plugin: &'static str,
        log_in: impl Fn(&mut Peer) -> Result<()> + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let failures = Arc::new(Mutex::new(Vec::new()));
        let (log_in, kept) = (Arc::new(log_in), Arc::clone(&failures));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log_in, kept) = (Arc::clone(&log_in), Arc::clone(&kept));
                thread::spawn(move || {
                    let mut peer = Peer { stream, sequence: 0 };
                    let served = peer.greet(plugin).and_then(|()| log_in(&mut peer));
                    if let Err(error) = served {
                        kept.lock()
                            .unwrap_or_else(|poisoned| poisoned.into_inner())
                            .push(format!("{error:#}"));
                        return;
                    }
                    // The client may leave when it likes.
                    let _ = peer.answer_commands();
                });
            }
        });
        Ok(Self { address, failures })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What went wrong in its logins.
    pub fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

impl Peer {
    /// The scramble of every greeting and switch.
    pub const SCRAMBLE: &[u8; 20] = b"abcdefghijklmnopqrst";

    fn greet(&mut self, plugin: &str) -> Result<()> {
        self.stream.set_read_timeout(Some(LIMIT))?;
        self.stream.set_nodelay(true)?;
        let mut greeting = b"\x0a8.0.0-scripted\0\x07\0\0\0".to_vec();
        greeting.extend(&Self::SCRAMBLE[..8]);
        greeting.extend([0, 0x05, 0xa2, 45, 2, 0, 0xbb, 0x10, 21]); // what a plain client has, and several factors
        greeting.extend([0; 10]);
        greeting.extend(&Self::SCRAMBLE[8..]);
        greeting.push(0);
        greeting.extend(plugin.as_bytes());
        greeting.push(0);
        self.send(&greeting)
    }

    /// Sends a payload, in its turn.
    pub fn send(&mut self, payload: &[u8]) -> Result<()> {
        let mut packet = u32::try_from(payload.len())?.to_le_bytes()[..3].to_vec();
        packet.push(self.sequence);
        packet.extend(payload);
        self.sequence = self.sequence.wrapping_add(1);
        Ok(self.stream.write_all(&packet)?)
    }

    /// The client's next payload.
    pub fn receive(&mut self) -> Result<Vec<u8>> {
        let mut header = [0; 4];
        self.stream.read_exact(&mut header).context("the client has gone")?;
        self.sequence = header[3].wrapping_add(1);
        let mut payload = vec![0; usize::try_from(Reader(&header).int(3)?)?];
        self.stream.read_exact(&mut payload)?;
        Ok(payload)
    }

    /// Sends an AuthSwitchRequest.
    pub fn switch(&mut self, plugin: &str, data: &[u8]) -> Result<()> {
        self.send(&[b"\xfe", plugin.as_bytes(), b"\0", data].concat())
    }

    /// Sends OK.
    pub fn ok(&mut self) -> Result<()> {
        self.send(b"\0\0\0\x02\0\0\0")
    }

    /// Sends error 1045.
    pub fn deny(&mut self) -> Result<()> {
        self.send(b"\xff\x15\x04#28000Access denied by the script")
    }

    fn answer_commands(&mut self) -> Result<()> {
        loop {
            match self.receive()?.first() {
                Some(&command::QUIT) => return Ok(()),
                Some(&command::STATISTICS) => self.send(b"Uptime: 1  Threads: 1")?,
                Some(_) => self.ok()?,
                None => bail!("an empty command"),
            }
        }
    }
}

const LIMIT: Duration = Duration::from_secs(60);
