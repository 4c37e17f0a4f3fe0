//! What seeds have found, as worlds made by hand: a seed means something else with every change of the plan.

use std::slice;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use spillway_protocol::HEADER_LEN;

use super::client::{End, Login};
use super::oracle::judge_all;
use super::plan::{Ending, Leaves, LoginFault, Plan, ServerPlan, StopPlan};
use super::script::{Dialect, Exchange, Kind, Packets, close, setting, unknown};
use super::world::{self, Outcome, Place};

/// A world with these commands, in which nothing goes wrong but what is changed; the oracle has nothing to say of it.
fn good_world(exchanges: Vec<Exchange>, change: impl FnOnce(&mut Plan)) -> Outcome {
    let mut plan = Plan::calm(0, &mut StdRng::seed_from_u64(0));
    plan.is_stored = false;
    plan.drain_limit = None;
    plan.exchanges = exchanges;
    change(&mut plan);
    let plan = Arc::new(plan);
    let outcome = world::run(&plan, &Place::new()).remove(0);
    judge_all(&plan, slice::from_ref(&outcome)).unwrap();
    outcome
}

/// A call that is answered by so many results without rows, of 1 KB each.
fn call(number: usize, results: usize) -> Exchange {
    let mut answer = Packets::default();
    for _ in 0..results {
        // More results exist.
        answer.push(&[&[0, 0, 0, 10, 0, 0, 0][..], &[b'x'; 1000]].concat());
    }
    answer.push(&[0, 0, 0, 2, 0, 0, 0]);
    Exchange { payload: format!("\x03CALL p({number})").into_bytes(), kind: Kind::Answered, answer }
}

/// A command of 200 KB, most of which waits in the socket while it may not start.
fn large(number: usize) -> Exchange {
    let payload = format!("\x03SELECT {number} /* {} */", "x".repeat(200_000)).into_bytes();
    Exchange { payload, kind: Kind::Answered, answer: Packets::just_ok() }
}

/// The connection with this number is cut after so many bytes.
fn cut(plan: &mut Plan, number: usize, bytes: usize) {
    plan.servers = vec![ServerPlan::default(); number + 1];
    plan.servers[number].end = Some((bytes, Ending::Close));
}

/// The server, which waited for commands, was sent a wrong proof.
#[test]
fn a_client_that_leaves_as_it_is_let_in_has_nothing_declined() {
    let outcome = good_world(vec![call(0, 0)], |plan| plan.client.leaves = Some(Leaves::AfterResponse));
    assert_eq!(outcome.client.login, Login::Left);
}

/// It came behind the beginning of the next answer.
#[test]
fn an_answer_of_spillways_own_keeps_its_place() {
    for middle in [unknown(), setting(1)] {
        let outcome = good_world(vec![setting(0), call(7, 300), middle, call(8, 300)], |plan| {
            plan.is_stored = true;
            plan.client.depth = 4;
            plan.client.send_buffer = Some(4096);
            plan.client.stall = Some((0, Duration::from_secs(60)));
        });
        assert!(matches!(outcome.client.end, End::Done | End::Quit), "{:?}", outcome.client.end);
    }
    let outcome = good_world(vec![setting(0), setting(1), unknown(), call(2, 300)], |plan| {
        plan.client.depth = 4;
        plan.is_stored = true;
    });
    assert!(matches!(outcome.client.end, End::Done | End::Quit), "{:?}", outcome.client.end);
}

/// The session went on until the client's connection was closed, which some clients leave to the server.
#[test]
fn a_client_may_quit_when_the_server_is_lost() {
    let outcome = good_world(Vec::new(), |plan| {
        plan.is_stored = true;
        plan.client.quits = true;
        cut(plan, 1, 10);
    });
    assert_eq!(outcome.client.end, End::Quit);
}

/// It got the error that the next command should get.
#[test]
fn a_command_without_an_answer_is_told_no_error() {
    let outcome = good_world(vec![close(0), call(1, 0)], |plan| {
        plan.client.think = Duration::from_secs(1);
        cut(plan, 0, 1);
    });
    assert_eq!((outcome.client.end, outcome.client.sent, outcome.told_errors), (End::Closed, 2, 1));
}

/// Its connection was closed without a word.
#[test]
fn a_command_that_waits_for_a_keepalive_is_told_when_spillway_stops() {
    let outcome = good_world(vec![call(0, 0)], |plan| {
        plan.dialect = Dialect { is_mariadb: false, deprecate_eof: true };
        (plan.keepalive, plan.wait_timeout) = (Duration::from_secs(10), Duration::from_secs(300));
        let timeouts = Packets::one_row(&["300", "28800"].map(str::to_owned), plan.dialect);
        let before = Packets::just_ok().bytes.len() + timeouts.bytes.len();
        plan.servers[0].end = Some((before + 1, Ending::Stall));
        plan.client.think = Duration::from_secs(60);
        plan.stop = Some(StopPlan { after: Duration::from_secs(120), received: usize::MAX, kill: false });
    });
    assert_eq!((outcome.client.end, outcome.told_errors), (End::Closed, 1));
}

/// The session went on for as long as the server said nothing.
#[test]
fn a_client_may_leave_behind_a_large_command_that_waits() {
    let outcome = good_world(vec![large(0)], |plan| {
        plan.servers = vec![ServerPlan { end: Some((1, Ending::Stall)), ..ServerPlan::default() }];
        plan.client.leaves = Some(Leaves::Sent(100_000));
    });
    assert_eq!(outcome.client.end, End::Left);
}

/// The login by which the lost connection was being replaced was broken off.
#[test]
fn a_client_may_leave_while_its_server_is_being_replaced() {
    let outcome = good_world(vec![call(0, 0), call(1, 0)], |plan| {
        plan.is_stored = true;
        cut(plan, 1, 10);
        let late = LoginFault::Late(Duration::from_secs(5));
        plan.servers.push(ServerPlan { login: late, ..ServerPlan::default() });
        // The first command begins the login; the second is begun a second later, and not ended.
        (plan.client.think, plan.client.depth) = (Duration::from_secs(1), 2);
        plan.client.leaves = Some(Leaves::Sent(HEADER_LEN + plan.exchanges[0].payload.len() + 1));
    });
    assert_eq!((outcome.client.end, outcome.server.connections), (End::Left, 3));
}
