//! In which order the statements of a body give variables their values: each once those that it needs have one.

use std::collections::HashSet;

use super::{
    infer::MOST_WORK,
    term::{Callee, Form, Head, Statement, Term, Var},
};

/// What a look at a statement is taken for, in the measure of [`MOST_WORK`].
const LOOK: u64 = 8;

/// The statements of `body` by their places, and those that no order gives all that they need. `safe` are the variables
/// that have a value before it. Each look at a statement is added to `work`; with too many of them the order has a part of
/// the statements.
pub(super) fn order(
    body: &[Statement],
    safe: &HashSet<Var>,
    arity: &dyn Fn(&Callee) -> Option<usize>,
    work: &mut u64,
) -> (Vec<usize>, Vec<usize>) {
    let mut stmts: Vec<Waiting> = body.iter().enumerate().map(|(at, stmt)| Waiting::new(at, stmt)).collect();
    let own: HashSet<Var> = stmts.iter().flat_map(|stmt| stmt.vars.iter().copied()).collect();
    for stmt in &mut stmts {
        stmt.closed_over.retain(|var| own.contains(var) && !safe.contains(var));
    }
    let mut safe: HashSet<Var> = safe.clone();
    let mut ordered = Vec::with_capacity(body.len());
    loop {
        let before = ordered.len();
        *work = work.saturating_add(LOOK * stmts.len() as u64);
        stmts.retain(|waiting| {
            let outputs = outputs(&body[waiting.at], &waiting.vars, &safe, arity);
            let is_ready = waiting.is_ready(&safe, &outputs);
            if is_ready {
                safe.extend(outputs);
                ordered.push(waiting.at);
            }
            !is_ready
        });
        if ordered.len() == before || stmts.is_empty() || *work > MOST_WORK {
            break;
        }
    }
    (ordered, stmts.iter().map(|stmt| stmt.at).collect())
}

struct Waiting {
    at: usize,
    vars: HashSet<Var>,
    closed_over: HashSet<Var>,
}

impl Waiting {
    fn new(at: usize, stmt: &Statement) -> Self {
        let mut closed_over = HashSet::new();
        stmt.closure_vars(&mut closed_over);
        Self { at, vars: stmt.vars(), closed_over }
    }

    fn is_ready(&self, safe: &HashSet<Var>, outputs: &HashSet<Var>) -> bool {
        // A closure does not see what its own statement looks up with the same variables.
        if !self.closed_over.is_empty() && self.closed_over == *outputs {
            return false;
        }
        self.vars.iter().chain(&self.closed_over).all(|var| safe.contains(var) || outputs.contains(var))
    }
}

/// Variables that `stmt`, which has `vars`, gives values when those in `safe` have one.
fn outputs(
    stmt: &Statement,
    vars: &HashSet<Var>,
    safe: &HashSet<Var>,
    arity: &dyn Fn(&Callee) -> Option<usize>,
) -> HashSet<Var> {
    let mut given = HashSet::new();
    if stmt.is_negated {
        return given;
    }
    let mut needed = HashSet::new();
    stmt.with.iter().for_each(|(_, value)| value.vars(&mut needed));
    if !needed.is_subset(safe) {
        return given;
    }
    match &stmt.form {
        Form::Every { .. } => {}
        Form::Term(term) => indexes(term, safe, &mut given),
        Form::Equal { left, right, assigns } => {
            for term in [left, right] {
                indexes(term, safe, &mut given);
            }
            given.extend(vars.iter().filter(|var| safe.contains(var)));
            if *assigns {
                let mut assigned = HashSet::new();
                left.vars(&mut assigned);
                given.retain(|var| !assigned.contains(var));
            }
            unify(left, right, &mut given);
            given.retain(|var| !safe.contains(var));
        }
        Form::Call(callee, args) => {
            args.iter().for_each(|arg| indexes(arg, safe, &mut given));
            let taken = arity(callee).unwrap_or(args.len()).min(args.len());
            let mut open = HashSet::new();
            args[..taken].iter().for_each(|arg| values(arg, &mut open));
            if open.iter().all(|var| safe.contains(var) || given.contains(var)) {
                args[taken..].iter().for_each(|arg| values(arg, &mut given));
            } else if taken < args.len() {
                given.clear();
            }
        }
    }
    given
}

/// Variables that index what is known get the values of its keys.
fn indexes(term: &Term, safe: &HashSet<Var>, given: &mut HashSet<Var>) {
    term.walk(&mut |term| {
        let Term::Ref(reference) = term else { return };
        let is_known = match reference.head {
            Head::Var(var) => safe.contains(&var),
            _ => true,
        };
        if is_known {
            reference.steps.iter().for_each(|step| values(step, given));
        }
    });
}

/// Variables of a term that are not what a reference begins with, nor in a set or a key.
fn values(term: &Term, found: &mut HashSet<Var>) {
    match term {
        Term::Var(var) => {
            found.insert(*var);
        }
        Term::Array(items) => items.iter().for_each(|item| values(item, found)),
        Term::Object(fields) => fields.iter().for_each(|(_, value)| values(value, found)),
        Term::Ref(reference) => reference.steps.iter().for_each(|step| values(step, found)),
        Term::Scalar(_) | Term::Set(_) | Term::Closure(_) => {}
    }
}

/// Adds to `known` what an equality makes known.
fn unify(left: &Term, right: &Term, known: &mut HashSet<Var>) {
    match (left, right) {
        (Term::Array(left), Term::Array(right)) => {
            // Twice: an item may need what one behind it gives.
            if left.len() == right.len() {
                for _ in 0..2 {
                    left.iter().zip(right).for_each(|(left, right)| unify(left, right, known));
                }
            }
        }
        (Term::Object(left), Term::Object(right)) if left.len() == right.len() => {
            for (key, left) in left {
                let same = key.constant();
                let other = right.iter().find(|(other, _)| same.is_some() && other.constant() == same);
                if let Some((_, right)) = other {
                    unify(left, right, known);
                }
            }
        }
        _ => {
            let takes = |term: &Term| matches!(term, Term::Var(_) | Term::Array(_) | Term::Object(_));
            if takes(right) && is_known(left, known) {
                values(right, known);
            } else if takes(left) && is_known(right, known) {
                values(left, known);
            }
        }
    }
}

fn is_known(term: &Term, known: &HashSet<Var>) -> bool {
    match term {
        Term::Ref(reference) => match reference.head {
            Head::Var(var) => known.contains(&var),
            _ => true,
        },
        Term::Scalar(_) | Term::Closure(_) | Term::Set(_) => true,
        _ => {
            let mut vars = HashSet::new();
            values(term, &mut vars);
            vars.is_subset(known)
        }
    }
}
