//! The command phase: commands forward, responses into the spool and out of it.
//!
//! One task owns both sockets and the spool; [`Relay::poll`] moves whatever can move, in a fixed order, and all
//! progress is in fields, so a wake-up more or less changes nothing.

mod commands;
mod responses;

use std::io;
use std::task::{Context, Poll};

use spillway_protocol::StatusFlags;
use tokio::time::Instant;
use tracing::warn;

use super::backend::{BackendHalf, OwnCommand};
use super::client::ClientHalf;
use super::handshake::Login;
use super::keepalive::{Keepalive, timeouts_statement};
use super::loss::{Loss, Told};
use crate::spool::Spool;

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
            if !(commands || flushed || drained || moved || fed || ticked) {
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
