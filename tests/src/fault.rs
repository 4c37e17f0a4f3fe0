//! A faulty network between the proxy and the server: a TCP relay that cuts, resets and stalls on command.

mod handshake;
mod plan;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use socket2::SockRef;

use crate::wait::wait_for;

pub use handshake::{Handshake, Packet};
use plan::{Dice, Plan};

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The server's side ends in the regular way (FIN), as when the server shuts the connection.
    Cut,
    /// It ends with a RST, as when a firewall or a crashed machine answers.
    Reset,
    /// Nothing more comes, though the connection stays: bytes are swallowed in both directions.
    BlackHole,
    /// The bytes that this counts wait until [`Fault::heal`].
    Stall,
}

/// Which bytes a plan counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the server to the proxy.
    FromServer,
    /// From the proxy to the server.
    ToServer,
}

/// The relay. Dropping it closes its port and all of its connections.
#[derive(Debug)]
pub struct Fault {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    upstream: SocketAddr,
    connections: Vec<Connection>,
    /// Counts the bytes of all connections together.
    plan: Option<Plan>,
    /// For so many connections to come.
    next: Option<(usize, Plan)>,
    dice: Option<Dice>,
    greeting: Option<Vec<u8>>,
}

/// What is known of a connection, by direction where there are two of something.
#[derive(Debug, Default)]
struct Connection {
    link: Weak<Link>,
    plan: Option<Plan>,
    passed: [u64; 2],
    heads: [Vec<u8>; 2],
    suffered: Option<Action>,
    closed_by_proxy: Option<Instant>,
}

/// The two sockets of a connection. They close when the last thread lets go: a RST goes out only at the last close, so
/// nothing else may hold them.
#[derive(Debug)]
struct Link {
    proxy_side: TcpStream,
    /// `None` where the fault comes before the server is even reached.
    server_side: Option<TcpStream>,
    fate: Mutex<Option<Action>>,
}

impl Fault {
    /// A relay to `upstream` on a free port, faultless for now.
    pub fn start(upstream: SocketAddr) -> Result<Self> {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), upstream)
    }

    /// As [`Fault::start`], there: until it is started, and when it was dropped, connections are refused.
    pub fn start_at(listen: SocketAddr, upstream: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(listen).with_context(|| format!("listening on {listen}"))?;
        let address = listener.local_addr()?;
        let state =
            State { upstream, connections: Vec::new(), plan: None, next: None, dice: None, greeting: None };
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), state: Mutex::new(state) });
        let accepting = Arc::clone(&shared);
        let accepting = Some(thread::spawn(move || accept(&listener, &accepting)));
        Ok(Self { address, shared, accepting })
    }

    /// Where the proxy connects to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// After `after` more bytes from the server (on any connection, counted from now), `action` happens to the
    /// connection that brought the last of them.
    pub fn arm(&self, after: u64, action: Action) {
        self.arm_in(Direction::FromServer, after, action);
    }

    /// As [`Fault::arm`], for the bytes of either direction.
    pub fn arm_in(&self, direction: Direction, after: u64, action: Action) {
        self.shared.state().plan = Some(Plan { direction, after, action });
    }

    /// Each of the next `connections` connections suffers `action` once `after` of its own bytes have passed in
    /// `direction`; those that come later are healthy.
    ///
    /// No byte from the server at all (`FromServer`, 0) is a fault at once, and the server never hears of the
    /// connection. None to the server (`ToServer`, 0) comes with the proxy's first byte: the greeting passes.
    pub fn arm_next(&self, connections: usize, direction: Direction, after: u64, action: Action) {
        self.shared.state().next =
            (connections > 0).then_some((connections, Plan { direction, after, action }));
    }

    /// Each new connection that [`Fault::arm_next`] does not claim is, with this probability, cut or reset after a
    /// number of bytes from the server that lies in `range`. A connection's fate depends on `seed` and its index only.
    pub fn arm_random(&self, seed: u64, probability: f64, range: Range<u64>) {
        self.shared.state().dice = Some(Dice { seed, probability, range });
    }

    /// No further fault; what was stalled goes on. Cut connections and black holes stay what they are.
    pub fn heal(&self) {
        let mut state = self.shared.state();
        state.plan = None;
        state.next = None;
        state.dice = None;
        for connection in &mut state.connections {
            connection.plan = None;
        }
    }

    /// New connections get these bytes instead of a server (and then the end); `None`: the server again.
    pub fn greet_with(&self, bytes: Option<Vec<u8>>) {
        self.shared.state().greeting = bytes;
    }

    /// New connections lead there.
    pub fn lead_to(&self, upstream: SocketAddr) {
        self.shared.state().upstream = upstream;
    }

    /// Connections that the proxy has made so far.
    pub fn connections(&self) -> usize {
        self.shared.state().connections.len()
    }

    /// Bytes that the server has sent on connection `index` and that went on to the proxy.
    pub fn passed(&self, index: usize) -> u64 {
        self.passed_in(index, Direction::FromServer)
    }

    /// Bytes of connection `index` that went on in `direction`.
    pub fn passed_in(&self, index: usize, direction: Direction) -> u64 {
        let state = self.shared.state();
        state.connections.get(index).map_or(0, |connection| connection.passed[direction as usize])
    }

    /// What connection `index` has suffered so far.
    pub fn suffered(&self, index: usize) -> Option<Action> {
        self.shared.state().connections.get(index)?.suffered
    }

    /// The login on connection `index`, up to the server's OK or ERR; an error while it is not complete. To learn at
    /// which offsets a login can be hit, let a client log in through a healthy relay and ask this.
    pub fn handshake(&self, index: usize) -> Result<Handshake> {
        let state = self.shared.state();
        let connection = state.connections.get(index).context("no such connection")?;
        Handshake::of(&connection.heads).with_context(|| format!("the login on connection {index}"))
    }

    /// The first 4 KiB of connection `index` that went on in `direction`.
    pub fn head(&self, index: usize, direction: Direction) -> Vec<u8> {
        let state = self.shared.state();
        let head = state.connections.get(index).map(|connection| &connection.heads[direction as usize]);
        head.cloned().unwrap_or_default()
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
        for connection in &mut self.shared.state().connections {
            let Some(link) = connection.link.upgrade() else { continue };
            connection.suffered = Some(action);
            if action == Action::Stall {
                connection.plan = Some(Plan { direction: Direction::FromServer, after: 0, action });
            } else {
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
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a new connection; gives its index, and what it gets instead of a server.
    fn open(&self) -> (usize, Option<Instead>) {
        let mut state = self.state();
        let index = state.connections.len();
        let plan = state.plan_next(index);
        let mut connection = Connection { plan, ..Connection::default() };
        let instead = match (&state.greeting, plan) {
            (Some(greeting), _) => Some(Instead { greeting: greeting.clone(), action: Action::Cut }),
            (None, Some(plan)) if plan.comes_at_once() => {
                connection.suffered = Some(plan.action);
                Some(Instead { greeting: Vec::new(), action: plan.action })
            }
            _ => None,
        };
        state.connections.push(connection);
        (index, instead)
    }

    /// Makes a connection one that can be struck; false where all ends.
    fn register(&self, index: usize, link: &Arc<Link>) -> bool {
        let mut state = self.state();
        if let Some(connection) = state.connections.get_mut(index) {
            connection.link = Arc::downgrade(link);
        }
        !self.stop.load(Ordering::Relaxed)
    }

    /// How many of these bytes may go on now, and what happens after them.
    fn permit(&self, index: usize, direction: Direction, wanted: &[u8]) -> (usize, Option<Action>) {
        let mut state = self.state();
        let State { connections, plan, .. } = &mut *state;
        let Some(connection) = connections.get_mut(index) else { return (wanted.len(), None) };
        let plans = [plan, &mut connection.plan];
        let room = plans.iter().filter_map(|plan| plan.as_ref()?.room(direction)).min();
        let count = usize::try_from(room.unwrap_or(u64::MAX)).unwrap_or(usize::MAX).min(wanted.len());
        let mut action = None;
        for plan in plans {
            action = Plan::spend(plan, direction, count as u64).or(action);
        }
        connection.suffered = action.or(connection.suffered);
        connection.passed[direction as usize] += count as u64;
        let head = &mut connection.heads[direction as usize];
        head.extend_from_slice(&wanted[..count.min(HEAD - head.len())]);
        (count, action)
    }
}

impl State {
    /// The plan of connection `index`, which is about to be made.
    fn plan_next(&mut self, index: usize) -> Option<Plan> {
        let Some((left, plan)) = &mut self.next else {
            return self.dice.as_ref()?.plan(index);
        };
        let plan = *plan;
        *left -= 1;
        if *left == 0 {
            self.next = None;
        }
        Some(plan)
    }
}

/// A fault that comes before the server is reached.
struct Instead {
    greeting: Vec<u8>,
    action: Action,
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
        self.leave_server();
    }

    fn leave_server(&self) {
        if let Some(server_side) = &self.server_side {
            let _ = server_side.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        if let Ok(stream) = stream {
            let (index, instead) = shared.open();
            let shared = Arc::clone(shared);
            // A server that is down is a closed connection to the proxy.
            thread::spawn(move || serve(stream, index, instead, &shared));
        }
    }
}

/// Both directions of a connection, from its beginning to its end.
fn serve(
    mut proxy_side: TcpStream,
    index: usize,
    instead: Option<Instead>,
    shared: &Arc<Shared>,
) -> Result<()> {
    let server_side = match &instead {
        Some(instead) => {
            proxy_side.write_all(&instead.greeting)?;
            None
        }
        None => {
            let upstream = shared.state().upstream;
            Some(TcpStream::connect(upstream)?)
        }
    };
    for stream in [Some(&proxy_side), server_side.as_ref()].into_iter().flatten() {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TICK))?;
        stream.set_write_timeout(Some(TICK))?;
    }
    let link = Arc::new(Link { proxy_side, server_side, fate: Mutex::new(None) });
    if let Some(instead) = instead {
        link.doom(instead.action);
    }
    if !shared.register(index, &link) {
        return Ok(());
    }
    if link.server_side.is_some() {
        let (link, shared) = (Arc::clone(&link), Arc::clone(shared));
        thread::spawn(move || pump_down(&link, index, &shared));
    }
    pump_up(&link, index, shared);
    Ok(())
}

/// From the proxy to the server. Ends when the proxy has closed, or at a reset.
fn pump_up(link: &Link, index: usize, shared: &Shared) {
    let mut buffer = vec![0; BUFFER];
    while let Some(size) = read(&link.proxy_side, &mut buffer) {
        if !pass(&buffer[..size], Direction::ToServer, link, index, shared) {
            // The server has closed: what the proxy still says is read and dropped, so that it sees a FIN.
            link.doom(Action::Cut);
        }
        if link.fate() == Some(Action::Reset) {
            return;
        }
    }
    if let Some(connection) = shared.state().connections.get_mut(index) {
        connection.closed_by_proxy = Some(Instant::now());
    }
    link.leave_server();
}

/// From the server to the proxy. Ends when either has closed, or at a cut or reset.
fn pump_down(link: &Link, index: usize, shared: &Shared) {
    let Some(server_side) = &link.server_side else { return };
    let mut buffer = vec![0; BUFFER];
    while let Some(size) = read(server_side, &mut buffer) {
        if !pass(&buffer[..size], Direction::FromServer, link, index, shared) {
            return;
        }
        if matches!(link.fate(), Some(Action::Cut | Action::Reset)) {
            return;
        }
    }
    if link.fate().is_none() {
        let _ = link.proxy_side.shutdown(Shutdown::Write);
    }
}

/// Passes bytes on, unless a plan or the connection's fate is against it; false where the receiver has closed.
fn pass(bytes: &[u8], direction: Direction, link: &Link, index: usize, shared: &Shared) -> bool {
    let receiver = match direction {
        Direction::FromServer => Some(&link.proxy_side),
        Direction::ToServer => link.server_side.as_ref(),
    };
    let mut rest = bytes;
    while let Some(receiver) = receiver
        && !rest.is_empty()
        && link.fate().is_none()
    {
        let (count, action) = shared.permit(index, direction, rest);
        let (now, later) = rest.split_at(count);
        if !write(receiver, now, link) {
            return false;
        }
        rest = later;
        match action {
            Some(Action::Stall) => thread::sleep(TICK),
            Some(action) => link.doom(action),
            None => {}
        }
    }
    true
}

/// Reads what there is, nothing after a tick; `None` at the end.
fn read(mut stream: &TcpStream, buffer: &mut [u8]) -> Option<usize> {
    match stream.read(buffer) {
        Ok(0) => None,
        Ok(size) => Some(size),
        Err(error) if waits(error.kind()) => Some(0),
        Err(_) => None,
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
/// What is kept of the beginning of each direction: more than any login takes.
const HEAD: usize = 4 << 10;
