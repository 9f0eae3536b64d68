//! The answer as one document: deploy/schemas/explain.schema.json.

use serde_json::{Value, json};
use vouch_proto::admin::{Applicant, Comparison, Condition, Cost, Decision, Entry, Identity};

use super::Answer;
use crate::cli::entry;

/// Every field is always there; what does not apply is null or empty.
pub(super) fn answer(answer: &Answer) -> Value {
    let number = answer.number.map(|known| {
        json!({
            "number": known.number,
            "group": known.group,
            "says": known.says,
            "cause": known.cause,
            "fix": known.fix,
        })
    });
    json!({
        "schema": 1,
        "about": answer.about,
        "kind": answer.kind,
        "number": number,
        "owners": answer.owners.as_ref().map(|owners| &owners.pids),
        "now": each(answer.agent.iter().filter_map(|agent| agent.now.as_ref()), decision),
        "decisions": each(answer.agent.iter().flat_map(|agent| &agent.decisions), decision),
        "entries": each(answer.agent.iter().flat_map(|agent| &agent.entries), |listed: &Entry| entry::as_json(listed)),
        "check": answer.check,
        "nearest": each(answer.agent.iter().flat_map(|agent| &agent.nearest), decision),
    })
}

fn decision(decision: &Decision) -> Value {
    let made = !decision.id.is_empty();
    json!({
        "id": some(&decision.id),
        "first_at": made.then_some(decision.first_at),
        "last_at": made.then_some(decision.last_at),
        "count": decision.count,
        "outcome": decision.outcome,
        "asked": decision.asked,
        "identities": each(&decision.identities, identity),
        "change": some(&decision.change),
        "code": some(&decision.code),
        "reason": some(&decision.reason),
        "applicant": decision.applicant.as_ref().map(|who| applicant(who, made)),
        "selectors": decision.selectors,
        "gaps": decision.gaps,
        "costs": each(&decision.costs, cost),
        "cut": decision.cut,
        "matches": each(&decision.matches, identity),
        "closest": each(&decision.closest, comparison),
    })
}

/// Of a process that is only looked at, ids are among the selectors.
fn applicant(applicant: &Applicant, made: bool) -> Value {
    json!({
        "pid": applicant.pid,
        "uid": made.then_some(applicant.uid),
        "gid": made.then_some(applicant.gid),
        "grade": some(&applicant.grade),
        "proof": applicant.proof,
        "cgroup": some(&applicant.cgroup),
        "container": some(&applicant.container),
        "executable": some(&applicant.executable),
        "exec_count": (applicant.exec_count >= 0).then_some(applicant.exec_count),
    })
}

fn cost(cost: &Cost) -> Value {
    json!({ "attestor": cost.attestor, "took_ns": cost.took_ns, "gap": some(&cost.gap) })
}

fn identity(identity: &Identity) -> Value {
    json!({ "entry_id": identity.entry_id, "spiffe_id": identity.spiffe_id })
}

fn comparison(comparison: &Comparison) -> Value {
    json!({
        "entry_id": comparison.entry_id,
        "spiffe_id": comparison.spiffe_id,
        "file": some(&comparison.file),
        "line": (comparison.line > 0).then_some(comparison.line),
        "unmet": comparison.unmet,
        "conditions": each(&comparison.conditions, condition),
        "fixes": comparison.fixes,
    })
}

fn condition(condition: &Condition) -> Value {
    json!({
        "verdict": condition.verdict,
        "condition": condition.condition,
        "instead": condition.instead,
        "note": some(&condition.note),
    })
}

fn each<'a, T: 'a>(items: impl IntoIterator<Item = &'a T>, as_json: impl Fn(&'a T) -> Value) -> Vec<Value> {
    items.into_iter().map(as_json).collect()
}

fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
