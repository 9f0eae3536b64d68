//! What the engine would take otherwise than OPA takes it is written in other words before the engine sees it. Lines stay
//! where they are unless an argument of a negated call has several, so places in messages do, too; columns behind a change
//! move.

mod functions;
mod guards;
mod heads;
mod imports;
mod operators;

pub(super) use functions::FUNCTIONS;
pub(super) use guards::guards;
pub(super) use heads::heads;
pub(super) use imports::imports;
pub(super) use operators::operators;

use regorus::unstable::Span;

use super::program::Program;

/// Where an expression begins and ends. The engine's spans leave out the quotes of a string at either end.
fn extent(span: &Span) -> (u32, u32) {
    let text = span.source.contents().as_bytes();
    let is_quote = |at: usize| matches!(text.get(at), Some(b'"' | b'`'));
    let (start, end) = (span.start as usize, span.end as usize);
    let start = if start > 0 && is_quote(start - 1) { span.start - 1 } else { span.start };
    (start, if is_quote(end) { span.end + 1 } else { span.end })
}

fn each_unit(program: &Program, mut edit: impl FnMut(usize, &mut Edits)) -> Vec<Option<String>> {
    let units = program.units.iter().enumerate();
    units
        .map(|(at, unit)| {
            let mut edits = Edits::default();
            edit(at, &mut edits);
            edits.apply(unit.module.package.span.source.contents())
        })
        .collect()
}

/// Changes of one text.
#[derive(Default)]
struct Edits {
    /// Place, rank at that place, end of what is replaced, text instead.
    changes: Vec<(u32, (u8, i32), u32, String)>,
    names: u32,
}

impl Edits {
    /// Outer ones first: they are added in this order.
    fn open(&mut self, at: u32, text: &str) {
        let turn = self.changes.len() as i32;
        self.changes.push((at, (1, turn), at, text.to_owned()));
    }

    /// Inner ones first: they are added in the other order.
    fn close(&mut self, at: u32, text: &str) {
        let turn = self.changes.len() as i32;
        self.changes.push((at, (0, -turn), at, text.to_owned()));
    }

    fn replace(&mut self, from: u32, to: u32, text: &str) {
        self.changes.push((from, (2, 0), to, text.to_owned()));
    }

    /// A name that no policy has, for what is asked before a `not`.
    fn name(&mut self) -> String {
        self.names += 1;
        format!("__vouch_{}", self.names)
    }

    /// The same for what a head gives.
    fn value_name(&mut self) -> String {
        self.names += 1;
        format!("__vouch_value_{}", self.names)
    }

    fn apply(mut self, text: &str) -> Option<String> {
        if self.changes.is_empty() {
            return None;
        }
        self.changes.sort_by_key(|(at, rank, ..)| (*at, *rank));
        let (mut changed, mut from) = (String::with_capacity(text.len() * 2), 0);
        for (at, _, end, instead) in &self.changes {
            changed.push_str(&text[from..*at as usize]);
            changed.push_str(instead);
            from = *end as usize;
        }
        changed.push_str(&text[from..]);
        Some(changed)
    }
}
