//! No rule needs itself, and chains of rules are so short that their evaluation fits on a stack.

use std::collections::HashSet;

use regorus::unstable::{Expr, Literal, Ref, Rule};

use super::{Findings, calls};
use crate::authz::rego::{
    Fault, Limits,
    program::{Program, Root, steps},
    walk::{self, Event, Scope},
};

/// `false` when there is a circle, or too long a chain.
pub(super) fn check(program: &Program, limits: &Limits, findings: &mut Findings) -> bool {
    let mut search = Search {
        needs: program.rules.iter().map(|rule| needs(program, rule.unit, &rule.rule)).collect(),
        weights: program.rules.iter().map(|rule| weight(&rule.rule)).collect(),
        state: vec![State::New; program.rules.len()],
    };
    for at in 0..program.rules.len() {
        match search.depth(at) {
            Ok(depth) if depth > limits.depth => {
                let reason = format!(
                    "rules and loops below this one are {depth} deep, the limit is {}; shorten the chain of rules",
                    limits.depth
                );
                findings.faults.push(Fault::at(program.rules[at].head_span(), reason));
                return false;
            }
            Ok(_) => {}
            Err(circle) => {
                let names: Vec<String> = circle.iter().map(|at| program.rules[*at].name()).collect();
                let reason = format!("the rule needs itself: {}", names.join(" needs "));
                findings.faults.push(Fault::at(program.rules[circle[0]].head_span(), reason));
                return false;
            }
        }
    }
    true
}

/// The definitions that `rule` makes the engine evaluate.
pub(super) fn needs(program: &Program, unit: usize, rule: &Rule) -> Vec<usize> {
    let mut needed = HashSet::new();
    walk::rule(rule, &mut |event, scope| match event {
        Event::Query(_) => {}
        Event::Expr(expr) => needed.extend(needs_of(program, unit, expr, scope)),
        Event::Statement(stmt) => {
            for with in &stmt.with_mods {
                // A function may stand for another.
                needed.extend(needs_of(program, unit, &with.r#as, scope));
            }
        }
    });
    let mut needed: Vec<usize> = needed.into_iter().collect();
    needed.sort_unstable();
    needed
}

fn needs_of(program: &Program, unit: usize, expr: &Ref<Expr>, scope: &Scope) -> Vec<usize> {
    match expr.as_ref() {
        Expr::Call { fcn, .. } => match calls::callee(program, unit, fcn, scope) {
            Some(calls::Callee::Rule(path)) => program.at(&path).to_vec(),
            _ => Vec::new(),
        },
        Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => {
            let steps = steps(expr);
            let Some(name) = steps.root().filter(|name| !scope.is_local(name)) else { return Vec::new() };
            let Root::Data(mut path) = program.root(unit, name) else { return Vec::new() };
            path.extend(steps.known().into_iter().skip(1));
            program.reached(&path).collect()
        }
        _ => Vec::new(),
    }
}

/// How deep the evaluation of one rule nests, in units of a rule: itself, its loops, what is inside one another, and a
/// part of one for each expression that is inside another.
fn weight(rule: &Rule) -> u32 {
    /// Expressions inside one another take as much of the stack as one rule.
    const EXPRESSIONS: u32 = 4;
    let (mut loops, mut closures, mut depth) = (0, 0, 0);
    walk::rule(rule, &mut |event, scope| {
        closures = closures.max(scope.closures);
        depth = depth.max(scope.depth);
        match event {
            Event::Statement(stmt) if matches!(stmt.literal, Literal::SomeIn { .. }) => loops += 1,
            Event::Expr(expr) if is_loop(expr) => loops += 1,
            _ => {}
        }
    });
    1 + loops + closures + depth / EXPRESSIONS
}

fn is_loop(expr: &Expr) -> bool {
    match expr {
        Expr::RefBrack { index, .. } => !matches!(index.as_ref(), Expr::String { .. } | Expr::Number { .. }),
        _ => false,
    }
}

#[derive(Clone, Copy)]
enum State {
    New,
    Open,
    Done(u32),
}

struct Search {
    needs: Vec<Vec<usize>>,
    weights: Vec<u32>,
    state: Vec<State>,
}

impl Search {
    /// How deep the evaluation of rule `start` goes; or the circle it is in.
    fn depth(&mut self, start: usize) -> Result<u32, Vec<usize>> {
        let mut path: Vec<(usize, usize, u32)> = vec![(start, 0, 0)];
        loop {
            let Some((at, next, deepest)) = path.last_mut() else {
                let State::Done(depth) = self.state[start] else { return Ok(0) };
                return Ok(depth);
            };
            let rule = *at;
            if *next == 0 {
                if let State::Done(_) = self.state[rule] {
                    path.pop();
                    continue;
                }
                self.state[rule] = State::Open;
            }
            match self.needs[rule].get(*next) {
                Some(needed) => {
                    *next += 1;
                    match self.state[*needed] {
                        State::Done(depth) => *deepest = (*deepest).max(depth),
                        State::New => {
                            *next -= 1;
                            path.push((*needed, 0, 0));
                        }
                        State::Open => return Err(circle(&path, *needed)),
                    }
                }
                None => {
                    self.state[rule] = State::Done(self.weights[rule] + *deepest);
                    path.pop();
                }
            }
        }
    }
}

fn circle(path: &[(usize, usize, u32)], needed: usize) -> Vec<usize> {
    let from = path.iter().position(|(at, ..)| *at == needed).unwrap_or_default();
    path[from..].iter().map(|(at, ..)| *at).chain([needed]).collect()
}
