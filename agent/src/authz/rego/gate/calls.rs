//! Every call names a function that there is, with as many arguments as it takes; every reference below `data` that
//! nothing defines is remarked on.

use regorus::{
    Value,
    unstable::{BUILTINS, Expr, Ref},
};

use super::{Findings, document};
use crate::authz::rego::{
    Fault, builtins,
    program::{Kind, Program, Root, steps},
    walk::{self, Event, Scope},
};

pub(super) fn check(program: &Program, data: &Value, findings: &mut Findings) {
    for definition in &program.rules {
        walk::rule(&definition.rule, &mut |event, scope| {
            let Event::Expr(expr) = event else { return };
            match expr.as_ref() {
                Expr::Call { fcn, params, .. } => {
                    let wrong = call(program, definition.unit, fcn, params.len(), scope);
                    findings.faults.extend(wrong.map(|reason| Fault::at(fcn.span(), reason)));
                }
                Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => {
                    reference(program, data, definition.unit, expr, scope, findings);
                }
                _ => {}
            }
        });
    }
}

/// What a call names.
pub(in crate::authz::rego) enum Callee {
    /// A function of the policy, by its path below `data`.
    Rule(Vec<String>),
    Builtin(String),
}

/// `None` when nothing can be called by that expression.
pub(in crate::authz::rego) fn callee(
    program: &Program,
    unit: usize,
    function: &Ref<Expr>,
    scope: &Scope,
) -> Option<Callee> {
    let steps = steps(function);
    let name = steps.root()?;
    if steps.is_open() || scope.is_local(name) {
        return None;
    }
    let mut known = steps.known();
    Some(match program.root(unit, name) {
        Root::Data(mut path) => {
            path.extend(known.drain(1..));
            Callee::Rule(path)
        }
        Root::Input(_) => return None,
        Root::Unknown => Callee::Builtin(known.join(".")),
    })
}

/// How many arguments a function takes, when there is one of that name and nothing local hides it.
pub(super) fn arity(program: &Program, unit: usize, function: &Ref<Expr>) -> Option<usize> {
    match callee(program, unit, function, &Scope::default())? {
        Callee::Rule(path) => arity_at(program, &path),
        Callee::Builtin(name) => (0..MOST_ARGUMENTS).find(|arity| is_builtin(&name, *arity)),
    }
}

/// No function that is built in takes as many.
const MOST_ARGUMENTS: usize = 16;

fn arity_at(program: &Program, path: &[String]) -> Option<usize> {
    program.at(path).iter().find_map(|at| match program.rules[*at].kind {
        Kind::Function { arity } | Kind::DefaultFunction { arity } => Some(arity),
        _ => None,
    })
}

fn call(program: &Program, unit: usize, function: &Ref<Expr>, given: usize, scope: &Scope) -> Option<String> {
    match callee(program, unit, function, scope) {
        None => Some("this cannot be called: a call names a function".to_owned()),
        Some(Callee::Builtin(name)) => unknown_builtin(&name, given, !program.units[unit].module.rego_v1),
        Some(Callee::Rule(path)) => unknown_rule(program, &path, given),
    }
}

fn unknown_builtin(name: &str, given: usize, is_old: bool) -> Option<String> {
    if name == "http.send" {
        return Some(
            "http.send is not supported: a decision asks nobody else; put what it needs into the input, \
             such as context_extensions, or into a data document"
                .to_owned(),
        );
    }
    let takes = |arity| is_builtin(name, arity);
    if takes(given) {
        let is_gone = !is_old && builtins::is_legacy(name);
        return is_gone.then(|| format!("{name} is a function of the syntax before OPA 1.0 only"));
    }
    if given > 0 && takes(given - 1) && name != "print" {
        // One argument more receives the result, of functions that the engine has itself.
        let is_own = !BUILTINS.contains_key(name);
        return is_own.then(|| format!("{name} takes {} arguments: take its result by `:=`", given - 1));
    }
    match (0..MOST_ARGUMENTS).find(|arity| takes(*arity)) {
        Some(arity) => Some(format!("{name} takes {arity} arguments, not {given}")),
        None => Some(format!("no function {name} is defined here, and none of that name is built in")),
    }
}

pub(super) fn is_builtin(name: &str, arity: usize) -> bool {
    name == "print" || builtins::is_known(name, arity)
}

fn unknown_rule(program: &Program, path: &[String], given: usize) -> Option<String> {
    let name = path.join(".");
    match arity_at(program, path) {
        None if program.at(path).is_empty() => Some(format!("no function data.{name} is defined")),
        None => Some(format!("data.{name} is a rule and no function")),
        // One argument more receives the result.
        Some(arity) if given == arity || given == arity + 1 => None,
        Some(arity) => Some(format!("data.{name} takes {arity} arguments, not {given}")),
    }
}

fn reference(
    program: &Program,
    data: &Value,
    unit: usize,
    expr: &Ref<Expr>,
    scope: &Scope,
    findings: &mut Findings,
) {
    let steps = steps(expr);
    let Some(name) = steps.root().filter(|name| !scope.is_local(name)) else { return };
    let Root::Data(mut path) = program.root(unit, name) else { return };
    path.extend(steps.known().into_iter().skip(1));
    let function =
        |at: &usize| matches!(program.rules[*at].kind, Kind::Function { .. } | Kind::DefaultFunction { .. });
    if program.at(&path).iter().any(function) {
        let reason = format!("data.{} is a function: call it", path.join("."));
        findings.faults.push(Fault::at(expr.span(), reason));
        return;
    }
    let exists = program.is_package(&path)
        || program.reached(&path).next().is_some()
        || document(data, &path) != &Value::Undefined;
    if !exists {
        let reason = format!("nothing defines data.{}, so it is always undefined", path.join("."));
        findings.warnings.push(Fault::at(expr.span(), reason));
    }
}
