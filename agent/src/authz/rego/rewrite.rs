//! What the engine would take otherwise than OPA takes it is written in other words before the engine sees it. Lines stay
//! where they are, so places in messages do, too; columns behind a change move.
//!
//! - `not f(x.y)` holds in OPA only if `x.y` is defined: OPA takes arguments out of the negated expression, and so do we, by
//!   a statement in front of it that asks for no more than that.
//! - `x in xs` inside an expression is undefined where one of them is: it becomes a call of a function.

use std::collections::HashSet;

use regorus::{
    Value,
    unstable::{AssignOp, BoolOp, Expr, Literal, LiteralStmt, Query, Ref, Rule},
};

use super::{
    Fault,
    builtins::Builtin,
    gate::values::is_surely_defined,
    program::{Program, Step, steps},
    walk::{self, Event, Scope, parts},
};

/// The functions that rewritten policies call.
pub(super) const FUNCTIONS: [Builtin; 2] = [
    Builtin { name: "internal.member_2", arity: 2, call: is_member },
    Builtin { name: "internal.member_3", arity: 3, call: is_member_at },
];

fn is_member(args: &[Value]) -> Value {
    let [value, collection] = args else { return Value::Undefined };
    Value::from(match collection {
        Value::Array(items) => items.contains(value),
        Value::Set(items) => items.contains(value),
        Value::Object(fields) => fields.values().any(|field| field == value),
        _ => false,
    })
}

fn is_member_at(args: &[Value]) -> Value {
    let [key, value, collection] = args else { return Value::Undefined };
    Value::from(match collection {
        Value::Array(_) | Value::Object(_) => {
            collection[key] != Value::Undefined && &collection[key] == value
        }
        Value::Set(items) => key == value && items.contains(value),
        _ => false,
    })
}

/// The texts of all units with memberships rewritten; `None` where there is nothing to do.
pub(super) fn memberships(program: &Program) -> Vec<Option<String>> {
    each_unit(program, |unit, edits| {
        for definition in program.rules.iter().filter(|definition| definition.unit == unit) {
            walk::rule(&definition.rule, &mut |event, scope| {
                if let Event::Expr(expr) = event {
                    membership(program, unit, expr, scope, edits);
                }
            });
        }
    })
}

fn membership(program: &Program, unit: usize, expr: &Ref<Expr>, scope: &Scope, edits: &mut Edits) {
    let Expr::Membership { span, key, value, collection, .. } = expr.as_ref() else { return };
    let locals = scope.locals();
    let defined = |part: &Ref<Expr>| is_surely_defined(program, unit, part, &locals);
    // As a whole statement, false and undefined come to the same.
    let is_harmless = key.is_none() && (scope.is_statement || defined(value) && defined(collection));
    if is_harmless {
        return;
    }
    let Some(word) = keyword_between(value.span().end, collection.span().start, span.source.contents())
    else {
        return;
    };
    let function = if key.is_some() { "internal.member_3(" } else { "internal.member_2(" };
    edits.open(span.start, function);
    edits.replace(word, word + 2, ",");
    edits.close(span.end, ")");
}

/// Where `in` stands between two operands.
fn keyword_between(from: u32, to: u32, text: &str) -> Option<u32> {
    let between = text.get(from as usize..to as usize)?;
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let at = between
        .match_indices("in")
        .map(|(at, _)| at)
        .find(|at| !between[..*at].ends_with(is_name) && !between[at + 2..].starts_with(is_name))?;
    Some(from + at as u32)
}

/// The texts of all units with a statement before each `not` that asks whether its arguments are defined.
///
/// # Errors
/// Arguments that cannot be repeated in such a statement.
pub(super) fn guards(program: &Program) -> Result<Vec<Option<String>>, Vec<Fault>> {
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
            (Some(first), Some(last)) => &text[first.span.start as usize..last.span.end as usize],
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
            before.push_str(&format!("{name} := {} {with}; ", argument.span().text()));
        }
        if plain.contains(&query.qidx) {
            before.insert_str(0, "{ ");
            edits.close(stmt.span.end, " }");
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

fn each_unit(program: &Program, mut edit: impl FnMut(usize, &mut Edits)) -> Vec<Option<String>> {
    let units = program.units.iter().enumerate();
    units
        .map(|(at, unit)| {
            let mut edits = Edits::default();
            edit(at, &mut edits);
            edits.apply(unit.module.package.span.source.contents())
        })
        .collect()
}

/// Changes of one text.
#[derive(Default)]
struct Edits {
    /// Place, rank at that place, end of what is replaced, text instead.
    changes: Vec<(u32, (u8, i32), u32, String)>,
    names: u32,
}

impl Edits {
    /// Outer ones first: they are added in this order.
    fn open(&mut self, at: u32, text: &str) {
        let turn = self.changes.len() as i32;
        self.changes.push((at, (1, turn), at, text.to_owned()));
    }

    /// Inner ones first: they are added in the other order.
    fn close(&mut self, at: u32, text: &str) {
        let turn = self.changes.len() as i32;
        self.changes.push((at, (0, -turn), at, text.to_owned()));
    }

    fn replace(&mut self, from: u32, to: u32, text: &str) {
        self.changes.push((from, (2, 0), to, text.to_owned()));
    }

    /// A name that no policy has.
    fn name(&mut self) -> String {
        self.names += 1;
        format!("__vouch_{}", self.names)
    }

    fn apply(mut self, text: &str) -> Option<String> {
        if self.changes.is_empty() {
            return None;
        }
        self.changes.sort_by_key(|(at, rank, ..)| (*at, *rank));
        let (mut changed, mut from) = (String::with_capacity(text.len() * 2), 0);
        for (at, _, end, instead) in &self.changes {
            changed.push_str(&text[from..*at as usize]);
            changed.push_str(instead);
            from = *end as usize;
        }
        changed.push_str(&text[from..]);
        Some(changed)
    }
}
