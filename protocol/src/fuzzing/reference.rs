//! Responses, read in the simplest way: all packets are taken apart first, then one function for each part of a
//! response takes the packets that belong to it. The tracker, which does the same with pieces, must agree with it.

use crate::capabilities::Capabilities;
use crate::command::ResponseForm;
use crate::packet::{HEADER_LEN, PacketHeader};
use crate::response::{ResponseEnd, ResponseEvent};
use crate::status::{StatusFlags, eof_status, err_code, ok_status, split_lenenc_int};

/// What a reader has found in a stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Each event, and how much of the stream stands before it.
    pub(super) events: Vec<(usize, ResponseEvent)>,
    /// The payloads of all rows.
    pub(super) rows: Vec<Vec<u8>>,
    pub(super) fault: Option<Fault>,
    /// Where there was no fault.
    pub(super) end: Option<StreamEnd>,
}

/// How a stream without a fault ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StreamEnd {
    pub(super) unfinished: u64,
    pub(super) outstanding: usize,
    pub(super) last_sequence_id: u8,
}

/// A packet that cannot stand where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Unsolicited,
    Unexpected,
    SequenceGap { expected: u8, got: u8 },
}

/// A logical packet.
pub(super) struct Packet {
    /// Bytes of the stream up to its end.
    pub(super) end: usize,
    pub(super) payload: Vec<u8>,
    pub(super) first_id: u8,
    pub(super) last_id: u8,
}

/// The logical packets that are whole.
pub(super) fn packets(stream: &[u8]) -> Vec<Packet> {
    let mut packets = Vec::new();
    let (mut at, mut payload, mut first_id) = (0, Vec::new(), None);
    while let Some((header, rest)) = stream[at..].split_first_chunk::<HEADER_LEN>() {
        let header = PacketHeader::decode(*header);
        let Some(piece) = rest.get(..header.payload_len as usize) else { break };
        at += HEADER_LEN + piece.len();
        payload.extend_from_slice(piece);
        let first = *first_id.get_or_insert(header.sequence_id);
        if !header.is_continued() {
            let payload = std::mem::take(&mut payload);
            packets.push(Packet { end: at, payload, first_id: first, last_id: header.sequence_id });
            first_id = None;
        }
    }
    packets
}

/// Why a response is not read on.
enum Stop {
    /// The stream is over.
    Over,
    /// The server has sent an ERR with this code.
    Error(u16),
    Fault(Fault),
}

struct Reference<'a> {
    packets: std::slice::Iter<'a, Packet>,
    capabilities: Capabilities,
    is_numbered: bool,
    /// The sequence id that the next packet must have.
    due: Option<u8>,
    /// Of the last packet.
    at: usize,
    last_sequence_id: u8,
    found: Found,
}

/// Reads the responses to commands that are answered in these forms, and what follows them.
pub(super) fn read(
    capabilities: Capabilities,
    is_numbered: bool,
    forms: &[ResponseForm],
    stream: &[u8],
) -> Found {
    let packets = packets(stream);
    let found = Found::default();
    let mut reference = Reference {
        packets: packets.iter(),
        capabilities,
        is_numbered,
        due: None,
        at: 0,
        last_sequence_id: 0,
        found,
    };
    match reference.read(forms) {
        Ok(outstanding) => {
            let unfinished = stream.len() - packets.last().map_or(0, |packet| packet.end);
            let last_sequence_id = reference.last_sequence_id;
            let end = StreamEnd { unfinished: unfinished as u64, outstanding, last_sequence_id };
            reference.found.end = Some(end);
        }
        Err(fault) => reference.found.fault = Some(fault),
    }
    reference.found
}

impl<'a> Reference<'a> {
    /// Gives how many responses have not ended.
    fn read(&mut self, forms: &[ResponseForm]) -> Result<usize, Fault> {
        for (index, form) in forms.iter().enumerate() {
            self.due = None;
            let end = match self.response(*form) {
                Ok(status) => ResponseEnd::Status(status),
                Err(Stop::Error(code)) => ResponseEnd::Error(code),
                Err(Stop::Over) => return Ok(forms.len() - index),
                Err(Stop::Fault(fault)) => return Err(fault),
            };
            self.found.events.push((self.at, ResponseEvent::End(end)));
        }
        for packet in self.packets.by_ref() {
            match err_code(&packet.payload) {
                Some(PROGRESS) => {}
                Some(_) => self.found.events.push((packet.end, ResponseEvent::UnsolicitedError)),
                None => return Err(Fault::Unsolicited),
            }
            self.last_sequence_id = packet.last_id;
        }
        Ok(0)
    }

    fn response(&mut self, form: ResponseForm) -> Result<Option<StatusFlags>, Stop> {
        match form {
            ResponseForm::Text => return self.next(form).map(|_| None),
            ResponseForm::Fetch | ResponseForm::FieldList | ResponseForm::Binlog => return self.rows(form),
            _ => {}
        }
        loop {
            let head = self.next(form)?;
            let status = match (form, head.payload.first()) {
                (ResponseForm::Prepare, Some(0x00)) => return self.prepared(&head.payload).map(|()| None),
                (_, Some(0x00)) => ok_status(&head.payload),
                (_, Some(0xfe)) => self.last_status(&head.payload),
                (ResponseForm::Query, Some(0xfb)) => {
                    self.found.events.push((self.at, ResponseEvent::LocalInfile));
                    self.due = None;
                    continue;
                }
                (ResponseForm::Query | ResponseForm::Execute, Some(_)) => {
                    self.result_set(form, &head.payload)?
                }
                _ => return Err(Stop::Fault(Fault::Unexpected)),
            };
            if !status.is_some_and(|status| status.contains(StatusFlags::MORE_RESULTS_EXISTS)) {
                return Ok(status);
            }
        }
    }

    /// The next packet that is no progress report.
    fn next(&mut self, form: ResponseForm) -> Result<&'a Packet, Stop> {
        loop {
            let packet = self.packets.next().ok_or(Stop::Over)?;
            let is_error = packet.payload.first() == Some(&0xff);
            if let Some(expected) = self.due.filter(|due| !is_error && *due != packet.first_id) {
                return Err(Stop::Fault(Fault::SequenceGap { expected, got: packet.first_id }));
            }
            (self.at, self.last_sequence_id) = (packet.end, packet.last_id);
            let is_checked = self.is_numbered && form != ResponseForm::Binlog;
            self.due = is_checked.then_some(packet.last_id.wrapping_add(1));
            match err_code(&packet.payload) {
                Some(PROGRESS) => {}
                Some(code) => return Err(Stop::Error(code)),
                None if is_error => return Err(Stop::Fault(Fault::Unexpected)),
                None => return Ok(packet),
            }
        }
    }

    fn result_set(&mut self, form: ResponseForm, head: &[u8]) -> Result<Option<StatusFlags>, Stop> {
        let unexpected = Stop::Fault(Fault::Unexpected);
        let (columns, rest) = split_lenenc_int(head).ok_or(unexpected)?;
        let has_flag = self.has(Capabilities::OPTIONAL_RESULTSET_METADATA)
            || self.has(Capabilities::MARIADB_CACHE_METADATA);
        let is_left_out = has_flag && rest.first() == Some(&0);
        let eof = self.definitions(form, if is_left_out { 0 } else { columns })?;
        match eof {
            Some(status) if form == ResponseForm::Execute && status.contains(StatusFlags::CURSOR_EXISTS) => {
                Ok(eof)
            }
            _ => self.rows(form),
        }
    }

    /// The status of the EOF behind them, where there is one.
    fn definitions(&mut self, form: ResponseForm, count: u64) -> Result<Option<StatusFlags>, Stop> {
        for _ in 0..count {
            self.next(form)?;
        }
        if self.has(Capabilities::DEPRECATE_EOF) {
            return Ok(None);
        }
        let packet = self.next(form)?;
        match eof_status(&packet.payload) {
            Some(status) if self.ends_rows(&packet.payload) => Ok(Some(status)),
            _ => Err(Stop::Fault(Fault::Unexpected)),
        }
    }

    fn rows(&mut self, form: ResponseForm) -> Result<Option<StatusFlags>, Stop> {
        loop {
            let packet = self.next(form)?;
            if self.ends_rows(&packet.payload) {
                return Ok(self.last_status(&packet.payload));
            }
            if matches!(form, ResponseForm::Query | ResponseForm::Execute | ResponseForm::Fetch) {
                self.found.rows.push(packet.payload.clone());
            }
        }
    }

    fn prepared(&mut self, head: &[u8]) -> Result<(), Stop> {
        let unexpected = Stop::Fault(Fault::Unexpected);
        let counts = head.get(5..9).ok_or(unexpected)?;
        let [columns, parameters] =
            [&counts[..2], &counts[2..]].map(|count| u64::from(count[0]) | u64::from(count[1]) << 8);
        let is_left_out = self.has(Capabilities::OPTIONAL_RESULTSET_METADATA) && head.get(12) == Some(&0);
        for count in [parameters, columns].into_iter().filter(|count| *count > 0) {
            self.definitions(ResponseForm::Prepare, if is_left_out { 0 } else { count })?;
        }
        Ok(())
    }

    fn ends_rows(&self, payload: &[u8]) -> bool {
        let limit = if self.has(Capabilities::DEPRECATE_EOF) { 0xff_ffff } else { 9 };
        payload.first() == Some(&0xfe) && payload.len() < limit
    }

    fn last_status(&self, payload: &[u8]) -> Option<StatusFlags> {
        let is_ok = self.has(Capabilities::DEPRECATE_EOF) && payload.len() > 5;
        if is_ok { ok_status(payload) } else { eof_status(payload) }
    }

    fn has(&self, flag: Capabilities) -> bool {
        self.capabilities.contains(flag)
    }
}

/// The code of an ERR packet that is none.
const PROGRESS: u16 = 0xffff;
