//! When a connection suffers what.

use std::ops::Range;

use super::{Action, Direction};
use crate::chance::Chance;

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
        let mut chance = Chance::from_seed(self.seed.wrapping_mul(1_000_003).wrapping_add(index as u64));
        let share = chance.share();
        let action = if chance.below(2) == 0 { Action::Cut } else { Action::Reset };
        let length = self.range.end.saturating_sub(self.range.start).max(1);
        let after = self.range.start + chance.below(length);
        (share < self.probability).then_some(Plan { direction: Direction::FromServer, after, action })
    }
}
