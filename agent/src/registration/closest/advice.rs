//! What to type or edit so that a process earns an entry.

use super::{Comparison, Condition, Line, Verdict};
use crate::registration::Origin;

/// What would make the process of `comparison` earn its entry, written at `origin`: one line for each condition that
/// is not met, in the same order. Empty when it is earned.
pub fn advice(comparison: &Comparison, origin: Option<&Origin>) -> Vec<String> {
    let file = match origin {
        Some(Origin { file, line }) => format!("{}:{line}", file.display()),
        None => format!("the file of entry {}", comparison.entry),
    };
    let unmet = comparison.lines.iter().filter(|line| line.verdict != Verdict::Met);
    let is_required = |line: &&Line| matches!(line.condition, Condition::Has(_) | Condition::Named(_));
    let conditions = comparison.lines.iter().filter(is_required);
    // An entry needs a selector, or a template.
    let or_without =
        if conditions.count() > 1 { format!(", or take it out in {file}") } else { String::new() };
    unmet.map(|line| of_line(line, &file, &or_without)).collect()
}

fn of_line(line: &Line, file: &str, or_without: &str) -> String {
    match (&line.condition, line.verdict) {
        (Condition::Has(selector), Verdict::Unknown) => format!(
            "{selector} cannot be learned of this process now; see its gaps for the reason{or_without}"
        ),
        (Condition::Has(selector), _) => match line.instead.first() {
            Some(instead) => {
                format!(
                    "run the process so that it has {selector}; if it is meant to have an identity as it is, write an \
                     entry with {instead} (in {file} the identity would move to it)"
                )
            }
            None => format!("run the process so that it has {selector}{or_without}"),
        },
        (Condition::Named(of), Verdict::Refused) => {
            format!(
                "give the process one value for {of} that a SPIFFE ID may hold, or an entry of its own: a value is never made to fit"
            )
        }
        (Condition::Named(of), Verdict::Unknown) => {
            format!("what {of} stands for cannot be learned of this process now; see its gaps for the reason")
        }
        (Condition::Named(of), _) => {
            let name = format!("{}:{}", of.kind(), of.name());
            format!("run the process so that it has a selector that begins with {name}:")
        }
        (Condition::Room(_), _) => {
            "find out who uses so many (vouch entry list), or raise [limits] template_identities".into()
        }
        (Condition::Lacks(_), Verdict::Unknown) => {
            format!(
                "{} cannot be settled: see the gaps for the reason, or take it out in {file}",
                line.condition
            )
        }
        (Condition::Lacks(_), _) => {
            format!("this process is meant to be excluded; if not, take `{}` out in {file}", line.condition)
        }
        (Condition::AttestedBy(kind), Verdict::Unknown) => {
            format!("see above why {kind} could not be heard; or take {kind} out of attested_by in {file}")
        }
        (Condition::AttestedBy(kind), _) => {
            format!(
                "run the process where {kind} knows it, or take {kind} out of attested_by in {file} (then nobody needs to \
                 have vouched for it)"
            )
        }
        (Condition::Until(_), _) => {
            format!("move its expiry (entryExpiry, expires_at) in {file}, or remove it")
        }
    }
}
