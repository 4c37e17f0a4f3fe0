//! What the sessions' own attempts have last shown of each upstream. Nobody connects only to find out: a server counts
//! connections without a login against the host that makes them.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a failure says something about a server. After that, nobody knows: whoever is told so sends a client, and
/// its attempts tell.
const FAILURE_LASTS: Duration = Duration::from_secs(30);

/// The last attempt at each of several upstreams.
#[derive(Debug)]
pub(crate) struct Sightings(Vec<Mutex<Sighting>>);

#[derive(Clone, Debug, Default)]
enum Sighting {
    #[default]
    None,
    Greeted,
    Failed {
        at: Instant,
        why: String,
    },
}

/// What is known of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nothing of late.
    Nothing,
    /// It has greeted when it was last tried.
    Reached,
    /// It could not be reached when it was last tried.
    Failed(String),
}

impl Sightings {
    pub(super) fn of(upstreams: usize) -> Self {
        Self((0..upstreams).map(|_| Mutex::default()).collect())
    }

    /// An upstream has greeted.
    pub(super) fn greeted(&self, upstream: usize) {
        self.set(upstream, Sighting::Greeted);
    }

    /// An upstream could not be reached, or would not have anybody.
    pub(super) fn failed(&self, upstream: usize, why: &impl ToString) {
        self.set(upstream, Sighting::Failed { at: Instant::now(), why: why.to_string() });
    }

    fn set(&self, upstream: usize, sighting: Sighting) {
        if let Some(last) = self.0.get(upstream) {
            // Nothing that holds it leaves anything half done.
            *last.lock().unwrap_or_else(PoisonError::into_inner) = sighting;
        }
    }

    /// What is known of each upstream at this moment.
    pub(super) fn known(&self, now: Instant) -> impl Iterator<Item = Known> {
        self.0.iter().map(move |last| match &*last.lock().unwrap_or_else(PoisonError::into_inner) {
            Sighting::Greeted => Known::Reached,
            Sighting::Failed { at, why } if now.saturating_duration_since(*at) < FAILURE_LASTS => {
                Known::Failed(why.clone())
            }
            Sighting::None | Sighting::Failed { .. } => Known::Nothing,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_attempt_counts_for_a_while() {
        let sightings = Sightings::of(3);
        sightings.failed(0, &"refused");
        sightings.failed(1, &"refused");
        sightings.greeted(1);
        let now = Instant::now();
        let known: Vec<_> = sightings.known(now).collect();
        assert_eq!(known, [Known::Failed("refused".to_owned()), Known::Reached, Known::Nothing]);
        let later: Vec<_> = sightings.known(now + FAILURE_LASTS).collect();
        assert_eq!(later, [Known::Nothing, Known::Reached, Known::Nothing]);
    }
}
