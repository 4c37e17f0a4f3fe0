//! The command phase: commands forward, responses into the spool and out of it.
//!
//! One task owns both sockets and the spool; [`Relay::poll`] moves whatever can move, in a fixed order, and all
//! progress is in fields, so a wake-up more or less changes nothing.

mod commands;
mod content;
mod responses;
mod takeover;

use std::io;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use spillway_protocol::Command;
use tokio::time::Instant;
use tracing::warn;

use super::backend::{BackendHalf, OwnCommand, Setting};
use super::client::ClientHalf;
use super::continuity::Continuity;
use super::keepalive::Keepalive;
use super::login::Login;
use super::loss::{Loss, Told};
use crate::connection_ids::ToldId;
use crate::drain_limit::Throttle;
use crate::journal::Journal;
use crate::packet_stream::PacketStream;
use crate::spool::Spool;
use takeover::Link;

/// Rounds of one [`Relay::poll`] before other sessions of the lane get their turn: a read of 1 MiB each, so a few
/// milliseconds in all.
const MAX_ROUNDS: usize = 8;

/// The longest command with its response that is small change, after which the next packet is waited for awake.
const BRISK_EXCHANGE: u64 = 16 * 1024;

/// How the command phase ended.
pub(crate) enum RelayEnd {
    /// The client said COM_QUIT, or hung up between two responses.
    ClientLeft,
    /// The client hung up with a response under way.
    ClientGone(Option<io::Error>),
    /// The client was told that the session is lost, or its connection was cut where it could not be told.
    Lost(Loss),
    /// The server has ended the session as it refused a change of user. The client knows.
    RefusedUser,
    /// The client says COM_CHANGE_USER, and all before it is done. This is the connection to the server.
    ChangeUser(Box<PacketStream>),
}

/// With what a command phase begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// The server's session is new.
    Session,
    /// The same, as the server has refused a change of user, and wiped what there was. It may end the session now.
    Refused,
    /// The session is as it was when the last command phase ended.
    Unchanged,
}

/// One session in its command phase.
pub(crate) struct Relay {
    client: ClientHalf,
    backend: BackendHalf,
    spool: Spool,
    keepalive: Keepalive,
    peer_timeout: Duration,
    login: Login,
    told: Told,
    told_id: ToldId,
    session_init: Vec<String>,
    /// Only where Spillway can log in by itself.
    continuity: Option<Continuity>,
    link: Link,
    /// Settings of the client's that wait for a new connection.
    unanswered: Vec<Setting>,
    kept: Kept,
    journal: Journal,
    throttle: Throttle,
    /// When the client took the last byte of its last response.
    last_fed: Instant,
    /// Bytes of commands that went on to the server.
    forwarded: u64,
    /// Bytes of commands that came when there was no server any more.
    discarded: u64,
    /// Bytes that had gone either way when the client's last command came.
    carried_before_command: u64,
    loss: Option<Loss>,
    /// ERR payload by which the server announced that it is going away.
    farewell: Option<Vec<u8>>,
    quitting: bool,
    /// Nothing more is fed: what is in the client's outbox is the last.
    closing: bool,
    /// The server has refused a change of user, and nobody has said anything since.
    may_end: bool,
}

/// What outlasts a command phase.
#[derive(Default)]
pub(crate) struct Kept {
    /// Session-init statements that the server has refused.
    refused_init: Vec<String>,
    in_transaction: bool,
    holds_locks: bool,
    /// The client has sent a command.
    was_used: bool,
    /// Rows drained in earlier command phases, and over connections that are lost.
    rows: u64,
    /// Errors of Spillway's own that the client got.
    told_errors: u64,
}

impl Kept {
    /// Errors of Spillway's own that the client got.
    pub(crate) fn told_errors(&self) -> u64 {
        self.told_errors
    }
}

/// What a relay starts with, but for its client.
pub(crate) struct RelayParts {
    pub(crate) backend: PacketStream,
    pub(crate) spool: Spool,
    pub(crate) keepalive: Keepalive,
    /// How long either peer's host may be silent (`--peer-timeout`).
    pub(crate) peer_timeout: Duration,
    pub(crate) login: Login,
    pub(crate) told: Told,
    pub(crate) told_id: ToldId,
    pub(crate) session_init: Vec<String>,
    pub(crate) continuity: Option<Continuity>,
    pub(crate) kept: Kept,
    pub(crate) journal: Journal,
    pub(crate) throttle: Throttle,
}

impl Relay {
    pub(crate) fn new(client: PacketStream, parts: RelayParts, opening: Opening) -> Self {
        let RelayParts {
            backend,
            spool,
            keepalive,
            peer_timeout,
            login,
            told,
            told_id,
            session_init,
            continuity,
            kept,
            journal,
            throttle,
        } = parts;
        let status = login.status;
        // MariaDB lets the session go on (tried: 10.11; MySQL 9.7 does not).
        let ends_refused = !login.is_mariadb;
        let mut relay = Self {
            client: ClientHalf::new(client),
            backend: BackendHalf::new(backend, login.capabilities),
            spool,
            keepalive,
            peer_timeout,
            login,
            told,
            told_id,
            session_init,
            continuity,
            link: Link::Up,
            unanswered: Vec::new(),
            kept,
            journal,
            throttle,
            last_fed: Instant::now(),
            forwarded: 0,
            discarded: 0,
            carried_before_command: 0,
            loss: None,
            farewell: None,
            quitting: false,
            closing: false,
            may_end: opening == Opening::Refused && ends_refused,
        };
        if opening != Opening::Unchanged {
            (relay.kept.in_transaction, relay.kept.holds_locks) = (false, false);
            if let Some(status) = status {
                relay.note_status(status);
            }
            relay.begin_session();
        }
        relay
    }

    pub(crate) fn spool(&self) -> &Spool {
        &self.spool
    }

    pub(crate) fn rows(&self) -> u64 {
        self.kept.rows + self.backend.rows()
    }

    /// Whether the client has sent any command.
    pub(crate) fn was_used(&self) -> bool {
        self.kept.was_used
    }

    /// Errors of Spillway's own that ended a response.
    pub(crate) fn told_errors(&self) -> u64 {
        self.kept.told_errors
    }

    /// What another command phase begins with, after [`RelayEnd::ChangeUser`].
    pub(crate) fn pause(self, backend: PacketStream) -> (PacketStream, RelayParts) {
        let kept = Kept { rows: self.rows(), was_used: true, ..self.kept };
        let parts = RelayParts {
            backend,
            spool: self.spool,
            keepalive: self.keepalive,
            peer_timeout: self.peer_timeout,
            login: self.login,
            told: self.told,
            told_id: self.told_id,
            session_init: self.session_init,
            continuity: self.continuity,
            kept,
            journal: self.journal,
            throttle: self.throttle,
        };
        (self.client.into_packets(), parts)
    }

    /// What remains: the spool gives its files back, the client may get to read its last packet, the journal is closed.
    pub(crate) fn into_parts(self) -> (ClientHalf, Spool, Journal) {
        (self.client, self.spool, self.journal)
    }

    /// Moves whatever can move. Ready when the session is over.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        let polled = self.poll_all(cx);
        self.journal.session().figures.set_spool(self.spool.stats(), self.rows(), self.spool.pending());
        polled
    }

    fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        for _ in 0..MAX_ROUNDS {
            let commands = match self.poll_commands(cx) {
                Ok(progress) => progress,
                Err(end) => return Poll::Ready(end),
            };
            let resumed = self.poll_resume(cx);
            let flushed = self.backend.poll_flush(cx).is_ready();
            let drained = self.poll_drain(cx);
            let moved = self.spool.poll_disk(cx).unwrap_or_else(|error| {
                self.lose(error.into());
                true
            });
            let fed = match self.poll_feed(cx) {
                Ok(progress) => progress,
                Err(error) => return Poll::Ready(RelayEnd::ClientGone(Some(error))),
            };
            let ticked = self.poll_keepalive(cx);
            if ticked {
                if let Some(error) = silent(self.client.silence(), self.peer_timeout) {
                    return Poll::Ready(RelayEnd::ClientGone(Some(error)));
                }
                if self.client.has_gone_unread() {
                    return Poll::Ready(self.on_client_end(None));
                }
            }
            if self.is_over() {
                return Poll::Ready(self.end());
            }
            if self.may_change_user()
                && let Some(backend) = self.backend.take_packets()
            {
                return Poll::Ready(RelayEnd::ChangeUser(Box::new(backend)));
            }
            if !(commands || resumed || flushed || drained || moved || fed || ticked) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether client and server take turns with little to say: the next packet may come at once.
    pub(crate) fn is_brisk(&self) -> bool {
        self.spool.backlog() == 0 && self.carried() - self.carried_before_command < BRISK_EXCHANGE
    }

    /// Bytes that went either way.
    fn carried(&self) -> u64 {
        self.spool.stats().drained + self.forwarded
    }

    /// Whether the client wants to be another user, and everything before that is done on both sides.
    fn may_change_user(&self) -> bool {
        self.client.announced == Some(Command::CHANGE_USER)
            && self.loss.is_none()
            && self.farewell.is_none()
            && matches!(self.link, Link::Up)
            && self.spool.pending() == 0
            && self.client.is_flushed()
            && self.backend.is_idle()
    }

    /// Ends the session where it stands, without what is still spooled, as Spillway is told to stop.
    pub(crate) fn abandon(&mut self) {
        self.lose(Loss::Shutdown);
        self.spool.abandon();
        if self.spool.pending() == 0 {
            // It ends at once, unless a command is here already, which is told so.
            self.loss = Some(Loss::Shutdown);
        }
    }

    fn end(&mut self) -> RelayEnd {
        match self.loss.take() {
            Some(loss) if self.closing => RelayEnd::Lost(loss),
            None if self.closing => RelayEnd::RefusedUser,
            _ => RelayEnd::ClientLeft,
        }
    }

    fn is_over(&self) -> bool {
        let quit = self.quitting && self.backend.is_flushed() && self.spool.pending() == 0;
        (self.closing || quit) && self.client.is_flushed()
    }

    /// The server is lost, or must be given up. What was drained is fed all the same.
    fn lose(&mut self, loss: Loss) {
        if self.loss.is_some() || self.try_resume(&loss) {
            return;
        }
        if self.may_end && matches!(loss, Loss::ServerClosed | Loss::Server(_)) {
            self.backend.close();
            self.closing = true;
            return;
        }
        if !self.quitting {
            warn!(error = %loss, backlog = self.spool.backlog(), "lost the server");
        }
        self.link = Link::Up;
        self.backend.close();
        self.spool.lose_open();
        self.loss = Some(loss);
    }

    fn poll_keepalive(&mut self, cx: &mut Context<'_>) -> bool {
        if self.keepalive.poll_tick(cx).is_pending() {
            return false;
        }
        if let Some(error) = silent(self.backend.silence(), self.peer_timeout) {
            self.lose(Loss::Server(error));
        }
        let active = self.backend.take_active();
        if !active {
            self.spool.rest();
        }
        if !active && self.spool.backlog() == 0 {
            self.client.rest();
            self.backend.rest();
        }
        let between = self.client.reader.is_between_commands() && self.client.announced.is_none();
        if self.loss.is_none()
            && matches!(self.link, Link::Up)
            && self.farewell.is_none()
            && !self.quitting
            && !active
            && between
            && self.backend.is_idle()
            && self.needs_keepalive()
        {
            self.backend.send_own(OwnCommand::Keepalive);
            self.journal.session().figures.keepalives.fetch_add(1, Ordering::Relaxed);
        }
        true
    }

    fn needs_keepalive(&self) -> bool {
        self.spool.backlog() > 0
            || self.kept.in_transaction
            || self.kept.holds_locks
            || self.last_fed.elapsed() < self.keepalive.keep_for()
    }
}

/// A peer whose host is silent for longer than it may.
fn silent(silence: Option<Duration>, limit: Duration) -> Option<io::Error> {
    let silence = silence.filter(|silence| *silence > limit)?;
    let text = format!("its host has answered nothing for {} s (--peer-timeout)", silence.as_secs());
    Some(io::Error::new(io::ErrorKind::TimedOut, text))
}
