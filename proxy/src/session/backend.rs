//! The backend half: sends commands, drains responses, and knows which response belongs to whom.
//!
//! What the client asked and what the proxy asks for itself go through the same stream; [`Pending`] keeps them apart.

mod bulk;
mod compression;
mod own_command;

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use spillway_protocol::{
    Capabilities, Command, ResponseEnd, ResponseError, ResponseEvent, ResponseForm, ResponseTracker,
    encode_packet,
};
use tokio::io::AsyncWrite;
use zeroize::Zeroizing;

use super::continuity::Keeps;
use super::loss::Loss;
use crate::journal::Journal;
use crate::packet_stream::PacketStream;
use crate::spool::{ResponseId, Spool};
use crate::stream::Stream;
use bulk::Bulk;
use compression::BackendCompression;
pub(crate) use own_command::OwnCommand;

/// Bytes of commands that wait to be written before no more are taken from the client. What goes beyond memory waits
/// in the client's own socket.
const OUTBOX_LIMIT: usize = 16 * 1024;

/// Bytes of a response to a command of the proxy's own that are kept; the longest is a row of five numbers.
const OWN_RESPONSE_LIMIT: usize = 4 * 1024;

/// The longest response to a setting: an OK packet that tells what has changed.
const SETTING_RESPONSE_LIMIT: usize = 64 * 1024;

/// A command of the client's that can be sent again on another connection.
pub(crate) struct Setting {
    pub(crate) id: ResponseId,
    pub(crate) keeps: Keeps,
    pub(crate) payload: Vec<u8>,
}

/// A response that is under way or to come.
enum Pending {
    Client {
        id: ResponseId,
        command: Command,
    },
    /// Its response goes to the client when it is complete, so that none of it is fed if the connection is lost.
    Setting(Setting),
    Own(OwnCommand),
}

/// What the server's bytes brought.
pub(crate) enum BackendEvent {
    /// A response to the client is drained.
    ClientResponse { id: ResponseId, command: Command, end: ResponseEnd },
    /// A response to a setting of the client's, as packets.
    SettingResponse { setting: Setting, end: ResponseEnd, packets: Vec<u8> },
    /// A response to a command of the proxy's own, as packets.
    OwnResponse { own: OwnCommand, end: ResponseEnd, packets: Vec<u8> },
    /// The server asks the client for a file.
    LocalInfile,
    /// The server says why it is going away, in this ERR packet's payload.
    Farewell(Vec<u8>),
}

/// The connection to the server.
pub(crate) struct BackendHalf {
    /// None once it was given up.
    stream: Option<Stream>,
    tracker: ResponseTracker,
    /// The text of a COM_QUERY stands behind a count of attributes (0) and of their sets (1).
    query_attributes: bool,
    outbox: BytesMut,
    compression: Option<BackendCompression>,
    bulk: Bulk,
    pending: VecDeque<Pending>,
    /// Sequence id of the server's last packet, as the client sees it.
    last_sequence_id: u8,
    /// Bytes of the response to an own command, or of an unsolicited packet.
    own_response: Vec<u8>,
    /// The stream may hold back what was written.
    unflushed: bool,
    /// Cleared when writing fails: the server may still have an ERR to say why, so reading goes on.
    writable: bool,
    /// Whether anything was sent or received since the last look.
    active: bool,
}

impl BackendHalf {
    /// Goes on behind the login, of which nothing was left unread.
    pub(crate) fn new(packets: PacketStream, capabilities: Capabilities) -> Self {
        let PacketStream { stream, compression, .. } = packets;
        let tracker = ResponseTracker::new(capabilities);
        Self {
            stream: Some(stream),
            tracker: if compression.is_some() { tracker.without_sequence_ids() } else { tracker },
            query_attributes: capabilities.contains(Capabilities::QUERY_ATTRIBUTES),
            outbox: BytesMut::new(),
            compression: compression.map(BackendCompression::new),
            bulk: Bulk::default(),
            pending: VecDeque::new(),
            last_sequence_id: 0,
            own_response: Vec::new(),
            unflushed: false,
            writable: true,
            active: false,
        }
    }

    /// The idle connection, for another exchange. None if it was given up.
    pub(crate) fn take_packets(&mut self) -> Option<PacketStream> {
        let compression = self.compression.take().map(|compression| compression.link);
        self.stream.take().map(|stream| PacketStream::in_use(stream, Zeroizing::default(), compression))
    }

    /// Announces a command of the client's whose bytes follow by [`forward`](Self::forward).
    pub(crate) fn begin(&mut self, command: Command, form: ResponseForm, id: ResponseId) {
        self.expect(Some(form));
        self.pending.push_back(Pending::Client { id, command });
    }

    /// The same for a command that has no response.
    pub(crate) fn begin_unanswered(&mut self) {
        self.expect(None);
    }

    /// A command follows, which is answered in this form.
    fn expect(&mut self, form: Option<ResponseForm>) {
        let form = form.filter(|form| *form != ResponseForm::None);
        if let Some(compression) = &mut self.compression {
            compression.begin_command(form.is_some(), &mut self.outbox);
        }
        if let Some(form) = form {
            self.tracker.expect(form);
        }
    }

    /// The command that was announced last is complete. Its response begins with this sequence id.
    pub(crate) fn end_command(&mut self, next_sequence_id: u8) {
        if let Some(compression) = &mut self.compression {
            compression.end_command(next_sequence_id);
        }
    }

    /// The client has its turn in the middle of a response: what it sends begins with this sequence id.
    pub(crate) fn begin_turn(&mut self) -> u8 {
        if let Some(compression) = &mut self.compression {
            compression.begin_turn();
        }
        self.last_sequence_id.wrapping_add(1)
    }

    /// The client has had its turn: the server's next packet has this sequence id.
    pub(crate) fn end_turn(&mut self, next_sequence_id: u8) {
        if let Some(compression) = &mut self.compression {
            compression.end_turn(next_sequence_id);
        }
    }

    /// Bytes of the client's, to be sent on unchanged.
    pub(crate) fn forward(&mut self, bytes: &[u8]) {
        match &mut self.compression {
            _ if !self.writable => {}
            Some(compression) => compression.stage(bytes),
            None => self.outbox.extend_from_slice(bytes),
        }
    }

    /// Sends a setting of the client's.
    pub(crate) fn send_setting(&mut self, setting: Setting) {
        let command = Command(setting.payload.first().copied().unwrap_or_default());
        self.expect(command.response_form());
        self.forward(&encode_packet(0, &setting.payload));
        self.pending.push_back(Pending::Setting(setting));
    }

    /// Whether nothing is under way that could not be sent again.
    pub(crate) fn holds_only_settings(&self) -> bool {
        !self.pending.iter().any(|pending| matches!(pending, Pending::Client { .. }))
    }

    /// The settings that are not answered, in their order. They are under way no more.
    pub(crate) fn take_settings(&mut self) -> Vec<Setting> {
        let pending = self.pending.drain(..);
        pending
            .filter_map(|pending| match pending {
                Pending::Setting(setting) => Some(setting),
                _ => None,
            })
            .collect()
    }

    /// Sends a command of the proxy's own. Only between two commands of the client's.
    pub(crate) fn send_own(&mut self, own: OwnCommand) {
        let (command, packet) = own.packet(self.query_attributes);
        self.expect(command.response_form());
        self.forward(&packet);
        self.pending.push_back(Pending::Own(own));
    }

    /// Whether more bytes of commands may be forwarded at this moment.
    pub(crate) fn takes_commands(&self) -> bool {
        self.outbox.len() + self.staged() < OUTBOX_LIMIT
    }

    fn staged(&self) -> usize {
        self.compression.as_ref().map_or(0, BackendCompression::staged)
    }

    /// Whether everything sent is answered.
    pub(crate) fn is_idle(&self) -> bool {
        self.tracker.is_idle() && self.is_flushed()
    }

    /// Whether everything was written.
    pub(crate) fn is_flushed(&self) -> bool {
        self.outbox.is_empty() && self.staged() == 0 && !self.unflushed
    }

    /// Responses to the client that are not drained.
    pub(crate) fn client_responses(&self) -> usize {
        self.pending.iter().filter(|pending| matches!(pending, Pending::Client { .. })).count()
    }

    /// Whether a command under way must be answered before this one of the client's may start: a keepalive, whose
    /// answer may be an error that belongs to that command; a command that wipes the session-init statements; what begins
    /// a session, as a connection that is lost until then can be replaced unseen, which this command would forbid.
    pub(crate) fn holds(&self, command: Command) -> bool {
        if self.stream.is_none() {
            // What was under way when it was given up will never be answered.
            return false;
        }
        match self.pending.back() {
            Some(Pending::Own(OwnCommand::Keepalive)) => true,
            Some(Pending::Own(OwnCommand::IdleTimeouts(_))) => command != Command::QUIT,
            Some(Pending::Own(_)) => false,
            Some(Pending::Client { command, .. }) => *command == Command::RESET_CONNECTION,
            Some(Pending::Setting(_)) => false,
            // An unsolicited ERR is on its way.
            None => !self.tracker.is_idle(),
        }
    }

    /// Rows drained.
    pub(crate) fn rows(&self) -> u64 {
        self.tracker.rows()
    }

    /// Whether bytes went either way since the last call.
    pub(crate) fn take_active(&mut self) -> bool {
        std::mem::take(&mut self.active)
    }

    /// The session is idle: gives back the memory of compression.
    pub(crate) fn rest(&mut self) {
        if let Some(compression) = &mut self.compression {
            compression.link.rest();
        }
    }

    /// Gives the connection up: the server must not go on working for a session that is lost.
    pub(crate) fn close(&mut self) {
        self.stream = None;
        self.give_up_writing();
    }

    /// Writes what can be written. Ready if something was.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut progress = false;
        if let Some(compression) = &mut self.compression {
            compression.flush(&mut self.outbox);
        }
        while let Some(stream) = self.stream.as_mut().filter(|_| !self.outbox.is_empty()) {
            match Pin::new(stream).poll_write(cx, &self.outbox) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    self.outbox.advance(n);
                    self.unflushed = true;
                    self.active = true;
                    progress = true;
                }
                Poll::Ready(_) => self.give_up_writing(),
                Poll::Pending => break,
            }
        }
        if let Some(stream) = self.stream.as_mut().filter(|_| self.unflushed) {
            match Pin::new(stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(_)) => self.give_up_writing(),
                Poll::Pending => {}
            }
        }
        if progress { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Reading tells what happened, perhaps in the server's own words.
    fn give_up_writing(&mut self) {
        self.outbox.clear();
        if let Some(compression) = &mut self.compression {
            compression.clear();
        }
        self.unflushed = false;
        self.writable = false;
    }

    /// One read into the spool, of `most` bytes. 0 means that the server has closed the connection.
    pub(crate) fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        spool: &mut Spool,
        most: usize,
    ) -> Poll<Result<usize, Loss>> {
        let own = !matches!(self.pending.front(), Some(Pending::Client { .. }));
        let (Some(stream), Some(room)) = (&mut self.stream, spool.room(own)) else {
            return Poll::Pending;
        };
        let len = room.len().min(most);
        let room = &mut room[..len];
        let read = match &mut self.compression {
            Some(compression) => compression.poll_read(stream, cx, room),
            None => stream.poll_read_into(cx, room).map_err(Loss::Server),
        };
        match read {
            Poll::Ready(Ok(n)) => {
                spool.filled(n);
                self.active = true;
                self.bulk.on_read(n, stream);
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.bulk.poll_patience(cx, stream),
        }
        read
    }

    /// Sorts what was read: into responses of the spool, or aside; shows rows to the journal where it wants to see them.
    /// Call until it gives no event.
    ///
    /// # Errors
    /// [`ResponseError`] if the server's bytes make no sense; the connection is of no use any more.
    pub(crate) fn next_event(
        &mut self,
        spool: &mut Spool,
        journal: &mut Journal,
    ) -> Result<Option<BackendEvent>, ResponseError> {
        while !spool.unparsed().is_empty() {
            let sink = match self.pending.front() {
                Some(Pending::Client { id, .. }) => journal.sink(*id),
                _ => None,
            };
            let step = match sink {
                Some(sink) => self.tracker.advance_with(spool.unparsed(), sink)?,
                None => self.tracker.advance(spool.unparsed())?,
            };
            self.last_sequence_id = match &mut self.compression {
                Some(compression) => compression.number(&mut spool.unparsed_mut()[..step.consumed]),
                None => self.tracker.last_sequence_id(),
            };
            match self.pending.front() {
                Some(Pending::Client { id, .. }) => {
                    let unfinished = self.tracker.unfinished_len();
                    spool.append(*id, step.consumed, unfinished, self.last_sequence_id);
                }
                Some(Pending::Setting(_)) => {
                    self.own_response.extend_from_slice(&spool.unparsed()[..step.consumed]);
                    spool.skip(step.consumed);
                    if self.own_response.len() > SETTING_RESPONSE_LIMIT {
                        let (payload_len, first) = (self.own_response.len() as u64, None);
                        let place = "the answer to a setting";
                        return Err(ResponseError::Unexpected { payload_len, first, place });
                    }
                }
                _ => {
                    let kept = step.consumed.min(OWN_RESPONSE_LIMIT - self.own_response.len());
                    self.own_response.extend_from_slice(&spool.unparsed()[..kept]);
                    spool.skip(step.consumed);
                }
            }
            if let Some(event) = step.event {
                return Ok(Some(self.on_event(event, spool)));
            }
        }
        Ok(None)
    }

    fn on_event(&mut self, event: ResponseEvent, spool: &mut Spool) -> BackendEvent {
        match event {
            ResponseEvent::LocalInfile => BackendEvent::LocalInfile,
            ResponseEvent::UnsolicitedError => self.farewell(),
            ResponseEvent::End(end) => match self.end_response() {
                Some(Pending::Client { id, command }) => {
                    spool.complete(id);
                    BackendEvent::ClientResponse { id, command, end }
                }
                Some(Pending::Setting(setting)) => {
                    let packets = std::mem::take(&mut self.own_response);
                    BackendEvent::SettingResponse { setting, end, packets }
                }
                Some(Pending::Own(OwnCommand::Keepalive)) if matches!(end, ResponseEnd::Error(_)) => {
                    self.farewell()
                }
                Some(Pending::Own(own)) => {
                    BackendEvent::OwnResponse { own, end, packets: std::mem::take(&mut self.own_response) }
                }
                // The tracker ends no response that it was not told to expect.
                None => BackendEvent::Farewell(Vec::new()),
            },
        }
    }

    /// For how long the server's host has answered nothing of what it was sent.
    pub(crate) fn silence(&self) -> Option<Duration> {
        self.stream.as_ref()?.silence()
    }

    fn end_response(&mut self) -> Option<Pending> {
        if let Some(stream) = &self.stream {
            self.bulk.end(stream);
        }
        if let Some(compression) = &mut self.compression {
            compression.end_response();
        }
        self.pending.pop_front()
    }

    fn farewell(&mut self) -> BackendEvent {
        let packet = std::mem::take(&mut self.own_response);
        BackendEvent::Farewell(packet.get(spillway_protocol::HEADER_LEN..).unwrap_or_default().to_vec())
    }
}
