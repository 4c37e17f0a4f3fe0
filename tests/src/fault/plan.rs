//! When a connection suffers what.

use std::ops::Range;

use super::{Action, Direction};

/// `action` comes when `after` more bytes have passed in `direction`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) direction: Direction,
    pub(super) after: u64,
    pub(super) action: Action,
}

impl Plan {
    /// Whether nothing at all reaches the proxy, so that there is no need to reach the server.
    pub(super) fn comes_at_once(self) -> bool {
        self.direction == Direction::FromServer && self.after == 0 && self.action != Action::Stall
    }

    /// How many bytes it lets pass in `direction`; `None` for all.
    pub(super) fn room(self, direction: Direction) -> Option<u64> {
        (self.direction == direction).then_some(self.after)
    }

    /// Counts bytes that pass; gives the action that they bring. A stall lasts until it is healed, the others happen
    /// once.
    pub(super) fn spend(plan: &mut Option<Self>, direction: Direction, count: u64) -> Option<Action> {
        let due = plan.as_mut().filter(|plan| plan.direction == direction)?;
        due.after -= count;
        let action = (due.after == 0).then_some(due.action)?;
        if action != Action::Stall {
            *plan = None;
        }
        Some(action)
    }
}

/// Who suffers by chance.
#[derive(Clone, Debug)]
pub(super) struct Dice {
    pub(super) seed: u64,
    pub(super) probability: f64,
    pub(super) range: Range<u64>,
}

impl Dice {
    pub(super) fn plan(&self, index: usize) -> Option<Plan> {
        let mut state = mix(self.seed).wrapping_add(index as u64);
        let mut roll = || {
            state = mix(state);
            state
        };
        let share = (roll() >> 11) as f64 / (1_u64 << 53) as f64;
        let action = if roll() & 1 == 0 { Action::Cut } else { Action::Reset };
        let length = self.range.end.saturating_sub(self.range.start).max(1);
        let after = self.range.start + roll() % length;
        (share < self.probability).then_some(Plan { direction: Direction::FromServer, after, action })
    }
}

/// The step of splitmix64: one number in, one that seems unrelated out.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
