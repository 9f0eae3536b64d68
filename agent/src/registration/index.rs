//! Which entries a set of selectors matches, without looking at the others.

mod filed;

use std::{collections::HashSet, sync::Arc, time::SystemTime};

use super::{EntryId, RegistrationEntry};
use crate::attestation::{Selector, SelectorSet};
use filed::Filed;

/// All entries of this node, immutable.
///
/// Each entry is filed once, under the two of its selectors which the fewest entries name. A process meets an
/// entry only if it has both, so its candidates are found without looking at the others.
#[derive(Debug, Default)]
pub struct EntryIndex {
    /// Sorted by id.
    entries: Vec<Arc<RegistrationEntry>>,
    /// Positions in `entries`.
    filed: Filed,
    /// Sorted.
    expiries: Vec<SystemTime>,
    /// Type, and value up to its first colon, of everything that an entry requires or excludes.
    asked: HashSet<Selector>,
    /// Types whose attestors some entry wants to have spoken.
    attestors: HashSet<Box<str>>,
}

impl EntryIndex {
    /// `entries` in any order; of two with the same id the first stays.
    pub fn new(entries: impl IntoIterator<Item = RegistrationEntry>) -> Self {
        let mut entries: Vec<_> = entries.into_iter().map(Arc::new).collect();
        entries.sort_by(|a, b| a.id.cmp(&b.id));
        entries.dedup_by(|later, first| later.id == first.id);
        let mut expiries: Vec<SystemTime> = entries.iter().filter_map(|entry| entry.expires_at).collect();
        expiries.sort();
        let attestors = entries.iter().flat_map(|entry| entry.attested_by.iter().cloned()).collect();
        Self { filed: Filed::new(&entries), asked: asked(&entries), attestors, entries, expiries }
    }

    /// The entries that a process with `selectors` has earned at `now`, sorted by id.
    ///
    /// An entry is earned when the process has all its selectors, is known to have nothing that it excludes, the
    /// attestors that it names have spoken, and it has not expired. Costs one look-up for each selector, and one check for each candidate.
    pub fn matching(&self, selectors: &SelectorSet, now: SystemTime) -> Vec<Arc<RegistrationEntry>> {
        let mut found = self.filed.candidates(selectors);
        found.retain(|at| earns(selectors, &self.entries[*at], now));
        found.sort_unstable();
        found.into_iter().map(|at| Arc::clone(&self.entries[at])).collect()
    }

    /// The entries that require nothing beyond `selectors`, whatever they exclude and whenever they expire.
    pub(super) fn requiring_at_most(
        &self,
        selectors: &SelectorSet,
    ) -> impl Iterator<Item = &RegistrationEntry> {
        let candidates = self.filed.candidates(selectors).into_iter();
        candidates
            .map(|at| &*self.entries[at])
            .filter(|entry| entry.selectors.iter().all(|selector| selectors.contains(selector)))
    }

    /// Whether some entry waits for attestors of `kinds` alone: all that it requires of others is there.
    ///
    /// Linear in the entries that name such a type.
    pub fn may_gain(&self, selectors: &SelectorSet, kinds: &[&str], now: SystemTime) -> bool {
        let of = |selector: &Selector| kinds.contains(&selector.kind());
        let named = |kind: &str| kinds.contains(&kind);
        if !self.asked.iter().any(of) && !self.attestors.iter().any(|kind| named(kind)) {
            return false;
        }
        self.entries.iter().any(|entry| {
            entry.expires_at.is_none_or(|end| now < end)
                && (entry.selectors.iter().chain(&entry.exclude).any(of)
                    || entry.attested_by.iter().any(|kind| named(kind)))
                && entry.selectors.iter().all(|selector| of(selector) || selectors.contains(selector))
        })
    }

    /// When an entry expires next, after `now`: until then the same selectors match the same entries.
    pub fn next_expiry(&self, now: SystemTime) -> Option<SystemTime> {
        self.expiries.get(self.expiries.partition_point(|at| *at <= now)).copied()
    }

    pub fn get(&self, id: &EntryId) -> Option<&Arc<RegistrationEntry>> {
        let at = self.entries.binary_search_by(|entry| entry.id.cmp(id)).ok()?;
        self.entries.get(at)
    }

    /// Sorted by id, the expired ones too.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<RegistrationEntry>> {
        self.entries.iter()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether any entry, expired or not, asks anything of attestors of this type.
    pub fn asks_of(&self, kind: &str) -> bool {
        self.attestors.contains(kind) || self.asked.iter().any(|asked| asked.kind() == kind)
    }

    /// Whether any entry, expired or not, requires or excludes `kind:field:…`, as `names("unix", "sha256")` asks:
    /// what no entry asks about need not be learned.
    pub fn names(&self, kind: &str, field: &str) -> bool {
        self.asked.contains(&Selector::new(kind, field)) || self.asked.contains(&Selector::new(kind, ""))
    }
}

impl PartialEq for EntryIndex {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

fn asked(entries: &[Arc<RegistrationEntry>]) -> HashSet<Selector> {
    let field = |selector: &Selector| {
        let field = selector.value().split(':').next().unwrap_or_default();
        Selector::new(selector.kind(), field)
    };
    entries.iter().flat_map(|entry| entry.selectors.iter().chain(&entry.exclude)).map(field).collect()
}

/// The rule itself. Unknown is not absent: a gap in what is known of the process fails an exclusion.
fn earns(process: &SelectorSet, entry: &RegistrationEntry, now: SystemTime) -> bool {
    let lacks = |excluded: &Selector| match excluded.value() {
        "" => process.surely_lacks_kind(excluded.kind()),
        _ => process.surely_lacks(excluded),
    };
    entry.expires_at.is_none_or(|end| now < end)
        && entry.selectors.iter().all(|selector| process.contains(selector))
        && entry.exclude.iter().all(lacks)
        && entry.attested_by.iter().all(|kind| spoke(process, kind) == Some(true))
}

/// Whether the attestor of a type knew the process: it gave one selector at least. `None` when nobody can say, since it
/// failed or was not there to ask. A single fact that it could not learn does not count against it.
pub(super) fn spoke(process: &SelectorSet, kind: &str) -> Option<bool> {
    if process.gaps().any(|gap| gap.kind() == kind && gap.value().is_empty()) {
        return None;
    }
    Some(process.iter().any(|selector| selector.kind() == kind))
}

#[cfg(test)]
mod tests;
