//! The simulated client: logs in, asks by the script, and takes down what it gets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use spillway_protocol::{
    AuthPlugin, AuthSwitchRequest, Command, ERR_HEADER, Greeting, HandshakeResponse, OK_HEADER, encode_packet,
};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::net::unix::{ReadHalf, WriteHalf};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::plan::{Expectation, Leaves, Plan};
use super::server::{PASSWORD, USER};
use super::wire::{Line, Stop};

/// Without a byte for so long it gives up.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// What a client has seen.
#[derive(Clone, Debug)]
pub(super) struct ClientView {
    pub(super) login: Login,
    /// All bytes behind the login.
    pub(super) received: Vec<u8>,
    /// Commands that it has begun to send, and those that it has sent whole.
    pub(super) begun: usize,
    pub(super) sent: usize,
    pub(super) end: End,
}

/// How its login ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Login {
    In,
    /// By this ERR packet.
    Refused(Vec<u8>),
    /// By a closed connection.
    Closed,
    /// It went away itself, as planned.
    Left,
    /// It gave up.
    GaveUp,
    /// By something that it does not understand.
    Odd(String),
}

/// How its connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The other side has closed it.
    Closed,
    /// The same, after COM_QUIT.
    Quit,
    /// It had all that it wanted, and said nothing more.
    Done,
    /// It went away itself, as planned.
    Left,
    /// It gave up.
    GaveUp,
}

/// One client, from its login to its end. When it has received as much as the plan says, it tells `halfway`.
pub(super) async fn run(plan: Arc<Plan>, stream: UnixStream, halfway: Arc<Notify>) -> ClientView {
    let mut line = Line::new(stream, plan.seed);
    let mut view =
        ClientView { login: Login::Closed, received: Vec::new(), begun: 0, sent: 0, end: End::Closed };
    view.login = match timeout(PATIENCE, log_in(&plan, &mut line)).await {
        Ok(Ok(login)) => login,
        Ok(Err(Stop::Gone | Stop::Reached)) => Login::Closed,
        Ok(Err(Stop::Odd(text))) => Login::Odd(text),
        Err(_) => Login::GaveUp,
    };
    if view.login != Login::In {
        return view;
    }
    view.received = std::mem::take(&mut line.ahead);
    let expectation = plan.expectation();
    let (begun, sent) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (progress, seen) = watch::channel(view.received.len());
    let (from, to) = line.stream.split();
    let mut reader = Reader { plan: &plan, halfway: &halfway, from, progress, received: &mut view.received };
    let mut writer =
        Writer { plan: &plan, expectation: &expectation, to, seen, begun: &begun, sent: &sent, written: 0 };
    view.end = tokio::select! {
        biased;
        end = reader.run(expectation.bytes.len()) => end,
        end = writer.run() => end,
    };
    let sent = sent.load(Ordering::Relaxed);
    // COM_QUIT is one more.
    if view.end == End::Closed && sent > plan.exchanges.len() {
        view.end = End::Quit;
    }
    view.sent = sent.min(plan.exchanges.len());
    view.begun = begun.load(Ordering::Relaxed).min(plan.exchanges.len());
    view
}

async fn log_in(plan: &Plan, line: &mut Line) -> Result<Login, Stop> {
    let payload = line.read_packet().await?;
    if payload.first() == Some(&ERR_HEADER) {
        return Ok(Login::Refused(payload));
    }
    let greeting = Greeting::parse(payload).map_err(|error| Stop::Odd(error.to_string()))?;
    if greeting.server_version() != plan.dialect.version().as_bytes() {
        return Err(Stop::Odd("another server's version".to_owned()));
    }
    if matches!(plan.client.leaves, Some(Leaves::BeforeResponse)) {
        return Ok(Login::Left);
    }
    sleep(plan.client.login_delay).await;
    let answer_to = |scramble: &[u8]| AuthPlugin::Native.answer(PASSWORD, scramble).unwrap_or_default();
    let capabilities = plan.dialect.capabilities();
    let answer = answer_to(&greeting.scramble());
    let response = HandshakeResponse::new(capabilities, USER);
    line.send(&response.answering(capabilities, b"mysql_native_password", &answer)).await?;
    if matches!(plan.client.leaves, Some(Leaves::AfterResponse)) {
        return Ok(Login::Left);
    }
    loop {
        let payload = line.read_packet().await?;
        match payload.first() {
            Some(&OK_HEADER) => return Ok(Login::In),
            Some(&ERR_HEADER) => return Ok(Login::Refused(payload)),
            _ => {}
        }
        let Some(request) = AuthSwitchRequest::parse(&payload) else {
            return Err(Stop::Odd(format!("{payload:02x?} in a login")));
        };
        line.send(&answer_to(request.scramble())).await?;
    }
}

struct Reader<'a> {
    plan: &'a Plan,
    halfway: &'a Notify,
    from: ReadHalf<'a>,
    progress: watch::Sender<usize>,
    received: &'a mut Vec<u8>,
}

impl Reader<'_> {
    async fn run(&mut self, expected: usize) -> End {
        let client = &self.plan.client;
        let mut rng = StdRng::seed_from_u64(self.plan.seed ^ 1);
        let mut stall = client.stall;
        let mut room = vec![0; client.reads.piece_of(expected)];
        loop {
            if matches!(client.leaves, Some(Leaves::Received(bytes)) if self.received.len() >= bytes) {
                return End::Left;
            }
            if self.plan.stop.as_ref().is_some_and(|stop| self.received.len() >= stop.received) {
                self.halfway.notify_one();
            }
            if let Some((_, time)) = stall.take_if(|(bytes, _)| self.received.len() >= *bytes) {
                sleep(time).await;
            }
            client.reads.wait(&mut rng).await;
            match timeout(PATIENCE, self.from.read(&mut room)).await {
                Ok(Ok(len @ 1..)) => self.received.extend_from_slice(&room[..len]),
                Ok(Ok(0) | Err(_)) => return End::Closed,
                Err(_) => return End::GaveUp,
            }
            self.progress.send_replace(self.received.len());
        }
    }
}

struct Writer<'a> {
    plan: &'a Plan,
    expectation: &'a Expectation,
    to: WriteHalf<'a>,
    seen: watch::Receiver<usize>,
    begun: &'a AtomicUsize,
    sent: &'a AtomicUsize,
    /// Bytes of commands.
    written: usize,
}

impl Writer<'_> {
    async fn run(&mut self) -> End {
        let client = &self.plan.client;
        for (index, exchange) in self.plan.exchanges.iter().enumerate() {
            self.wait_for((index + 1).saturating_sub(client.depth)).await;
            sleep(client.think).await;
            if let Some(end) = self.send(&exchange.payload).await {
                return end;
            }
        }
        self.wait_for(self.plan.exchanges.len()).await;
        sleep(client.linger).await;
        if client.quits {
            return match self.send(&[Command::QUIT.0]).await {
                Some(end) => end,
                // The reader sees the end.
                None => std::future::pending().await,
            };
        }
        End::Done
    }

    /// Waits for the answers to the first `commands`.
    async fn wait_for(&mut self, commands: usize) {
        let due = self.expectation.due(commands);
        if self.seen.wait_for(|received| *received >= due).await.is_err() {
            // The reader has ended, and all ends with it.
            std::future::pending::<()>().await;
        }
    }

    /// Sends a command. Gives the end, if this is it.
    async fn send(&mut self, payload: &[u8]) -> Option<End> {
        let packet = encode_packet(0, payload);
        let limit = match self.plan.client.leaves {
            Some(Leaves::Sent(limit)) => limit.saturating_sub(self.written),
            _ => usize::MAX,
        };
        let pace = self.plan.client.writes;
        let mut rng = StdRng::seed_from_u64(self.plan.seed ^ 2 ^ self.written as u64);
        let len = packet.len().min(limit);
        self.begun.fetch_add(1, Ordering::Relaxed);
        let written = pace.write(&mut self.to, &packet[..len], &mut rng).await;
        if len < packet.len() {
            return Some(End::Left);
        }
        self.written += len;
        if written.is_err() {
            // What the other side had to say is still to be read.
            return std::future::pending().await;
        }
        self.sent.fetch_add(1, Ordering::Relaxed);
        None
    }
}
