//! From the client to the server: commands, as far as they may go.

use std::io;
use std::task::{Context, Poll};

use bytes::Buf;
use spillway_protocol::{
    Command, CompressionError, LockEffect, RequestEvent, RequestStep, ResponseForm, encode_err,
    encode_packet, lock_effect,
};

use super::super::client::Route;
use super::super::loss::Loss;
use super::{Relay, RelayEnd};
use crate::spool::ResponseId;

/// Responses that a client may have outstanding. Drivers pipeline hundreds; what goes beyond waits in the socket.
const MAX_OUTSTANDING: usize = 4096;

/// Bytes of commands that are taken when there is no server any more: of one that was under way, so that its client comes
/// to read why.
const MAX_DISCARDED: u64 = 64 << 20;

impl Relay {
    pub(super) fn poll_commands(&mut self, cx: &mut Context<'_>) -> Result<bool, RelayEnd> {
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

    pub(super) fn on_client_end(&mut self, error: Option<io::Error>) -> RelayEnd {
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
                        match self.client.inflate() {
                            Ok(true) => continue,
                            Ok(false) => break,
                            Err(error) => {
                                self.on_broken_client(error);
                                return true;
                            }
                        }
                    }
                    let step = self.numbered(step);
                    if matches!(self.client.route, Route::Forward(_)) {
                        self.backend.forward(&self.client.inbox[..step.consumed]);
                        self.forwarded += step.consumed as u64;
                    }
                    if self.journal.wants_bytes() {
                        self.journal.on_bytes(&self.client.inbox[..step.consumed]);
                    }
                    if self.loss.is_some() {
                        self.discarded += step.consumed as u64;
                        self.closing |= self.discarded > MAX_DISCARDED;
                    }
                    self.client.inbox.advance(step.consumed);
                    step.event
                }
            };
            if let Some(RequestEvent::Start(command)) = event
                && !self.may_start(command)
            {
                self.client.announced = Some(command);
                break;
            }
            progress = true;
            match event {
                Some(RequestEvent::Start(command)) => self.start(command),
                Some(RequestEvent::Continuation) => self.on_continuation(),
                Some(RequestEvent::End { sequence_id }) => self.on_command_end(sequence_id),
                Some(RequestEvent::FileEnd { sequence_id }) => self.on_turn_end(sequence_id),
                None => {}
            }
        }
        progress
    }

    /// The step with the sequence ids that the server will see.
    fn numbered(&mut self, mut step: RequestStep) -> RequestStep {
        match &mut step.event {
            Some(RequestEvent::End { sequence_id } | RequestEvent::FileEnd { sequence_id }) => {
                *sequence_id = self.client.number_requests(step.consumed, *sequence_id);
            }
            _ => {
                self.client.number_requests(step.consumed, 0);
            }
        }
        step
    }

    /// What comes from the client cannot be inflated, so that no next command will come.
    fn on_broken_client(&mut self, error: CompressionError) {
        self.client.end_command();
        self.lose(Loss::ClientDecompression(error));
        let drained = self.spool.stats().drained;
        if let Some(loss) = &self.loss {
            let packet = loss.err_packet(1, &self.told, drained);
            self.answer(packet, true);
        }
    }

    fn may_start(&mut self, command: Command) -> bool {
        if command == Command::CHANGE_USER && self.loss.is_none() && self.farewell.is_none() {
            // It ends this command phase, when all before it is done. A lost connection is replaced first.
            self.is_linked_for(command);
            return false;
        }
        let has_room = self.spool.pending() < MAX_OUTSTANDING;
        has_room && (self.loss.is_some() || self.is_linked_for(command) && !self.backend.holds(command))
    }

    fn start(&mut self, command: Command) {
        self.kept.was_used = true;
        self.may_end = false;
        self.carried_before_command = self.carried();
        self.client.begin_command();
        self.client.route = if command == Command::QUIT {
            self.quitting = true;
            self.backend.begin_unanswered();
            Route::Forward(None)
        } else if self.loss.is_some() || self.farewell.is_some() {
            let is_answered = command.response_form() != Some(ResponseForm::None);
            if is_answered { Route::Lost } else { Route::Ignore }
        } else {
            match command.response_form() {
                None => Route::Refuse(command),
                Some(form) => self.route(command, form),
            }
        };
        if let Route::Forward(Some(id)) | Route::Sent(id) = self.client.route {
            let (rows, has_attributes) = (self.rows(), self.login.has_query_attributes());
            self.journal.begin(id, command, self.client.whole_command(), has_attributes, rows);
        }
    }

    /// Where a command goes that the server knows.
    fn route(&mut self, command: Command, form: ResponseForm) -> Route {
        if let Some(route) = self.route_by_content(command, form) {
            return route;
        }
        if form == ResponseForm::None {
            self.backend.begin_unanswered();
            return Route::Forward(None);
        }
        let id = self.open_response();
        self.backend.begin(command, form, id);
        Route::Forward(Some(id))
    }

    fn on_continuation(&mut self) {
        self.lose(Loss::Client("a packet that begins no command"));
        self.client.route = Route::Lost;
    }

    fn on_command_end(&mut self, sequence_id: u8) {
        let next = sequence_id.wrapping_add(1);
        match self.client.route {
            Route::Forward(Some(id)) => {
                self.spool.set_first_sequence_id(id, next);
                self.backend.end_command(next);
                self.note_locks();
            }
            Route::Forward(None) | Route::Ignore => {}
            Route::Sent(id) => self.spool.set_first_sequence_id(id, next),
            Route::RefuseKill(id) => {
                let message = format!("spillway: Unknown thread id: {id}: that session has ended");
                self.answer(encode_err(next, 1094, Some(b"HY000"), &message), false);
            }
            Route::Refuse(command) => {
                let message = format!("spillway: {command} is not known and was not forwarded");
                self.answer(encode_err(next, 1047, Some(b"08S01"), &message), false);
            }
            Route::Lost => self.answer_lost(next),
        }
        self.client.end_command();
        self.journal.end_command(self.login.has_query_attributes());
    }

    /// The client has ended its part in the middle of a response.
    fn on_turn_end(&mut self, sequence_id: u8) {
        let next = sequence_id.wrapping_add(1);
        if let Route::Forward(Some(id)) = self.client.route {
            self.spool.set_next_sequence_id(id, next);
        }
        self.backend.end_turn(next);
        self.client.end_turn();
    }

    /// Opens a response to the command under way, in the client's order. Its first sequence id is right for a command
    /// of one packet, and set anew when a longer one ends.
    pub(super) fn open_response(&mut self) -> ResponseId {
        self.client.open_response();
        self.spool.open(1)
    }

    /// Answers the command under way by packets of Spillway's own, with which the session ends or not.
    fn answer(&mut self, packets: Vec<u8>, is_last: bool) {
        self.client.open_response();
        self.spool.answer(packets, is_last);
    }

    /// The server was lost before this command came.
    fn answer_lost(&mut self, sequence_id: u8) {
        let packet = match (&self.farewell, &self.loss) {
            (Some(payload), _) => encode_packet(sequence_id, payload),
            (None, Some(loss)) => loss.err_packet_for_next(sequence_id, &self.told),
            (None, None) => return,
        };
        self.loss.get_or_insert(Loss::ServerClosed);
        self.answer(packet, true);
    }

    fn note_locks(&mut self) {
        let [first, text @ ..] = self.client.reader.prefix() else {
            return;
        };
        if *first == Command::QUERY.0 {
            // Under CLIENT_QUERY_ATTRIBUTES: no attributes, in one set.
            let text = text.strip_prefix(&[0, 1]).unwrap_or(text);
            match lock_effect(text) {
                LockEffect::Takes => self.kept.holds_locks = true,
                LockEffect::Releases => self.kept.holds_locks = false,
                LockEffect::None => {}
            }
        }
    }
}
