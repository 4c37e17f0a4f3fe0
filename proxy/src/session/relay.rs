//! The command phase: commands forward, responses into the spool and out of it.
//!
//! One task owns both sockets and the spool; [`Relay::poll`] moves whatever can move, in a fixed order, and all
//! progress is in fields, so a wake-up more or less changes nothing.

mod commands;
mod content;
mod responses;
mod takeover;

use std::io;
use std::task::{Context, Poll};

use tokio::time::Instant;
use tracing::warn;

use super::backend::{BackendHalf, OwnCommand, Setting};
use super::client::ClientHalf;
use super::continuity::Continuity;
use super::keepalive::Keepalive;
use super::login::Login;
use super::loss::{Loss, Told};
use crate::connection_ids::ToldId;
use crate::spool::Spool;
use takeover::Link;

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
    told_id: ToldId,
    session_init: Vec<String>,
    /// Only where Spillway can log in by itself.
    continuity: Option<Continuity>,
    link: Link,
    /// Settings of the client's that wait for a new connection.
    unanswered: Vec<Setting>,
    /// Session-init statements that the server has refused.
    refused_init: Vec<String>,
    /// Database and character set that a COM_CHANGE_USER under way asks for.
    wanted_defaults: Option<(Vec<u8>, Option<u16>)>,
    in_transaction: bool,
    holds_locks: bool,
    /// When the client took the last byte of its last response.
    last_fed: Instant,
    loss: Option<Loss>,
    /// ERR payload by which the server announced that it is going away.
    farewell: Option<Vec<u8>>,
    quitting: bool,
    /// The client has sent a command.
    was_used: bool,
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
    pub(crate) told_id: ToldId,
    pub(crate) session_init: Vec<String>,
    pub(crate) continuity: Option<Continuity>,
}

impl Relay {
    pub(crate) fn new(client: ClientHalf, parts: RelayParts) -> Self {
        let RelayParts { backend, spool, keepalive, login, told, told_id, session_init, continuity } = parts;
        let status = login.status;
        let mut relay = Self {
            client,
            backend,
            spool,
            keepalive,
            login,
            told,
            told_id,
            session_init,
            continuity,
            link: Link::Up,
            unanswered: Vec::new(),
            refused_init: Vec::new(),
            wanted_defaults: None,
            in_transaction: false,
            holds_locks: false,
            last_fed: Instant::now(),
            loss: None,
            farewell: None,
            quitting: false,
            was_used: false,
            closing: false,
            told_errors: 0,
        };
        if let Some(status) = status {
            relay.note_status(status);
        }
        relay.begin_session();
        relay
    }

    pub(crate) fn spool(&self) -> &Spool {
        &self.spool
    }

    pub(crate) fn rows(&self) -> u64 {
        self.backend.rows()
    }

    /// Whether the client has sent any command.
    pub(crate) fn was_used(&self) -> bool {
        self.was_used
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
            if self.is_over() {
                return Poll::Ready(self.end());
            }
            if !(commands || resumed || flushed || drained || moved || fed || ticked) {
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

    /// The server is lost, or must be given up. What was drained is fed all the same.
    fn lose(&mut self, loss: Loss) {
        if self.loss.is_some() || self.try_resume(&loss) {
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
        let active = self.backend.take_active();
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
