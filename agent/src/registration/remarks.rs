//! Remarks on fields that are accepted without effect: one for a file, however many entries have the field.

use std::{collections::BTreeMap, ops::Range};

use super::{Warning, values::Source};

/// What is remarked once for a file, however many entries it is true of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Remark {
    NotServed(&'static str),
    NodeEntry,
}

/// Each remark with its first place and how often it was made.
#[derive(Default)]
pub(super) struct Remarks(BTreeMap<Remark, (Range<usize>, usize)>);

impl Remarks {
    pub(super) fn add(&mut self, remark: Remark, span: &Range<usize>) {
        self.0.entry(remark).or_insert_with(|| (span.clone(), 0)).1 += 1;
    }

    pub(super) fn into_warnings(self, source: &Source<'_>) -> Vec<Warning> {
        let warning = |(remark, (span, times)): (Remark, (Range<usize>, usize))| {
            let first = if times > 1 { format!(" ({times} times; here first)") } else { String::new() };
            match remark {
                Remark::NotServed(field) => {
                    Warning::new("W0601", format!("`{field}` is accepted but not served yet{first}"))
                        .at(source.place(&span))
                }
                Remark::NodeEntry => Warning::new("W0602", format!("node entry skipped{first}"))
                    .at(source.place(&(span.start..span.start + 1)))
                    .why("an entry whose parent is the server names a group of nodes, not a workload")
                    .fix("nothing is needed; workload entries beneath it are served on this node"),
            }
        };
        self.0.into_iter().map(warning).collect()
    }
}
