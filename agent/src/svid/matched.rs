//! What a set of selectors matches and earns, worked out once for all who read it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::SystemTime,
};

use arc_swap::ArcSwapOption;

use super::{
    cache::Shared,
    snapshot::{Snapshot, Svids},
};
use crate::{
    attestation::SelectorSet,
    registration::{Entries, EntryId, EntryIndex, RegistrationEntry, TemplateEntry},
};

/// By the address of the selectors. Who goes leaves before his selectors do, so no address comes back too early.
#[derive(Debug, Default)]
pub(super) struct Matches(Mutex<HashMap<usize, Weak<Matched>>>);

/// What one set of selectors matches in one index.
#[derive(Debug)]
pub(super) struct Matched {
    pub(super) entries: Entries,
    index: Arc<EntryIndex>,
    selectors: Arc<SelectorSet>,
    matches: Span,
    in_use: Arc<InUse>,
    /// A template had no room, when room had been found so often: with more it may be otherwise.
    full: Option<u64>,
    last: ArcSwapOption<Earned>,
    /// Held by the one who works out `last`.
    working: Mutex<()>,
}

/// The SVIDs of some entries in one snapshot.
#[derive(Debug)]
struct Earned {
    generation: u64,
    svids: Arc<Svids>,
    holds: Span,
}

/// From the moment at which something was found until time alone changes it.
#[derive(Debug, Clone, Copy)]
struct Span {
    from: SystemTime,
    until: Option<SystemTime>,
}

/// Tells the owner that somebody uses these entries.
#[derive(Debug)]
struct InUse {
    shared: Arc<Shared>,
    ids: Box<[EntryId]>,
}

impl Matched {
    /// What `selectors` match in the index of `snapshot`, as somebody found already or as it is found now; `before`
    /// is what the one who asks has had.
    pub(super) fn find(
        shared: &Arc<Shared>,
        snapshot: &Snapshot,
        selectors: &Arc<SelectorSet>,
        now: SystemTime,
        before: Option<&Arc<Self>>,
    ) -> Arc<Self> {
        let holds = |matched: &Arc<Self>| matched.holds(&snapshot.index, selectors, now);
        if let Some(before) = before.filter(|before| holds(before)) {
            return Arc::clone(before);
        }
        let known = shared.matches.get(selectors);
        if let Some(known) = known.as_ref().filter(|known| holds(known)) {
            return Arc::clone(known);
        }
        let new = Arc::new(Self::new(shared, snapshot, selectors, now, before.or(known.as_ref())));
        shared.matches.insert(&new);
        new
    }

    fn new(
        shared: &Arc<Shared>,
        snapshot: &Snapshot,
        selectors: &Arc<SelectorSet>,
        now: SystemTime,
        before: Option<&Arc<Self>>,
    ) -> Self {
        let tell = |template: &Arc<TemplateEntry>, refusal| shared.refusals.of_value(template, &refusal);
        let mut entries = snapshot.index.matching_or(selectors, now, tell);
        // Read before room is looked for: what is found later is not missed.
        let room = shared.wants.room();
        let (in_use, full) = match before {
            Some(before) if before.in_use.ids.iter().eq(entries.iter().map(|entry| &entry.id)) => {
                (Arc::clone(&before.in_use), false)
            }
            _ => InUse::new(shared, &mut entries),
        };
        let entries: Entries = entries.into();
        // Made for another snapshot, so it is not what is earned now, but may turn out to be no different.
        let earned = before.and_then(|before| before.last.load_full());
        let earned =
            earned.map(|earned| Earned { generation: 0, svids: Arc::clone(&earned.svids), ..*earned });
        Self {
            in_use,
            full: full.then_some(room),
            entries,
            index: Arc::clone(&snapshot.index),
            selectors: Arc::clone(selectors),
            matches: Span { from: now, until: snapshot.index.next_expiry(now) },
            last: ArcSwapOption::from_pointee(earned),
            working: Mutex::default(),
        }
    }

    /// The SVIDs of these entries in `snapshot`, those alone that are valid: the same list as long as it would say the
    /// same.
    pub(super) fn earned(&self, snapshot: &Snapshot, now: SystemTime) -> Arc<Svids> {
        let known = || {
            let earned = self.last.load();
            let earned = earned.as_ref()?;
            let holds = earned.generation == snapshot.generation && earned.holds.contains(now);
            holds.then(|| Arc::clone(&earned.svids))
        };
        if let Some(svids) = known() {
            return svids;
        }
        let _working = self.working.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(svids) = known() {
            return svids;
        }
        let held = self.entries.iter().filter_map(|entry| snapshot.svids.get(&entry.id));
        let valid: Vec<_> = held.filter(|issued| now < issued.svid.not_after).collect();
        let until = valid.iter().map(|issued| issued.svid.not_after).min();
        let before = self.last.load_full().map(|earned| Arc::clone(&earned.svids));
        let is_same = |before: &Arc<Svids>| {
            let generations = before.iter().map(|issued| issued.generation);
            generations.eq(valid.iter().map(|issued| issued.generation))
        };
        let before = before.filter(is_same);
        let svids = before.unwrap_or_else(|| Arc::new(valid.into_iter().cloned().collect()));
        let earned = Earned {
            generation: snapshot.generation,
            svids: Arc::clone(&svids),
            holds: Span { from: now, until },
        };
        self.last.store(Some(Arc::new(earned)));
        svids
    }

    fn holds(&self, index: &Arc<EntryIndex>, selectors: &Arc<SelectorSet>, now: SystemTime) -> bool {
        Arc::ptr_eq(&self.index, index)
            && Arc::ptr_eq(&self.selectors, selectors)
            && self.matches.contains(now)
            && self.full.is_none_or(|room| self.in_use.shared.wants.room() == room)
    }
}

impl Drop for Matched {
    fn drop(&mut self) {
        self.in_use.shared.matches.forget(&self.selectors);
    }
}

impl Matches {
    fn get(&self, selectors: &Arc<SelectorSet>) -> Option<Arc<Matched>> {
        self.lock().get(&key(selectors)).and_then(Weak::upgrade)
    }

    fn insert(&self, matched: &Arc<Matched>) {
        self.lock().insert(key(&matched.selectors), Arc::downgrade(matched));
    }

    /// Unless another has taken its place.
    fn forget(&self, selectors: &Arc<SelectorSet>) {
        let mut matches = self.lock();
        if matches.get(&key(selectors)).is_some_and(|matched| matched.strong_count() == 0) {
            matches.remove(&key(selectors));
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    // No code that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, HashMap<usize, Weak<Matched>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(selectors: &Arc<SelectorSet>) -> usize {
    Arc::as_ptr(selectors).addr()
}

impl Span {
    fn contains(self, now: SystemTime) -> bool {
        self.from <= now && self.until.is_none_or(|until| now < until)
    }
}

impl InUse {
    /// Of `entries`, from which those are taken for which a template has no room. Says whether there were such.
    fn new(shared: &Arc<Shared>, entries: &mut Vec<Arc<RegistrationEntry>>) -> (Arc<Self>, bool) {
        let full = shared.wants.add(entries);
        for template in full.iter().filter_map(|entry| entry.derived_from.as_ref()) {
            shared.refusals.of_room(template, shared.wants.limit());
        }
        let ids = entries.iter().map(|entry| entry.id.clone()).collect();
        (Arc::new(Self { shared: Arc::clone(shared), ids }), !full.is_empty())
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.shared.wants.remove(&self.ids);
    }
}
