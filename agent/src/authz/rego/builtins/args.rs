//! Arguments of functions, by type; and why a call has no value.

use regorus::Value;

use super::Exceeded;
use crate::authz::rego::order;

/// Why a call has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// OPA's built-in function errors, too: an argument has another type, or a value that means nothing.
    Error,
    /// A limit of ours was met.
    Exceeded(Exceeded),
}

/// What a call comes to.
pub(super) type Answer = Result<Value, Failure>;

/// As many arguments as the function declares.
pub(super) fn exactly<const N: usize>(args: &[Value]) -> Result<&[Value; N], Failure> {
    args.try_into().map_err(|_| Failure::Error)
}

pub(super) fn text(value: &Value) -> Result<&str, Failure> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(Failure::Error),
    }
}

/// A whole number. One beyond 64 bits is none, as in OPA.
pub(super) fn integer(value: &Value) -> Result<i64, Failure> {
    match value {
        Value::Number(number) if number.is_integer() => number.as_i64().ok_or(Failure::Error),
        _ => Err(Failure::Error),
    }
}

/// The elements of an array or a set; a set's in its order.
pub(super) fn elements(value: &Value) -> Result<Vec<&Value>, Failure> {
    match value {
        Value::Array(array) => Ok(array.iter().collect()),
        Value::Set(set) => Ok(order::sorted(set.iter())),
        _ => Err(Failure::Error),
    }
}
