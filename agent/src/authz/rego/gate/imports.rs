//! Imports: those that switch on a keyword must be ones that OPA knows, and no name stands for two things.

use std::collections::HashMap;

use regorus::unstable::{Expr, Import, Literal};

use super::Findings;
use crate::authz::rego::{
    Fault,
    program::{Program, Unit, alias, steps},
    walk::{self, Event},
};

const KEYWORDS: [&str; 4] = ["contains", "every", "if", "in"];

pub(super) fn check(program: &Program, findings: &mut Findings) {
    for (at, unit) in program.units.iter().enumerate() {
        findings.faults.extend(all_keywords(program, at, unit));
        findings.faults.extend(twice(unit));
        findings.faults.extend(unit.module.imports.iter().filter_map(unknown));
        findings.faults.extend(unit.module.imports.iter().filter_map(|import| taken(program, unit, import)));
    }
}

/// All keywords of the future at once are more than those that are known by name.
fn all_keywords(program: &Program, at: usize, unit: &Unit) -> Option<Fault> {
    let is_bare = |import: &&Import| steps(&import.refr).known() == ["future", "keywords"];
    let import = unit.module.imports.iter().find(is_bare)?;
    let mut is_read_otherwise = false;
    for definition in program.rules.iter().filter(|definition| definition.unit == at) {
        is_read_otherwise |= definition.path.iter().any(|name| is_operator(name));
        walk::rule(&definition.rule, &mut |event, _| {
            is_read_otherwise |= match event {
                Event::Statement(stmt) => matches!(stmt.literal, Literal::NotExpr { .. }),
                Event::Expr(expr) => {
                    matches!(expr.as_ref(), Expr::Var { span, .. } if is_operator(span.text()))
                }
                Event::Query(_) => false,
            };
        });
    }
    let reason = "OPA reads `not`, `and` and `or` otherwise with all future keywords: import future.keywords.if, .in, .every \
                  and .contains by name, or rego.v1";
    is_read_otherwise.then(|| Fault::at(import.refr.span(), reason))
}

fn is_operator(name: &str) -> bool {
    ["and", "or"].contains(&name)
}

/// Two documents under one name.
fn twice(unit: &Unit) -> Option<Fault> {
    let mut seen = HashMap::new();
    unit.module.imports.iter().find_map(|import| {
        let (name, path) = alias(import)?;
        let before = seen.insert(name.clone(), path.clone()).filter(|before| *before != path)?;
        let reason =
            format!("{name} stands for {}, too: give one of them another name with `as`", before.join("."));
        Some(Fault::at(import.refr.span(), reason))
    })
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
