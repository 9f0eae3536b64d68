//! Where an entry is looked for: under its two rarest selectors.

use std::{collections::HashMap, sync::Arc};

use super::RegistrationEntry;
use crate::attestation::{Selector, SelectorSet};

/// The entries' positions by what they require.
///
/// Selectors are numbered by how many entries name them, so an entry is filed under its two lowest numbers. What a
/// cluster shares (a uid, a namespace) is never what an entry is filed under while it has something rarer, and a
/// rare selector that many entries share is divided by their second one.
#[derive(Debug, Default)]
pub(super) struct Filed {
    /// The rarest first. What no entry requires has no number.
    numbers: HashMap<Selector, u32>,
    /// Where the postings of each number begin, and behind the last where they end.
    starts: Vec<u32>,
    /// Ordered by the number of the rarest selector, then of the second.
    postings: Vec<Posting>,
}

/// One entry, under its rarest selector.
#[derive(Debug, Clone, Copy)]
struct Posting {
    /// The number of its second rarest selector; of the rarest again when it has one alone.
    second: u32,
    entry: u32,
}

impl Filed {
    /// Entries without selectors are filed nowhere, and so never found.
    pub(super) fn new(entries: &[Arc<RegistrationEntry>]) -> Self {
        let numbers = numbers(entries);
        let mut filed: Vec<(u32, Posting)> = Vec::with_capacity(entries.len());
        let mut required = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            required.clear();
            required.extend(entry.selectors.iter().map(|selector| numbers[selector]));
            required.sort_unstable();
            if let Some(&rarest) = required.first() {
                let second = required.get(1).copied().unwrap_or(rarest);
                filed.push((rarest, Posting { second, entry: number(at) }));
            }
        }
        filed.sort_unstable_by_key(|(rarest, posting)| (*rarest, posting.second, posting.entry));
        let start = |rarest| number(filed.partition_point(|(of, _)| *of < rarest));
        let starts = (0..=number(numbers.len())).map(start).collect();
        Self { numbers, starts, postings: filed.into_iter().map(|(_, posting)| posting).collect() }
    }

    /// The positions of the entries whose two rarest selectors `process` has, each once and in no order: all that
    /// it can match, and few others.
    ///
    /// Costs one look-up for each selector of the process, and one search for each pair of those that entries name.
    pub(super) fn candidates(&self, process: &SelectorSet) -> Vec<usize> {
        let mut had: Vec<u32> = Vec::with_capacity(process.len());
        had.extend(process.iter().filter_map(|selector| self.numbers.get(selector)));
        had.sort_unstable();
        let mut found = Vec::new();
        for (at, rarest) in had.iter().enumerate() {
            let mut rest = self.under(*rarest);
            for second in &had[at..] {
                if rest.is_empty() {
                    break;
                }
                rest = &rest[rest.partition_point(|posting| posting.second < *second)..];
                let both = rest.iter().take_while(|posting| posting.second == *second);
                found.extend(both.map(|posting| posting.entry as usize));
            }
        }
        found
    }

    fn under(&self, rarest: u32) -> &[Posting] {
        let at = rarest as usize;
        &self.postings[self.starts[at] as usize..self.starts[at + 1] as usize]
    }
}

/// By how many entries name them; equals in their own order.
fn numbers(entries: &[Arc<RegistrationEntry>]) -> HashMap<Selector, u32> {
    let mut named: HashMap<&Selector, usize> = HashMap::new();
    for selector in entries.iter().flat_map(|entry| &entry.selectors) {
        *named.entry(selector).or_default() += 1;
    }
    let mut named: Vec<(usize, &Selector)> =
        named.into_iter().map(|(selector, entries)| (entries, selector)).collect();
    named.sort_unstable();
    named.into_iter().enumerate().map(|(at, (_, selector))| (selector.clone(), number(at))).collect()
}

fn number(at: usize) -> u32 {
    u32::try_from(at).expect("four thousand million entries fit into no memory")
}
