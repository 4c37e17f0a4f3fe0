//! That the oracle objects: to views that no session may give its client.

use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;
use spillway_protocol::encode_err;

use super::super::plan::{Plan, ServerPlan};
use super::super::script::{Dialect, Exchange, Kind, Packets};
use super::super::world::{self, Place};
use super::*;

/// A world with one answer of three rows, in which nothing goes wrong; and what has come of it.
fn calm_world() -> (Plan, Outcome) {
    let mut plan = Plan::calm(1, &mut StdRng::seed_from_u64(1));
    plan.dialect = Dialect { is_mariadb: false, deprecate_eof: true };
    plan.is_stored = false;
    let mut answer = Packets::one_row(&["a row".to_owned()], plan.dialect);
    let end = answer.bytes.split_off(answer.ends[2].0);
    answer.ends.truncate(3);
    for row in [vec![b'x'; 300], vec![b'y'; 100_000]] {
        answer.push(&row);
    }
    answer.push(&end[HEADER_LEN..]);
    let payload = b"\x03SELECT a FROM t".to_vec();
    plan.exchanges = vec![Exchange { payload, kind: Kind::Answered, answer }];
    plan.servers = vec![ServerPlan::default()];
    let plan = Arc::new(plan);
    let outcomes = world::run(&plan, &Place::new());
    judge_all(&plan, &outcomes).unwrap();
    let [outcome]: [Outcome; 1] = outcomes.try_into().unwrap();
    (Arc::into_inner(plan).unwrap(), outcome)
}

/// The complaint about a world that was changed in this way.
fn objection(change: impl FnOnce(&mut Outcome, &Expectation)) -> String {
    let (plan, mut outcome) = calm_world();
    change(&mut outcome, &plan.expectation());
    judge(&plan, &outcome).unwrap_err()
}

/// The same where the server was lost, which excuses an error.
fn objection_after_a_cut(change: impl FnOnce(&mut Outcome, &Expectation)) -> String {
    objection(|outcome, expected| {
        outcome.server.faults.push(Fault::Cut);
        outcome.client.end = End::Closed;
        outcome.told_errors = 1;
        change(outcome, expected);
    })
}

/// The packets of an answer: the head, one definition, then rows.
fn packet(expected: &Expectation, number: usize) -> std::ops::Range<usize> {
    expected.ends[number].0..expected.ends[number + 1].0
}

fn err(id: u8) -> Vec<u8> {
    encode_err(id, 2013, Some(b"HY000"), "spillway: lost")
}

#[test]
fn a_row_that_is_missing_doubled_or_changed_is_noticed() {
    let dropped = objection(|outcome, expected| drop(outcome.client.received.drain(packet(expected, 3))));
    assert!(dropped.contains("a wrong byte"), "{dropped}");
    let doubled = objection(|outcome, expected| {
        let row = outcome.client.received[packet(expected, 3)].to_vec();
        outcome.client.received.splice(expected.ends[3].0..expected.ends[3].0, row);
    });
    assert!(doubled.contains("a wrong byte"), "{doubled}");
    let changed = objection(|outcome, _| *outcome.client.received.last_mut().unwrap() ^= 1);
    assert!(changed.contains("a wrong byte"), "{changed}");
}

#[test]
fn a_keepalives_answer_is_not_for_the_client() {
    let leaked = objection(|outcome, _| {
        outcome.client.received.extend_from_slice(&Packets::text("Uptime: 1").bytes);
    });
    assert!(leaked.contains("a wrong byte"), "{leaked}");
}

#[test]
fn a_clean_end_too_early_is_noticed() {
    let clean = objection_after_a_cut(|outcome, expected| {
        outcome.client.received.truncate(expected.ends[4].0);
    });
    assert!(clean.contains("a clean end"), "{clean}");
    let inside = objection_after_a_cut(|outcome, expected| {
        outcome.client.received.truncate(expected.ends[3].0 + 10);
    });
    assert!(inside.contains("cut off inside a packet of 304 bytes"), "{inside}");
    let without_cause = objection(|outcome, _| {
        outcome.client.received.truncate(10);
        outcome.client.end = End::Closed;
    });
    assert!(without_cause.contains("without a reason"), "{without_cause}");
}

#[test]
fn an_err_packet_must_stand_at_a_boundary_and_have_the_next_number() {
    let at = |number: usize, more: usize, id: u8| {
        move |outcome: &mut Outcome, expected: &Expectation| {
            outcome.client.received.truncate(expected.ends[number].0 + more);
            outcome.client.received.extend(err(id));
        }
    };
    let inside = objection_after_a_cut(at(4, 70_000, 6));
    assert!(inside.contains("a wrong byte"), "{inside}");
    let misnumbered = objection_after_a_cut(at(3, 0, 9));
    assert!(misnumbered.contains("sequence id 9 in the place of 4"), "{misnumbered}");
    let behind_the_end = objection_after_a_cut(at(6, 0, 1));
    assert!(behind_the_end.contains("nothing to wait for"), "{behind_the_end}");
    let without_cause = objection(|outcome, expected| {
        at(3, 0, 4)(outcome, expected);
        outcome.client.end = End::Closed;
    });
    assert!(without_cause.contains("without a reason"), "{without_cause}");
}

#[test]
fn a_right_error_and_a_right_cut_are_let_pass() {
    let (plan, mut outcome) = calm_world();
    let expected = plan.expectation();
    outcome.server.faults.push(Fault::Cut);
    outcome.client.end = End::Closed;
    outcome.told_errors = 1;
    outcome.client.received.truncate(expected.ends[4].0 + 70_000);
    judge(&plan, &outcome).unwrap();
    outcome.client.received.truncate(expected.ends[3].0);
    outcome.client.received.extend(err(4));
    judge(&plan, &outcome).unwrap();
}

#[test]
fn hangs_leaks_and_foreign_commands_are_noticed() {
    let hang = objection(|outcome, expected| {
        outcome.client.received.truncate(expected.ends[4].0);
        outcome.client.end = End::GaveUp;
    });
    assert!(hang.contains("nothing came"), "{hang}");
    assert_eq!(objection(|outcome, _| outcome.leaks.push("a leak".to_owned())), "a leak");
    assert_eq!(objection(|outcome, _| outcome.server.complaints.push("twice".to_owned())), "twice");
    let (plan, mut outcome) = calm_world();
    outcome.client.login = Login::Refused(err(1)[HEADER_LEN..].to_vec());
    assert!(judge_all(&plan, &[outcome]).unwrap_err().contains("refused for no reason"));
    let broken_off = objection(|outcome, _| outcome.server.broken_off = 1);
    assert!(broken_off.contains("broken off"), "{broken_off}");
}
