//! Where the responses to a client's commands end.

use std::collections::VecDeque;

use crate::capabilities::Capabilities;
use crate::command::ResponseForm;
use crate::packet::{HEADER_LEN, LogicalPacket, MAX_PAYLOAD_LEN, PacketScanner};
use crate::rows::RowSink;
use crate::status::{
    EOF_HEADER, ERR_HEADER, LOCAL_INFILE_HEADER, OK_HEADER, PROGRESS_REPORT, StatusFlags, eof_status,
    err_code, ok_status, split_lenenc_int,
};

/// Follows the server's bytes and tells where each response ends. Told of every command with
/// [`expect`](Self::expect), in the order in which the server gets them.
///
/// ```text
///            OK, ERR                                   more results
///          ┌─────────► end     ┌──────────────────────────────────────────────┐
///  expect  │                   ▼                                              │
///  ──────► First ──count──► Definitions ──► DefinitionsEof ──► Rows ──EOF, OK─┴─► end
///                              (none if left out)  (not under CLIENT_DEPRECATE_EOF)
/// ```
#[derive(Debug)]
pub struct ResponseTracker {
    deprecate_eof: bool,
    /// The column count is followed by a byte that says whether definitions follow.
    metadata_flag: bool,
    /// The server's sequence ids can be checked.
    is_numbered: bool,
    /// COM_STMT_PREPARE_OK ends with such a byte (MySQL only).
    prepare_metadata_flag: bool,
    /// Forms of the responses to come, the one under way first.
    expected: VecDeque<ResponseForm>,
    phase: Phase,
    scanner: PacketScanner,
    /// The sequence id that the server's next packet must have; none where the client has its turn in between.
    next_sequence_id: Option<u8>,
    last_sequence_id: u8,
    rows: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The first packet of a response, or of a further result.
    First,
    /// Column definitions.
    Definitions { left: u64, then: AfterDefinitions },
    /// The EOF behind them.
    DefinitionsEof { then: AfterDefinitions },
    /// Rows, definitions of COM_FIELD_LIST, or events: anything up to EOF.
    Rows,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AfterDefinitions {
    Rows,
    /// COM_STMT_PREPARE: those were the parameters. So many column definitions follow (0 if they are left out), or no
    /// columns at all.
    Columns(Option<u64>),
    End,
}

/// One step of a [`ResponseTracker`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseStep {
    /// Bytes of the input that belong to the response under way (to an unsolicited packet where none is).
    pub consumed: usize,
    /// What was found behind them; without an event all of the input was consumed.
    pub event: Option<ResponseEvent>,
}

/// What [`ResponseTracker::advance`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseEvent {
    /// The response is complete.
    End(ResponseEnd),
    /// The server asks for a file; the response goes on after the client has sent it.
    LocalInfile,
    /// A complete ERR packet that answers nothing: the server says why it is going away.
    UnsolicitedError,
}

/// How a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseEnd {
    /// By an OK or EOF packet with these flags, or by a packet that carries none (then the flags are not known).
    Status(Option<StatusFlags>),
    /// By an ERR packet with this code.
    Error(u16),
}

/// The server's bytes make no sense. The session cannot go on: nobody knows where the next response begins.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResponseError {
    /// A packet where none was expected.
    #[error(
        "the server sent a packet of {payload_len} bytes that begins with {first:?} and answers no command"
    )]
    Unsolicited {
        /// Payload bytes.
        payload_len: u64,
        /// Its first byte, if it has one.
        first: Option<u8>,
    },
    /// A packet that cannot stand where it stands.
    #[error("the server sent a packet of {payload_len} bytes that begins with {first:?} as {place}")]
    Unexpected {
        /// Payload bytes.
        payload_len: u64,
        /// Its first byte, if it has one.
        first: Option<u8>,
        /// Where in the response.
        place: &'static str,
    },
    /// A packet is missing, or not the server's.
    #[error("packets out of order from the server: sequence id {got} where {expected} was expected")]
    SequenceGap {
        /// The id that should have come.
        expected: u8,
        /// The id that came.
        got: u8,
    },
}

impl ResponseTracker {
    /// A tracker for a session on which both sides have agreed to `capabilities`.
    pub fn new(capabilities: Capabilities) -> Self {
        let optional_metadata = capabilities.contains(Capabilities::OPTIONAL_RESULTSET_METADATA);
        Self {
            deprecate_eof: capabilities.contains(Capabilities::DEPRECATE_EOF),
            metadata_flag: optional_metadata || capabilities.contains(Capabilities::MARIADB_CACHE_METADATA),
            prepare_metadata_flag: optional_metadata,
            is_numbered: true,
            expected: VecDeque::new(),
            phase: Phase::First,
            scanner: PacketScanner::default(),
            next_sequence_id: None,
            last_sequence_id: 0,
            rows: 0,
        }
    }

    /// The same for a server that speaks the compressed protocol, in which the sequence ids of the packets inside jump.
    /// They are not checked then, and [`last_sequence_id`](Self::last_sequence_id) is of no use.
    #[must_use]
    pub const fn without_sequence_ids(mut self) -> Self {
        self.is_numbered = false;
        self
    }

    /// A command was sent that is answered in this form. [`ResponseForm::None`] is not recorded, nor is
    /// [`ResponseForm::Authentication`]: such an exchange is not for the tracker.
    pub fn expect(&mut self, form: ResponseForm) {
        if !matches!(form, ResponseForm::None | ResponseForm::Authentication) {
            self.expected.push_back(form);
        }
    }

    /// Responses that have not ended yet.
    pub fn outstanding(&self) -> usize {
        self.expected.len()
    }

    /// Whether every command is answered and no packet is under way.
    pub fn is_idle(&self) -> bool {
        self.expected.is_empty() && self.scanner.is_at_boundary()
    }

    /// Bytes, headers included, of the logical packet under way that were consumed already: what a client must not
    /// be given if an ERR packet is to follow.
    pub const fn unfinished_len(&self) -> u64 {
        self.scanner.unfinished_len()
    }

    /// Sequence id of the last complete logical packet.
    pub const fn last_sequence_id(&self) -> u8 {
        self.last_sequence_id
    }

    /// Rows of all result sets so far.
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Follows `input` up to the next event. Call it again with the rest until all is consumed.
    ///
    /// # Errors
    /// [`ResponseError`] if a packet cannot stand where it stands; the tracker is of no use any more.
    pub fn advance(&mut self, input: &[u8]) -> Result<ResponseStep, ResponseError> {
        self.advance_with(input, &mut ())
    }

    /// As [`advance`](Self::advance), and shows what passes to `sink`.
    ///
    /// # Errors
    /// The same.
    pub fn advance_with(
        &mut self,
        input: &[u8],
        sink: &mut impl RowSink,
    ) -> Result<ResponseStep, ResponseError> {
        let mut consumed = 0;
        while consumed < input.len() {
            if self.phase == Phase::Rows && self.scanner.is_at_boundary() {
                consumed += self.skip_rows(&input[consumed..], sink);
            }
            let (n, packet) = self.scanner.scan_with(&input[consumed..], |piece| sink.on_payload(piece));
            consumed += n;
            let Some(packet) = packet else { break };
            let rows = self.rows;
            let event = self.on_packet(packet)?;
            sink.on_end(self.rows > rows);
            self.last_sequence_id = packet.last_sequence_id;
            self.next_sequence_id = match (event, self.expected.front()) {
                (None, Some(form)) if self.is_numbered && form.is_one_way() => {
                    Some(packet.last_sequence_id.wrapping_add(1))
                }
                _ => None,
            };
            if event.is_some() {
                return Ok(ResponseStep { consumed, event });
            }
        }
        Ok(ResponseStep { consumed, event: None })
    }

    /// The hot path: passes over whole packets that can only be rows. Stops before anything else.
    fn skip_rows(&mut self, input: &[u8], sink: &mut impl RowSink) -> usize {
        let has_rows = self.expected.front().is_some_and(|form| form.has_rows());
        let mut at = 0;
        let mut rows = 0;
        let mut expected = self.next_sequence_id;
        while let Some(&[a, b, c, sequence_id, first]) = input[at..].first_chunk() {
            let payload_len = u32::from_le_bytes([a, b, c, 0]);
            let end = at + HEADER_LEN + payload_len as usize;
            let ordinary = first < EOF_HEADER && payload_len != 0 && payload_len != MAX_PAYLOAD_LEN;
            if !ordinary || end > input.len() || expected.is_some_and(|expected| expected != sequence_id) {
                break;
            }
            if has_rows {
                sink.on_row(&input[at + HEADER_LEN..end]);
            }
            at = end;
            expected = expected.map(|_| sequence_id.wrapping_add(1));
            self.last_sequence_id = sequence_id;
            rows += 1;
        }
        self.next_sequence_id = expected;
        self.rows += if has_rows { rows } else { 0 };
        at
    }

    fn on_packet(&mut self, packet: LogicalPacket) -> Result<Option<ResponseEvent>, ResponseError> {
        let first = self.scanner.prefix().first().copied();
        let Some(&form) = self.expected.front() else {
            return match err_code(self.scanner.prefix()) {
                Some(PROGRESS_REPORT) => Ok(None),
                Some(_) => Ok(Some(ResponseEvent::UnsolicitedError)),
                None => Err(ResponseError::Unsolicited { payload_len: packet.payload_len, first }),
            };
        };
        if first == Some(ERR_HEADER) {
            // A server that gives up may count anew, so an ERR may come with any sequence id.
            return match err_code(self.scanner.prefix()) {
                Some(PROGRESS_REPORT) => Ok(None),
                Some(code) => Ok(Some(self.end(ResponseEnd::Error(code)))),
                None => Err(self.unexpected(packet, "an error")),
            };
        }
        if let Some(expected) = self.next_sequence_id
            && expected != packet.first_sequence_id
        {
            return Err(ResponseError::SequenceGap { expected, got: packet.first_sequence_id });
        }
        match self.phase {
            Phase::First => self.on_first(form, packet),
            Phase::Definitions { left, then } => Ok(self.enter_definitions(left - 1, then)),
            Phase::DefinitionsEof { then } => self.on_definitions_eof(form, packet, then),
            Phase::Rows => Ok(self.on_row(form, packet)),
        }
    }

    fn on_first(
        &mut self,
        form: ResponseForm,
        packet: LogicalPacket,
    ) -> Result<Option<ResponseEvent>, ResponseError> {
        let first = self.scanner.prefix().first().copied();
        match (form, first) {
            (ResponseForm::Text, _) => Ok(Some(self.end(ResponseEnd::Status(None)))),
            (ResponseForm::Prepare, Some(OK_HEADER)) => self.on_prepare_ok(packet),
            (ResponseForm::Fetch | ResponseForm::FieldList | ResponseForm::Binlog, _) => {
                self.phase = Phase::Rows;
                Ok(self.on_row(form, packet))
            }
            (_, Some(OK_HEADER)) => Ok(self.end_of_result(ok_status(self.scanner.prefix()))),
            (_, Some(EOF_HEADER)) if packet.payload_len < u64::from(MAX_PAYLOAD_LEN) => {
                Ok(self.end_of_result(self.eof_or_ok_status(packet)))
            }
            (ResponseForm::Query, Some(LOCAL_INFILE_HEADER)) => Ok(Some(ResponseEvent::LocalInfile)),
            (ResponseForm::Query | ResponseForm::Execute, Some(_)) => self.on_column_count(packet),
            _ => Err(self.unexpected(packet, "the head of a response")),
        }
    }

    /// Column count, and under CLIENT_OPTIONAL_RESULTSET_METADATA or MARIADB_CLIENT_CACHE_METADATA a byte that is 0
    /// where the definitions are left out. Source:
    /// [text result set](https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_query_response_text_resultset.html),
    /// [column count packet](https://mariadb.com/kb/en/result-set-packets/#column-count-packet).
    fn on_column_count(&mut self, packet: LogicalPacket) -> Result<Option<ResponseEvent>, ResponseError> {
        let Some((columns, rest)) = split_lenenc_int(self.scanner.prefix()) else {
            return Err(self.unexpected(packet, "a column count"));
        };
        let left_out = self.metadata_flag && rest.first() == Some(&0);
        Ok(self.enter_definitions(if left_out { 0 } else { columns }, AfterDefinitions::Rows))
    }

    /// COM_STMT_PREPARE_OK: status, statement id (4 bytes), columns (2), parameters (2), filler, warnings (2), and
    /// under CLIENT_OPTIONAL_RESULTSET_METADATA a byte that is 0 where the definitions are left out. Source:
    /// [COM_STMT_PREPARE](https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_stmt_prepare.html).
    fn on_prepare_ok(&mut self, packet: LogicalPacket) -> Result<Option<ResponseEvent>, ResponseError> {
        let [_, _, _, _, _, c0, c1, p0, p1, rest @ ..] = self.scanner.prefix() else {
            return Err(self.unexpected(packet, "the answer to a COM_STMT_PREPARE"));
        };
        let columns = u64::from(u16::from_le_bytes([*c0, *c1]));
        let parameters = u64::from(u16::from_le_bytes([*p0, *p1]));
        let left_out = self.prepare_metadata_flag && rest.get(3) == Some(&0);
        let shown = |count| if left_out { 0 } else { count };
        let columns = (columns > 0).then(|| shown(columns));
        Ok(match (parameters, columns) {
            (0, columns) => self.after_definitions(AfterDefinitions::Columns(columns)),
            _ => self.enter_definitions(shown(parameters), AfterDefinitions::Columns(columns)),
        })
    }

    fn enter_definitions(&mut self, left: u64, then: AfterDefinitions) -> Option<ResponseEvent> {
        if left > 0 {
            self.phase = Phase::Definitions { left, then };
        } else if self.deprecate_eof {
            return self.after_definitions(then);
        } else {
            self.phase = Phase::DefinitionsEof { then };
        }
        None
    }

    fn after_definitions(&mut self, then: AfterDefinitions) -> Option<ResponseEvent> {
        match then {
            AfterDefinitions::Rows => {
                self.phase = Phase::Rows;
                None
            }
            AfterDefinitions::Columns(Some(left)) => self.enter_definitions(left, AfterDefinitions::End),
            AfterDefinitions::Columns(None) | AfterDefinitions::End => {
                Some(self.end(ResponseEnd::Status(None)))
            }
        }
    }

    fn on_definitions_eof(
        &mut self,
        form: ResponseForm,
        packet: LogicalPacket,
        then: AfterDefinitions,
    ) -> Result<Option<ResponseEvent>, ResponseError> {
        let Some(status) = eof_status(self.scanner.prefix()).filter(|_| self.is_terminator(packet)) else {
            return Err(self.unexpected(packet, "the EOF behind column definitions"));
        };
        // With a cursor this EOF is the only one: the rows come by COM_STMT_FETCH.
        let cursor = form == ResponseForm::Execute && status.contains(StatusFlags::CURSOR_EXISTS);
        if cursor && then == AfterDefinitions::Rows {
            return Ok(self.end_of_result(Some(status)));
        }
        Ok(self.after_definitions(then))
    }

    fn on_row(&mut self, form: ResponseForm, packet: LogicalPacket) -> Option<ResponseEvent> {
        if !self.is_terminator(packet) {
            self.rows += u64::from(form.has_rows());
            return None;
        }
        let status = self.eof_or_ok_status(packet);
        if matches!(form, ResponseForm::Query | ResponseForm::Execute) {
            self.end_of_result(status)
        } else {
            Some(self.end(ResponseEnd::Status(status)))
        }
    }

    /// A row whose first column is longer than 16 MiB begins with 0xFE as well; the length tells them apart. An EOF
    /// packet has at most 5 bytes (9 with some old servers), the OK packet in its place fits one packet.
    /// Source: [OK packet](https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_ok_packet.html).
    fn is_terminator(&self, packet: LogicalPacket) -> bool {
        let limit = if self.deprecate_eof { u64::from(MAX_PAYLOAD_LEN) } else { 9 };
        self.scanner.prefix().first() == Some(&EOF_HEADER) && packet.payload_len < limit
    }

    fn eof_or_ok_status(&self, packet: LogicalPacket) -> Option<StatusFlags> {
        // Under CLIENT_DEPRECATE_EOF a few packets are EOF packets of the old form all the same (COM_SET_OPTION of
        // MariaDB, the end of a binlog): 5 bytes, which no OK packet has.
        if !self.deprecate_eof || packet.payload_len <= 5 {
            eof_status(self.scanner.prefix())
        } else {
            ok_status(self.scanner.prefix())
        }
    }

    fn end_of_result(&mut self, status: Option<StatusFlags>) -> Option<ResponseEvent> {
        if status.is_some_and(|status| status.contains(StatusFlags::MORE_RESULTS_EXISTS)) {
            self.phase = Phase::First;
            return None;
        }
        Some(self.end(ResponseEnd::Status(status)))
    }

    fn end(&mut self, end: ResponseEnd) -> ResponseEvent {
        self.expected.pop_front();
        self.phase = Phase::First;
        ResponseEvent::End(end)
    }

    fn unexpected(&self, packet: LogicalPacket, place: &'static str) -> ResponseError {
        let first = self.scanner.prefix().first().copied();
        ResponseError::Unexpected { payload_len: packet.payload_len, first, place }
    }
}

#[cfg(test)]
mod tests;
