//! Which entries somebody uses, as the subscribers say and the owner asks.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

use crate::registration::{EntryId, RegistrationEntry};

/// Identities of one template that may be in use at once, unless it is configured: as many for each of
/// [`crate::registration::MAX_TEMPLATES`] as there may be entries.
pub const TEMPLATE_IDENTITIES: usize = 1024;

/// Counts of users by entry: sets of selectors that somebody reads. The lock is held for a few map operations and never
/// across an await.
///
/// Bounded by the entries of the index, and by what a template may give: only what matches is counted.
#[derive(Debug)]
pub(super) struct Wants {
    state: Mutex<State>,
    changed: Notify,
    /// Identities of one template.
    limit: AtomicUsize,
    /// How often one that had given all of them has one to give again.
    room: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    users: HashMap<EntryId, Users>,
    /// How many of the entries in use each template has made.
    derived: HashMap<EntryId, usize>,
    /// What changed since the owner last looked.
    dirty: HashSet<EntryId>,
}

#[derive(Debug)]
struct Users {
    count: usize,
    derived_from: Option<EntryId>,
}

impl Default for Wants {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            changed: Notify::new(),
            limit: TEMPLATE_IDENTITIES.into(),
            room: AtomicU64::new(0),
        }
    }
}

impl Wants {
    /// One more uses `entries`, but for those that a template has no more room for, which are taken out and returned.
    pub(super) fn add(&self, entries: &mut Vec<Arc<RegistrationEntry>>) -> Vec<Arc<RegistrationEntry>> {
        let limit = self.limit();
        let mut full = Vec::new();
        self.change(!entries.is_empty(), |state| {
            full.extend(entries.extract_if(.., |entry| !state.admit(entry, limit)));
        });
        full
    }

    /// One uses these no more. Whoever now uses others in their place has added those before, so that what is in both
    /// does not pass through zero.
    pub(super) fn remove(&self, ids: &[EntryId]) {
        let limit = self.limit();
        self.change(!ids.is_empty(), |state| {
            let gives_room = ids.iter().filter(|id| state.remove(id, limit)).count();
            self.room.fetch_add(gives_room as u64, Ordering::Release);
        });
    }

    /// Another number than before tells that a template which was full has room again.
    pub(super) fn room(&self) -> u64 {
        self.room.load(Ordering::Acquire)
    }

    pub(super) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    pub(super) fn derive_at_most(&self, identities: usize) {
        self.limit.store(identities, Ordering::Relaxed);
    }

    /// Whether somebody who matched `entry` now would be given it.
    pub(super) fn has_room(&self, entry: &RegistrationEntry) -> bool {
        entry.derived_from.is_none() || self.lock().has_room(entry, self.limit())
    }

    fn change(&self, any: bool, change: impl FnOnce(&mut State)) {
        if any {
            change(&mut self.lock());
            self.changed.notify_one();
        }
    }

    /// What changed since the last call, with its users.
    pub(super) fn take_changes(&self) -> Vec<(EntryId, usize)> {
        let mut state = self.lock();
        let dirty = std::mem::take(&mut state.dirty);
        dirty
            .into_iter()
            .map(|id| (state.users.get(&id).map_or(0, |users| users.count), id))
            .map(|(n, id)| (id, n))
            .collect()
    }

    /// Everything in use.
    pub(super) fn all(&self) -> Vec<(EntryId, usize)> {
        self.lock().users.iter().map(|(id, users)| (id.clone(), users.count)).collect()
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

impl State {
    fn has_room(&self, entry: &RegistrationEntry, limit: usize) -> bool {
        let template = entry.derived_from.as_ref().and_then(|template| self.derived.get(template));
        template.is_none_or(|derived| *derived < limit) || self.users.contains_key(&entry.id)
    }

    /// Returns whether there was room.
    fn admit(&mut self, entry: &RegistrationEntry, limit: usize) -> bool {
        let has_room = self.has_room(entry, limit);
        if has_room {
            self.add(entry);
        }
        has_room
    }

    fn add(&mut self, entry: &RegistrationEntry) {
        self.dirty.insert(entry.id.clone());
        if let Some(users) = self.users.get_mut(&entry.id) {
            users.count += 1;
            return;
        }
        let derived_from = entry.derived_from.clone();
        if let Some(template) = &derived_from {
            *self.derived.entry(template.clone()).or_default() += 1;
        }
        self.users.insert(entry.id.clone(), Users { count: 1, derived_from });
    }

    /// Returns whether its template was full, and is no more.
    fn remove(&mut self, id: &EntryId, limit: usize) -> bool {
        self.dirty.insert(id.clone());
        let Some(users) = self.users.get_mut(id) else { return false };
        users.count -= 1;
        if users.count > 0 {
            return false;
        }
        let template = self.users.remove(id).and_then(|users| users.derived_from);
        let Some((template, derived)) =
            template.and_then(|template| self.derived.get_mut(&template).map(|derived| (template, derived)))
        else {
            return false;
        };
        let was_full = *derived >= limit;
        *derived -= 1;
        if *derived == 0 {
            self.derived.remove(&template);
        }
        was_full
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::attestation::Selector;

    const LIMIT: usize = 3;

    /// One of the entries that `template` makes, or one that is written where that is none.
    fn entry(template: Option<u8>, number: u8) -> Arc<RegistrationEntry> {
        let template = template.map(|template| EntryId::new(format!("t{template}")));
        let id =
            template.as_ref().map_or_else(|| format!("{number}"), |template| format!("{template}/{number}"));
        let name = format!("spiffe://example.org/{id}").parse().unwrap();
        let written = RegistrationEntry::new(EntryId::new(id), name, vec![Selector::new("unix", "uid:1")]);
        Arc::new(RegistrationEntry { derived_from: template, ..written })
    }

    proptest! {
        #[test]
        fn no_template_has_more_in_use_than_it_may_and_nothing_is_left_when_all_have_gone(
            steps in vec((any::<bool>(), vec((proptest::option::of(0..2u8), 0..6u8), 1..5)), 1..40),
        ) {
            let wants = Wants::default();
            wants.derive_at_most(LIMIT);
            let mut users: Vec<Vec<EntryId>> = Vec::new();
            for (comes, names) in steps {
                let (before, room) = (in_use(&users), wants.room());
                if comes || users.is_empty() {
                    let mut names = names;
                    names.sort_unstable();
                    names.dedup();
                    let mut entries: Vec<_> = names.into_iter().map(|(template, number)| entry(template, number)).collect();
                    for turned_away in wants.add(&mut entries) {
                        prop_assert!(!before.contains(&turned_away.id) && !wants.has_room(&turned_away));
                    }
                    users.push(entries.iter().map(|entry| entry.id.clone()).collect());
                } else {
                    let gone = users.remove(names.len() % users.len());
                    wants.remove(&gone);
                    for template in ["t0/", "t1/"] {
                        let (was, is) = (count(&before, template), count(&in_use(&users), template));
                        prop_assert!(was < LIMIT || is == was || wants.room() > room, "who waits is told");
                    }
                }
                let now = in_use(&users);
                prop_assert_eq!(wants.all().into_iter().map(|(id, _)| id).collect::<HashSet<_>>(), now.clone());
                prop_assert!(["t0/", "t1/"].iter().all(|template| count(&now, template) <= LIMIT));
            }
            users.iter().for_each(|ids| wants.remove(ids));
            let state = wants.lock();
            prop_assert!(state.users.is_empty() && state.derived.is_empty());
        }
    }

    fn in_use(users: &[Vec<EntryId>]) -> HashSet<EntryId> {
        users.iter().flatten().cloned().collect()
    }

    fn count(ids: &HashSet<EntryId>, template: &str) -> usize {
        ids.iter().filter(|id| id.as_str().starts_with(template)).count()
    }
}
