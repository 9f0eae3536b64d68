//! `not f(x.y)` holds in OPA only if `x.y` is defined: OPA takes arguments out of the negated expression, and so do we, by a
//! statement in front of it that asks for no more than that.

use std::collections::HashSet;

use regorus::unstable::{AssignOp, BoolOp, Expr, Literal, LiteralStmt, Query, Ref, Rule};

use super::{Edits, each_unit, extent};
use crate::authz::rego::{
    Fault,
    gate::values::is_surely_defined,
    program::{Program, Step, steps},
    walk::{self, Event, parts},
};

/// The texts of all units with a statement before each `not` that asks whether its arguments are defined.
///
/// # Errors
/// Arguments that cannot be repeated in such a statement.
pub(in crate::authz::rego) fn guards(program: &Program) -> Result<Vec<Option<String>>, Vec<Fault>> {
    let mut faults = Vec::new();
    let texts = each_unit(program, |unit, edits| {
        for definition in program.rules.iter().filter(|definition| definition.unit == unit) {
            let plain = plain_bodies(&definition.rule);
            walk::rule(&definition.rule, &mut |event, scope| {
                if let Event::Query(query) = event {
                    let guard = Guard { program, unit, locals: scope.locals() };
                    for stmt in &query.stmts {
                        guard.statement(query, stmt, &plain, edits, &mut faults);
                    }
                }
            });
        }
    });
    if faults.is_empty() { Ok(texts) } else { Err(faults) }
}

/// The bodies that are one statement without braces around it.
fn plain_bodies(rule: &Rule) -> HashSet<u32> {
    let Rule::Spec { bodies, .. } = rule else { return HashSet::new() };
    let starts = bodies.iter().filter_map(|body| {
        let first = body.query.stmts.first()?;
        (first.span.start == body.query.span.start).then_some(body.query.qidx)
    });
    starts.collect()
}

struct Guard<'a> {
    program: &'a Program,
    unit: usize,
    locals: HashSet<String>,
}

impl Guard<'_> {
    fn statement(
        &self,
        query: &Query,
        stmt: &LiteralStmt,
        plain: &HashSet<u32>,
        edits: &mut Edits,
        faults: &mut Vec<Fault>,
    ) {
        let Literal::NotExpr { expr, .. } = &stmt.literal else { return };
        let mut asked = Vec::new();
        self.arguments(expr, &mut asked);
        if asked.is_empty() {
            return;
        }
        let text = stmt.span.source.contents();
        let with = match (stmt.with_mods.first(), stmt.with_mods.last()) {
            (Some(first), Some(last)) => &text[first.span.start as usize..extent(&last.span).1 as usize],
            _ => "",
        };
        let mut before = String::new();
        for argument in asked {
            if matches!(argument.as_ref(), Expr::Object { .. }) || negates(argument) {
                faults
                    .push(Fault::at(argument.span(), "under `not`: give this a name in a statement before"));
                return;
            }
            let name = edits.name();
            let (start, end) = extent(argument.span());
            before.push_str(&format!("{name} := {} {with}; ", &text[start as usize..end as usize]));
        }
        if plain.contains(&query.qidx) {
            before.insert_str(0, "{ ");
            edits.close(extent(&stmt.span).1, " }");
        }
        edits.open(stmt.span.start, &before);
    }

    /// What OPA takes out of a negated expression.
    fn arguments<'a>(&self, expr: &'a Ref<Expr>, asked: &mut Vec<&'a Ref<Expr>>) {
        match expr.as_ref() {
            Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => self.indexes(expr, asked),
            Expr::BoolExpr { op: BoolOp::Eq, lhs, rhs, .. }
            | Expr::AssignExpr { op: AssignOp::Eq, lhs, rhs, .. } => {
                for side in [lhs, rhs] {
                    match side.as_ref() {
                        Expr::RefDot { .. } | Expr::RefBrack { .. } => self.indexes(side, asked),
                        // A rule or an import: a reference, too.
                        Expr::Var { .. } => {}
                        _ => self.ask(side, asked),
                    }
                }
            }
            Expr::Array { .. } | Expr::Set { .. } | Expr::Object { .. } => self.ask(expr, asked),
            Expr::ArrayCompr { .. } | Expr::SetCompr { .. } | Expr::ObjectCompr { .. } => {}
            _ => parts(expr).into_iter().for_each(|part| self.ask(part, asked)),
        }
    }

    fn indexes<'a>(&self, reference: &'a Ref<Expr>, asked: &mut Vec<&'a Ref<Expr>>) {
        let steps = steps(reference);
        if steps.root().is_none() {
            self.ask(steps.head, asked);
        }
        for step in steps.rest {
            if let Step::Index(index) = step {
                self.ask(index, asked);
            }
        }
    }

    fn ask<'a>(&self, expr: &'a Ref<Expr>, asked: &mut Vec<&'a Ref<Expr>>) {
        if !is_surely_defined(self.program, self.unit, expr, &self.locals) {
            asked.push(expr);
        }
    }
}

/// Whether there is a `not` inside `expr`.
fn negates(expr: &Ref<Expr>) -> bool {
    match expr.as_ref() {
        Expr::ArrayCompr { query, .. } | Expr::SetCompr { query, .. } | Expr::ObjectCompr { query, .. } => {
            let mut found = false;
            for stmt in &query.stmts {
                walk::statement(stmt, &mut |event, _| {
                    if let Event::Statement(stmt) = event {
                        found |= matches!(stmt.literal, Literal::NotExpr { .. });
                    }
                });
            }
            found || parts(expr).into_iter().any(negates)
        }
        Expr::RefDot { .. } | Expr::RefBrack { .. } => {
            let steps = steps(expr);
            let inside = steps.rest.iter().any(|step| matches!(step, Step::Index(index) if negates(index)));
            inside || steps.root().is_none() && negates(steps.head)
        }
        _ => parts(expr).into_iter().any(negates),
    }
}
