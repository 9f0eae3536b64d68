//! Which entries a process nearly earns, and what of each it lacks.

mod advice;
mod comparison;

use std::{collections::HashSet, sync::Arc, time::SystemTime};

use super::{EntryIndex, RegistrationEntry, index::spoke};
use crate::attestation::{Selector, SelectorSet};

pub use advice::advice;
pub use comparison::{Comparison, Condition, Line, Verdict};

/// Entries that are compared in full, of those that share a selector with the process, and of those that share none.
const MAX_CANDIDATES: usize = 64;

/// The `limit` entries that a process with `selectors` comes closest to, without those that it has earned, closest
/// first.
///
/// Closest is: shares anything with the process, or differs from it in the value of a fact that it has; then the
/// fewest conditions that are not met; then the most that are; then differs rather than lacks; then by id. Every
/// entry is looked at once, so nothing nearer is missed: the work is one look-up for each condition of each entry,
/// at most [`super::MAX_ENTRIES`] × 256, and some 30 ms for 100,000 entries of four. Not for a path that serves.
pub fn closest(
    index: &EntryIndex,
    selectors: &SelectorSet,
    now: SystemTime,
    limit: usize,
) -> Vec<Comparison> {
    let process = Process { has: selectors.iter().collect(), selectors, now };
    let (mut sharing, mut others) = (Best::default(), Best::default());
    for entry in index.iter() {
        let (met, unmet) = process.count(entry);
        if unmet > 0 {
            let best = if met > 0 { &mut sharing } else { &mut others };
            best.offer(Rank { unmet, lacking: entry.selectors.len() - met, met }, entry);
        }
    }
    let candidates = sharing.entries.into_iter().chain(others.entries);
    let templates = index.templates().map(|template| Comparison::of_template(template, selectors, now));
    let mut compared: Vec<Comparison> =
        candidates.map(|(_, entry)| Comparison::of(&entry, selectors, now)).chain(templates).collect();
    compared.retain(|comparison| comparison.unmet() > 0);
    compared.sort_by_cached_key(|comparison| {
        let (met, differs) = (comparison.met(), comparison.differs());
        let related = met > 0 || differs > 0;
        (!related, comparison.unmet(), usize::MAX - met, usize::MAX - differs, comparison.entry.clone())
    });
    compared.truncate(limit);
    compared
}

/// A process as every entry is held against it.
struct Process<'a> {
    /// The same as `selectors`, for quick look-ups.
    has: HashSet<&'a Selector>,
    selectors: &'a SelectorSet,
    now: SystemTime,
}

impl Process<'_> {
    /// How many of the entry's selectors are met, and how many of all its conditions are not.
    fn count(&self, entry: &RegistrationEntry) -> (usize, usize) {
        let met = entry.selectors.iter().filter(|selector| self.has.contains(selector)).count();
        let excluded = entry.exclude.iter().filter(|excluded| !lacks(self.selectors, excluded)).count();
        let silent =
            entry.attested_by.iter().filter(|kind| spoke(self.selectors, kind) != Some(true)).count();
        let expired = entry.expires_at.is_some_and(|end| end <= self.now);
        (met, entry.selectors.len() - met + excluded + silent + usize::from(expired))
    }
}

/// Whether the process is known to have nothing that `excluded` names.
fn lacks(selectors: &SelectorSet, excluded: &Selector) -> bool {
    match excluded.value() {
        "" => selectors.surely_lacks_kind(excluded.kind()),
        _ => selectors.surely_lacks(excluded),
    }
}

/// Smaller is closer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rank {
    unmet: usize,
    lacking: usize,
    met: usize,
}

impl Rank {
    fn key(self) -> (usize, usize, usize) {
        (self.unmet, usize::MAX - self.met, self.lacking)
    }
}

/// The closest [`MAX_CANDIDATES`] so far, sorted. Entries come in the order of their ids, and of equals the first stay.
#[derive(Default)]
struct Best {
    entries: Vec<(Rank, Arc<RegistrationEntry>)>,
}

impl Best {
    fn offer(&mut self, rank: Rank, entry: &Arc<RegistrationEntry>) {
        let at = self.entries.partition_point(|(other, _)| other.key() <= rank.key());
        if at < MAX_CANDIDATES {
            self.entries.truncate(MAX_CANDIDATES - 1);
            self.entries.insert(at, (rank, Arc::clone(entry)));
        }
    }
}

#[cfg(test)]
mod tests;
