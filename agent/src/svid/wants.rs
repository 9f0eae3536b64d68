//! Which entries somebody uses, as the subscribers say and the owner asks.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::registration::EntryId;

/// Counts of subscribers by entry. The lock is held for a few map operations and never across an await.
///
/// Bounded by the entries of the index: a subscriber counts only what it matches.
#[derive(Debug, Default)]
pub(super) struct Wants {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    users: HashMap<EntryId, usize>,
    /// What changed since the owner last looked.
    dirty: HashSet<EntryId>,
}

impl Wants {
    /// One subscriber that used `old` now uses `new`.
    pub(super) fn replace<'a>(
        &self,
        old: impl Iterator<Item = &'a EntryId>,
        new: impl Iterator<Item = &'a EntryId>,
    ) {
        let mut state = self.lock();
        // New before old, so that what is in both does not pass through zero.
        for id in new {
            *state.users.entry(id.clone()).or_default() += 1;
            state.dirty.insert(id.clone());
        }
        for id in old {
            if let Some(users) = state.users.get_mut(id) {
                *users -= 1;
                if *users == 0 {
                    state.users.remove(id);
                }
            }
            state.dirty.insert(id.clone());
        }
        let woke = !state.dirty.is_empty();
        drop(state);
        if woke {
            self.changed.notify_one();
        }
    }

    /// What changed since the last call, with its users.
    pub(super) fn take_changes(&self) -> Vec<(EntryId, usize)> {
        let mut state = self.lock();
        let dirty = std::mem::take(&mut state.dirty);
        dirty
            .into_iter()
            .map(|id| (state.users.get(&id).copied().unwrap_or(0), id))
            .map(|(n, id)| (id, n))
            .collect()
    }

    /// Everything in use.
    pub(super) fn all(&self) -> Vec<(EntryId, usize)> {
        self.lock().users.iter().map(|(id, users)| (id.clone(), *users)).collect()
    }

    /// Returns once [`Self::take_changes`] may have something.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
