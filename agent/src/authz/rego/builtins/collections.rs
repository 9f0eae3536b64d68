//! Arrays, sets and objects; and `trace`.

use regorus::Value;

use super::args::{Answer, Failure, exactly, text};

/// Each array in an array gives way to its elements; arrays in those stay.
pub(super) fn flatten(args: &[Value]) -> Answer {
    let [Value::Array(array)] = exactly(args)? else { return Err(Failure::Error) };
    let mut flat = Vec::with_capacity(array.len());
    for element in array.iter() {
        match element {
            Value::Array(inner) => flat.extend(inner.iter().cloned()),
            element => flat.push(element.clone()),
        }
    }
    Ok(Value::from(flat))
}

/// Whether all of the second is in the first: of objects each key with its value, or a part of it; of sets each element; of
/// arrays all elements in a row; of an array and a set each element of the set.
pub(super) fn subset(args: &[Value]) -> Answer {
    match exactly(args)? {
        [Value::Array(whole), Value::Set(part)] => {
            Ok(Value::Bool(!whole.is_empty() && part.iter().all(|element| whole.contains(element))))
        }
        [whole @ Value::Object(_), part @ Value::Object(_)]
        | [whole @ Value::Set(_), part @ Value::Set(_)]
        | [whole @ Value::Array(_), part @ Value::Array(_)] => Ok(Value::Bool(is_part(whole, part))),
        _ => Err(Failure::Error),
    }
}

fn is_part(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, part)| whole.get(key).is_some_and(|whole| is_part(whole, part)))
        }
        (Value::Set(whole), Value::Set(part)) => part.iter().all(|element| whole.contains(element)),
        (Value::Array(whole), Value::Array(part)) => is_in_a_row(whole.as_slice(), part.as_slice()),
        (whole, part) => whole == part,
    }
}

fn is_in_a_row(whole: &[Value], part: &[Value]) -> bool {
    part.is_empty() || whole.windows(part.len()).any(|window| window == part)
}

/// A note. Nobody reads it here.
pub(super) fn trace(args: &[Value]) -> Answer {
    let [note] = exactly(args)?;
    text(note).map(|_| Value::Bool(true))
}
