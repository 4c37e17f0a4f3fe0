//! The command phase: commands forward, responses into the spool and out of it.
//!
//! One task owns both sockets and the spool; [`Relay::poll`] moves whatever can move, in a fixed order, and all
//! progress is in fields, so a wake-up more or less changes nothing.

use std::io;
use std::task::{Context, Poll};

use bytes::Buf;
use spillway_protocol::{
    Command, LockEffect, RequestEvent, ResponseEnd, ResponseForm, StatusFlags, encode_err, err_code,
    err_message, lock_effect,
};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::backend::{BackendEvent, BackendHalf, OwnCommand};
use super::client::{ClientHalf, Route};
use super::handshake::Login;
use super::keepalive::{Keepalive, numbers_of_row, timeouts_statement};
use super::loss::{Loss, Told};
use crate::spool::{Feed, Spool};

/// Responses that a client may have outstanding. Drivers pipeline hundreds; what goes beyond waits in the socket.
const MAX_OUTSTANDING: usize = 4096;

/// Rounds of one [`Relay::poll`] before other sessions get their turn.
const MAX_ROUNDS: usize = 64;

/// How the command phase ended.
#[derive(Debug)]
pub(crate) enum RelayEnd {
    /// The client said COM_QUIT, or hung up between two responses.
    ClientLeft,
    /// The client hung up with a response under way.
    ClientGone(Option<io::Error>),
    /// The client was told that the session is lost, or its connection was cut where it could not be told.
    Lost(Loss),
}

/// One session in its command phase.
pub(crate) struct Relay {
    client: ClientHalf,
    backend: BackendHalf,
    spool: Spool,
    keepalive: Keepalive,
    login: Login,
    told: Told,
    session_init: Vec<String>,
    in_transaction: bool,
    holds_locks: bool,
    /// When the client took the last byte of its last response.
    last_fed: Instant,
    loss: Option<Loss>,
    /// ERR payload by which the server announced that it is going away.
    farewell: Option<Vec<u8>>,
    quitting: bool,
    /// Nothing more is fed: what is in the client's outbox is the last.
    closing: bool,
    /// Errors of Spillway's own that the client got.
    told_errors: u64,
}

/// What a relay starts with, but for its client.
pub(crate) struct RelayParts {
    pub(crate) backend: BackendHalf,
    pub(crate) spool: Spool,
    pub(crate) keepalive: Keepalive,
    pub(crate) login: Login,
    pub(crate) told: Told,
    pub(crate) session_init: Vec<String>,
}

impl Relay {
    pub(crate) fn new(client: ClientHalf, parts: RelayParts) -> Self {
        let RelayParts { backend, spool, keepalive, login, told, session_init } = parts;
        let mut relay = Self {
            client,
            backend,
            spool,
            keepalive,
            in_transaction: login.status.is_some_and(|status| status.contains(StatusFlags::IN_TRANS)),
            login,
            told,
            session_init,
            holds_locks: false,
            last_fed: Instant::now(),
            loss: None,
            farewell: None,
            quitting: false,
            closing: false,
            told_errors: 0,
        };
        relay.send_session_init();
        let timeouts = timeouts_statement(relay.login.is_mariadb);
        relay.backend.send_own(OwnCommand::IdleTimeouts(timeouts));
        relay
    }

    pub(crate) fn spool(&self) -> &Spool {
        &self.spool
    }

    pub(crate) fn rows(&self) -> u64 {
        self.backend.rows()
    }

    /// Errors of Spillway's own that ended a response.
    pub(crate) fn told_errors(&self) -> u64 {
        self.told_errors
    }

    /// The two connections' remains: the spool gives its files back, the client may get to read its last packet.
    pub(crate) fn into_parts(self) -> (ClientHalf, Spool) {
        (self.client, self.spool)
    }

    /// Moves whatever can move. Ready when the session is over.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        for _ in 0..MAX_ROUNDS {
            let commands = match self.poll_commands(cx) {
                Ok(progress) => progress,
                Err(end) => return Poll::Ready(end),
            };
            let flushed = self.backend.poll_flush(cx).is_ready();
            let drained = self.poll_drain(cx);
            if let Err(error) = self.spool.poll_disk(cx) {
                self.lose(error.into());
            }
            let fed = match self.poll_feed(cx) {
                Ok(progress) => progress,
                Err(error) => return Poll::Ready(RelayEnd::ClientGone(Some(error))),
            };
            let ticked = self.poll_keepalive(cx);
            if self.is_over() {
                return Poll::Ready(self.end());
            }
            if !(commands || flushed || drained || fed || ticked) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ends the session as lost where it stands, without what is still spooled.
    pub(crate) fn abandon(&mut self, loss: Loss) {
        self.lose(loss);
        self.spool.abandon();
        self.closing |= self.spool.pending() == 0;
    }

    fn end(&mut self) -> RelayEnd {
        match self.loss.take() {
            Some(loss) if self.closing => RelayEnd::Lost(loss),
            _ => RelayEnd::ClientLeft,
        }
    }

    fn is_over(&self) -> bool {
        let quit = self.quitting && self.backend.is_flushed() && self.spool.pending() == 0;
        (self.closing || quit) && self.client.is_flushed()
    }

    // ---- commands ----

    fn poll_commands(&mut self, cx: &mut Context<'_>) -> Result<bool, RelayEnd> {
        let mut progress = self.take_commands();
        match self.client.poll_read(cx) {
            Poll::Ready(Ok(n)) if n > 0 => {
                self.take_commands();
                progress = true;
            }
            Poll::Ready(end) => return Err(self.on_client_end(end.err())),
            Poll::Pending => {}
        }
        Ok(progress)
    }

    fn on_client_end(&mut self, error: Option<io::Error>) -> RelayEnd {
        let between = self.spool.pending() == 0 && self.client.reader.is_between_commands();
        if self.quitting || between && error.is_none() {
            RelayEnd::ClientLeft
        } else {
            RelayEnd::ClientGone(error)
        }
    }

    /// Takes commands from the client's inbox as far as they may go.
    fn take_commands(&mut self) -> bool {
        let mut progress = false;
        while self.backend.takes_commands() && !self.closing {
            let event = match self.client.announced.take() {
                Some(command) => Some(RequestEvent::Start(command)),
                None => {
                    let step = self.client.reader.advance(&self.client.inbox);
                    if step.consumed == 0 && step.event.is_none() {
                        break;
                    }
                    if matches!(self.client.route, Route::Forward(_)) {
                        self.backend.forward(&self.client.inbox[..step.consumed]);
                    }
                    self.client.inbox.advance(step.consumed);
                    step.event
                }
            };
            if let Some(RequestEvent::Start(command)) = event
                && !self.may_start()
            {
                self.client.announced = Some(command);
                break;
            }
            progress = true;
            match event {
                Some(RequestEvent::Start(command)) => self.start(command),
                Some(RequestEvent::Continuation) => self.on_continuation(),
                Some(RequestEvent::End { sequence_id }) => self.on_command_end(sequence_id),
                Some(RequestEvent::FileEnd { .. }) | None => {}
            }
        }
        progress
    }

    fn may_start(&self) -> bool {
        self.spool.pending() < MAX_OUTSTANDING && (self.loss.is_some() || !self.backend.holds_commands())
    }

    fn start(&mut self, command: Command) {
        self.client.route = if command == Command::QUIT {
            self.quitting = true;
            Route::Forward(None)
        } else if self.loss.is_some() || self.farewell.is_some() {
            Route::Lost
        } else {
            match command.response_form() {
                None => Route::Refuse(command),
                Some(ResponseForm::None) => Route::Forward(None),
                Some(form) => {
                    // The sequence id is right for a command of one packet, and set anew when a longer one ends.
                    let id = self.spool.open(1);
                    self.backend.begin(command, form, id);
                    Route::Forward(Some(id))
                }
            }
        };
    }

    fn on_continuation(&mut self) {
        if self.backend.is_authenticating() {
            self.client.route = Route::Forward(None);
        } else {
            self.lose(Loss::Client("a packet that begins no command"));
            self.client.route = Route::Lost;
        }
    }

    fn on_command_end(&mut self, sequence_id: u8) {
        let next = sequence_id.wrapping_add(1);
        match self.client.route {
            Route::Forward(Some(id)) => {
                self.spool.set_first_sequence_id(id, next);
                self.note_locks();
            }
            Route::Forward(None) => {}
            Route::Refuse(command) => {
                let message = format!("spillway: {command} is not known and was not forwarded");
                self.spool.answer(encode_err(next, 1047, Some(b"08S01"), &message));
            }
            Route::Lost => self.answer_lost(next),
        }
    }

    /// The server was lost before this command came.
    fn answer_lost(&mut self, sequence_id: u8) {
        let packet = match (&self.farewell, &self.loss) {
            (Some(payload), _) => spillway_protocol::encode_packet(sequence_id, payload),
            (None, Some(loss)) => loss.err_packet_for_next(sequence_id, &self.told),
            (None, None) => return,
        };
        self.loss.get_or_insert(Loss::ServerClosed);
        self.spool.answer(packet);
    }

    fn note_locks(&mut self) {
        let [first, text @ ..] = self.client.reader.prefix() else {
            return;
        };
        if *first == Command::QUERY.0 {
            match lock_effect(text) {
                LockEffect::Takes => self.holds_locks = true,
                LockEffect::Releases => self.holds_locks = false,
                LockEffect::None => {}
            }
        }
    }

    // ---- responses ----

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> bool {
        if self.loss.is_some() {
            return false;
        }
        match self.backend.poll_drain(cx, &mut self.spool) {
            Poll::Pending => false,
            Poll::Ready(Ok(0)) => {
                self.lose(Loss::ServerClosed);
                true
            }
            Poll::Ready(Err(error)) => {
                self.lose(Loss::Server(error));
                true
            }
            Poll::Ready(Ok(_)) => {
                self.on_drained();
                true
            }
        }
    }

    fn on_drained(&mut self) {
        loop {
            match self.backend.next_event(&mut self.spool) {
                Ok(Some(event)) => self.on_backend_event(event),
                Ok(None) => return,
                Err(error) => return self.lose(error.into()),
            }
        }
    }

    fn on_backend_event(&mut self, event: BackendEvent) {
        match event {
            BackendEvent::ClientResponse { command, end } => self.on_client_response(command, end),
            BackendEvent::OwnResponse { own, end, packets } => self.on_own_response(&own, end, &packets),
            BackendEvent::LocalInfile => {
                // What the client has sent behind this command, the server takes for the file.
                if self.backend.client_responses() > 1 || !self.client.reader.expect_file() {
                    self.lose(Loss::Client("commands behind a LOAD DATA LOCAL INFILE that is not answered"));
                }
            }
            BackendEvent::Farewell(payload) => {
                let message = String::from_utf8_lossy(err_message(&payload)).into_owned();
                warn!(code = err_code(&payload), message, "the server is ending the idle session");
                self.farewell = Some(payload);
            }
        }
    }

    fn on_client_response(&mut self, command: Command, end: ResponseEnd) {
        if let ResponseEnd::Status(Some(status)) = end {
            self.in_transaction = status.contains(StatusFlags::IN_TRANS);
        }
        let wiped = matches!(command, Command::CHANGE_USER | Command::RESET_CONNECTION);
        if wiped && matches!(end, ResponseEnd::Status(_)) {
            self.holds_locks = false;
            self.send_session_init();
        }
    }

    fn on_own_response(&mut self, own: &OwnCommand, end: ResponseEnd, packets: &[u8]) {
        match (own, end) {
            (OwnCommand::SessionInit(sql), ResponseEnd::Error(code)) => {
                let payload = packets.get(spillway_protocol::HEADER_LEN..).unwrap_or_default();
                let message = String::from_utf8_lossy(err_message(payload)).into_owned();
                warn!(sql, code, message, "the server refused a session-init statement; going on without it");
            }
            (OwnCommand::IdleTimeouts(_), ResponseEnd::Status(_)) => {
                let timeouts = numbers_of_row(packets, self.login.capabilities);
                debug!(?timeouts, "idle timeouts of the server");
                self.keepalive.respect(&timeouts);
            }
            (OwnCommand::IdleTimeouts(_), ResponseEnd::Error(code)) => {
                debug!(code, "the server does not tell its idle timeouts");
            }
            _ => {}
        }
    }

    fn send_session_init(&mut self) {
        for sql in &self.session_init {
            self.backend.send_own(OwnCommand::SessionInit(sql.clone()));
        }
    }

    fn poll_feed(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut progress = match self.client.poll_flush(cx) {
            Poll::Ready(flushed) => flushed?,
            Poll::Pending => return Ok(false),
        };
        while !self.closing {
            match self.spool.feed() {
                Feed::Data(bytes) => match self.client.poll_feed(cx, bytes) {
                    Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                    Poll::Ready(written) => {
                        self.spool.consume(written?);
                        // One write, then the drain has its turn again.
                        return Ok(true);
                    }
                    Poll::Pending => return Ok(progress),
                },
                Feed::Complete => {
                    self.spool.finish_front();
                    self.last_fed = Instant::now();
                }
                Feed::Answer(packets) => {
                    self.client.send(&packets);
                    self.spool.finish_front();
                    // The first command after a loss was answered: the session ends with it.
                    self.close_if_lost();
                }
                Feed::Lost { err_sequence_id } => self.tell_loss(err_sequence_id),
                Feed::Wait => break,
                Feed::Idle => break,
            }
            progress = true;
        }
        if let Poll::Ready(flushed) = self.client.poll_flush(cx) {
            progress |= flushed?;
        }
        Ok(progress)
    }

    // ---- losses ----

    /// The server is lost, or must be given up. What was drained is fed all the same.
    fn lose(&mut self, loss: Loss) {
        if self.loss.is_some() {
            return;
        }
        if !self.quitting {
            warn!(error = %loss, backlog = self.spool.backlog(), "lost the server");
        }
        self.backend.close();
        self.spool.lose_open();
        self.loss = Some(loss);
    }

    fn close_if_lost(&mut self) {
        if self.loss.is_some() {
            self.told_errors += 1;
            self.closing = true;
        }
    }

    fn tell_loss(&mut self, err_sequence_id: Option<u8>) {
        let drained = self.spool.stats().drained;
        let loss = self.loss.get_or_insert(Loss::ServerClosed);
        match err_sequence_id {
            Some(sequence_id) => self.client.send(&loss.err_packet(sequence_id, &self.told, drained)),
            // Inside a packet an ERR would be read as row data: only the end of the connection can tell.
            None => warn!("the client's connection is cut inside a packet of which a part was fed already"),
        }
        self.told_errors += 1;
        self.closing = true;
    }

    // ---- keepalive ----

    fn poll_keepalive(&mut self, cx: &mut Context<'_>) -> bool {
        if self.keepalive.poll_tick(cx).is_pending() {
            return false;
        }
        let active = self.backend.take_active();
        let between = self.client.reader.is_between_commands() && self.client.announced.is_none();
        if self.loss.is_none()
            && self.farewell.is_none()
            && !self.quitting
            && !active
            && between
            && self.backend.is_idle()
            && self.needs_keepalive()
        {
            self.backend.send_own(OwnCommand::Keepalive);
        }
        true
    }

    fn needs_keepalive(&self) -> bool {
        self.spool.backlog() > 0
            || self.in_transaction
            || self.holds_locks
            || self.last_fed.elapsed() < self.keepalive.keep_for()
    }
}
