//! What a server sends: framing, the response tracker, and the numbers of packets.

use super::input::{Input, pieces};
use super::reference::{self, Fault, Found, StreamEnd};
use super::within;
use crate::capabilities::Capabilities;
use crate::command::{Command, ResponseForm};
use crate::numbering::PacketNumberer;
use crate::response::{ResponseError, ResponseTracker};
use crate::rows::RowSink;

/// ```text
/// 8  capabilities    1  where it is cut    1  1: the sequence ids jump    1  commands    n  their bytes
/// n  what the server sends
/// ```
///
/// However it is cut, the tracker finds what the [`reference`] finds, and allocates nothing for it.
pub(super) fn responses(input: &[u8]) {
    let mut input = Input(input);
    let capabilities = Capabilities(u64::from_le_bytes(input.array()));
    let (plan, is_numbered) = (input.byte(), input.byte() & 1 == 0);
    let count = usize::from(input.byte());
    let forms = input.take(count).iter().filter_map(|&command| Command(command).response_form());
    // The others have no response that the tracker is told of.
    let is_tracked = |form: &ResponseForm| !matches!(form, ResponseForm::None | ResponseForm::Authentication);
    let forms: Vec<_> = forms.filter(is_tracked).collect();
    let stream = input.0;
    let expected = reference::read(capabilities, is_numbered, &forms, stream);
    for plan in [0, 1, plan] {
        let mut tracker = ResponseTracker::new(capabilities);
        if !is_numbered {
            tracker = tracker.without_sequence_ids();
        }
        forms.iter().for_each(|form| tracker.expect(*form));
        assert_eq!(track(&mut tracker, &pieces(stream, plan)), expected, "cut by plan {plan}");
    }
    numbers(stream, plan);
}

fn track(tracker: &mut ResponseTracker, pieces: &[&[u8]]) -> Found {
    let (mut at, mut found) = (0, Found::default());
    let mut rows = Rows::default();
    for mut piece in pieces.iter().copied() {
        while !piece.is_empty() {
            let step = tracker.advance_with(piece, &mut rows);
            let step = match step {
                Ok(step) => step,
                Err(error) => {
                    (found.rows, found.fault) = (rows.whole, Some(fault(&error)));
                    return found;
                }
            };
            assert!(step.event.is_some() || step.consumed == piece.len(), "stopped for nothing");
            at += step.consumed;
            piece = &piece[step.consumed..];
            found.events.extend(step.event.map(|event| (at, event)));
        }
    }
    assert_eq!(tracker.rows(), rows.whole.len() as u64);
    found.rows = rows.whole;
    found.end = Some(StreamEnd {
        unfinished: tracker.unfinished_len(),
        outstanding: tracker.outstanding(),
        last_sequence_id: tracker.last_sequence_id(),
    });
    found
}

fn fault(error: &ResponseError) -> Fault {
    match *error {
        ResponseError::Unsolicited { .. } => Fault::Unsolicited,
        ResponseError::Unexpected { .. } => Fault::Unexpected,
        ResponseError::SequenceGap { expected, got } => Fault::SequenceGap { expected, got },
    }
}

/// Keeps the rows that it is shown.
#[derive(Default)]
struct Rows {
    packet: Vec<u8>,
    whole: Vec<Vec<u8>>,
}

impl RowSink for Rows {
    fn on_payload(&mut self, piece: &[u8]) {
        self.packet.extend_from_slice(piece);
    }

    fn on_end(&mut self, is_row: bool) {
        let packet = std::mem::take(&mut self.packet);
        if is_row {
            self.whole.push(packet);
        }
    }
}

/// However a stream is cut, its packets get the same numbers, one behind the other, and nothing else changes. Neither
/// that nor following it takes memory.
fn numbers(stream: &[u8], plan: u8) {
    let mut whole = stream.to_vec();
    let mut numberer = PacketNumberer::default();
    numberer.set_next(plan);
    let mut tracker = ResponseTracker::new(Capabilities::default()).without_sequence_ids();
    tracker.expect(ResponseForm::Binlog);
    within(0, || {
        numberer.number(&mut whole);
        let _ = tracker.advance(stream);
    });
    let (before, after) = (reference::packets(stream), reference::packets(&whole));
    let mut next = plan;
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((before.end, &before.payload), (after.end, &after.payload));
        assert_eq!(after.first_id, next);
        next = after.last_id.wrapping_add(1);
    }
    assert_eq!(before.len(), after.len());
    let (mut cut, mut at) = (stream.to_vec(), 0);
    let mut numberer = PacketNumberer::default();
    numberer.set_next(plan);
    for piece in pieces(stream, plan) {
        numberer.number(&mut cut[at..at + piece.len()]);
        at += piece.len();
    }
    assert!(cut == whole, "numbered differently where it is cut");
}
