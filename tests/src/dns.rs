//! A name server of the test's own, which answers, fails, is late or is dead on command.

use std::collections::HashMap;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::mounts::Mounts;

/// What happens to a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is answered.
    Answer,
    /// In turn: the first fails with SERVFAIL, the second is answered, the third fails …; counted from
    /// [`Dns::set`].
    FailEverySecond,
    /// It fails with SERVFAIL, as when the name server can ask nobody.
    Fail,
    /// There is no such name (NXDOMAIN).
    NoSuchName,
    /// It is answered so much later.
    Late(Duration),
    /// Nothing comes.
    Dead,
}

/// The server: one name, one IPv4 address. It has an address of its own out of 127.0.0.0/8, port 53, so it needs root.
/// Only programs started with [`Dns::prefix`] ask it. Dropping it ends it.
///
/// Such a program asks once for each look-up and waits up to 30 s, so a look-up is as late as the answer and fails with
/// the first failure. A query for an IPv6 address shares the fate of the query for the IPv4 one that comes with it.
#[derive(Debug)]
pub struct Dns {
    address: SocketAddr,
    shared: Arc<Mutex<State>>,
    serving: Option<JoinHandle<()>>,
    mounts: Mounts,
}

#[derive(Debug)]
struct State {
    name: Vec<u8>,
    address: Ipv4Addr,
    mode: Mode,
    queries: usize,
    /// Queries since the mode was set.
    in_mode: usize,
    /// What became of the query for an IPv4 address that came from there.
    fates: HashMap<SocketAddr, Mode>,
    stop: bool,
}

impl Dns {
    /// Starts one that knows `name` (such as `db.test`) as `address`.
    pub fn start(name: &str, address: Ipv4Addr) -> Result<Self> {
        let socket = bind()?;
        let own = socket.local_addr()?;
        let shared = Arc::new(Mutex::new(State {
            name: encode(name)?,
            address,
            mode: Mode::Answer,
            queries: 0,
            in_mode: 0,
            fates: HashMap::new(),
            stop: false,
        }));
        let mounts = Mounts::new()?
            .host_lookup("files dns")?
            .file("/etc/resolv.conf", &format!("nameserver {}\noptions timeout:30 attempts:1\n", own.ip()))?;
        let state = Arc::clone(&shared);
        let serving = Some(thread::spawn(move || serve(&socket, &state)));
        Ok(Self { address: own, shared, serving, mounts })
    }

    /// From now on `mode` holds; what is on its way stays so.
    pub fn set(&self, mode: Mode) {
        let mut state = lock(&self.shared);
        state.mode = mode;
        state.in_mode = 0;
    }

    /// From now on the name has another address.
    pub fn point_to(&self, address: Ipv4Addr) {
        lock(&self.shared).address = address;
    }

    /// Queries for the name's IPv4 address so far, in whatever mode: one for each look-up.
    pub fn queries(&self) -> usize {
        lock(&self.shared).queries
    }

    /// The words that, put before a program and its arguments, make it ask this server
    /// ([`Builder::wrapper`](crate::spillway::Builder::wrapper), [`client::wrapped`](crate::client::wrapped)).
    pub fn prefix(&self) -> Vec<OsString> {
        self.mounts.prefix()
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        lock(&self.shared).stop = true;
        // Wakes the thread.
        let woken = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(&[], self.address));
        if let (Ok(_), Some(serving)) = (woken, self.serving.take()) {
            let _ = serving.join();
        }
    }
}

/// A socket on port 53 of an address that no other test has.
fn bind() -> Result<UdpSocket> {
    let mut last = None;
    for attempt in 0..BIND_TRIES {
        let [.., x, y] = (std::process::id().wrapping_add(attempt)).to_be_bytes();
        match UdpSocket::bind((Ipv4Addr::new(127, 53, x, y.clamp(1, 254)), 53)) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = Some(error),
        }
    }
    let last = last.context("no address was tried")?;
    Err(last).context("no free port 53 on 127.53.0.0/16 (it takes root to have one)")
}

fn serve(socket: &UdpSocket, shared: &Mutex<State>) {
    let mut buffer = [0; 1500];
    let mut due: Vec<(Instant, SocketAddr, Vec<u8>)> = Vec::new();
    loop {
        let now = Instant::now();
        due.retain(|(at, peer, reply)| {
            *at > now || {
                let _ = socket.send_to(reply, peer);
                false
            }
        });
        let next = due.iter().map(|(at, ..)| at.saturating_duration_since(now).max(Duration::from_millis(1)));
        let received = socket.set_read_timeout(next.min()).and_then(|()| socket.recv_from(&mut buffer));
        let mut state = lock(shared);
        if state.stop {
            return;
        }
        if let Ok((size, peer)) = received
            && let Some((delay, reply)) = state.reply(&buffer[..size], peer)
        {
            due.push((Instant::now() + delay, peer, reply));
        }
    }
}

impl State {
    /// The answer to a query, and when it is due; `None` where there is none, or where it is no query.
    ///
    /// See [RFC 1035](https://www.rfc-editor.org/rfc/rfc1035#section-4).
    fn reply(&mut self, query: &[u8], peer: SocketAddr) -> Option<(Duration, Vec<u8>)> {
        let (header, question) = query.split_at_checked(HEADER)?;
        let end = question.iter().position(|byte| *byte == 0)? + 1;
        let (name, rest) = question.split_at(end);
        let kind = rest.get(..4)?;
        let known = name.eq_ignore_ascii_case(&self.name);
        let fate = match kind {
            TYPE_A if known => self.fate_of_next(peer),
            _ if known => self.fates.remove(&peer).unwrap_or(self.mode),
            _ => Mode::NoSuchName,
        };
        let (delay, code) = match fate {
            Mode::Answer | Mode::FailEverySecond => (Duration::ZERO, NOERROR),
            Mode::Late(delay) => (delay, NOERROR),
            Mode::Fail => (Duration::ZERO, SERVFAIL),
            Mode::NoSuchName => (Duration::ZERO, NXDOMAIN),
            Mode::Dead => return None,
        };
        let answers = u8::from(code == NOERROR && kind == TYPE_A);
        // Number; "response", "recursion desired" as in the query; "recursion available", code; one question.
        let mut reply =
            vec![header[0], header[1], 0x80 | (header[2] & 1), 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0];
        reply.extend_from_slice(&question[..end + 4]);
        if answers > 0 {
            // The name of the question, its type and class, to be kept for no time, four bytes.
            reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
            reply.extend(self.address.octets());
        }
        Some((delay, reply))
    }

    fn fate_of_next(&mut self, peer: SocketAddr) -> Mode {
        self.queries += 1;
        self.in_mode += 1;
        let fate = match self.mode {
            Mode::FailEverySecond if self.in_mode % 2 == 1 => Mode::Fail,
            Mode::FailEverySecond => Mode::Answer,
            other => other,
        };
        self.fates.insert(peer, fate);
        fate
    }
}

/// A name as queries have it: each label with its length before it.
fn encode(name: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len())?);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    Ok(bytes)
}

fn lock(shared: &Mutex<State>) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

const HEADER: usize = 12;
/// Type A, class IN.
const TYPE_A: &[u8] = &[0, 1, 0, 1];
const NOERROR: u8 = 0;
const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;
const BIND_TRIES: u32 = 200;
