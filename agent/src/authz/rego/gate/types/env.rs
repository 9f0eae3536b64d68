//! What is known of the variables and documents where an expression stands.

use std::collections::HashMap;

use regorus::Value;

use super::{
    documents::{Documents, Node},
    kind::Type,
    term::{Head, Reference, Term, Var},
};

/// Variables by the bodies around, and what `with` replaces.
#[derive(Debug, Default)]
pub(super) struct Env {
    pub(super) documents: Documents,
    frames: Vec<HashMap<Var, Type>>,
    /// Documents below `data` that are something else for the statement that is looked at.
    pub(super) replaced: Vec<(Vec<Value>, Type)>,
    /// Types of closures of the rule that is looked at, by their addresses.
    pub(super) closures: HashMap<usize, Type>,
}

impl Env {
    /// Forgets what the rule before has.
    pub(super) fn start(&mut self) {
        self.frames = vec![HashMap::new()];
        self.replaced.clear();
        self.closures.clear();
    }

    pub(super) fn enter(&mut self) {
        self.frames.push(HashMap::new());
    }

    pub(super) fn leave(&mut self) {
        self.frames.pop();
    }

    pub(super) fn var(&self, var: Var) -> Type {
        self.frames.iter().rev().find_map(|frame| frame.get(&var)).cloned().unwrap_or_default()
    }

    pub(super) fn set(&mut self, var: Var, of: Type) {
        if let Some(frame) = self.frames.last_mut() {
            frame.insert(var, of);
        }
    }

    pub(super) fn of(&self, term: &Term) -> Type {
        match term {
            Term::Scalar(value) => Type::of(value),
            Term::Var(var) => self.var(*var),
            Term::Array(items) => {
                Type::array(items.iter().map(|item| self.of(item)).collect(), Type::Unknown)
            }
            Term::Set(items) => {
                Type::set(items.iter().map(|item| self.of(item)).fold(Type::Unknown, super::kind::or))
            }
            Term::Object(fields) => {
                let (mut known, mut rest) = (std::collections::BTreeMap::new(), None);
                for (key, value) in fields {
                    match key.constant() {
                        Some(key) => {
                            known.insert(key, self.of(value));
                        }
                        None => rest = Some((self.of(key), self.of(value))),
                    }
                }
                Type::object(known, rest)
            }
            Term::Closure(closure) => {
                self.closures.get(&std::rc::Rc::as_ptr(closure).addr()).cloned().unwrap_or_default()
            }
            Term::Ref(reference) => self.of_reference(reference),
        }
    }

    fn of_reference(&self, reference: &Reference) -> Type {
        match reference.head {
            Head::Input => Type::any(),
            Head::Scalar => Type::Unknown,
            Head::Var(var) => select(self.var(var), &reference.steps),
            Head::Data => match self.replacement(&reference.steps) {
                Some((of, steps)) => select(of, steps),
                None => below(self.documents.root(), &reference.steps),
            },
        }
    }

    /// What stands for the document that `steps` begin to name, and the steps behind it.
    pub(super) fn replacement<'a>(&self, steps: &'a [Term]) -> Option<(Type, &'a [Term])> {
        let known: Vec<Value> = steps.iter().map_while(Term::constant).collect();
        self.replaced.iter().rev().find_map(|(path, of)| {
            if known.starts_with(path) {
                return Some((of.clone(), &steps[path.len()..]));
            }
            // A part of it is replaced, or may be.
            let may_be = known.len() < steps.len() || known.len() < path.len();
            (may_be && path.starts_with(&known)).then(|| (Type::any(), &steps[..0]))
        })
    }
}

/// The type of what `steps` find in a value.
fn select(mut of: Type, steps: &[Term]) -> Type {
    for step in steps {
        of = match step {
            Term::Scalar(key) => of.at(key),
            // What is taken in turn from nothing may be anything.
            _ if of.is_empty() => return Type::any(),
            _ => of.values(),
        };
        if of == Type::Unknown {
            return of;
        }
    }
    of
}

fn below(node: &Node, steps: &[Term]) -> Type {
    let Some((step, behind)) = steps.split_first() else { return node.extent() };
    let key = step.constant();
    let child = key.as_ref().and_then(|key| node.child(key));
    match (&node.of, child) {
        (_, Some(child)) => below(child, behind),
        (Some(of), None) => select(of.clone(), steps),
        (None, None) if key.is_none() => select(node.extent(), steps),
        (None, None) => Type::any(),
    }
}
