//! A faulty network between the proxy and the server: a TCP relay that cuts, resets and stalls on command.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use socket2::SockRef;

use crate::wait::wait_for;

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The server's side ends in the regular way (FIN), as when the server shuts the connection.
    Cut,
    /// It ends with a RST, as when a firewall or a crashed machine answers.
    Reset,
    /// Nothing more comes, though the connection stays: bytes are swallowed in both directions.
    BlackHole,
    /// The server's bytes wait until [`Fault::heal`].
    Stall,
}

/// The relay. Dropping it closes all of its connections.
#[derive(Debug)]
pub struct Fault {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    stop: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connections: Vec<Connection>,
    plan: Option<Plan>,
    greeting: Option<Vec<u8>>,
}

#[derive(Debug, Default)]
struct Connection {
    link: Weak<Link>,
    to_proxy: u64,
    closed_by_proxy: Option<Instant>,
}

/// The two sockets of a connection. They close when the last thread lets go: a RST goes out only at the last close, so
/// nothing else may hold them.
#[derive(Debug)]
struct Link {
    proxy_side: TcpStream,
    server_side: TcpStream,
    fate: Mutex<Option<Action>>,
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    after: u64,
    action: Action,
}

impl Fault {
    /// A relay to `upstream` on a free port, faultless for now.
    pub fn start(upstream: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { upstream, stop: AtomicBool::new(false), state: Mutex::default() });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &accepting));
        Ok(Self { address, shared })
    }

    /// Where the proxy connects to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// After `after` more bytes from the server (on any connection, counted from now), `action` happens to the
    /// connection that brought the last of them.
    pub fn arm(&self, after: u64, action: Action) {
        self.shared.state().plan = Some(Plan { after, action });
    }

    /// No further fault; what was stalled goes on.
    pub fn heal(&self) {
        self.shared.state().plan = None;
    }

    /// New connections get these bytes instead of a server (and then the end); `None`: the server again.
    pub fn greet_with(&self, bytes: Option<Vec<u8>>) {
        self.shared.state().greeting = bytes;
    }

    /// Connections made so far.
    pub fn connections(&self) -> usize {
        self.shared.state().connections.len()
    }

    /// Bytes that the server has sent on connection `index` and that went on to the proxy.
    pub fn passed(&self, index: usize) -> u64 {
        self.shared.state().connections.get(index).map_or(0, |connection| connection.to_proxy)
    }

    /// When the proxy closed connection `index`; `None` while it has not.
    pub fn closed_by_proxy(&self, index: usize) -> Option<Instant> {
        self.shared.state().connections.get(index)?.closed_by_proxy
    }

    /// Waits until the proxy has closed connection `index`; gives the time when it did.
    pub fn wait_closed_by_proxy(&self, index: usize, limit: Duration) -> Result<Instant> {
        wait_for(limit, &format!("the proxy to close its connection {index}"), || {
            Ok(self.closed_by_proxy(index))
        })
    }

    /// Does `action` to all connections that are open now.
    pub fn strike(&self, action: Action) {
        for connection in &self.shared.state().connections {
            if let Some(link) = connection.link.upgrade() {
                link.doom(action);
            }
        }
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.strike(Action::Reset);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many of `wanted` bytes may go on to the proxy now, and what happens after them.
    fn permit(&self, index: usize, wanted: usize) -> (usize, Option<Action>) {
        let mut state = self.state();
        let mut permitted = (wanted, None);
        if let Some(plan) = &mut state.plan {
            let now = usize::try_from(plan.after).unwrap_or(usize::MAX).min(wanted);
            plan.after -= now as u64;
            permitted = (now, (plan.after == 0).then_some(plan.action));
            // A stall lasts until it is healed, the others happen once.
            if permitted.1.is_some_and(|action| action != Action::Stall) {
                state.plan = None;
            }
        }
        if let Some(connection) = state.connections.get_mut(index) {
            connection.to_proxy += permitted.0 as u64;
        }
        permitted
    }
}

impl Link {
    fn fate(&self) -> Option<Action> {
        *self.fate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn doom(&self, action: Action) {
        *self.fate.lock().unwrap_or_else(PoisonError::into_inner) = Some(action);
        match action {
            Action::Cut => drop(self.proxy_side.shutdown(Shutdown::Write)),
            Action::Reset => drop(SockRef::from(&self.proxy_side).set_linger(Some(Duration::ZERO))),
            Action::BlackHole | Action::Stall => return,
        }
        let _ = self.server_side.shutdown(Shutdown::Both);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        if let Ok(stream) = stream {
            // A server that is down is a closed connection to the proxy.
            let _ = connect(stream, shared);
        }
    }
}

fn connect(mut proxy_side: TcpStream, shared: &Arc<Shared>) -> Result<()> {
    let greeting = shared.state().greeting.clone();
    if let Some(greeting) = greeting {
        shared.state().connections.push(Connection::default());
        proxy_side.write_all(&greeting)?;
        proxy_side.shutdown(Shutdown::Write)?;
        thread::spawn(move || while proxy_side.read(&mut [0; 4096]).is_ok_and(|size| size > 0) {});
        return Ok(());
    }
    let server_side = TcpStream::connect(shared.upstream).context("connecting to the server")?;
    for stream in [&proxy_side, &server_side] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TICK))?;
        stream.set_write_timeout(Some(TICK))?;
    }
    let link = Arc::new(Link { proxy_side, server_side, fate: Mutex::new(None) });
    let index = {
        let mut state = shared.state();
        state.connections.push(Connection { link: Arc::downgrade(&link), ..Connection::default() });
        state.connections.len() - 1
    };
    let (up, down) = (Arc::clone(&link), link);
    let (shared_up, shared_down) = (Arc::clone(shared), Arc::clone(shared));
    thread::spawn(move || pump_up(&up, index, &shared_up));
    thread::spawn(move || pump_down(&down, index, &shared_down));
    Ok(())
}

/// From the proxy to the server. Ends when the proxy has closed, or at a reset.
fn pump_up(link: &Link, index: usize, shared: &Shared) {
    let mut buffer = vec![0; BUFFER];
    loop {
        match (&link.proxy_side).read(&mut buffer) {
            Ok(0) => break,
            Ok(size) if link.fate().is_none() => {
                if !write(&link.server_side, &buffer[..size], link) {
                    // The server has closed: what the proxy still says is read and dropped, so that it sees a FIN.
                    link.doom(Action::Cut);
                }
            }
            Ok(_) => {}
            Err(error) if waits(error.kind()) => {}
            Err(_) => break,
        }
        if link.fate() == Some(Action::Reset) {
            return;
        }
    }
    if let Some(connection) = shared.state().connections.get_mut(index) {
        connection.closed_by_proxy = Some(Instant::now());
    }
    let _ = link.server_side.shutdown(Shutdown::Both);
}

/// From the server to the proxy. Ends when the server has closed, or at a cut or reset.
fn pump_down(link: &Link, index: usize, shared: &Shared) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let size = match (&link.server_side).read(&mut buffer) {
            Ok(0) => break,
            Ok(size) => size,
            Err(error) if waits(error.kind()) => 0,
            Err(_) => break,
        };
        let mut rest = &buffer[..size];
        while !rest.is_empty() && link.fate().is_none() {
            let (count, action) = shared.permit(index, rest.len());
            let (now, later) = rest.split_at(count);
            if !write(&link.proxy_side, now, link) {
                return;
            }
            rest = later;
            match action {
                Some(Action::Stall) => thread::sleep(TICK),
                Some(action) => link.doom(action),
                None => {}
            }
        }
        if matches!(link.fate(), Some(Action::Cut | Action::Reset)) {
            return;
        }
    }
    if link.fate().is_none() {
        let _ = link.proxy_side.shutdown(Shutdown::Write);
    }
}

/// Writes all, unless the connection's fate comes first; false where the peer has closed.
fn write(mut stream: &TcpStream, mut bytes: &[u8], link: &Link) -> bool {
    while !bytes.is_empty() && link.fate().is_none() {
        match stream.write(bytes) {
            Ok(size) => bytes = &bytes[size..],
            Err(error) if waits(error.kind()) => {}
            Err(_) => return false,
        }
    }
    true
}

fn waits(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// How soon a thread that waits for a socket sees what was done to its connection.
const TICK: Duration = Duration::from_millis(5);
const BUFFER: usize = 64 << 10;
