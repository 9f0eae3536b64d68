//! What a policy is refused for when it is loaded: everything that OPA refuses and the engine would take, and everything
//! that the engine could judge otherwise than OPA.

pub(super) mod calls;
mod declarations;
pub(super) mod heads;
mod imports;
mod items;
mod prefixes;
mod recursion;
pub(super) mod risks;
mod safety;
mod statements;
mod types;
pub(super) mod values;

use regorus::Value;

use super::{Entrypoint, Fault, Limits, program::Program};

/// What the checks found.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) faults: Vec<Fault>,
    pub(super) warnings: Vec<Fault>,
}

/// Checks every rule, whether the decision needs it or not.
pub(super) fn check(program: &Program, data: &Value, entrypoint: &Entrypoint, limits: &Limits) -> Findings {
    let mut findings = Findings::default();
    imports::check(program, &mut findings);
    calls::check(program, data, &mut findings);
    declarations::check(program, &mut findings);
    heads::check(program, data, &mut findings);
    safety::check(program, &mut findings);
    statements::check(program, &mut findings);
    items::check(program, data, &mut findings);
    prefixes::check(program, &mut findings);
    if recursion::check(program, limits, &mut findings) {
        risks::check(program, &mut findings);
        if findings.faults.is_empty() {
            types::check(program, &mut findings);
        }
    }
    findings.faults.extend(missing_entrypoint(program, data, entrypoint));
    for found in [&mut findings.faults, &mut findings.warnings] {
        found.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        found.dedup();
    }
    findings
}

fn missing_entrypoint(program: &Program, data: &Value, entrypoint: &Entrypoint) -> Option<Fault> {
    let path = entrypoint.parts();
    let is_data = document(data, path) != &Value::Undefined;
    if is_data || program.is_package(path) || program.reached(path).next().is_some() {
        return None;
    }
    let file = program.units.first().map_or("policy", |unit| unit.file());
    let mut known: Vec<String> = program.rules.iter().map(|rule| rule.path.join("/")).collect();
    known.sort();
    known.dedup();
    known.truncate(8);
    let known = if known.is_empty() { "no rule".to_owned() } else { known.join(", ") };
    Some(Fault::in_file(
        file,
        format!(
            "no rule gives the decision {entrypoint}; the policy defines {known}: set `path` to one of them"
        ),
    ))
}

/// The document at `path`, or [`Value::Undefined`].
pub(super) fn document<'a>(data: &'a Value, path: &[String]) -> &'a Value {
    path.iter().fold(data, |value, part| &value[part.as_str()])
}
