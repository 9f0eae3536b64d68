//! What an operator should know about entries that are valid.

mod rivals;
mod templates;
mod width;

use std::{fmt, time::SystemTime};

use super::{EntryIndex, RegistrationEntry, Warning, vocabulary};
use crate::{
    attestation::{Grade, PathRule, Selector},
    problem::nearest,
};

/// What entries mean depends on the node that serves them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Surroundings {
    /// Best evidence that the node can give; `None` when it is not known, and nothing is said about it.
    pub grade: Option<Grade>,
    pub path: PathRule,
}

/// Remarks on all entries, sorted by code, then entry id. Linear in the entries: of those that
/// share a hint, and of those that share their conditions, a bounded number is compared; each is held against each template.
///
/// | code | remark |
/// |---|---|
/// | W0611 | another entry gives the same SPIFFE ID for fewer conditions |
/// | W0612 | entries that can match together have the same hint |
/// | W0613 | any container with that user, group or program meets it |
/// | W0614 | nothing in it tells one workload from another |
/// | W0615 | a selector that no attestor of this version makes |
/// | W0616 | a value that no attestor makes |
/// | W0617 | expired |
/// | W0618 | it excludes what it requires |
/// | W0620 | it asks for an attestor that there is not |
/// | W0621 | any container may claim its path |
/// | W0622 | a condition that this node's evidence never settles |
/// | W0623 | a template names by what whoever starts the workload says |
/// | W0624 | a template may give what another entry gives |
/// | W0625 | a template names by a fact of which there are often several |
/// | W0626 | a template gives the same DNS names to all |
pub fn lint(index: &EntryIndex, now: SystemTime, node: Surroundings) -> Vec<Warning> {
    let written = index.iter().flat_map(|entry| lint_one(entry, &entry.selectors, now, node));
    let named = index.templates().flat_map(|template| {
        let goes_by: Vec<_> =
            templates::named_by(template).chain(template.selectors.iter().cloned()).collect();
        lint_one(template, &goes_by, now, node)
    });
    let mut warnings: Vec<Warning> =
        written.chain(named).chain(rivals::lint(index)).chain(templates::lint(index)).collect();
    warnings.sort_by(|a, b| (a.code, &a.entry).cmp(&(b.code, &b.entry)));
    warnings
}

/// `goes_by` is what it requires; of a template also what it is named by, each without its value.
fn lint_one<N: fmt::Display>(
    entry: &RegistrationEntry<N>,
    goes_by: &[Selector],
    now: SystemTime,
    node: Surroundings,
) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut warn = |code, title: String, why: &str, fix: String| {
        warnings.push(Warning::new(code, title).about(&entry.id).why(why).fix(fix));
    };
    let name = &entry.spiffe_id;
    for selector in entry.selectors.iter().chain(&entry.exclude) {
        if let Some((code, title, why, fix)) = misspelt(selector) {
            warn(code, format!("{title}, in the entry of {name}"), why, fix);
        }
    }
    if let Some(selector) = goes_by.iter().find(|selector| excludes(&entry.exclude, selector)) {
        warn(
            "W0618",
            format!("the entry of {name} requires {selector} and excludes it"),
            "no process can meet it",
            "take it out of `selectors` or out of `exclude`".into(),
        );
    }
    if entry.expires_at.is_some_and(|end| end <= now) {
        warn(
            "W0617",
            format!("the entry of {name} has expired"),
            "it matches nothing any more",
            "remove it, or move its expiry".into(),
        );
    }
    if let Some(kind) =
        entry.attested_by.iter().find(|kind| entry.exclude.contains(&Selector::new((*kind).clone(), "")))
    {
        warn(
            "W0618",
            format!("the entry of {name} asks that {kind} has spoken and excludes all that it says"),
            "no process can meet it",
            "take it out of `attested_by` or out of `exclude`".into(),
        );
    }
    for remark in entry.attested_by.iter().filter_map(|kind| no_attestor(kind)) {
        let (code, title, why, fix) = remark;
        warn(code, format!("{title}, in the entry of {name}"), why, fix);
    }
    let of_node = [width::too_wide(name, goes_by, node), width::out_of_reach(entry, goes_by, node)];
    for (code, title, why, fix) in of_node.into_iter().flatten() {
        warn(code, title, why, fix);
    }
    warnings
}

/// How a selector that no attestor writes so should be written; `None` when it is written as they write it.
pub(super) fn how_it_is_written(selector: &Selector) -> Option<String> {
    let remark = misspelt(selector).filter(|remark| *remark != not_made(&selector.to_string()));
    remark.map(|(_, title, _, fix)| format!("{title}: {fix}"))
}

type Remark = (&'static str, String, &'static str, String);

fn misspelt(selector: &Selector) -> Option<Remark> {
    let (kind, value) = (selector.kind(), selector.value());
    let fields = vocabulary::fields_of(kind);
    if fields.is_empty() {
        let types = vocabulary::types();
        let fix = match nearest(kind, types.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known types: {}", types.join(", ")),
        };
        let why = "no attestor makes selectors of this type";
        return Some(("W0615", format!("selector type `{kind}` is unknown"), why, fix));
    }
    // An exclusion of the whole type has no value.
    if value.is_empty() {
        return (!vocabulary::is_made(kind, "")).then(|| not_made(&format!("{kind}:*")));
    }
    let (field, rest) = value.split_once(':').unwrap_or((value, ""));
    if !fields.contains(&field) {
        let fix = match nearest(field, fields.iter().copied()) {
            Some(near) => format!("did you mean `{kind}:{near}:{rest}`?"),
            None => format!("known: {}", fields.join(", ")),
        };
        let why = "no attestor makes this selector";
        return Some(("W0615", format!("selector `{selector}` is unknown"), why, fix));
    }
    if !vocabulary::is_made(kind, field) {
        return Some(not_made(&selector.to_string()));
    }
    let fix = vocabulary::fault_of_value(kind, field, rest)?;
    Some((
        "W0616",
        format!("selector `{selector}` can never be met"),
        "attestors write the value differently",
        fix,
    ))
}

/// A type of `attested_by` that nobody speaks for.
fn no_attestor(kind: &str) -> Option<Remark> {
    if vocabulary::is_made(kind, "") {
        return None;
    }
    let types = vocabulary::types();
    let fix = match nearest(kind, types.iter().copied()) {
        Some(near) if near != kind => format!("did you mean `{near}`?"),
        _ => "name types whose attestors are there, such as unix and kernel".to_owned(),
    };
    let why = "this version has no such attestor, so the entry is met by nobody";
    Some(("W0620", format!("`attested_by` names `{kind}`, which nobody speaks for"), why, fix))
}

fn not_made(selector: &str) -> Remark {
    (
        "W0615",
        format!("selector `{selector}` is not made by this version"),
        "no process has it: required it is never met, and excluded it excludes nobody",
        "say it with selectors of `unix` or `kernel`, or wait for a version that makes it".into(),
    )
}

/// Whether `exclude` rules out every process that has `selector`.
fn excludes(exclude: &[Selector], selector: &Selector) -> bool {
    exclude.iter().any(|excluded| {
        excluded == selector || (excluded.value().is_empty() && excluded.kind() == selector.kind())
    })
}

#[cfg(test)]
mod tests;
