//! Names that imports give are written out: of the input, since the engine looks a name up each time it meets it; of data,
//! since it looks up the whole document that the name stands for, and that may be the package itself; in the names of
//! called functions, since only a whole name gives a call's result to a variable.

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
    let head = match expr.as_ref() {
        Expr::Call { fcn, .. } => steps(fcn).head,
        Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => steps(expr).head,
        _ => return,
    };
    let Expr::Var { span, .. } = head.as_ref() else { return };
    let name = span.text();
    if scope.is_local(name) || !program.units[unit].imports.contains_key(name) {
        return;
    }
    let (root, path) = match program.root(unit, name) {
        Root::Input(path) => ("input", path),
        Root::Data(path) => ("data", path),
        Root::Unknown => return,
    };
    edits.replace(span.start, span.end, &reference(root, &path, |_| false));
}
