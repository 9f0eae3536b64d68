//! One property of a process, and all of them together.

use std::{collections::BTreeSet, fmt};

/// One property of a process, such as `unix:uid:1000`: type `unix`, value `uid:1000`.
///
/// Compared as the pair, never as the text: a colon inside either part cannot make two facts equal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    kind: Box<str>,
    value: Box<str>,
}

impl Selector {
    pub fn new(kind: impl Into<Box<str>>, value: impl Into<Box<str>>) -> Self {
        Self { kind: kind.into(), value: value.into() }
    }

    /// What stands before the first colon: the attestor's name, such as `unix` or `kernel`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// What stands behind the first colon, such as `uid:1000`.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The value up to its first colon, such as `uid`.
    pub fn field(&self) -> &str {
        self.value.split_once(':').map_or(&*self.value, |(field, _)| field)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.value)
    }
}

/// Everything that was learned about one process, and the names of what could not be learned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SelectorSet {
    known: BTreeSet<Selector>,
    gaps: BTreeSet<Selector>,
}

impl SelectorSet {
    pub fn insert(&mut self, selector: Selector) {
        self.known.insert(selector);
    }

    /// Marks what could not be learned: `Selector::new("unix", "sha256")` when the file was too large, or
    /// `Selector::new("docker", "")` when the whole attestor failed.
    pub fn mark_gap(&mut self, gap: Selector) {
        self.gaps.insert(gap);
    }

    /// Answers a gap: it is none any more, and `selectors`, perhaps none, are all that belongs there.
    pub fn settle(&mut self, gap: &Selector, selectors: impl IntoIterator<Item = Selector>) {
        self.gaps.remove(gap);
        self.known.extend(selectors);
    }

    /// Takes over what `other` knows and what it does not know.
    pub fn extend(&mut self, other: &Self) {
        self.known.extend(other.known.iter().cloned());
        self.gaps.extend(other.gaps.iter().cloned());
    }

    /// What is true of both. Whatever is true of one alone is neither had nor surely lacked.
    pub fn narrowed_to(&self, other: &Self) -> Self {
        let known = self.known.intersection(&other.known).cloned().collect();
        let differing = self.known.symmetric_difference(&other.known).cloned();
        let gaps = self.gaps.iter().chain(&other.gaps).cloned().chain(differing).collect();
        Self { known, gaps }
    }

    /// The part whose selectors and gaps satisfy `belongs`.
    pub fn part(&self, belongs: impl Fn(&Selector) -> bool) -> Self {
        let part = |set: &BTreeSet<Selector>| set.iter().filter(|one| belongs(one)).cloned().collect();
        Self { known: part(&self.known), gaps: part(&self.gaps) }
    }

    pub fn contains(&self, selector: &Selector) -> bool {
        self.known.contains(selector)
    }

    /// Whether the process is known not to have `selector`: it is absent and no gap covers it.
    pub fn surely_lacks(&self, selector: &Selector) -> bool {
        !self.known.contains(selector) && !self.gaps.iter().any(|gap| gap.covers(selector))
    }

    /// Whether the process is known to have no selector of this type.
    pub fn surely_lacks_kind(&self, kind: &str) -> bool {
        !self.known.iter().chain(&self.gaps).any(|selector| selector.kind() == kind)
    }

    /// What stands behind `kind:name:` in each selector that begins so, sorted; `None` when a gap leaves it open whether
    /// there are others.
    pub fn behind(&self, kind: &str, name: &str) -> Option<impl Iterator<Item = &str>> {
        let begins = move |selector: &Selector| selector.kind() == kind && behind(selector, name).is_some();
        let prefix = Selector::new(kind, name);
        if self.gaps.iter().any(|gap| gap.covers(&prefix) || begins(gap)) {
            return None;
        }
        let of_kind = self.known.iter().filter(move |selector| selector.kind() == kind);
        Some(of_kind.filter_map(move |selector| behind(selector, name)))
    }

    /// Sorted by type, then value.
    pub fn iter(&self) -> impl Iterator<Item = &Selector> {
        self.known.iter()
    }

    /// Sorted by type, then value.
    pub fn gaps(&self) -> impl Iterator<Item = &Selector> {
        self.gaps.iter()
    }

    pub fn len(&self) -> usize {
        self.known.len()
    }

    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

impl Selector {
    /// A gap covers what it names and everything below that name: `path` covers `path:/bin/sh`.
    fn covers(&self, other: &Self) -> bool {
        self.kind == other.kind
            && (self.value.is_empty()
                || other
                    .value
                    .strip_prefix(&*self.value)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(':')))
    }
}

fn behind<'s>(selector: &'s Selector, name: &str) -> Option<&'s str> {
    selector.value().strip_prefix(name)?.strip_prefix(':')
}

impl FromIterator<Selector> for SelectorSet {
    fn from_iter<I: IntoIterator<Item = Selector>>(selectors: I) -> Self {
        Self { known: selectors.into_iter().collect(), gaps: BTreeSet::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_inside_a_part_makes_no_two_facts_equal() {
        let set: SelectorSet = [Selector::new("docker", "label:a:b:c")].into_iter().collect();
        assert!(!set.contains(&Selector::new("docker:label", "a:b:c")));
    }

    #[test]
    fn what_is_true_of_both_stays_and_the_rest_is_in_doubt() {
        let set = |values: &[&str]| -> SelectorSet {
            values.iter().map(|value| Selector::new("unix", *value)).collect()
        };
        let mut before = set(&["uid:7", "path:/bin/evil"]);
        before.mark_gap(Selector::new("unix", "sha256"));
        let narrowed = before.narrowed_to(&set(&["uid:7", "path:/bin/good"]));
        let known: Vec<&str> = narrowed.iter().map(Selector::value).collect();
        assert_eq!(known, ["uid:7"]);
        for doubted in ["path:/bin/evil", "path:/bin/good", "sha256:00"] {
            assert!(!narrowed.surely_lacks(&Selector::new("unix", doubted)), "{doubted}");
        }
        assert!(narrowed.surely_lacks(&Selector::new("unix", "path:/bin/other")));
    }

    #[test]
    fn what_stands_behind_a_name_is_known_only_where_no_gap_leaves_it_open() {
        let mut set: SelectorSet =
            ["label:app:web", "label:apps:x", "label:app", "label:app:a:b", "env:app:no"]
                .iter()
                .map(|value| Selector::new("docker", *value))
                .collect();
        let behind = |set: &SelectorSet, name: &str| -> Option<Vec<String>> {
            Some(set.behind("docker", name)?.map(str::to_owned).collect())
        };
        assert_eq!(behind(&set, "label:app"), Some(vec!["a:b".into(), "web".into()]));
        assert_eq!(behind(&set, "label:ap"), Some(vec![]));
        set.mark_gap(Selector::new("docker", "label:other"));
        assert!(behind(&set, "label:app").is_some());
        for gap in ["label:app:of-a-moment-ago", "label:app", "label", ""] {
            let mut doubtful = set.clone();
            doubtful.mark_gap(Selector::new("docker", gap));
            assert_eq!(behind(&doubtful, "label:app"), None, "{gap}");
        }
    }

    #[test]
    fn a_gap_is_not_absence() {
        let mut set: SelectorSet = [Selector::new("unix", "uid:0")].into_iter().collect();
        let path = Selector::new("unix", "path:/bin/sh");
        assert!(set.surely_lacks(&path) && set.surely_lacks_kind("docker"));
        set.mark_gap(Selector::new("unix", "path"));
        set.mark_gap(Selector::new("docker", ""));
        assert!(!set.surely_lacks(&path) && !set.surely_lacks_kind("docker"));
        assert!(set.surely_lacks(&Selector::new("unix", "pathological")));
    }
}
