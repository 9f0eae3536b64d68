//! Names that imports give to parts of the input are written out: the engine looks a name up each time it meets it.

use regorus::unstable::{Expr, Ref};

use super::{Edits, each_unit};
use crate::authz::rego::{
    entrypoint::reference,
    program::{Program, Root, steps},
    walk::{self, Event, Scope},
};

/// The texts of all units without such names; `None` where there is nothing to do.
pub(in crate::authz::rego) fn imports(program: &Program) -> Vec<Option<String>> {
    each_unit(program, |unit, edits| {
        for definition in program.rules.iter().filter(|definition| definition.unit == unit) {
            walk::rule(&definition.rule, &mut |event, scope| {
                if let Event::Expr(expr) = event {
                    write_out(program, unit, expr, scope, edits);
                }
            });
        }
    })
}

fn write_out(program: &Program, unit: usize, expr: &Ref<Expr>, scope: &Scope, edits: &mut Edits) {
    let (Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. }) = expr.as_ref() else { return };
    let head = steps(expr).head;
    let Expr::Var { span, .. } = head.as_ref() else { return };
    let name = span.text();
    if scope.is_local(name) || !program.units[unit].imports.contains_key(name) {
        return;
    }
    if let Root::Input(path) = program.root(unit, name) {
        edits.replace(span.start, span.end, &reference("input", &path, |_| false));
    }
}
