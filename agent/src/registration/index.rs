//! Which entries a set of selectors matches, without looking at the others.

mod filed;
mod templates;

use std::{collections::HashSet, sync::Arc, time::SystemTime};

use super::{EntryId, Placeholder, Refusal, RegistrationEntry, TemplateEntry};
use crate::{
    attestation::{Selector, SelectorSet},
    spiffe::SpiffeId,
};
use filed::Filed;
use templates::Templates;

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
    templates: Templates,
    /// Sorted.
    expiries: Vec<SystemTime>,
    /// Type, and value up to its first colon, of everything that an entry requires, excludes or is named by.
    asked: HashSet<Selector>,
    /// Types whose attestors some entry wants to have spoken.
    attestors: HashSet<Box<str>>,
}

impl EntryIndex {
    /// `entries` in any order; of two with the same id the first stays.
    pub fn new(entries: impl IntoIterator<Item = RegistrationEntry>) -> Self {
        Self::with_templates(entries, [])
    }

    /// The same with entries that name by a template. No other id begins with one of theirs and a slash.
    pub fn with_templates(
        entries: impl IntoIterator<Item = RegistrationEntry>,
        templates: impl IntoIterator<Item = TemplateEntry>,
    ) -> Self {
        let mut entries: Vec<_> = entries.into_iter().map(Arc::new).collect();
        entries.sort_by(|a, b| a.id.cmp(&b.id));
        entries.dedup_by(|later, first| later.id == first.id);
        let templates = Templates::new(templates);
        let ends = entries.iter().map(|entry| entry.expires_at);
        let mut expiries: Vec<SystemTime> =
            ends.chain(templates.0.iter().map(|template| template.expires_at)).flatten().collect();
        expiries.sort();
        let asked = asked(&entries, &templates);
        let named = entries.iter().map(|entry| &entry.attested_by);
        let named = named.chain(templates.0.iter().map(|template| &template.attested_by));
        let attestors = named.flatten().cloned().collect();
        Self { filed: Filed::new(&entries), templates, asked, attestors, entries, expiries }
    }

    /// The entries that a process with `selectors` has earned at `now`, sorted by id.
    ///
    /// An entry is earned when the process has all its selectors, is known to have nothing that it excludes, the
    /// attestors that it names have spoken, and it has not expired. Costs one look-up for each selector, and one check for each candidate.
    pub fn matching(&self, selectors: &SelectorSet, now: SystemTime) -> Vec<Arc<RegistrationEntry>> {
        self.matching_or(selectors, now, |_, _| {})
    }

    /// The same; a template that would give an ID but for a value which no ID may have goes to `refused`.
    pub fn matching_or(
        &self,
        selectors: &SelectorSet,
        now: SystemTime,
        mut refused: impl FnMut(&Arc<TemplateEntry>, Refusal),
    ) -> Vec<Arc<RegistrationEntry>> {
        let mut found = self.filed.candidates(selectors);
        found.retain(|at| earns(selectors, &self.entries[*at], now));
        found.sort_unstable();
        let mut earned: Vec<_> = found.into_iter().map(|at| Arc::clone(&self.entries[at])).collect();
        if !self.templates.0.is_empty() {
            earned.extend(self.templates.derive(selectors, now, &mut refused));
            earned.sort_by(|a, b| a.id.cmp(&b.id));
        }
        earned
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
        let is_had = |selector: &Selector| of(selector) || selectors.contains(selector);
        self.entries
            .iter()
            .any(|entry| alive(entry, now) && asks(entry, kinds) && entry.selectors.iter().all(is_had))
            || self.templates.0.iter().any(|template| {
                let mut placeholders = template.spiffe_id.placeholders();
                let is_known = |of: &Placeholder| named(of.kind()) || of.is_had_by(selectors);
                alive(template, now)
                    && (asks(template, kinds) || template.spiffe_id.placeholders().any(|of| named(of.kind())))
                    && template.selectors.iter().all(is_had)
                    && placeholders.all(is_known)
            })
    }

    /// When an entry expires next, after `now`: until then the same selectors match the same entries.
    pub fn next_expiry(&self, now: SystemTime) -> Option<SystemTime> {
        self.expiries.get(self.expiries.partition_point(|at| *at <= now)).copied()
    }

    /// The entry of that id, as it is written or as a template makes it.
    pub fn get(&self, id: &EntryId) -> Option<Arc<RegistrationEntry>> {
        match self.entries.binary_search_by(|entry| entry.id.cmp(id)) {
            Ok(at) => Some(Arc::clone(&self.entries[at])),
            Err(_) => self.templates.called(id),
        }
    }

    /// The entries that give this SPIFFE ID, those that a template makes behind the others. Looks at all of them.
    pub fn giving(&self, id: &SpiffeId) -> impl Iterator<Item = Arc<RegistrationEntry>> {
        let written = self.entries.iter().filter(move |entry| entry.spiffe_id == *id).cloned();
        written.chain(self.templates.giving(id))
    }

    /// What is written out, sorted by id, the expired ones too.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<RegistrationEntry>> {
        self.entries.iter()
    }

    /// What names by a template, sorted by id, the expired ones too.
    pub fn templates(&self) -> impl ExactSizeIterator<Item = &Arc<TemplateEntry>> {
        self.templates.0.iter()
    }

    /// Entries, with a template or without.
    pub fn len(&self) -> usize {
        self.entries.len() + self.templates.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether any entry, expired or not, asks anything of attestors of this type.
    pub fn asks_of(&self, kind: &str) -> bool {
        self.attestors.contains(kind) || self.asked.iter().any(|asked| asked.kind() == kind)
    }

    /// Whether any entry, expired or not, requires, excludes or is named by `kind:field:…`, as `names("unix", "sha256")` asks:
    /// what no entry asks about need not be learned.
    pub fn names(&self, kind: &str, field: &str) -> bool {
        self.asked.contains(&Selector::new(kind, field)) || self.asked.contains(&Selector::new(kind, ""))
    }
}

impl PartialEq for EntryIndex {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries && self.templates == other.templates
    }
}

fn asked(entries: &[Arc<RegistrationEntry>], templates: &Templates) -> HashSet<Selector> {
    let field = |selector: &Selector| Selector::new(selector.kind(), selector.field());
    let written = entries.iter().flat_map(|entry| entry.selectors.iter().chain(&entry.exclude));
    let of_templates = templates.0.iter().flat_map(|entry| entry.selectors.iter().chain(&entry.exclude));
    let placeholders = templates.0.iter().flat_map(|entry| entry.spiffe_id.placeholders());
    let named = placeholders.map(|placeholder| Selector::new(placeholder.kind(), placeholder.field()));
    written.chain(of_templates).map(field).chain(named).collect()
}

fn alive<N>(entry: &RegistrationEntry<N>, now: SystemTime) -> bool {
    entry.expires_at.is_none_or(|end| now < end)
}

/// Whether the entry has a condition on attestors of `kinds`.
fn asks<N>(entry: &RegistrationEntry<N>, kinds: &[&str]) -> bool {
    let of = |selector: &Selector| kinds.contains(&selector.kind());
    entry.selectors.iter().chain(&entry.exclude).any(of)
        || entry.attested_by.iter().any(|kind| kinds.contains(&&**kind))
}

/// The rule itself. Unknown is not absent: a gap in what is known of the process fails an exclusion.
fn earns<N>(process: &SelectorSet, entry: &RegistrationEntry<N>, now: SystemTime) -> bool {
    let lacks = |excluded: &Selector| match excluded.value() {
        "" => process.surely_lacks_kind(excluded.kind()),
        _ => process.surely_lacks(excluded),
    };
    alive(entry, now)
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
