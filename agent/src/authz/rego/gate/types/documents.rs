//! The types of all rules so far, in the tree of documents below `data`.

use std::collections::{BTreeMap, HashMap};

use regorus::Value;

use super::{
    declared::Signature,
    kind::{Object, Type, or},
};

#[derive(Debug, Default)]
pub(super) struct Documents {
    root: Node,
    functions: HashMap<Vec<String>, Option<Signature>>,
}

#[derive(Debug, Default)]
pub(super) struct Node {
    /// Of the rules with that path.
    pub(super) of: Option<Type>,
    below: BTreeMap<Value, Node>,
}

impl Documents {
    pub(super) fn root(&self) -> &Node {
        &self.root
    }

    /// `None` for what is no function, or is at fault itself.
    pub(super) fn function(&self, path: &[String]) -> Option<&Signature> {
        self.functions.get(path)?.as_ref()
    }

    /// One more definition of a function; of one that is at fault nothing is known.
    pub(super) fn add_function(&mut self, path: Vec<String>, new: Option<Signature>) {
        let Some(known) = self.functions.get_mut(&path) else {
            self.functions.insert(path, new);
            return;
        };
        *known = known.take().zip(new).map(|(known, new)| Signature {
            args: known.args.into_iter().zip(new.args).map(|(known, new)| or(known, new)).collect(),
            answer: or(known.answer, new.answer),
        });
    }

    /// One more definition of the rule at `path`.
    pub(super) fn add(&mut self, path: &[Value], new: &Type) {
        let mut node = &mut self.root;
        for (at, part) in path.iter().enumerate() {
            let behind = &path[at + 1..];
            node = node.below.entry(part.clone()).or_default();
            if !behind.is_empty()
                && let Some(Type::Object(object)) = &node.of
            {
                node.of = Some(with_path(object, behind, new));
            }
        }
        let merged = merged(node.of.take().unwrap_or_default(), new.clone());
        node.of = Some(match (&merged, new) {
            (Type::Object(object), Type::Object(_)) => node.with_leaves(object),
            _ => merged,
        });
    }

    /// Nothing is known of the rule at `path`, because something is wrong with it.
    pub(super) fn give_up(&mut self, path: &[Value]) {
        let node = path.iter().fold(&mut self.root, |node, part| node.below.entry(part.clone()).or_default());
        node.of = Some(Type::any());
    }
}

impl Node {
    pub(super) fn child(&self, key: &Value) -> Option<&Node> {
        self.below.get(key)
    }

    /// That of the document here, with all below it.
    pub(super) fn extent(&self) -> Type {
        if let Some(of) = &self.of {
            return of.clone();
        }
        let is_key = |key: &Value| matches!(key, Value::String(_) | Value::Number(_) | Value::Bool(_));
        let below = self.below.iter().filter(|(key, _)| is_key(key));
        let fields = below.map(|(key, node)| (key.clone(), node.extent())).collect();
        Type::object(fields, Some((Type::Text, Type::any())))
    }

    fn with_leaves(&self, object: &Object) -> Type {
        let mut leaves = Vec::new();
        self.below.iter().for_each(|(key, node)| node.leaves(&mut vec![key.clone()], &mut leaves));
        let whole = Type::object(object.fields.clone(), object.rest.clone());
        leaves.into_iter().fold(whole, |whole, (path, of)| match &whole {
            Type::Object(object) => with_path(object, &path, &of),
            _ => whole,
        })
    }

    fn leaves(&self, path: &mut Vec<Value>, found: &mut Vec<(Vec<Value>, Type)>) {
        if let Some(of) = &self.of {
            found.push((path.clone(), of.clone()));
            return;
        }
        for (key, node) in &self.below {
            path.push(key.clone());
            node.leaves(path, found);
            path.pop();
        }
    }
}

/// `object` with something of that type somewhere below it.
fn with_path(object: &Object, path: &[Value], of: &Type) -> Type {
    let [key, behind @ ..] = path else { return Type::object(object.fields.clone(), object.rest.clone()) };
    let of = match behind {
        [] => of.clone(),
        _ => match Type::object(BTreeMap::new(), None) {
            Type::Object(empty) => with_path(&empty, behind, of),
            other => other,
        },
    };
    let (keys, values) = object.rest.clone().unwrap_or_default();
    Type::object(object.fields.clone(), Some((or(keys, Type::of(key)), or(values, of))))
}

/// That of a document which two rules give.
fn merged(one: Type, other: Type) -> Type {
    match (&one, &other) {
        (Type::Unknown, _) => other,
        (_, Type::Unknown) => one,
        (Type::Object(a), Type::Object(b)) if a.fields.is_empty() && b.fields.is_empty() => {
            match (&a.rest, &b.rest) {
                (None, _) => other,
                (_, None) => one,
                (Some(a), Some(b)) => {
                    let value = merged(a.1.clone(), b.1.clone());
                    Type::object(BTreeMap::new(), Some((or(a.0.clone(), b.0.clone()), value)))
                }
            }
        }
        (Type::Set(a), Type::Set(b)) => Type::set(or((**a).clone(), (**b).clone())),
        (Type::Any(of), Type::Object(object)) | (Type::Object(object), Type::Any(of)) => {
            let open = |one: &Type| match one {
                Type::Object(object) => object.fields.is_empty().then(|| object.rest.clone()).flatten(),
                _ => None,
            };
            let known = of.iter().find_map(|one| Some((one.clone(), open(one)?)));
            match (known, open(&Type::Object(object.clone()))) {
                (Some((known, (keys, values))), Some((key, value))) => {
                    let wider = Type::object(BTreeMap::new(), Some((or(keys, key), or(values, value))));
                    Type::one_of(of.iter().filter(|one| **one != known).cloned().chain([wider]))
                }
                _ => or(one, other),
            }
        }
        _ => or(one, other),
    }
}
