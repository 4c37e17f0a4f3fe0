//! From the server to the client: drained into the spool, fed out of it.

use std::io;
use std::task::{Context, Poll};

use spillway_protocol::{Command, HEADER_LEN, ResponseEnd, StatusFlags, err_code, err_message};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::super::backend::{BackendEvent, OwnCommand};
use super::super::keepalive::numbers_of_row;
use super::super::loss::Loss;
use super::Relay;
use crate::printable::printable;
use crate::spool::Feed;

impl Relay {
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>) -> bool {
        if self.loss.is_some() {
            return false;
        }
        let is_limited = self.backend.client_responses() > 0;
        let most = match is_limited.then(|| self.throttle.poll_room(cx)) {
            Some(Poll::Pending) => return false,
            Some(Poll::Ready(most)) => most,
            None => usize::MAX,
        };
        match self.backend.poll_drain(cx, &mut self.spool, most) {
            Poll::Pending => false,
            Poll::Ready(Ok(0)) => {
                self.lose(Loss::ServerClosed);
                true
            }
            Poll::Ready(Err(loss)) => {
                self.lose(loss);
                true
            }
            Poll::Ready(Ok(len)) => {
                if is_limited {
                    self.throttle.spend(len);
                }
                self.on_drained();
                true
            }
        }
    }

    fn on_drained(&mut self) {
        loop {
            match self.backend.next_event(&mut self.spool, &mut self.journal) {
                Ok(Some(event)) => {
                    self.on_backend_event(event);
                    // What else was read may be another server's.
                    if self.loss.is_some() {
                        return;
                    }
                }
                Ok(None) => return,
                Err(error) => return self.lose(error.into()),
            }
        }
    }

    fn on_backend_event(&mut self, event: BackendEvent) {
        match event {
            BackendEvent::ClientResponse { id, command, end } => {
                self.journal.on_drained(id, end, self.rows());
                self.on_client_response(command, end);
            }
            BackendEvent::SettingResponse { setting, end, packets } => {
                self.journal.on_drained(setting.id, end, self.rows());
                self.on_setting_response(setting, end, packets);
            }
            BackendEvent::OwnResponse { own, end, packets } => self.on_own_response(&own, end, &packets),
            BackendEvent::LocalInfile => {
                // What the client has sent behind this command, the server takes for the file.
                if self.backend.client_responses() > 1 || !self.client.reader.expect_file() {
                    self.lose(Loss::Client("commands behind a LOAD DATA LOCAL INFILE that is not answered"));
                } else {
                    let sequence_id = self.backend.begin_turn();
                    self.client.begin_turn(sequence_id);
                }
            }
            BackendEvent::Farewell(payload) => {
                let message = printable(err_message(&payload));
                warn!(code = err_code(&payload), message, "the server is ending the idle session");
                self.farewell = Some(payload);
            }
        }
    }

    fn on_client_response(&mut self, command: Command, end: ResponseEnd) {
        if let ResponseEnd::Status(Some(status)) = end {
            self.note_status(status);
        }
        if command == Command::RESET_CONNECTION && matches!(end, ResponseEnd::Status(_)) {
            self.kept.holds_locks = false;
            self.journal.on_reset();
            if let Some(continuity) = &mut self.continuity {
                continuity.on_reset();
            }
            self.send_session_init();
        }
    }

    pub(super) fn note_status(&mut self, status: StatusFlags) {
        self.kept.in_transaction = status.contains(StatusFlags::IN_TRANS);
        if let Some(continuity) = &mut self.continuity {
            continuity.check_status(status);
        }
    }

    fn on_own_response(&mut self, own: &OwnCommand, end: ResponseEnd, packets: &[u8]) {
        self.may_end = false;
        match (own, end) {
            (OwnCommand::SessionInit(sql), ResponseEnd::Error(code)) => {
                if self.is_refused_anew(sql, packets) {
                    return;
                }
                let message = printable(err_message(packets.get(HEADER_LEN..).unwrap_or_default()));
                warn!(sql, code, message, "the server refused a session-init statement; going on without it");
            }
            (OwnCommand::IdleTimeouts(_), ResponseEnd::Status(_)) => {
                self.on_session_begun();
                let timeouts = numbers_of_row(packets, self.login.capabilities);
                debug!(?timeouts, "idle timeouts of the server");
                self.keepalive.respect(&timeouts);
            }
            (OwnCommand::IdleTimeouts(_), ResponseEnd::Error(code)) => {
                self.on_session_begun();
                debug!(code, "the server does not tell its idle timeouts");
            }
            (OwnCommand::Identity(_) | OwnCommand::Uptime | OwnCommand::Replay(_), _) => {
                self.on_takeover_response(own, end, packets);
            }
            _ => {}
        }
    }

    pub(super) fn send_session_init(&mut self) {
        for sql in &self.session_init {
            self.backend.send_own(OwnCommand::SessionInit(sql.clone()));
        }
    }

    pub(super) fn poll_feed(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
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
                    self.note_fed();
                    self.spool.finish_front();
                    self.client.finish_response();
                    self.last_fed = Instant::now();
                }
                Feed::Answer { packets, is_last } => {
                    self.client.send(&packets);
                    self.note_fed();
                    self.spool.finish_front();
                    self.client.finish_response();
                    if is_last {
                        self.note_told();
                    }
                }
                Feed::Lost { err_sequence_id } => self.tell_loss(err_sequence_id),
                Feed::Wait => break,
                Feed::Idle => {
                    self.closing = matches!(self.loss, Some(Loss::Shutdown));
                    break;
                }
            }
            progress = true;
        }
        if let Poll::Ready(flushed) = self.client.poll_flush(cx) {
            progress |= flushed?;
        }
        Ok(progress)
    }

    fn note_fed(&mut self) {
        if let Some(id) = self.spool.front() {
            self.journal.on_fed(id);
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
        self.note_told();
    }

    /// The client knows that its session is lost, and is told nothing more.
    fn note_told(&mut self) {
        self.loss.get_or_insert(Loss::ServerClosed).kind().count();
        self.kept.told_errors += 1;
        self.closing = true;
    }
}
