//! What can be told to be ill-typed before it is evaluated, by the rules of OPA's type checker: such a policy is refused
//! there, while to an engine without types a call that can never answer is merely undefined, and `not` over it holds.

mod declared;
mod documents;
mod env;
mod hoist;
mod infer;
mod kind;
mod lower;
mod order;
mod term;
mod unify;

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    rc::Rc,
};

use regorus::Value;

use super::{Findings, recursion};
use crate::authz::rego::{
    Fault,
    program::{Definition, Kind, Program},
};
use declared::Signature;
use env::Env;
use infer::{Checker, Paths};
use kind::Type;
use lower::{Adds, Choice};
use term::Term;

/// Checks all rules, each after those that it needs. No rule needs itself.
pub(super) fn check(program: &Program, findings: &mut Findings) {
    let needs: Vec<Vec<usize>> =
        program.rules.iter().map(|rule| recursion::needs(program, rule.unit, &rule.rule)).collect();
    let dependents = cached(|path| dependents(program, &needs, path));
    let mut checker = Checker {
        env: Env::default(),
        builtins: declared::all(),
        dependents: &dependents,
        faults: Vec::new(),
        safe: HashSet::new(),
        work: 0,
        next: FIRST_OF_OURS,
    };
    for at in sorted(&needs) {
        let definition = &program.rules[at];
        for choice in lower::choices(program, definition) {
            rule(&mut checker, program, definition, &choice);
        }
        if !checker.may_go_on() {
            let reason = "the types of this rule take too long to check: \
                          move large values into a data document, and break up rules that repeat them";
            checker.faults.push(Fault::at(definition.head_span(), reason));
            break;
        }
    }
    findings.faults.append(&mut checker.faults);
}

/// Variables of the policy have lower numbers.
const FIRST_OF_OURS: term::Var = 1 << 31;

/// Definitions, each behind those that it needs.
fn sorted(needs: &[Vec<usize>]) -> Vec<usize> {
    let (mut order, mut seen) = (Vec::new(), vec![false; needs.len()]);
    for start in 0..needs.len() {
        let mut open = vec![(start, 0)];
        while let Some((at, next)) = open.pop() {
            if next == 0 && std::mem::replace(&mut seen[at], true) {
                continue;
            }
            match needs[at].get(next) {
                Some(needed) => {
                    open.push((at, next + 1));
                    open.push((*needed, 0));
                }
                None => order.push(at),
            }
        }
    }
    order
}

/// Asks once for each path.
fn cached(find: impl Fn(&[String]) -> Vec<Vec<String>>) -> impl Fn(&[String]) -> Paths {
    let known: RefCell<HashMap<Vec<String>, Paths>> = RefCell::default();
    move |path| {
        let mut known = known.borrow_mut();
        Rc::clone(known.entry(path.to_vec()).or_insert_with(|| Rc::new(find(path))))
    }
}

/// Paths of the rules that the document at `path` is made of, and of those that need them.
fn dependents(program: &Program, needs: &[Vec<usize>], path: &[String]) -> Vec<Vec<String>> {
    let mut found: HashSet<usize> = program.reached(path).collect();
    loop {
        let more: Vec<usize> = (0..needs.len())
            .filter(|at| !found.contains(at) && needs[*at].iter().any(|needed| found.contains(needed)))
            .collect();
        if more.is_empty() {
            break;
        }
        found.extend(more);
    }
    found.into_iter().map(|at| program.rules[at].path.clone()).collect()
}

fn rule(checker: &mut Checker, program: &Program, definition: &Definition, choice: &Choice) {
    checker.env.start();
    checker.safe.clear();
    choice.args.iter().for_each(|arg| arg.vars(&mut checker.safe));
    let before = checker.faults.len();
    checker.body(&choice.body);
    let is_wrong = checker.faults.len() > before;
    let package = &program.units[definition.unit].package;
    if let Kind::Function { .. } | Kind::DefaultFunction { .. } = definition.kind {
        let signature = if is_wrong { None } else { Some(signature(&mut checker.env, choice)) };
        checker.env.documents.add_function(definition.path.clone(), signature);
        return;
    }
    let known = choice.path.iter().map_while(Term::constant);
    let root = &definition.path[package.len()];
    let path = package.iter().chain([root]).map(|part| Value::from(part.as_str())).chain(known);
    let path: Vec<Value> = path.collect();
    if is_wrong {
        checker.env.documents.give_up(&path);
        return;
    }
    let value = match &choice.adds {
        Adds::Value(term) => checker.env.of(term),
        Adds::Member(term) => match checker.env.of(term) {
            Type::Unknown => Type::Unknown,
            known => Type::set(known),
        },
    };
    let open = choice.path.iter().skip(path.len() - package.len() - 1);
    if let Some(of) = nested(&checker.env, open, value) {
        checker.env.documents.add(&path, &of);
    }
}

/// An object for each part of a name that is known only in evaluation, one in the other.
fn nested<'a>(env: &Env, open: impl DoubleEndedIterator<Item = &'a Term>, value: Type) -> Option<Type> {
    let whole = open.rev().try_fold(value, |value, key| match (env.of(key), value) {
        (Type::Unknown, _) | (_, Type::Unknown) => None,
        (key, value) => Some(Type::object(Default::default(), Some((key, value)))),
    });
    whole.filter(|of| *of != Type::Unknown)
}

/// Arguments are what the body takes them for.
fn signature(env: &mut Env, choice: &Choice) -> Signature {
    let mut vars = HashSet::new();
    choice.args.iter().for_each(|arg| arg.vars(&mut vars));
    for var in vars {
        if env.var(var) == Type::Unknown {
            env.set(var, Type::any());
        }
    }
    let args = choice.args.iter().map(|arg| env.of(arg)).collect();
    let (Adds::Value(answer) | Adds::Member(answer)) = &choice.adds;
    Signature { args, answer: env.of(answer) }
}

#[cfg(test)]
mod tests;
