//! `json.filter` and `json.remove`: parts of an object, chosen by paths.

use std::collections::BTreeMap;

use regorus::Value;

use super::args::{Answer, Failure, elements, exactly};

/// How deeply a path leads.
pub(super) const DEPTH: usize = 128;

/// Paths as a tree. What ends a path stands for all below it.
#[derive(Debug)]
enum Tree {
    End,
    Branches(BTreeMap<Value, Tree>),
}

/// What the paths lead to, and what is on the way there.
pub(super) fn filter(args: &[Value]) -> Answer {
    let [object @ Value::Object(_), paths] = exactly(args)? else { return Err(Failure::Error) };
    filtered(object, &tree(paths)?)
}

fn filtered(value: &Value, tree: &Tree) -> Answer {
    let Tree::Branches(branches) = tree else { return Ok(value.clone()) };
    Ok(match value {
        Value::Object(object) => {
            let kept =
                branches.iter().filter_map(|(key, tree)| object.get(key).map(|value| (key, value, tree)));
            let kept = kept.map(|(key, value, tree)| Ok((key.clone(), filtered(value, tree)?)));
            Value::from(kept.collect::<Result<BTreeMap<_, _>, Failure>>()?)
        }
        Value::Array(array) => {
            let kept = array.iter().enumerate().filter_map(|(n, value)| {
                branches.get(&Value::from(n.to_string())).map(|tree| filtered(value, tree))
            });
            Value::from(kept.collect::<Result<Vec<_>, _>>()?)
        }
        Value::Set(set) => {
            let kept = set.iter().filter_map(|value| branches.get(value).map(|tree| filtered(value, tree)));
            Value::from(kept.collect::<Result<std::collections::BTreeSet<_>, _>>()?)
        }
        plain => plain.clone(),
    })
}

/// What the paths do not lead to. Elements of an array that follow a removed one move up.
pub(super) fn remove(args: &[Value]) -> Answer {
    let [object @ Value::Object(_), paths] = exactly(args)? else { return Err(Failure::Error) };
    Ok(remaining(object, Some(&tree(paths)?)).unwrap_or(Value::Undefined))
}

fn remaining(value: &Value, tree: Option<&Tree>) -> Option<Value> {
    let branches = match tree {
        None => return Some(value.clone()),
        Some(Tree::End) => return None,
        Some(Tree::Branches(branches)) => branches,
    };
    Some(match value {
        Value::Object(object) => {
            let kept = object
                .iter()
                .filter_map(|(key, value)| Some((key.clone(), remaining(value, branches.get(key))?)));
            Value::from(kept.collect::<BTreeMap<_, _>>())
        }
        Value::Array(array) => {
            let index = |n: usize| Value::from(n.to_string());
            let kept =
                array.iter().enumerate().filter_map(|(n, value)| remaining(value, branches.get(&index(n))));
            Value::from(kept.collect::<Vec<_>>())
        }
        Value::Set(set) => {
            let kept = set.iter().filter_map(|value| remaining(value, branches.get(value)));
            Value::from(kept.collect::<std::collections::BTreeSet<_>>())
        }
        plain => plain.clone(),
    })
}

fn tree(paths: &Value) -> Result<Tree, Failure> {
    let mut root = BTreeMap::new();
    for path in elements(paths)? {
        let path = segments(path)?;
        if path.len() > DEPTH {
            return Err(Failure::Exceeded(super::Exceeded::Path));
        }
        if let Some((last, way)) = path.split_last() {
            plant(&mut root, way, last);
        }
    }
    Ok(Tree::Branches(root))
}

/// The last segment of a path, below the way to it; nothing where a shorter path ends on the way.
fn plant(mut node: &mut BTreeMap<Value, Tree>, way: &[Value], last: &Value) {
    for segment in way {
        match node.entry(segment.clone()).or_insert_with(|| Tree::Branches(BTreeMap::new())) {
            Tree::End => return,
            Tree::Branches(branches) => node = branches,
        }
    }
    node.insert(last.clone(), Tree::End);
}

/// A path's segments: of an array its elements, of text what slashes part; there `~1` is a slash, and `~0` a tilde.
fn segments(path: &Value) -> Result<Vec<Value>, Failure> {
    match path {
        Value::Array(segments) => Ok(segments.to_vec()),
        Value::String(path) if path.is_empty() => Ok(Vec::new()),
        Value::String(path) => {
            let segments = path.trim_start_matches('/').split('/');
            Ok(segments.map(|segment| segment.replace("~1", "/").replace("~0", "~").into()).collect())
        }
        _ => Err(Failure::Error),
    }
}
