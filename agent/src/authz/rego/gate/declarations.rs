//! A variable is declared once in a query, before it is used, and for some use.

use std::collections::HashSet;

use regorus::unstable::{AssignOp, Expr, Literal, LiteralStmt, Query, Ref, Span};

use super::Findings;
use crate::authz::rego::{
    Fault,
    program::{Program, steps},
    walk::{self, Event},
};

pub(super) fn check(program: &Program, findings: &mut Findings) {
    for definition in &program.rules {
        walk::rule(&definition.rule, &mut |event, _| {
            if let Event::Query(query) = event {
                findings.faults.extend(wrong(query).or_else(|| unused(query)));
            }
        });
    }
}

fn wrong(query: &Query) -> Option<Fault> {
    let (mut declared, mut used) = (HashSet::new(), HashSet::new());
    for stmt in &query.stmts {
        for (name, span) in declarations(stmt) {
            if used.contains(name) {
                return Some(Fault::at(span, format!("variable {name} is used before it is declared here")));
            }
            if !declared.insert(name) {
                return Some(Fault::at(span, format!("variable {name} is declared twice")));
            }
        }
        uses(stmt, &mut used);
    }
    None
}

/// A name after `some` or `every` that nothing else mentions.
fn unused(query: &Query) -> Option<Fault> {
    let used = all_uses(query);
    for stmt in &query.stmts {
        let idle = |name: &&Span, used: &HashSet<String>| name.text() != "_" && !used.contains(name.text());
        let found = match &stmt.literal {
            Literal::SomeVars { vars, .. } => vars.iter().find(|name| idle(name, &used)),
            Literal::Every { key, value, query, .. } => {
                let inside = all_uses(query);
                let hides = |name: &&Span| ["input", "data"].contains(&name.text());
                let hiding = key.iter().chain([value]).find(hides);
                if let Some(name) = hiding {
                    let reason = format!("{} would hide the document: give it another name", name.text());
                    return Some(Fault::at(name, reason));
                }
                key.iter().chain([value]).find(|name| idle(name, &inside))
            }
            _ => None,
        };
        if let Some(name) = found {
            let reason =
                format!("variable {} is declared and not used: leave it out, or write `_`", name.text());
            return Some(Fault::at(name, reason));
        }
    }
    None
}

fn declarations(stmt: &LiteralStmt) -> Vec<(&str, &Span)> {
    let mut names = Vec::new();
    match &stmt.literal {
        Literal::SomeVars { vars, .. } => names.extend(vars.iter().map(|span| (span.text(), span))),
        Literal::SomeIn { key, value, .. } => {
            key.iter().chain([value]).for_each(|pattern| variables(pattern, &mut names));
        }
        Literal::Expr { expr, .. } => {
            if let Expr::AssignExpr { op: AssignOp::ColEq, lhs, .. } = expr.as_ref() {
                variables(lhs, &mut names);
            }
        }
        Literal::NotExpr { .. } | Literal::Every { .. } => {}
    }
    names.retain(|(name, _)| *name != "_");
    names
}

fn variables<'a>(pattern: &'a Ref<Expr>, names: &mut Vec<(&'a str, &'a Span)>) {
    match pattern.as_ref() {
        Expr::Var { span, .. } => names.push((span.text(), span)),
        Expr::Array { items, .. } => items.iter().for_each(|item| variables(item, names)),
        Expr::Object { fields, .. } => fields.iter().for_each(|(_, _, value)| variables(value, names)),
        _ => {}
    }
}

fn all_uses(query: &Query) -> HashSet<String> {
    let mut used = HashSet::new();
    query.stmts.iter().for_each(|stmt| uses(stmt, &mut used));
    used
}

/// Names that `stmt` mentions and does not declare in a query of its own.
fn uses(stmt: &LiteralStmt, used: &mut HashSet<String>) {
    walk::statement(stmt, &mut |event, scope| {
        let Event::Expr(expr) = event else { return };
        if let Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } = expr.as_ref()
            && let Some(name) = steps(expr).root()
            && !scope.is_local(name)
        {
            used.insert(name.to_owned());
        }
    });
}
