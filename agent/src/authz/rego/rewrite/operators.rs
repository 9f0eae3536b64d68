//! Operators that end the evaluation, or are false, where OPA is undefined become calls of functions that are undefined, too.

use regorus::unstable::{ArithOp, BinOp, BoolOp, Expr, Literal, LiteralStmt, Ref};

use super::{Edits, each_unit, extent};
use crate::authz::rego::{
    gate::values::is_surely_defined,
    program::Program,
    walk::{self, Event, Scope},
};

/// The texts of all units with operators rewritten; `None` where there is nothing to do.
pub(in crate::authz::rego) fn operators(program: &Program) -> Vec<Option<String>> {
    each_unit(program, |unit, edits| {
        for definition in program.rules.iter().filter(|definition| definition.unit == unit) {
            walk::rule(&definition.rule, &mut |event, scope| match event {
                Event::Expr(expr) => operator(program, unit, expr, scope, edits),
                Event::Statement(stmt) => some(stmt, edits),
                Event::Query(_) => {}
            });
        }
    })
}

/// `some x in xs` finds nothing in what is no collection.
fn some(stmt: &LiteralStmt, edits: &mut Edits) {
    let Literal::SomeIn { collection, .. } = &stmt.literal else { return };
    let is_collection = matches!(
        collection.as_ref(),
        Expr::Array { .. }
            | Expr::Set { .. }
            | Expr::Object { .. }
            | Expr::ArrayCompr { .. }
            | Expr::SetCompr { .. }
            | Expr::ObjectCompr { .. }
    );
    if !is_collection {
        let (start, end) = extent(collection.span());
        edits.open(start, "internal.items(");
        edits.close(end, ")");
    }
}

fn operator(program: &Program, unit: usize, expr: &Ref<Expr>, scope: &Scope, edits: &mut Edits) {
    match expr.as_ref() {
        Expr::Membership { key, value, collection, .. } => {
            let locals = scope.locals();
            let defined = |part: &Ref<Expr>| is_surely_defined(program, unit, part, &locals);
            // As a whole statement, false and undefined come to the same.
            if key.is_some() {
                call(expr, value, collection, "in", "internal.member_3", edits);
            } else if !(scope.is_statement || defined(value) && defined(collection)) {
                call(expr, value, collection, "in", "internal.member_2", edits);
            }
        }
        Expr::ArithExpr { op, lhs, rhs, .. } => {
            let (word, function) = match op {
                ArithOp::Add => ("+", "internal.plus"),
                ArithOp::Sub => ("-", "internal.minus"),
                ArithOp::Mul => ("*", "internal.times"),
                ArithOp::Div => ("/", "internal.divide"),
                ArithOp::Mod => ("%", "internal.modulo"),
            };
            call(expr, lhs, rhs, word, function, edits);
        }
        Expr::BinExpr { op, lhs, rhs, .. } => {
            let (word, function) = match op {
                BinOp::Union => ("|", "internal.union"),
                BinOp::Intersection => ("&", "internal.intersection"),
            };
            call(expr, lhs, rhs, word, function, edits);
        }
        Expr::BoolExpr { op, lhs, rhs, .. } if !is_scalar(lhs) && !is_scalar(rhs) => {
            let (word, function) = match op {
                BoolOp::Lt => ("<", "internal.less"),
                BoolOp::Le => ("<=", "internal.at_most"),
                BoolOp::Gt => (">", "internal.more"),
                BoolOp::Ge => (">=", "internal.at_least"),
                BoolOp::Eq | BoolOp::Ne => return,
            };
            call(expr, lhs, rhs, word, function, edits);
        }
        _ => {}
    }
}

/// Scalars stand before collections in every order.
fn is_scalar(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::String { .. }
            | Expr::RawString { .. }
            | Expr::Number { .. }
            | Expr::Bool { .. }
            | Expr::Null { .. }
    )
}

/// `lhs word rhs` becomes `function(lhs, rhs)`.
fn call(expr: &Expr, lhs: &Expr, rhs: &Expr, word: &str, function: &str, edits: &mut Edits) {
    let span = expr.span();
    let Some(at) = word_between(lhs.span().end, rhs.span().start, word, span.source.contents()) else {
        return;
    };
    let (start, end) = extent(span);
    edits.open(start, &format!("{function}("));
    edits.replace(at, at + word.len() as u32, ",");
    edits.close(end, ")");
}

/// Where `word` stands between two operands. Parentheses and comments may stand there, too, the latter behind it.
fn word_between(from: u32, to: u32, word: &str, text: &str) -> Option<u32> {
    let between = text.get(from as usize..to as usize)?;
    let mut line = 0;
    for part in between.split_inclusive('\n') {
        let code = part.split('#').next().unwrap_or_default();
        if let Some(at) = code.find(word) {
            return Some(from + (line + at) as u32);
        }
        line += part.len();
    }
    None
}
