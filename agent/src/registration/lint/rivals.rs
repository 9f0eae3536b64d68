//! Remarks on two entries at once.

use std::collections::BTreeMap;

use super::excludes;
use crate::{
    attestation::{Selector, SelectorSet},
    registration::{EntryId, EntryIndex, RegistrationEntry, Warning, vocabulary},
};

/// Most entries with the same hint that are compared with each other.
const MAX_COMPARED: usize = 64;
/// Most entries with as many conditions or fewer that one entry is compared with.
const MAX_CANDIDATES: usize = 1024;

pub(super) fn lint(index: &EntryIndex) -> Vec<Warning> {
    let mut warnings: Vec<Warning> = index.iter().filter_map(|entry| needless(index, entry)).collect();
    warnings.extend(hints(index));
    warnings
}

/// An entry is needless when another gives the same SPIFFE ID to every process that meets this one.
fn needless(index: &EntryIndex, entry: &RegistrationEntry) -> Option<Warning> {
    // The process that has just what this entry requires is met by every entry with fewer conditions.
    let least: SelectorSet = entry.selectors.iter().cloned().collect();
    let wider = index.requiring_at_most(&least).take(MAX_CANDIDATES).find(|other| {
        other.id != entry.id
            && other.spiffe_id == entry.spiffe_id
            && other.exclude.iter().all(|excluded| excludes(&entry.exclude, excluded))
            && other.attested_by.iter().all(|kind| entry.attested_by.contains(kind))
            && outlives(other, entry)
            && (!same_conditions(other, entry) || other.id < entry.id)
    })?;
    let title = format!("the entry of {} adds nothing to entry {}", entry.spiffe_id, wider.id);
    Some(
        Warning::new("W0611", title)
            .about(&entry.id)
            .why("that one gives the same SPIFFE ID for the same conditions or fewer")
            .fix("remove one of the two, whichever says too much"),
    )
}

fn outlives(a: &RegistrationEntry, b: &RegistrationEntry) -> bool {
    match (a.expires_at, b.expires_at) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(a), Some(b)) => a >= b,
    }
}

fn same_conditions(a: &RegistrationEntry, b: &RegistrationEntry) -> bool {
    a.selectors == b.selectors
        && a.exclude == b.exclude
        && a.attested_by == b.attested_by
        && a.expires_at == b.expires_at
}

/// What two entries are compared by, with a template or without.
#[derive(Clone, Copy)]
struct Asking<'e> {
    id: &'e EntryId,
    hint: &'e str,
    selectors: &'e [Selector],
    exclude: &'e [Selector],
}

impl<'e> Asking<'e> {
    fn of<N>(entry: &'e RegistrationEntry<N>) -> Self {
        let RegistrationEntry { id, hint, selectors, exclude, .. } = entry;
        Self { id, hint, selectors, exclude }
    }
}

/// One warning for each hint, about the first pair that can match together.
fn hints(index: &EntryIndex) -> Vec<Warning> {
    let mut hinted: BTreeMap<&str, Vec<Asking<'_>>> = BTreeMap::new();
    let written = index.iter().map(|entry| Asking::of(entry));
    let all = written.chain(index.templates().map(|template| Asking::of(template)));
    for entry in all.filter(|entry| !entry.hint.is_empty()) {
        hinted.entry(entry.hint).or_default().push(entry);
    }
    hinted.into_iter().filter_map(|(hint, entries)| shared_hint(hint, &entries)).collect()
}

fn shared_hint(hint: &str, entries: &[Asking<'_>]) -> Option<Warning> {
    let compared = &entries[..entries.len().min(MAX_COMPARED)];
    let (first, second) = compared.iter().enumerate().find_map(|(at, first)| {
        compared[at + 1..].iter().find(|second| can_meet(*first, **second)).map(|second| (first, second))
    })?;
    let title = format!("entries {} and {} have the same hint {hint:?}", first.id, second.id);
    Some(
        Warning::new("W0612", title)
            .about(second.id)
            .why("a process that meets both is told of the first only, by the Workload API's rule for hints")
            .fix("give each its own hint, or make it sure that no process meets both"),
    )
}

/// Whether nothing rules out a process that meets both entries.
fn can_meet(a: Asking<'_>, b: Asking<'_>) -> bool {
    let ruled_out = |a: Asking<'_>, b: Asking<'_>| {
        a.selectors.iter().any(|selector| {
            excludes(b.exclude, selector) || b.selectors.iter().any(|other| contradict(selector, other))
        })
    };
    !ruled_out(a, b) && !ruled_out(b, a)
}

/// Whether no process has both, because it has one such fact at a time.
fn contradict(a: &Selector, b: &Selector) -> bool {
    let field = vocabulary::field_of(a);
    a != b
        && a.kind() == b.kind()
        && field == vocabulary::field_of(b)
        && vocabulary::is_single(a.kind(), field)
}
