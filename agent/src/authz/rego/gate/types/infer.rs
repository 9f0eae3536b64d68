//! Goes through the bodies of a rule as OPA's type checker does: it learns what variables are from where they are used, and
//! reports what can never be.

use std::{collections::HashSet, rc::Rc};

use regorus::{Value, unstable::Span};

use super::{
    declared::Signature,
    documents::Node,
    env::Env,
    hoist::hoisted,
    kind::{Type, has_outgrown, or},
    order::order,
    term::{Callee, Closure, Form, Gives, Head, Reference, Statement, Target, Term, Var},
};
use crate::authz::rego::Fault;

/// Types that are set side by side for one policy; more of them end the check.
pub(super) const MOST_WORK: u64 = 20_000_000;

/// Of rules, below `data`.
pub(super) type Paths = Rc<Vec<Vec<String>>>;

pub(super) struct Checker<'a> {
    pub(super) env: Env,
    pub(super) builtins: std::collections::HashMap<&'static str, Signature>,
    /// Paths of rules that need a document of that path, itself included.
    pub(super) dependents: &'a dyn Fn(&[String]) -> Paths,
    pub(super) faults: Vec<Fault>,
    /// Variables that have a value where we are.
    pub(super) safe: HashSet<Var>,
    pub(super) work: u64,
    /// The number of the next variable of ours.
    pub(super) next: Var,
}

impl Checker<'_> {
    /// Whether the policy takes no more work than it may.
    pub(super) fn may_go_on(&mut self) -> bool {
        if has_outgrown() {
            self.work = u64::MAX;
        }
        self.work <= MOST_WORK
    }

    pub(super) fn body(&mut self, body: &[Statement]) {
        self.each(body, Self::statement);
    }

    /// Calls `look` for each statement, in the order in which they give variables their values.
    fn each(&mut self, body: &[Statement], look: fn(&mut Self, &Statement)) {
        let (builtins, documents) = (&self.builtins, &self.env.documents);
        let arity = |callee: &Callee| {
            Some(match callee {
                Callee::Builtin(name) => builtins.get(name.as_str())?.args.len(),
                Callee::Rule(path) => documents.function(path)?.args.len(),
            })
        };
        let (order, unsafe_ones) = order(body, &self.safe, &arity, &mut self.work);
        if !self.may_go_on() {
            return;
        }
        let mut added = Vec::new();
        for at in order {
            if !self.may_go_on() {
                break;
            }
            for stmt in hoisted(&body[at], &mut self.next) {
                look(self, &stmt);
            }
            added.extend(body[at].vars().into_iter().filter(|var| self.safe.insert(*var)));
        }
        for at in unsafe_ones {
            self.faults.push(Fault::at(
                &body[at].span,
                "a variable is unsafe: what a comprehension here closes over gets its value in a statement of its own",
            ));
        }
        for var in added {
            self.safe.remove(&var);
        }
    }

    fn statement(&mut self, stmt: &Statement) {
        let (before, around) = (self.faults.len(), self.env.replaced.len());
        self.replace(stmt);
        self.parts(stmt);
        if let Form::Every { .. } = &stmt.form {
            self.every(stmt);
        } else if self.faults.len() == before
            && let Err(reason) = self.form(&stmt.form)
        {
            self.fault(&stmt.span, &reason);
        }
        self.env.replaced.truncate(around);
    }

    /// Closures and references of a statement.
    fn parts(&mut self, stmt: &Statement) {
        let mut closures = Vec::new();
        for term in stmt.terms() {
            term.walk(&mut |term| {
                if let Term::Closure(closure) = term {
                    closures.push(Rc::clone(closure));
                }
            });
        }
        closures.iter().for_each(|closure| self.closure(closure));
        stmt.terms().for_each(|term| self.references(term));
    }

    fn fault(&mut self, span: &Span, reason: &str) {
        self.faults.push(Fault::at(span, format!("type error: {reason}")));
    }

    /// What `with` puts in the place of documents may be of another type, as may what is made of them.
    fn replace(&mut self, stmt: &Statement) {
        let mut replaced = Vec::new();
        for (target, value) in &stmt.with {
            let Target::Data(path) = target else { continue };
            for rule in (self.dependents)(path).iter() {
                replaced.push((rule.iter().map(|part| Value::from(part.as_str())).collect(), Type::any()));
            }
            let path: Vec<Value> = path.iter().map(|part| Value::from(part.as_str())).collect();
            let old = Term::Ref(Box::new(Reference {
                span: stmt.span.clone(),
                head: Head::Data,
                steps: path.iter().cloned().map(Term::Scalar).collect(),
            }));
            let of = match self.env.of(value) {
                Type::Unknown => Type::any(),
                known => or(self.env.of(&old), known),
            };
            replaced.push((path, of));
        }
        self.env.replaced.extend(replaced);
    }

    /// Its body is looked at once for itself; what it gives is kept.
    fn closure(&mut self, closure: &Rc<Closure>) {
        let key = Rc::as_ptr(closure).addr();
        if self.env.closures.contains_key(&key) {
            return;
        }
        let before = self.faults.len();
        self.env.enter();
        self.body(&closure.body);
        let of = match &closure.gives {
            _ if self.faults.len() > before => Type::Unknown,
            Gives::Array(term) => Type::array(Vec::new(), self.env.of(term)),
            Gives::Set(term) => Type::set(self.env.of(term)),
            Gives::Object(key, value) => {
                Type::object(Default::default(), Some((self.env.of(key), self.env.of(value))))
            }
        };
        self.env.leave();
        self.env.closures.insert(key, of);
    }

    /// References and closures in the body of an `every` are looked at; what its statements call is not.
    fn every(&mut self, stmt: &Statement) {
        let Form::Every { body, names, .. } = &stmt.form else { return };
        let added: Vec<Var> = names.iter().copied().filter(|name| self.safe.insert(*name)).collect();
        self.each(body, |checker, stmt| {
            checker.parts(stmt);
            checker.every(stmt);
        });
        for var in added {
            self.safe.remove(&var);
        }
    }

    fn references(&mut self, term: &Term) {
        let mut found = Vec::new();
        term.walk(&mut |term| {
            if let Term::Ref(reference) = term {
                found.push(reference.as_ref());
            }
        });
        for reference in found {
            if let Err(reason) = self.reference(reference) {
                self.fault(&reference.span, &reason);
            }
        }
    }

    fn reference(&mut self, reference: &Reference) -> Result<(), String> {
        let steps = reference.steps.as_slice();
        match reference.head {
            Head::Input | Head::Scalar => self.steps(Type::any(), steps),
            Head::Var(var) => {
                if self.env.var(var) == Type::Unknown {
                    self.env.set(var, Type::any());
                }
                self.steps(self.env.var(var), steps)
            }
            Head::Data => {
                if let Some((of, steps)) = self.env.replacement(steps) {
                    return self.steps(of, steps);
                }
                let (of, behind) = self.document(steps)?;
                self.steps(of, &steps[behind..])
            }
        }
    }

    /// The type of the first rule on the way, and how many steps lead to it. Documents that no rule gives may be anything.
    fn document(&mut self, steps: &[Term]) -> Result<(Type, usize), String> {
        for at in 0..steps.len() {
            let node = walked(self.env.documents.root(), &steps[..at]);
            let step = &steps[at];
            if at < 2 && !matches!(step, Term::Var(_) | Term::Scalar(Value::String(_))) {
                return Err(undefined(&Type::Text, &self.env.of(step)));
            }
            if let Term::Var(var) = step {
                let keys = node.extent().keys();
                self.key(*var, &keys)?;
            }
            let child =
                step.constant().and_then(|key| walked_one(self.env.documents.root(), &steps[..at], &key));
            match child.map(|child| child.of.clone()) {
                None => return Ok((Type::any(), 0)),
                Some(Some(of)) => return Ok((of, at + 1)),
                Some(None) => {}
            }
        }
        Ok((Type::any(), steps.len()))
    }

    fn key(&mut self, var: Var, keys: &Type) -> Result<(), String> {
        let known = self.env.var(var);
        if known == Type::Unknown {
            self.env.set(var, keys.clone());
            return Ok(());
        }
        if self.meet(&known, keys) { Ok(()) } else { Err(undefined(keys, &known)) }
    }

    fn steps(&mut self, mut of: Type, steps: &[Term]) -> Result<(), String> {
        for step in steps {
            if of.is_empty() {
                return self.step_into_nothing(&of, step);
            }
            let keys = of.keys();
            if keys == Type::Unknown {
                return Err(format!("undefined ref: nothing is inside a {of}"));
            }
            of = match step {
                Term::Scalar(key) => match of.at(key) {
                    Type::Unknown => return Err(no_key(&of, key)),
                    found => found,
                },
                Term::Var(var) => {
                    self.key(*var, &keys)?;
                    of.values()
                }
                composite => {
                    if !self.unify_one(composite, &keys, false) {
                        return Err(undefined(&keys, &self.env.of(composite)));
                    }
                    of.values()
                }
            };
            self.work = self.work.saturating_add(of.size());
        }
        Ok(())
    }

    fn step_into_nothing(&mut self, of: &Type, step: &Term) -> Result<(), String> {
        match step {
            Term::Scalar(key) => Err(no_key(of, key)),
            Term::Var(var) if self.env.var(*var) == Type::Unknown => {
                self.env.set(*var, Type::any());
                Ok(())
            }
            Term::Var(var) if of.keys() != Type::Unknown => self.key(*var, &of.keys()),
            _ => Ok(()),
        }
    }

    fn form(&mut self, form: &Form) -> Result<(), String> {
        match form {
            Form::Term(_) | Form::Every { .. } => Ok(()),
            Form::Equal { left, right, .. } => {
                let (a, b) = (self.env.of(left), self.env.of(right));
                if self.unify_both(left, &a, right, &b) {
                    return Ok(());
                }
                Err(format!("match error: {a} on the left, {b} on the right, which are never equal"))
            }
            Form::Call(callee, args) => self.call(callee, args),
        }
    }

    fn call(&mut self, callee: &Callee, args: &[Term]) -> Result<(), String> {
        let (name, signature) = match callee {
            Callee::Builtin(name) => (name.clone(), self.builtins.get(name.as_str()).cloned()),
            Callee::Rule(path) => {
                (format!("data.{}", path.join(".")), self.env.documents.function(path).cloned())
            }
        };
        // What is no function is refused elsewhere; of one that is at fault itself nothing is known.
        let Some(signature) = signature else { return Ok(()) };
        if name.starts_with("internal.member_") {
            self.member(&args[..signature.args.len().min(args.len())])?;
        }
        let args_taken = signature.args.len();
        let mut takes = signature.args;
        takes.extend((signature.answer != Type::Unknown).then_some(signature.answer));
        if args.len() > takes.len() {
            return Err(format!("{name}: too many arguments"));
        }
        for (at, (arg, wanted)) in args.iter().zip(&takes).enumerate() {
            let given = self.env.of(arg);
            let fits = given.is_partial() || self.meet(&given, wanted);
            if !fits || !self.unify_one(arg, wanted, false) {
                let given = self.env.of(arg);
                let name = operator(&name);
                let is_answer = at == args_taken;
                return Err(if is_answer {
                    format!("match error: {name} gives {wanted}, and this is {given}")
                } else {
                    format!("invalid argument: {name} takes {wanted}, and this is {given}")
                });
            }
        }
        Ok(())
    }

    /// What is looked for can be in the collection, which is the last of `args`; a key may stand before it.
    fn member(&mut self, args: &[Term]) -> Result<(), String> {
        let Some((collection, wanted)) = args.split_last() else { return Ok(()) };
        let of = self.env.of(collection);
        let values = of.values();
        if values == Type::Unknown {
            return Ok(());
        }
        let wanted = wanted.iter().rev().zip([values, of.keys()]);
        for (term, of) in wanted.rev() {
            if of.is_partial() {
                continue;
            }
            let known = self.env.of(term);
            let fits = known.is_partial() || self.meet(&known, &of);
            if !fits || !self.unify_one(term, &of, false) {
                return Err(format!("match error: {known} is looked for in what has {of} in it"));
            }
        }
        Ok(())
    }
}

fn walked<'a>(root: &'a Node, steps: &[Term]) -> &'a Node {
    steps.iter().fold(root, |node, step| step.constant().and_then(|key| node.child(&key)).unwrap_or(node))
}

fn walked_one<'a>(root: &'a Node, steps: &[Term], key: &Value) -> Option<&'a Node> {
    walked(root, steps).child(key)
}

fn undefined(wanted: &Type, given: &Type) -> String {
    format!("undefined ref: keys here are {wanted}, and this one is {given}")
}

fn no_key(of: &Type, key: &Value) -> String {
    let known: Vec<String> = match of {
        Type::Object(object) => object.fields.keys().take(8).map(ToString::to_string).collect(),
        _ => Vec::new(),
    };
    let known = if known.is_empty() { String::new() } else { format!("; there are {}", known.join(", ")) };
    format!("undefined ref: no {key} can be in this {of}{known}")
}

/// As a policy writes it.
fn operator(name: &str) -> &str {
    match name {
        "plus" => "`+`",
        "minus" => "`-`",
        "mul" => "`*`",
        "div" => "`/`",
        "rem" => "`%`",
        "and" => "`&`",
        "or" => "`|`",
        other => other,
    }
}
