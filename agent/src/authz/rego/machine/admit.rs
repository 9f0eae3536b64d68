//! Which policies the machine is given: those of which every rule that the decision needs is on the list below, in the words
//! that the engine was given. What is not on it, or not surely on it, the engine alone evaluates.
//!
//! On it are complete rules and their defaults, each by itself or all of them with one constant value, of bodies whose
//! statements have at most one solution: comparisons, memberships, calls of functions that are built in, what is below
//! `input`, documents and other rules, literals, names for any of these, and `not` in front of them.

use std::collections::{BTreeSet, HashSet};

use regorus::{
    Value,
    unstable::{AssignOp, Expr, Literal, LiteralStmt, Query, Ref, Rule, RuleHead},
};

use crate::authz::rego::{
    builtins,
    gate::{calls, document},
    program::{Definition, Kind, Program, Root, Step, steps},
    rewrite,
    walk::{self, Scope},
};

/// So many definitions are compiled for the machine at most: the work grows with their square.
pub(super) const DEFINITIONS: usize = 1_000;

/// Functions whose answer may be another one when they are asked again, or that take so long that how they are called does
/// not matter; and one that gives several answers.
const NEVER: [&str; 6] =
    ["io.jwt.decode_verify", "print", "rand.intn", "time.now_ns", "uuid.rfc4122", "walk"];

/// Functions whose value, where there is one, is an array.
const ARRAYS: [&str; 12] = [
    "array.concat",
    "array.flatten",
    "array.reverse",
    "array.slice",
    "indexof_n",
    "io.jwt.decode",
    "regex.find_n",
    "regex.split",
    "sort",
    "split",
    "strings.split_n",
    "time.clock",
];

/// Whether all that the rule at `path` needs is on the list. `documents` is what `data` is without rules.
pub(super) fn is_admitted(program: &Program, documents: &Value, path: &[String]) -> bool {
    let mut search = Search { program, documents, seen: HashSet::new(), next: Vec::new() };
    search.need(path.to_vec());
    let mut definitions = 0;
    while let Some(path) = search.next.pop() {
        definitions += program.at(&path).len();
        if definitions > DEFINITIONS || !search.rule(&path) {
            return false;
        }
    }
    true
}

struct Search<'a> {
    program: &'a Program,
    documents: &'a Value,
    seen: HashSet<Vec<String>>,
    next: Vec<Vec<String>>,
}

impl<'a> Search<'a> {
    fn need(&mut self, path: Vec<String>) {
        if self.seen.insert(path.clone()) {
            self.next.push(path);
        }
    }

    /// The definitions of one name.
    fn rule(&mut self, path: &[String]) -> bool {
        let program = self.program;
        let numbers = program.at(path);
        let is_alone = program.reached(path).all(|at| numbers.contains(&at)) && !program.is_package(path);
        let is_hidden = document(self.documents, path) != &Value::Undefined
            || (1..path.len()).any(|parts| {
                !matches!(document(self.documents, &path[..parts]), Value::Undefined | Value::Object(_))
            });
        if numbers.is_empty() || !is_alone || is_hidden {
            return false;
        }
        let (defaults, others): (Vec<&Definition>, Vec<&Definition>) =
            numbers.iter().map(|at| &program.rules[*at]).partition(|rule| rule.kind == Kind::Default);
        let agree = others.len() <= 1 || give_one_constant(&others);
        defaults.len() <= 1
            && agree
            && defaults.iter().all(|default| is_plain_default(default))
            && others.iter().all(|other| self.definition(other))
    }

    fn definition(&mut self, definition: &'a Definition) -> bool {
        let Rule::Spec { head: RuleHead::Compr { refr, assign, .. }, bodies, .. } = definition.rule.as_ref()
        else {
            return false;
        };
        if definition.is_open || !matches!(refr.as_ref(), Expr::Var { .. }) {
            return false;
        }
        let query = match bodies.as_slice() {
            [] if assign.is_some() => None,
            [body] if body.assign.is_none() && !body.is_else => Some(body.query.as_ref()),
            _ => return false,
        };
        let locals = query.map(|query| locals(self.program, definition.unit, query)).unwrap_or_default();
        // One name has one meaning.
        if locals.iter().any(|name| self.program.root(definition.unit, name) != Root::Unknown) {
            return false;
        }
        let mut body = Body { unit: definition.unit, scope: Scope::of(locals), search: self };
        query.is_none_or(|query| query.stmts.iter().all(|stmt| body.statement(stmt)))
            && assign.as_ref().is_none_or(|assign| body.term(&assign.value))
    }
}

/// The variables of a body: those that it declares, and those that get their value by `=`.
fn locals(program: &Program, unit: usize, query: &Query) -> HashSet<String> {
    let mut names = walk::declared(query);
    for stmt in &query.stmts {
        let Literal::Expr { expr, .. } = &stmt.literal else { continue };
        if let Expr::AssignExpr { op: AssignOp::Eq, lhs, rhs, .. } = expr.as_ref() {
            for side in [lhs, rhs] {
                let mut bound = HashSet::new();
                walk::pattern_names(side, &mut bound);
                names.extend(bound.into_iter().filter(|name| program.root(unit, name) == Root::Unknown));
            }
        }
    }
    names.remove("_");
    names
}

/// One body, or a head without one.
struct Body<'s, 'a> {
    search: &'s mut Search<'a>,
    unit: usize,
    scope: Scope,
}

impl Body<'_, '_> {
    fn statement(&mut self, stmt: &LiteralStmt) -> bool {
        if !stmt.with_mods.is_empty() {
            return false;
        }
        match &stmt.literal {
            Literal::Expr { expr, .. } => match expr.as_ref() {
                Expr::AssignExpr { op, lhs, rhs, .. } => self.binding(op, lhs, rhs),
                _ => self.term(expr),
            },
            Literal::NotExpr { expr, .. } => self.term(expr),
            Literal::SomeVars { .. } | Literal::SomeIn { .. } | Literal::Every { .. } => false,
        }
    }

    /// `name := term`, `[name, _] := split(term, term)`, and the same by `=`, whose sides may stand the other way round.
    fn binding(&mut self, op: &AssignOp, lhs: &Ref<Expr>, rhs: &Ref<Expr>) -> bool {
        match (op, lhs.as_ref(), rhs.as_ref()) {
            (_, Expr::Object { .. }, _) | (AssignOp::Eq, _, Expr::Object { .. }) => false,
            (_, Expr::Array { items, .. }, _) => self.is_flat(items) && self.array(rhs),
            (AssignOp::Eq, _, Expr::Array { items, .. }) => self.is_flat(items) && self.array(lhs),
            // Nothing asks whether what `_` stands for is there.
            (AssignOp::ColEq, Expr::Var { span, .. }, _) => span.text() != "_" && self.term(rhs),
            (AssignOp::ColEq, ..) => false,
            (AssignOp::Eq, ..) => self.side(lhs) && self.side(rhs),
        }
    }

    /// Names, `_`, texts and numbers, and at least one of them.
    fn is_flat(&self, items: &[Ref<Expr>]) -> bool {
        let is_plain = |item: &Ref<Expr>| match item.as_ref() {
            Expr::Var { span, .. } => span.text() == "_" || self.scope.is_local(span.text()),
            Expr::String { .. } | Expr::Number { .. } => true,
            _ => false,
        };
        !items.is_empty() && items.iter().all(is_plain)
    }

    fn side(&mut self, expr: &Ref<Expr>) -> bool {
        matches!(expr.as_ref(), Expr::Var { span, .. } if span.text() == "_") || self.term(expr)
    }

    /// What is an array wherever it is defined.
    fn array(&mut self, expr: &Ref<Expr>) -> bool {
        let Expr::Call { fcn, .. } = expr.as_ref() else { return false };
        let callee = calls::callee(self.search.program, self.unit, fcn, &self.scope);
        matches!(callee, Some(calls::Callee::Builtin(name)) if ARRAYS.contains(&name.as_str()))
            && self.term(expr)
    }

    /// What has one value, or none.
    fn term(&mut self, expr: &Ref<Expr>) -> bool {
        match expr.as_ref() {
            Expr::String { .. }
            | Expr::RawString { .. }
            | Expr::Number { .. }
            | Expr::Bool { .. }
            | Expr::Null { .. } => true,
            Expr::Array { items, .. } | Expr::Set { items, .. } => items.iter().all(|item| self.term(item)),
            Expr::Object { fields, .. } => {
                let mut keys = BTreeSet::new();
                fields.iter().all(|(_, key, value)| {
                    let Expr::String { value: key, .. } = key.as_ref() else { return false };
                    keys.insert(key) && self.term(value)
                })
            }
            Expr::BoolExpr { lhs, rhs, .. } => self.term(lhs) && self.term(rhs),
            Expr::Membership { key: None, value, collection, .. } => {
                self.term(value) && self.term(collection)
            }
            Expr::Call { fcn, params, .. } => self.call(fcn, params),
            Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => self.reference(expr),
            _ => false,
        }
    }

    fn call(&mut self, function: &Ref<Expr>, params: &[Ref<Expr>]) -> bool {
        match calls::callee(self.search.program, self.unit, function, &self.scope) {
            Some(calls::Callee::Builtin(name)) => {
                is_admitted_function(&name, params.len()) && params.iter().all(|param| self.term(param))
            }
            _ => false,
        }
    }

    fn reference(&mut self, expr: &Ref<Expr>) -> bool {
        let steps = steps(expr);
        let is_index = |step: &Step<'_>| matches!(step, Step::Index(_));
        match steps.root() {
            None => self.term(steps.head) && self.indexes(&steps.rest),
            Some("_") => false,
            Some("data") if steps.rest.iter().any(is_index) => false,
            Some("data") => self.document(&steps.known()[1..]),
            Some(name) if name == "input" || self.scope.is_local(name) => self.indexes(&steps.rest),
            Some(name) => {
                let unit = &self.search.program.units[self.unit];
                let is_import = unit.imports.contains_key(name);
                let path: Vec<String> = unit.package.iter().cloned().chain([name.to_owned()]).collect();
                if is_import || self.search.program.at(&path).is_empty() {
                    return false;
                }
                self.search.need(path);
                self.indexes(&steps.rest)
            }
        }
    }

    fn indexes(&mut self, rest: &[Step<'_>]) -> bool {
        rest.iter().all(|step| match step {
            Step::Name(_) => true,
            Step::Index(index) => self.term(index),
        })
    }

    /// A rule by its whole path, or a document in which there is none.
    fn document(&mut self, path: &[String]) -> bool {
        let program = self.search.program;
        if program.reached(path).next().is_none() {
            return !path.is_empty() && !program.is_package(path);
        }
        match (1..=path.len()).find(|parts| !program.at(&path[..*parts]).is_empty()) {
            Some(parts) => {
                self.search.need(path[..parts].to_vec());
                true
            }
            None => false,
        }
    }
}

fn is_admitted_function(name: &str, arity: usize) -> bool {
    let is_ours = || rewrite::FUNCTIONS.iter().any(|own| own.name == name && usize::from(own.arity) == arity);
    !NEVER.contains(&name) && (builtins::is_known(name, arity) || is_ours())
}

fn is_plain_default(definition: &Definition) -> bool {
    match definition.rule.as_ref() {
        Rule::Default { refr, args, value, .. } => {
            args.is_empty() && matches!(refr.as_ref(), Expr::Var { .. }) && is_constant(value)
        }
        Rule::Spec { .. } => false,
    }
}

fn is_constant(expr: &Expr) -> bool {
    match expr {
        Expr::Array { items, .. } | Expr::Set { items, .. } => items.iter().all(|item| is_constant(item)),
        Expr::Object { fields, .. } => {
            let mut keys = BTreeSet::new();
            fields.iter().all(|(_, key, value)| {
                matches!(key.as_ref(), Expr::String { value: key, .. } if keys.insert(key))
                    && is_constant(value)
            })
        }
        _ => scalar(expr).is_some(),
    }
}

/// Whether all definitions give the same value, which is known before they are evaluated.
fn give_one_constant(definitions: &[&Definition]) -> bool {
    let mut values = definitions.iter().map(|definition| match definition.rule.as_ref() {
        Rule::Spec { head: RuleHead::Compr { assign: Some(assign), .. }, .. } => {
            scalar(&assign.value).cloned()
        }
        Rule::Spec { head: RuleHead::Compr { assign: None, .. }, .. } => Some(Value::from(true)),
        _ => None,
    });
    let first = values.next().flatten();
    first.is_some() && values.all(|value| value == first)
}

fn scalar(expr: &Expr) -> Option<&Value> {
    match expr {
        Expr::String { value, .. }
        | Expr::RawString { value, .. }
        | Expr::Number { value, .. }
        | Expr::Bool { value, .. }
        | Expr::Null { value, .. } => Some(value),
        _ => None,
    }
}
