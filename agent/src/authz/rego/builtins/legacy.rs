//! What only version 0 of Rego has.

use std::collections::BTreeSet;

use regorus::Value;

use super::args::{Answer, Failure, elements, exactly};

/// Whether each element is true; so it is with none.
pub(super) fn all(args: &[Value]) -> Answer {
    let [collection] = exactly(args)?;
    Ok(Value::Bool(elements(collection)?.into_iter().all(is_true)))
}

/// Whether an element is true.
pub(super) fn any(args: &[Value]) -> Answer {
    let [collection] = exactly(args)?;
    Ok(Value::Bool(elements(collection)?.into_iter().any(is_true)))
}

pub(super) fn cast_array(args: &[Value]) -> Answer {
    let [value] = exactly(args)?;
    Ok(Value::from(elements(value)?.into_iter().cloned().collect::<Vec<_>>()))
}

pub(super) fn cast_set(args: &[Value]) -> Answer {
    let [value] = exactly(args)?;
    Ok(Value::from(elements(value)?.into_iter().cloned().collect::<BTreeSet<_>>()))
}

pub(super) fn cast_boolean(args: &[Value]) -> Answer {
    only(args, |value| matches!(value, Value::Bool(_)))
}

pub(super) fn cast_null(args: &[Value]) -> Answer {
    only(args, |value| matches!(value, Value::Null))
}

pub(super) fn cast_object(args: &[Value]) -> Answer {
    only(args, |value| matches!(value, Value::Object(_)))
}

pub(super) fn cast_string(args: &[Value]) -> Answer {
    only(args, |value| matches!(value, Value::String(_)))
}

pub(super) fn set_diff(args: &[Value]) -> Answer {
    match exactly(args)? {
        [Value::Set(a), Value::Set(b)] => {
            Ok(Value::from(a.iter().filter(|value| !b.contains(value)).cloned().collect::<BTreeSet<_>>()))
        }
        _ => Err(Failure::Error),
    }
}

/// The argument as it is, where it has the right type. Nothing is converted.
fn only(args: &[Value], has_type: fn(&Value) -> bool) -> Answer {
    let [value] = exactly(args)?;
    if has_type(value) { Ok(value.clone()) } else { Err(Failure::Error) }
}

fn is_true(value: &Value) -> bool {
    *value == Value::Bool(true)
}
