//! Imports: those that switch on a keyword must be ones that OPA knows.

use regorus::unstable::Import;

use super::Findings;
use crate::authz::rego::{
    Fault,
    program::{Program, steps},
};

const KEYWORDS: [&str; 4] = ["contains", "every", "if", "in"];

pub(super) fn check(program: &Program, findings: &mut Findings) {
    for unit in &program.units {
        findings.faults.extend(unit.module.imports.iter().filter_map(unknown));
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
