//! Which entries somebody uses, as the subscribers say and the owner asks.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::registration::EntryId;

/// Counts of users by entry: sets of selectors that somebody reads. The lock is held for a few map operations and never
/// across an await.
///
/// Bounded by the entries of the index: only what matches is counted.
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
    /// One more uses these.
    pub(super) fn add(&self, ids: &[EntryId]) {
        self.change(ids, |users, id| *users.entry(id.clone()).or_default() += 1);
    }

    /// One uses these no more. Whoever now uses others in their place has added those before, so that what is in both
    /// does not pass through zero.
    pub(super) fn remove(&self, ids: &[EntryId]) {
        self.change(ids, |users, id| {
            if let Some(count) = users.get_mut(id) {
                *count -= 1;
                if *count == 0 {
                    users.remove(id);
                }
            }
        });
    }

    fn change(&self, ids: &[EntryId], change: impl Fn(&mut HashMap<EntryId, usize>, &EntryId)) {
        if ids.is_empty() {
            return;
        }
        let mut state = self.lock();
        for id in ids {
            change(&mut state.users, id);
            state.dirty.insert(id.clone());
        }
        drop(state);
        self.changed.notify_one();
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
