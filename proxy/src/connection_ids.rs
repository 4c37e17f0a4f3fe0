//! The connection ids that clients were told, and those that their sessions have on the server.
//!
//! They differ where Spillway logged in by itself, or where a lost connection was replaced. A client that wants to end
//! another's query (`mysql` at Ctrl-C) sends the id that it was told.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backend::Server;

/// Ids of ended sessions that are remembered, so that nobody else is killed in their place.
const MAX_RETIRED: usize = 10_000;

/// Of all sessions of a proxy.
#[derive(Debug, Default)]
pub(crate) struct ConnectionIds {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Mostly one; two where the server has begun to count anew meanwhile.
    real: HashMap<Told, Vec<u32>>,
    retired: VecDeque<Told>,
    /// Sessions that a client has ended by KILL.
    killed: HashSet<Told>,
    /// First of the ids that Spillway makes up, and the next one.
    invented: Option<(u32, u32)>,
}

/// What a client was told is known by the server that it means.
type Told = (Server, u32);

/// Whom a KILL means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KillTarget {
    /// A session of this proxy, by the server's number.
    Session(u32),
    /// A session of this proxy that has ended.
    Ended,
    /// Somebody else.
    Stranger,
}

impl ConnectionIds {
    /// An id for a client whose session on the server does not exist yet. `like` is an id of that server: those made
    /// up are far from it, and begin anywhere, so that two proxies before one server do not tell the same ones.
    pub(crate) fn invent(&self, like: u32) -> u32 {
        let mut state = self.lock();
        let half = if like < 1 << 31 { 1 << 31 } else { 0 };
        let (first, next) = state.invented.unwrap_or_else(|| {
            let first = half + rand::random_range(1..1 << 30);
            (first, first)
        });
        state.invented = Some((first, next.wrapping_add(1)));
        next
    }

    /// Notes that a client was told `told` for what is `real` on the server, until the result is dropped.
    pub(crate) fn tell(self: &Arc<Self>, server: &Server, told: u32, real: u32) -> ToldId {
        let key = (server.clone(), told);
        self.lock().real.entry(key.clone()).or_default().push(real);
        ToldId { ids: Arc::clone(self), key, real }
    }

    /// Whom `id` means when a client says it to `server`.
    pub(crate) fn target(&self, server: &Server, id: u64) -> KillTarget {
        let Ok(id) = u32::try_from(id) else { return KillTarget::Stranger };
        let state = self.lock();
        let key = (server.clone(), id);
        let invented = state.invented.is_some_and(|(first, next)| (first..next).contains(&id));
        match state.real.get(&key).map(Vec::as_slice) {
            Some([real]) => KillTarget::Session(*real),
            // Nobody knows which of them is meant.
            Some(_) => KillTarget::Ended,
            None if invented || state.retired.contains(&key) => KillTarget::Ended,
            None => KillTarget::Stranger,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session's place among the ids.
#[derive(Debug)]
pub(crate) struct ToldId {
    ids: Arc<ConnectionIds>,
    key: Told,
    real: u32,
}

impl ToldId {
    /// The session has another id on the server now.
    pub(crate) fn set_real(&mut self, real: u32) {
        let mut state = self.ids.lock();
        let before = std::mem::replace(&mut self.real, real);
        if let Some(known) =
            state.real.get_mut(&self.key).and_then(|all| all.iter_mut().find(|id| **id == before))
        {
            *known = real;
        }
    }

    /// Whom `id` means when this session's client says it.
    pub(crate) fn target(&self, id: u64) -> KillTarget {
        self.ids.target(&self.key.0, id)
    }

    /// This session's client ends the session that was told `id`.
    pub(crate) fn kill(&self, id: u64) {
        if let (KillTarget::Session(_), Ok(id)) = (self.target(id), u32::try_from(id)) {
            self.ids.lock().killed.insert((self.key.0.clone(), id));
        }
    }

    /// Whether a client has ended this session.
    pub(crate) fn is_killed(&self) -> bool {
        self.ids.lock().killed.contains(&self.key)
    }
}

impl Drop for ToldId {
    fn drop(&mut self) {
        let mut state = self.ids.lock();
        if let Some(all) = state.real.get_mut(&self.key) {
            if let Some(at) = all.iter().position(|id| *id == self.real) {
                all.swap_remove(at);
            }
            if all.is_empty() {
                state.real.remove(&self.key);
                state.killed.remove(&self.key);
            }
        }
        // Where the server knew it by the same number, it knows best who has it now.
        if self.real != self.key.1 {
            if state.retired.len() >= MAX_RETIRED {
                state.retired.pop_front();
            }
            state.retired.push_back(self.key.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str) -> Server {
        Server::for_test(name)
    }

    #[test]
    fn ids_are_found_by_server_and_never_mean_a_stranger() {
        let ids = Arc::new(ConnectionIds::default());
        let (db1, db2) = (server("db1"), server("db2"));
        let mut healed = ids.tell(&db1, 7, 9);
        assert_eq!(healed.target(7), KillTarget::Session(9));
        assert_eq!(ids.target(&db2, 7), KillTarget::Stranger);
        assert_eq!(ids.target(&db1, 9), KillTarget::Stranger);
        healed.set_real(12);
        assert_eq!(ids.target(&db1, 7), KillTarget::Session(12));
        healed.kill(7);
        assert!(healed.is_killed());

        // The server counts from the beginning again, and gives the same id to another session of ours.
        let renewed = ids.tell(&db1, 7, 7);
        assert_eq!(ids.target(&db1, 7), KillTarget::Ended);
        drop(healed);
        assert_eq!(ids.target(&db1, 7), KillTarget::Session(7));
        drop(renewed);
        assert_eq!(ids.target(&db1, 7), KillTarget::Ended);
    }

    #[test]
    fn invented_ids_are_told_once() {
        let ids = Arc::new(ConnectionIds::default());
        let told = ids.invent(5);
        assert!(told >= 1 << 31);
        assert_eq!(ids.target(&server("db1"), told.into()), KillTarget::Ended);
        let session = ids.tell(&server("db1"), told, 6);
        assert_eq!(session.target(told.into()), KillTarget::Session(6));
        assert_ne!(ids.invent(5), told);
        assert_eq!(session.target(u64::MAX), KillTarget::Stranger);
        assert!(ConnectionIds::default().invent(u32::MAX) < 1 << 31);
    }
}
