//! What can be said about the value of an expression before it is evaluated.

use std::collections::HashSet;

use regorus::unstable::{Expr, Ref};

use crate::authz::rego::program::{Kind, Program, Root, Step, steps};

/// Whether `expr` has a value whatever the input is, once the variables in it have one. `locals` are the names that are
/// variables where it stands.
pub(in crate::authz::rego) fn is_surely_defined(
    program: &Program,
    unit: usize,
    expr: &Expr,
    locals: &HashSet<String>,
) -> bool {
    let all = |items: &[Ref<Expr>]| items.iter().all(|item| is_surely_defined(program, unit, item, locals));
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
        Expr::Array { items, .. } | Expr::Set { items, .. } => all(items),
        Expr::Object { fields, .. } => fields.iter().all(|(_, key, value)| {
            is_surely_defined(program, unit, key, locals) && is_surely_defined(program, unit, value, locals)
        }),
        Expr::Var { span, .. } => {
            let name = span.text();
            name != "_" && (locals.contains(name) || is_defined_name(program, unit, name))
        }
        _ => false,
    }
}

/// A variable without a declaration gets its value from a statement; a rule that is a set, or has a default, always has
/// one.
fn is_defined_name(program: &Program, unit: usize, name: &str) -> bool {
    match program.root(unit, name) {
        Root::Unknown => true,
        Root::Input(_) => false,
        Root::Data(path) => program.at(&path).iter().any(|at| {
            let rule = &program.rules[*at];
            !rule.is_open && matches!(rule.kind, Kind::Default | Kind::Set)
        }),
    }
}

/// Whether `expr` is a reference that stands for several values in turn.
pub(super) fn iterates(program: &Program, unit: usize, expr: &Ref<Expr>) -> bool {
    match expr.as_ref() {
        Expr::RefDot { .. } | Expr::RefBrack { .. } => steps(expr).rest.iter().any(|step| match step {
            Step::Name(_) => false,
            Step::Index(index) => match index.as_ref() {
                Expr::Var { span, .. } => program.root(unit, span.text()) == Root::Unknown,
                Expr::Array { .. } | Expr::Object { .. } => true,
                _ => false,
            },
        }),
        Expr::Call { fcn, .. } => steps(fcn).root() == Some("walk"),
        _ => false,
    }
}
