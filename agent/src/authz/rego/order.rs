//! The order of all values: null, booleans, numbers, strings, arrays, objects, sets.

use std::cmp::Ordering;

use regorus::Value;

pub(super) fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => in_turn(a.iter(), b.iter()),
        (Value::Set(a), Value::Set(b)) => {
            let (a, b) = (sorted(a.iter()), sorted(b.iter()));
            in_turn(a.into_iter(), b.into_iter())
        }
        (Value::Object(a), Value::Object(b)) => {
            let (keys_a, keys_b) =
                (sorted(a.iter().map(|(key, _)| key)), sorted(b.iter().map(|(key, _)| key)));
            let pairs_a = keys_a.into_iter().flat_map(|key| [Some(key), a.get(key)]).flatten();
            let pairs_b = keys_b.into_iter().flat_map(|key| [Some(key), b.get(key)]).flatten();
            in_turn(pairs_a, pairs_b)
        }
        (Value::Set(_), Value::Object(_)) => Ordering::Greater,
        (Value::Object(_), Value::Set(_)) => Ordering::Less,
        _ => a.cmp(b),
    }
}

pub(super) fn sorted<'a>(values: impl Iterator<Item = &'a Value>) -> Vec<&'a Value> {
    let mut values: Vec<&Value> = values.collect();
    values.sort_by(|a, b| compare(a, b));
    values
}

fn in_turn<'a>(mut a: impl Iterator<Item = &'a Value>, mut b: impl Iterator<Item = &'a Value>) -> Ordering {
    loop {
        match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) => match compare(a, b) {
                Ordering::Equal => {}
                other => return other,
            },
        }
    }
}
