//! Statements and expressions that the engine would judge otherwise than OPA, or only in some places.

use std::collections::HashSet;

use regorus::unstable::{AssignOp, BinOp, Expr, Literal, LiteralStmt, Ref, Rule, Span};

use super::{
    Findings, calls,
    heads::{all_names, contains_object},
    values::is_surely_defined,
};
use crate::authz::rego::{
    Fault,
    program::{Definition, Program, Root, Step, steps},
    walk::{self, Event, Scope},
};

pub(super) fn check(program: &Program, findings: &mut Findings) {
    for definition in &program.rules {
        let mut wrong = |span: &Span, reason: &str| findings.faults.push(Fault::at(span, reason));
        if let Rule::Default { value, .. } = definition.rule.as_ref()
            && !is_constant(value)
        {
            wrong(value.span(), "the value of a default is a constant or a comprehension");
        }
        if let Rule::Spec { bodies, .. } = definition.rule.as_ref() {
            for body in bodies {
                // Without braces around it the body begins where its first statement does.
                let first = body.query.stmts.first();
                let first = first.filter(|first| first.span.start != body.query.span.start);
                if let Some(first) = first.filter(|first| begins_as_comprehension(first)) {
                    wrong(
                        &first.span,
                        "`{ a | b ... }` is a set and no body: put parentheses around the union",
                    );
                }
            }
        }
        // Calls that may receive their result in their last argument: those that are whole statements.
        let mut statements: Vec<*const Expr> = Vec::new();
        walk::rule(&definition.rule, &mut |event, scope| match event {
            Event::Query(_) => {}
            Event::Statement(stmt) => {
                if let Literal::Expr { expr, .. } = &stmt.literal {
                    statements.push(std::ptr::from_ref(expr.as_ref()));
                }
                statement(program, definition, stmt, scope, &mut wrong);
            }
            Event::Expr(expr) => {
                let is_whole = statements.contains(&std::ptr::from_ref(expr.as_ref()));
                expression(program, definition.unit, expr, is_whole, &mut wrong);
            }
        });
    }
}

/// Whether a body reads, up to its first `|`, as the set of all `a` for which something holds.
fn begins_as_comprehension(stmt: &LiteralStmt) -> bool {
    let Literal::Expr { expr, .. } = &stmt.literal else { return false };
    let mut leftmost = expr;
    while let Expr::BoolExpr { lhs, .. } | Expr::Membership { value: lhs, .. } = leftmost.as_ref() {
        leftmost = lhs;
    }
    let is_union = matches!(leftmost.as_ref(), Expr::BinExpr { op: BinOp::Union, .. });
    is_union && !stmt.span.text().starts_with('(')
}

fn statement(
    program: &Program,
    definition: &Definition,
    stmt: &LiteralStmt,
    scope: &Scope,
    wrong: &mut dyn FnMut(&Span, &str),
) {
    let patterns: Vec<&Ref<Expr>> = match &stmt.literal {
        Literal::SomeIn { key, value, .. } => key.iter().chain([value]).collect(),
        Literal::Expr { expr, .. } => match expr.as_ref() {
            Expr::AssignExpr { op: AssignOp::ColEq, lhs, .. } => vec![lhs],
            Expr::AssignExpr { op: AssignOp::Eq, lhs, rhs, .. } => vec![lhs, rhs],
            _ => Vec::new(),
        },
        Literal::NotExpr { expr, span } => {
            if let Expr::AssignExpr { op: AssignOp::ColEq, .. } = expr.as_ref() {
                wrong(span, "`not` over an assignment: compare with `==`");
            }
            Vec::new()
        }
        Literal::SomeVars { .. } | Literal::Every { .. } => Vec::new(),
    };
    if let Literal::Expr { expr, .. } = &stmt.literal
        && let Expr::AssignExpr { op: AssignOp::ColEq, lhs, .. } = expr.as_ref()
        && !is_assignable(lhs)
    {
        wrong(lhs.span(), "`:=` assigns to names and arrays of names: compare with `=` or `==`");
    }
    let mut names = Vec::new();
    for pattern in patterns {
        if has_variables(pattern) && contains_object(pattern) {
            wrong(pattern.span(), "an object as a pattern: take its fields out one by one");
        }
        if matches!(pattern.as_ref(), Expr::Array { .. }) || matches!(stmt.literal, Literal::SomeIn { .. }) {
            all_names(pattern, &mut names);
        }
    }
    let mut seen = HashSet::new();
    if names.iter().any(|name| name != "_" && !seen.insert(name.clone())) {
        wrong(&stmt.span, "one variable twice in a pattern: name them apart and compare them");
    }
    with(program, definition, stmt, scope, wrong);
}

fn is_assignable(pattern: &Expr) -> bool {
    match pattern {
        Expr::Var { .. } => true,
        Expr::Array { items, .. } => items.iter().all(|item| is_assignable(item)),
        // Refused where they are patterns at all.
        Expr::Object { .. } => true,
        _ => false,
    }
}

fn has_variables(pattern: &Expr) -> bool {
    let mut names = Vec::new();
    all_names(pattern, &mut names);
    !names.is_empty()
}

/// Rules whose names begin so are tests: they decide nothing.
pub(super) fn is_test(definition: &Definition) -> bool {
    definition.path.last().is_some_and(|name| name.starts_with("test_") || name.starts_with("todo_test_"))
}

fn with(
    program: &Program,
    definition: &Definition,
    stmt: &LiteralStmt,
    scope: &Scope,
    wrong: &mut dyn FnMut(&Span, &str),
) {
    let locals = scope.locals();
    let assigned = assigned(stmt);
    for (at, with) in stmt.with_mods.iter().enumerate() {
        if mentions(&with.r#as, &assigned) {
            wrong(with.r#as.span(), "the statement gives this variable its value: give that another name");
        }
        let root = steps(&with.refr).root().unwrap_or_default().to_owned();
        let is_document = root == "input" || root == "data";
        let is_function = calls::arity(program, definition.unit, &with.refr).is_some();
        if !is_document && !is_function {
            let reason = match program.root(definition.unit, &root) {
                Root::Data(path) => {
                    format!("`with` names rules by their whole path: data.{}", path.join("."))
                }
                _ => "`with` replaces input, data, or a part of them".to_owned(),
            };
            wrong(with.refr.span(), &reason);
        } else if is_function && !is_test(definition) {
            wrong(with.refr.span(), "only rules named test_... may replace functions");
        }
        let is_last = at + 1 == stmt.with_mods.len();
        if !is_function && !is_last && !is_surely_defined(program, definition.unit, &with.r#as, &locals) {
            wrong(with.r#as.span(), "this may be undefined: give it a name in a statement before");
        }
    }
}

/// What `stmt` assigns to.
fn assigned(stmt: &LiteralStmt) -> HashSet<String> {
    let mut names = HashSet::new();
    if let Literal::Expr { expr, .. } = &stmt.literal
        && let Expr::AssignExpr { op: AssignOp::ColEq, lhs, .. } = expr.as_ref()
    {
        walk::pattern_names(lhs, &mut names);
    }
    names
}

fn mentions(expr: &Ref<Expr>, names: &HashSet<String>) -> bool {
    let steps = steps(expr);
    let in_steps = steps.rest.iter().any(|step| matches!(step, Step::Index(index) if mentions(index, names)));
    in_steps
        || steps.root().is_some_and(|name| names.contains(name))
        || walk::parts(steps.head).into_iter().any(|part| mentions(part, names))
}

fn expression(
    program: &Program,
    unit: usize,
    expr: &Ref<Expr>,
    is_whole: bool,
    wrong: &mut dyn FnMut(&Span, &str),
) {
    match expr.as_ref() {
        Expr::UnaryExpr { span, expr, .. } if !matches!(expr.as_ref(), Expr::Number { .. }) => {
            wrong(span, "`-` before something that is no number: subtract it from 0");
        }
        Expr::Call { fcn, params, span, .. } => {
            let receives = calls::arity(program, unit, fcn).is_some_and(|arity| arity < params.len());
            let is_walk = steps(fcn).known() == ["walk"];
            if is_walk && !(is_whole && receives) {
                wrong(
                    span,
                    "walk stands by itself, with a pattern for what it finds: walk(document, [path, value])",
                );
            } else if receives && !is_whole {
                wrong(
                    span,
                    "one argument too many: only a call that stands by itself receives its result so",
                );
            }
        }
        _ => {}
    }
}

fn is_constant(expr: &Expr) -> bool {
    match expr {
        Expr::String { .. }
        | Expr::RawString { .. }
        | Expr::Number { .. }
        | Expr::Bool { .. }
        | Expr::Null { .. }
        | Expr::ArrayCompr { .. }
        | Expr::SetCompr { .. }
        | Expr::ObjectCompr { .. } => true,
        Expr::UnaryExpr { expr, .. } => matches!(expr.as_ref(), Expr::Number { .. }),
        Expr::Array { items, .. } | Expr::Set { items, .. } => items.iter().all(|item| is_constant(item)),
        Expr::Object { fields, .. } => {
            fields.iter().all(|(_, key, value)| is_constant(key) && is_constant(value))
        }
        _ => false,
    }
}
