//! The simulated server: greets, lets in, answers by the script, and fails as planned.
//!
//! It keeps to what a real one does: waits 10 s for a login and `wait_timeout` for a command, asks for another answer
//! where the plugin is not the account's, and refuses who cannot prove himself. What Spillway must not do is a complaint.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use socket2::SockRef;
use spillway_protocol::{
    AuthPlugin, AuthSwitchRequest, Capabilities, Command, HEADER_LEN, HandshakeResponse, encode_err,
    encode_packet,
};
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::plan::{Ending, GreetingFault, LoginFault, Plan, ServerPlan};
use super::script::{Exchange, Kind, Packets};
use super::wire::{Line, Stop};

/// The only account.
pub(super) const USER: &[u8] = b"dump";
pub(super) const PASSWORD: &[u8] = b"a password";

/// What Spillway sends on each new session.
pub(super) const SESSION_INIT: &str = "SET SESSION net_write_timeout = 86400";

/// How long a login may take (`connect_timeout`).
const LOGIN_LIMIT: Duration = Duration::from_secs(10);

/// Since when the server had been running when the world began.
const UPTIME: Duration = Duration::from_secs(5000);

/// What the server says before it ends a session by itself.
pub(super) const FAREWELL: &str = "The client was disconnected by the server because of inactivity.";

/// A complaint.
pub(super) const NOT_YET: &str = "what nobody has asked, or not yet";

/// What goes wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Login,
    Cut,
    Stall,
    Farewell,
    /// No command came within `wait_timeout`.
    Idle,
}

/// What the server has seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) connections: usize,
    pub(super) faults: Vec<Fault>,
    pub(super) complaints: Vec<String>,
    /// Logins that Spillway has broken off.
    pub(super) broken_off: usize,
    /// Settings that came again, on another connection.
    pub(super) replays: usize,
    /// Exchanges of the script that have come.
    cursor: usize,
}

pub(super) struct Server {
    plan: Arc<Plan>,
    seen: Mutex<Seen>,
    began: Instant,
}

impl Server {
    pub(super) fn new(plan: Arc<Plan>) -> Self {
        Self { plan, seen: Mutex::default(), began: Instant::now() }
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    /// Serves until it is all `over`, and every connection has ended.
    pub(super) async fn serve(self: Arc<Self>, listener: UnixListener, over: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                accepted = listener.accept() => {
                    let (stream, _) = accepted.unwrap();
                    let number = self.seen().connections;
                    self.seen().connections += 1;
                    connections.spawn(Arc::clone(&self).connection(number, stream));
                }
                Some(ended) = connections.join_next() => ended.unwrap(),
                () = over.cancelled() => break,
            }
        }
        while let Some(ended) = connections.join_next().await {
            ended.unwrap();
        }
    }

    async fn connection(self: Arc<Self>, number: usize, stream: UnixStream) {
        let plan = self.plan.servers.get(number).cloned().unwrap_or_default();
        if let Some(size) = plan.send_buffer {
            SockRef::from(&stream).set_send_buffer_size(size).unwrap();
        }
        let mut line = Line::new(stream, self.plan.seed ^ (number as u64 + 1) << 32);
        let conversation = Conversation { server: &self, plan: &plan, number, begun: false };
        let ending = match conversation.run(&mut line).await {
            Ok(()) | Err(End::Over) => Ending::Close,
            Err(End::Planned(fault, ending)) => {
                self.seen().faults.push(fault);
                ending
            }
            Err(End::Odd(text)) => {
                self.complain(number, text);
                Ending::Close
            }
        };
        match ending {
            Ending::Close => return,
            // It may be closed already.
            Ending::HalfClose => drop(line.stream.shutdown().await),
            Ending::Stall => {}
        }
        line.until_closed().await;
    }

    fn complain(&self, number: usize, text: impl Into<String>) {
        let text = format!("the server, of connection {number}: {}", text.into());
        self.seen().complaints.push(text);
    }
}

/// How a conversation ends.
enum End {
    /// As it should.
    Over,
    Planned(Fault, Ending),
    Odd(String),
}

/// One connection.
struct Conversation<'a> {
    server: &'a Server,
    plan: &'a ServerPlan,
    number: usize,
    /// All is answered that Spillway asks first.
    begun: bool,
}

impl Conversation<'_> {
    async fn run(mut self, line: &mut Line) -> Result<(), End> {
        let scramble: [u8; 20] = std::array::from_fn(|index| b'a' + ((self.number + index) % 26) as u8);
        self.greet(line, &scramble).await?;
        let handshake = timeout(LOGIN_LIMIT, self.log_in(line, &scramble));
        let capabilities = match handshake.await {
            Ok(Ok(Some(capabilities))) => capabilities,
            Ok(Ok(None)) | Err(_) => return Ok(()),
            Ok(Err(End::Over)) => {
                self.server.seen().broken_off += 1;
                return Ok(());
            }
            Ok(Err(end)) => return Err(end),
        };
        line.limit(self.plan.pace, self.plan.end.map(|(bytes, _)| bytes));
        let mut commands = 0;
        loop {
            if self.plan.farewell == Some(commands) && self.begun {
                // Nobody may be there to hear it.
                let _ = line.write(&encode_err(0, 4031, Some(b"HY000"), FAREWELL)).await;
                return Err(End::Planned(Fault::Farewell, Ending::HalfClose));
            }
            line.begin();
            let Ok(read) = timeout(self.server.plan.wait_timeout, line.read_packet()).await else {
                return Err(End::Planned(Fault::Idle, Ending::Close));
            };
            let payload = read.map_err(|stop| self.end(stop))?;
            if payload == [Command::QUIT.0] {
                return Ok(());
            }
            let answer = self.answer(&payload, capabilities).map_err(End::Odd)?;
            sleep(self.plan.latency).await;
            if !answer.bytes.is_empty() {
                line.write(&answer.bytes).await.map_err(|stop| self.end(stop))?;
            }
            commands += 1;
        }
    }

    /// What a stop of the line means: all that was to be written may have been.
    fn end(&self, stop: Stop) -> End {
        match (stop, self.plan.end) {
            (Stop::Gone, _) | (Stop::Reached, None) => End::Over,
            (Stop::Reached, Some((_, Ending::Stall))) => End::Planned(Fault::Stall, Ending::Stall),
            (Stop::Reached, Some((_, ending))) => End::Planned(Fault::Cut, ending),
            (Stop::Odd(text), _) => End::Odd(text),
        }
    }

    async fn greet(&self, line: &mut Line, scramble: &[u8; 20]) -> Result<(), End> {
        let failed = |ending| End::Planned(Fault::Login, ending);
        match self.plan.greeting {
            GreetingFault::None => {}
            GreetingFault::Cut(bytes) => {
                let greeting = self.greeting(scramble);
                let packet = encode_packet(0, &greeting);
                let cut = bytes.min(packet.len() - 1);
                let _ = line.write(&packet[..cut]).await;
                return Err(failed(Ending::Close));
            }
            GreetingFault::Crowded => {
                let _ = line.write(&encode_err(0, 1040, None, "Too many connections")).await;
                return Err(failed(Ending::Close));
            }
            GreetingFault::Late(delay) => sleep(delay).await,
            GreetingFault::Stall => return Err(failed(Ending::Stall)),
        }
        line.send(&self.greeting(scramble)).await.map_err(|stop| self.end(stop))
    }

    fn greeting(&self, scramble: &[u8; 20]) -> Vec<u8> {
        let dialect = self.server.plan.dialect;
        let [a, b, c, d] = dialect.capabilities().lower().to_le_bytes();
        let mut payload = vec![10];
        payload.extend_from_slice(dialect.version().as_bytes());
        payload.push(0);
        payload.extend_from_slice(&(100 + self.number as u32).to_le_bytes());
        payload.extend_from_slice(&scramble[..8]);
        payload.extend_from_slice(&[0, a, b, 45, 2, 0, c, d, 21]);
        payload.extend_from_slice(&[0; 10]);
        payload.extend_from_slice(&scramble[8..]);
        payload.extend_from_slice(b"\0mysql_native_password\0");
        payload
    }

    /// The capabilities of who is let in.
    async fn log_in(&self, line: &mut Line, scramble: &[u8; 20]) -> Result<Option<Capabilities>, End> {
        let stopped = |stop| self.end(stop);
        let payload = line.read_packet().await.map_err(stopped)?;
        let response = HandshakeResponse::parse(&payload).map_err(|error| End::Odd(error.to_string()))?;
        let offered = self.server.plan.dialect.capabilities() | Capabilities::CLIENT_CHOICE;
        if !offered.contains(response.capabilities()) {
            return Err(End::Odd(format!(
                "capabilities that were not offered: {:?}",
                response.capabilities()
            )));
        }
        match self.plan.login {
            LoginFault::None => {}
            LoginFault::Close => return Err(End::Planned(Fault::Login, Ending::Close)),
            LoginFault::Late(delay) => sleep(delay).await,
            LoginFault::Stall => return Err(End::Planned(Fault::Login, Ending::Stall)),
        }
        let mut answer = response.auth_response().to_vec();
        let mut scramble = *scramble;
        if AuthPlugin::named(response.plugin()) != AuthPlugin::Native {
            scramble.reverse();
            let request = AuthSwitchRequest::encode(b"mysql_native_password", &scramble);
            line.send(&request).await.map_err(stopped)?;
            answer = line.read_packet().await.map_err(stopped)?;
        }
        let right = AuthPlugin::Native.answer(PASSWORD, &scramble);
        if response.user() != USER || right.is_none_or(|right| right != answer) {
            let denied = encode_err(0, 1045, Some(b"28000"), "Access denied");
            line.send(&denied[HEADER_LEN..]).await.map_err(stopped)?;
            return Ok(None);
        }
        line.send(&[0, 0, 0, 2, 0, 0, 0]).await.map_err(stopped)?;
        Ok(Some(response.capabilities()))
    }

    /// What answers a command, of the client's or of Spillway's own.
    fn answer(&mut self, payload: &[u8], capabilities: Capabilities) -> Result<Packets, String> {
        if let Some(answer) = self.answer_own(payload, capabilities) {
            return Ok(answer);
        }
        let exchanges = &self.server.plan.exchanges;
        let mut seen = self.server.seen();
        let known = |exchange: &&Exchange| exchange.payload == payload;
        let earlier = exchanges[..seen.cursor].iter().find(known);
        if !self.begun {
            // Only what was there before is made again on a new connection.
            let made_again = earlier.filter(|it| matches!(it.kind, Kind::Setting | Kind::Reset));
            let Some(setting) = made_again else { return Err(format!("too early: {}", shown(payload))) };
            seen.replays += 1;
            return Ok(setting.answer.clone());
        }
        let forwarded = exchanges.iter().enumerate().skip(seen.cursor).find(|(_, it)| it.is_forwarded());
        if let Some((index, exchange)) = forwarded.filter(|(_, it)| it.payload == payload) {
            let has_eof = capabilities.contains(Capabilities::DEPRECATE_EOF);
            if has_eof != self.server.plan.dialect.deprecate_eof {
                return Err("a command with capabilities that the client does not have".to_owned());
            }
            seen.cursor = index + 1;
            return Ok(exchange.answer.clone());
        }
        match earlier {
            Some(setting) if setting.kind == Kind::Setting => {
                seen.replays += 1;
                Ok(setting.answer.clone())
            }
            Some(_) => Err(format!("a second time: {}", shown(payload))),
            None => Err(format!("{NOT_YET}: {}", shown(payload))),
        }
    }

    fn answer_own(&mut self, payload: &[u8], capabilities: Capabilities) -> Option<Packets> {
        let plan = &self.server.plan;
        if payload == [Command::STATISTICS.0] {
            let uptime = (UPTIME + self.server.began.elapsed()).as_secs();
            return Some(Packets::text(&format!("Uptime: {uptime}  Threads: 1  Questions: 7")));
        }
        let sql = std::str::from_utf8(payload.strip_prefix(&[Command::QUERY.0])?).ok()?;
        let mut dialect = plan.dialect;
        dialect.deprecate_eof = capabilities.contains(Capabilities::DEPRECATE_EOF);
        if sql == SESSION_INIT {
            return Some(Packets::just_ok());
        }
        if sql.starts_with("SELECT @@global.server") {
            return Some(Packets::one_row(&["simulated".to_owned(), "host".to_owned()], dialect));
        }
        if sql.starts_with("SELECT @@session.wait_timeout") {
            self.begun = true;
            let wait_timeout = plan.wait_timeout.as_secs().to_string();
            let values = [wait_timeout.as_str(), "28800", "0", "0", "0"].map(str::to_owned);
            let values = if dialect.is_mariadb { &values[..] } else { &values[..2] };
            return Some(Packets::one_row(values, dialect));
        }
        None
    }
}

fn shown(payload: &[u8]) -> String {
    String::from_utf8_lossy(&payload[..payload.len().min(60)]).into_owned()
}
