//! Imports: those that switch on a keyword must be ones that OPA knows, and no name stands for two things.

use regorus::unstable::Import;

use super::Findings;
use crate::authz::rego::{
    Fault,
    program::{Program, Unit, alias, steps},
};

const KEYWORDS: [&str; 4] = ["contains", "every", "if", "in"];

pub(super) fn check(program: &Program, findings: &mut Findings) {
    for unit in &program.units {
        findings.faults.extend(unit.module.imports.iter().filter_map(unknown));
        findings.faults.extend(unit.module.imports.iter().filter_map(|import| taken(program, unit, import)));
    }
}

fn unknown(import: &Import) -> Option<Fault> {
    let path = steps(&import.refr).known();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let reason = match path.as_slice() {
        ["data" | "input", ..] | ["rego", "v1"] | ["future", "keywords"] => return None,
        ["future", "keywords", keyword] if KEYWORDS.contains(keyword) => return None,
        ["future", "keywords", keyword] => {
            format!("no future keyword {keyword} is known; known are {}", KEYWORDS.join(", "))
        }
        ["rego", ..] => "the only import below rego is rego.v1".to_owned(),
        _ => "imports begin with data, input, rego.v1 or future.keywords".to_owned(),
    };
    Some(Fault::at(import.refr.span(), reason))
}

/// In OPA the import hides the rule, and `input` and `data` are never hidden.
fn taken(program: &Program, unit: &Unit, import: &Import) -> Option<Fault> {
    let (name, _) = alias(import)?;
    let path: Vec<String> = unit.package.iter().chain([&name]).cloned().collect();
    let what = match name.as_str() {
        "input" | "data" => "a document",
        _ if program.below(&path).next().is_some() => "a rule of this package",
        _ => return None,
    };
    let reason = format!("{name} is the name of {what}, too: give the import another name with `as`");
    Some(Fault::at(import.refr.span(), reason))
}
