//! What an operator should know about entries that are valid.

mod rivals;
mod vocabulary;

use std::time::SystemTime;

use super::{EntryIndex, RegistrationEntry, Warning};
use crate::{attestation::Selector, problem::nearest};

/// Remarks on all entries, sorted by code, then entry id. Linear in the entries: of those that
/// share a hint, and of those that share their conditions, a bounded number is compared.
///
/// | code | remark |
/// |---|---|
/// | W0611 | another entry gives the same SPIFFE ID for fewer conditions |
/// | W0612 | entries that can match together have the same hint |
/// | W0613 | any container with that user or group meets it |
/// | W0614 | nothing in it tells one workload from another |
/// | W0615 | a selector that no attestor of this version makes |
/// | W0616 | a value that no attestor makes |
/// | W0617 | expired |
/// | W0618 | it excludes what it requires |
pub fn lint(index: &EntryIndex, now: SystemTime) -> Vec<Warning> {
    let mut warnings: Vec<Warning> =
        index.iter().flat_map(|entry| lint_one(entry, now)).chain(rivals::lint(index)).collect();
    warnings.sort_by(|a, b| (a.code, &a.entry).cmp(&(b.code, &b.entry)));
    warnings
}

fn lint_one(entry: &RegistrationEntry, now: SystemTime) -> Vec<Warning> {
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
    if let Some(selector) = entry.selectors.iter().find(|selector| excludes(&entry.exclude, selector)) {
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
    if let Some((code, title, why, fix)) = too_wide(entry) {
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

/// The user and group of a process say nothing about which container it is in, or whether it is in one.
fn too_wide(entry: &RegistrationEntry) -> Option<Remark> {
    let name = &entry.spiffe_id;
    if !entry.selectors.iter().all(vocabulary::is_shared) {
        return None;
    }
    let user = entry.selectors.iter().find(|selector| vocabulary::is_of_user(selector));
    let Some(user) = user else {
        let title = format!("the entry of {name} says nothing about which workload it is for");
        let why = "many workloads of a node meet all of its selectors";
        return Some((
            "W0614",
            title,
            why,
            "add a selector of the workload itself, such as unix:path or kernel:cgroup".into(),
        ));
    };
    // Where containers are told apart from the host, user and group are names of the host's own.
    if entry.selectors.iter().any(|selector| selector.to_string() == "kernel:container:none") {
        return None;
    }
    let why = if matches!(user.value(), "uid:0" | "gid:0" | "user:root" | "group:root") {
        "root inside any container without a user namespace of its own meets it too"
    } else {
        "a process of that user or group inside any container meets it too"
    };
    let title = format!("the entry of {name} goes by {user} alone, inside containers as well");
    let fix = "for a process of the host add kernel:container:none; for a container add what names it";
    Some(("W0613", title, why, fix.into()))
}

#[cfg(test)]
mod tests;
