//! What must hold in every world, however it went.
//!
//! The client has seen exactly the answers of the script; or their beginning up to the end of a packet, and then one ERR
//! packet; or their beginning up to somewhere inside a packet of which too much was fed already, and a closed connection.
//! Whatever is not as it should be has a cause in the plan.

use std::iter;

use spillway_protocol::{ERR_HEADER, HEADER_LEN, PacketHeader, err_code, err_message};

use super::client::{End, Login};
use super::plan::{Expectation, Plan};
use super::server::{FAREWELL, Fault, NOT_YET};
use super::world::Outcome;
use crate::spool::HOLD_BACK;

/// The complaint about a world, if there is one.
pub(super) fn judge_all(plan: &Plan, outcomes: &[Outcome]) -> Result<(), String> {
    for (plan, outcome) in iter::once(plan).chain(plan.neighbours.iter().map(|plan| &**plan)).zip(outcomes) {
        judge(plan, outcome).map_err(|complaint| match outcomes {
            [_] => complaint,
            _ => format!("{complaint} (of the plan {})", plan.seed),
        })?;
        let refused = matches!(outcome.client.login, Login::Refused(_));
        if refused && outcomes.len() == 1 && plan.must_log_in() {
            return Err(format!("refused for no reason: {:?}", outcome.client.login));
        }
    }
    Ok(())
}

/// The complaint about one client's session.
fn judge(plan: &Plan, outcome: &Outcome) -> Result<(), String> {
    if let Some(leak) = outcome.leaks.first() {
        return Err(leak.clone());
    }
    // A good-bye that crosses a command is its answer, so the next one comes without it having been seen.
    let may_skip = outcome.server.faults.contains(&Fault::Farewell);
    let is_serious = |complaint: &&String| !(may_skip && complaint.contains(NOT_YET));
    if let Some(complaint) = outcome.server.complaints.iter().find(is_serious) {
        return Err(complaint.clone());
    }
    // Where the session is told to stop, its future is dropped.
    if outcome.server.broken_off > 0 && !outcome.stopped {
        return Err("a login at the server was broken off, which it counts against the host".to_owned());
    }
    // At a limit the end of an answer is left in the socket, and the server takes its session for an idle one.
    let is_held_back = outcome.totals.held_back_ms > 0 || plan.drain_limit.is_some();
    if outcome.server.faults.contains(&Fault::Idle) && !is_held_back {
        return Err("the server has seen no command within wait_timeout".to_owned());
    }
    match &outcome.client.login {
        Login::In => View { outcome, expected: plan.expectation() }.judge(),
        Login::Left => Ok(()),
        Login::Closed if outcome.stopped => Ok(()),
        Login::Refused(payload) if err_code(payload).is_some() => Ok(()),
        login => Err(format!("the login ended so: {login:?}")),
    }
}

/// A client's view of the command phase.
struct View<'a> {
    outcome: &'a Outcome,
    expected: Expectation,
}

impl View<'_> {
    fn judge(&self) -> Result<(), String> {
        let received = &self.outcome.client.received;
        let same = common_prefix(received, &self.expected.bytes);
        let is_right_so_far = same == received.len();
        let is_all = is_right_so_far && same == self.expected.bytes.len();
        if is_right_so_far && same > self.due() {
            return Err("an answer to what was not asked yet".to_owned());
        }
        match self.outcome.client.end {
            End::Done | End::Quit if is_all => Ok(()),
            // An error may be longer than what it stands for.
            End::Done | End::Quit => self.judge_error(same, false),
            End::Left if is_right_so_far => Ok(()),
            End::Left => self.judge_error(same, false),
            End::GaveUp if is_right_so_far && self.has(&[Fault::Stall]) => Ok(()),
            // The answer that it waits for has come in other words.
            End::GaveUp if !is_right_so_far => self.judge_error(same, true),
            End::GaveUp => Err(format!("nothing came for a day, after {same} of {} bytes", self.due())),
            End::Closed if is_right_so_far => self.judge_silence(same),
            End::Closed => self.judge_error(same, true),
        }
    }

    /// Where the answers to what was asked end.
    fn due(&self) -> usize {
        self.expected.due(self.outcome.client.sent)
    }

    fn has(&self, faults: &[Fault]) -> bool {
        self.outcome.server.faults.iter().any(|fault| faults.contains(fault))
    }

    fn has_cause(&self) -> bool {
        self.outcome.stopped || self.has(&[Fault::Cut, Fault::Farewell, Fault::Stall, Fault::Idle])
    }

    /// The connection was closed behind `end` right bytes, without a word.
    fn judge_silence(&self, end: usize) -> Result<(), String> {
        if !self.has_cause() {
            return Err(format!("closed without a reason after {end} of {} bytes", self.due()));
        }
        // What is told to stop while nothing is asked of it ends in silence; a command may be on its way to it.
        let between = end == 0 || self.expected.answers.contains(&end);
        if end == self.due() || (between && self.outcome.stopped) {
            return match self.outcome.stopped {
                true => Ok(()),
                false => Err("closed while the client had nothing to wait for".to_owned()),
            };
        }
        let next = self.expected.ends.partition_point(|&(at, _)| at <= end);
        let (last, _) = self.expected.ends[next - 1];
        let packet = self.expected.ends.get(next).map_or(0, |&(at, _)| at - last);
        // Who is told to stop waits a second for its client, and may stand anywhere in a packet, or where one has ended
        // of which only the block's last end is known.
        if end == last {
            match self.outcome.stopped {
                true => Ok(()),
                false => Err(format!("a clean end at {end}, with {} bytes outstanding", self.due() - end)),
            }
        } else if self.outcome.stopped || packet as u64 >= HOLD_BACK {
            Ok(())
        } else {
            Err(format!("cut off inside a packet of {packet} bytes, at {end}"))
        }
    }

    /// What was received differs from the script from `at` on: it must be an ERR packet, `whole` or cut short by the
    /// client, behind the end of a packet.
    fn judge_error(&self, at: usize, whole: bool) -> Result<(), String> {
        let next = self.expected.ends.partition_point(|&(end, _)| end <= at);
        let (end, expected_id) = self.expected.ends[next - 1];
        let tail = &self.outcome.client.received[end..];
        let wrong = |what: &str| Err(format!("{what}, behind the packet that ends at {end}"));
        if !self.has_cause() {
            return wrong(&format!("a wrong byte at {at}, or an error without a reason"));
        }
        if end >= self.expected.due(self.outcome.client.begun) {
            return wrong("a packet while the client had nothing to wait for");
        }
        // It may cross a command and is its answer then, unnumbered; what follows is not compared.
        if self.has(&[Fault::Farewell]) && starts_with_farewell(tail) {
            return Ok(());
        }
        let Some((header, payload)) = tail.split_first_chunk::<HEADER_LEN>() else {
            return if whole { wrong("a part of a header") } else { Ok(()) };
        };
        let header = PacketHeader::decode(*header);
        if payload.first().is_some_and(|first| *first != ERR_HEADER) {
            return wrong(&format!("a wrong byte at {at}"));
        }
        let len = header.payload_len as usize;
        if payload.len() > len || (whole && payload.len() < len) {
            return wrong(&format!("an ERR packet of {len} bytes in {}", payload.len()));
        }
        if payload.len() < len {
            return Ok(());
        }
        let message = String::from_utf8_lossy(err_message(payload));
        if !message.starts_with("spillway: ") {
            return wrong(&format!("an ERR packet out of nowhere: {message}"));
        }
        if header.sequence_id != expected_id {
            return wrong(&format!("sequence id {} in the place of {expected_id}", header.sequence_id));
        }
        if whole && self.outcome.told_errors == 0 {
            return wrong("an ERR packet that is not counted");
        }
        Ok(())
    }
}

/// Whether the server's good-bye comes first.
fn starts_with_farewell(packets: &[u8]) -> bool {
    let Some((header, rest)) = packets.split_first_chunk() else { return false };
    let payload = rest.get(..PacketHeader::decode(*header).payload_len as usize);
    payload.is_some_and(|payload| err_message(payload) == FAREWELL.as_bytes())
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    const STEP: usize = 4096;
    let steps = a.chunks(STEP).zip(b.chunks(STEP)).take_while(|(a, b)| a == b).count();
    let start = (steps * STEP).min(a.len()).min(b.len());
    start + a[start..].iter().zip(&b[start..]).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests;
