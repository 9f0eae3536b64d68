//! `a` beside rules `a.b` and `a.c`: in OPA it is an object even if neither has a value, here it would be undefined.

use regorus::unstable::{Expr, Rule, RuleHead};

use super::Findings;
use crate::authz::rego::{
    Fault,
    program::{Definition, Program, Root, steps},
    walk::{self, Event},
};

pub(super) fn check(program: &Program, findings: &mut Findings) {
    for definition in &program.rules {
        walk::rule(&definition.rule, &mut |event, scope| {
            let Event::Expr(expr) = event else { return };
            let steps = steps(expr);
            let Some(name) = steps.root().filter(|name| !scope.is_local(name)) else { return };
            let Root::Data(mut path) = program.root(definition.unit, name) else { return };
            path.extend(steps.known().into_iter().skip(1));
            if let Some(prefix) = prefix_alone(program, &path) {
                let reason = format!(
                    "data.{} is only the beginning of rules' names: name one of them, or give one a default",
                    prefix.join(".")
                );
                findings.faults.push(Fault::at(expr.span(), reason));
            }
        });
    }
}

/// A beginning of rules' names at or below `path`, all of which whoever looks at `path` sees.
fn prefix_alone<'a>(program: &'a Program, path: &'a [String]) -> Option<&'a [String]> {
    program.below(path).find_map(|at| {
        let known = &program.rules[at].path;
        let mut prefixes = (path.len().max(1)..known.len()).map(|parts| &known[..parts]);
        prefixes.find(|prefix| is_prefix_alone(program, prefix))
    })
}

/// Whether `path` is no rule and no package but leads to rules, of which none is sure to have a value.
fn is_prefix_alone(program: &Program, path: &[String]) -> bool {
    let mut below = program.below(path).peekable();
    let leads_to_rules = below.peek().is_some() && program.at(path).is_empty() && !program.is_package(path);
    leads_to_rules && !below.any(|at| is_surely_there(&program.rules[at]))
}

fn is_surely_there(definition: &Definition) -> bool {
    // An object whose keys are found in evaluation is there with none of them.
    if definition.is_open {
        return true;
    }
    match definition.rule.as_ref() {
        Rule::Default { .. } | Rule::Spec { head: RuleHead::Set { .. }, .. } => true,
        Rule::Spec { head: RuleHead::Compr { assign: Some(assign), .. }, bodies, .. } => {
            is_constant(&assign.value) && bodies.iter().all(|body| body.query.stmts.is_empty())
        }
        Rule::Spec { .. } => false,
    }
}

fn is_constant(value: &Expr) -> bool {
    matches!(
        value,
        Expr::String { .. }
            | Expr::RawString { .. }
            | Expr::Number { .. }
            | Expr::Bool { .. }
            | Expr::Null { .. }
    )
}
