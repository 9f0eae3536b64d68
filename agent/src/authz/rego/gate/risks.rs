//! A function with several definitions takes the value of those that end without an error; OPA ends the evaluation. So
//! nothing that such a function needs may end in an error that OPA's would, too.

use std::collections::HashSet;

use regorus::unstable::{Expr, Ref, Rule, RuleHead, Span};

use super::{Findings, heads::may_repeat, recursion, values};
use crate::authz::rego::{
    Fault,
    program::{Definition, Kind, Program},
    walk::{self, Event},
};

pub(super) fn check(program: &Program, findings: &mut Findings) {
    let mut reported = HashSet::new();
    for (at, definition) in program.rules.iter().enumerate() {
        let Kind::Function { .. } = definition.kind else { continue };
        let rivals = program.at(&definition.path).iter().filter(|other| **other != at);
        let is_alone =
            !rivals.into_iter().any(|other| matches!(program.rules[*other].kind, Kind::Function { .. }));
        if is_alone {
            continue;
        }
        for needed in reach(program, at) {
            let Some((span, risk)) = risk(program, needed, needed == at) else { continue };
            if reported.insert((span.source.file().clone(), span.start)) {
                let reason = format!(
                    "{risk}, and {}, which has several definitions, needs it: give {} one definition, with `else`",
                    definition.name(),
                    definition.name()
                );
                findings.faults.push(Fault::at(span, reason));
            }
        }
    }
}

/// Whether the evaluation of a definition may end in an error that OPA's would end in, too.
pub(in crate::authz::rego) fn may_err(program: &Program, at: usize) -> bool {
    reach(program, at).into_iter().any(|needed| risk(program, needed, needed == at).is_some())
}

/// The definitions that `start` makes the engine evaluate, itself included.
fn reach(program: &Program, start: usize) -> Vec<usize> {
    let (mut found, mut next) = (HashSet::from([start]), vec![start]);
    while let Some(at) = next.pop() {
        for needed in recursion::needs(program, program.rules[at].unit, &program.rules[at].rule) {
            if found.insert(needed) {
                next.push(needed);
            }
        }
    }
    let mut found: Vec<usize> = found.into_iter().collect();
    found.sort_unstable();
    found
}

/// How the evaluation of a definition may end in an error. Its own group's disagreement counts only for others.
fn risk(program: &Program, at: usize, is_own: bool) -> Option<(&Span, &'static str)> {
    let definition = &program.rules[at];
    if !is_own && may_conflict(program, definition) {
        return Some((definition.head_span(), "definitions of this may disagree"));
    }
    let mut found = None;
    walk::rule(&definition.rule, &mut |event, _| {
        if let Event::Expr(expr) = event
            && let Expr::ObjectCompr { span, .. } = expr.as_ref()
        {
            found.get_or_insert((span, "keys of this object may be there twice"));
        }
    });
    found
}

fn bodies(rule: &Rule) -> impl Iterator<Item = &regorus::unstable::Query> {
    let bodies = match rule {
        Rule::Spec { bodies, .. } => bodies.as_slice(),
        Rule::Default { .. } => &[],
    };
    bodies.iter().map(|body| body.query.as_ref())
}

/// Whether definitions of the same name, or choices of variables within one, may give different values.
fn may_conflict(program: &Program, definition: &Definition) -> bool {
    if definition.kind == Kind::Set || matches!(definition.kind, Kind::Default | Kind::DefaultFunction { .. })
    {
        return false;
    }
    let group: Vec<&Definition> = program
        .at(&definition.path)
        .iter()
        .map(|at| &program.rules[*at])
        .filter(|rule| matches!(rule.kind, Kind::Complete | Kind::Function { .. }))
        .collect();
    let mut constants = HashSet::new();
    let all_constant = group.iter().all(|rule| constant_values(&rule.rule, &mut constants));
    if all_constant && constants.len() <= 1 {
        return false;
    }
    if let [one] = group.as_slice() {
        let repeats = bodies(&one.rule).any(|query| may_repeat(program, one.unit, query));
        let iterates = values_of(&one.rule).iter().any(|value| values::iterates(program, one.unit, value));
        return repeats && !all_constant || iterates || one.is_open;
    }
    !are_exclusive(&group)
}

/// Adds the values that a definition gives to `found`; `false` when one is no constant.
fn constant_values(rule: &Rule, found: &mut HashSet<String>) -> bool {
    let values = values_of(rule);
    let implicit = match rule {
        Rule::Spec { head, bodies, .. } => {
            let head_assigns = matches!(
                head,
                RuleHead::Compr { assign: Some(_), .. } | RuleHead::Func { assign: Some(_), .. }
            );
            !head_assigns || bodies.iter().skip(1).any(|body| body.assign.is_none())
        }
        Rule::Default { .. } => false,
    };
    if implicit {
        found.insert("true".to_owned());
    }
    values.into_iter().all(|value| match value.as_ref() {
        Expr::String { value, .. }
        | Expr::RawString { value, .. }
        | Expr::Number { value, .. }
        | Expr::Bool { value, .. }
        | Expr::Null { value, .. } => {
            found.insert(value.to_string());
            true
        }
        _ => false,
    })
}

fn values_of(rule: &Rule) -> Vec<&Ref<Expr>> {
    let Rule::Spec { head, bodies, .. } = rule else { return Vec::new() };
    let given = match head {
        RuleHead::Compr { assign, .. } | RuleHead::Func { assign, .. } => assign.as_ref(),
        RuleHead::Set { .. } => None,
    };
    let others = bodies.iter().filter_map(|body| body.assign.as_ref());
    given.into_iter().chain(others).map(|assign| &assign.value).collect()
}

/// Whether some argument is a different constant in each definition, so that only one of them can hold.
fn are_exclusive(group: &[&Definition]) -> bool {
    let Some(arity) = group.iter().map(|rule| arguments(rule).len()).min() else { return false };
    (0..arity).any(|at| {
        let mut seen = HashSet::new();
        group.iter().all(|rule| match arguments(rule)[at].as_ref() {
            Expr::String { value, .. } | Expr::Number { value, .. } | Expr::Bool { value, .. } => {
                seen.insert(value.to_string())
            }
            _ => false,
        })
    })
}

fn arguments(definition: &Definition) -> &[Ref<Expr>] {
    match definition.rule.as_ref() {
        Rule::Spec { head: RuleHead::Func { args, .. }, .. } => args,
        _ => &[],
    }
}
