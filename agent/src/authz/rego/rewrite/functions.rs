//! What rewritten policies call.

use std::cmp::Ordering;

use regorus::Value;

use crate::authz::rego::{
    float::{self, Float, is_short_number},
    order::compare,
};

/// A function that only rewritten policies call.
#[derive(Debug, Clone, Copy)]
pub(in crate::authz::rego) struct Function {
    pub(in crate::authz::rego) name: &'static str,
    pub(in crate::authz::rego) arity: u8,
    pub(in crate::authz::rego) call: fn(&[Value]) -> Value,
}

pub(in crate::authz::rego) const FUNCTIONS: [Function; 14] = [
    Function { name: "internal.at_least", arity: 2, call: |args| ordered(args, Ordering::is_ge) },
    Function { name: "internal.at_most", arity: 2, call: |args| ordered(args, Ordering::is_le) },
    Function { name: "internal.divide", arity: 2, call: |args| arithmetic(args, '/') },
    Function { name: "internal.intersection", arity: 2, call: |args| sets(args, '&') },
    Function { name: "internal.items", arity: 1, call: items },
    Function { name: "internal.less", arity: 2, call: |args| ordered(args, Ordering::is_lt) },
    Function { name: "internal.member_2", arity: 2, call: is_member },
    Function { name: "internal.member_3", arity: 3, call: is_member_at },
    Function { name: "internal.minus", arity: 2, call: minus },
    Function { name: "internal.modulo", arity: 2, call: |args| arithmetic(args, '%') },
    Function { name: "internal.more", arity: 2, call: |args| ordered(args, Ordering::is_gt) },
    Function { name: "internal.plus", arity: 2, call: |args| arithmetic(args, '+') },
    Function { name: "internal.times", arity: 2, call: |args| arithmetic(args, '*') },
    Function { name: "internal.union", arity: 2, call: |args| sets(args, '|') },
];

fn ordered(args: &[Value], holds: fn(Ordering) -> bool) -> Value {
    let [a, b] = args else { return Value::Undefined };
    Value::from(holds(compare(a, b)))
}

fn is_member(args: &[Value]) -> Value {
    let [value, collection] = args else { return Value::Undefined };
    Value::from(match collection {
        Value::Array(items) => items.contains(value),
        Value::Set(items) => items.contains(value),
        Value::Object(fields) => fields.values().any(|field| field == value),
        _ => false,
    })
}

fn is_member_at(args: &[Value]) -> Value {
    let [key, value, collection] = args else { return Value::Undefined };
    Value::from(match collection {
        Value::Array(_) | Value::Object(_) => {
            collection[key] != Value::Undefined && &collection[key] == value
        }
        Value::Set(items) => key == value && items.contains(value),
        _ => false,
    })
}

fn items(args: &[Value]) -> Value {
    match args {
        [collection @ (Value::Array(_) | Value::Set(_) | Value::Object(_))] => collection.clone(),
        _ => Value::new_array(),
    }
}

fn minus(args: &[Value]) -> Value {
    match args {
        [Value::Set(_), _] | [_, Value::Set(_)] => sets(args, '-'),
        _ => arithmetic(args, '-'),
    }
}

fn sets(args: &[Value], operator: char) -> Value {
    let [Value::Set(a), Value::Set(b)] = args else { return Value::Undefined };
    match operator {
        '|' => Value::from(a.union(b)),
        '&' => Value::from(a.intersection(b)),
        _ => Value::from(a.difference(b)),
    }
}

/// Undefined unless both are numbers, and for what has no result.
fn arithmetic(args: &[Value], operator: char) -> Value {
    let [Value::Number(a), Value::Number(b)] = args else { return Value::Undefined };
    let whole = a.is_integer() && b.is_integer();
    if let Some(exact) = fraction(&args[0], &args[1], operator, whole) {
        return exact;
    }
    let is_zero = args[1] == Value::from(0_u64);
    let result = match operator {
        '+' => a.add(b),
        '-' => a.sub(b),
        '*' => a.mul(b),
        '/' if !is_zero => a.clone().divide(b),
        '%' if !is_zero && whole => a.clone().modulo(b),
        _ => return Value::Undefined,
    };
    result.map_or(Value::Undefined, Value::from)
}

/// `None` where whole numbers give a whole one, and for what has been calculated before.
fn fraction(a: &Value, b: &Value, operator: char, whole: bool) -> Option<Value> {
    if whole && operator != '/' || operator == '%' || !is_short_number(a) || !is_short_number(b) {
        return None;
    }
    let (a, b) = (Float::read(a)?, Float::read(b)?);
    let result = match operator {
        '+' => a.add(&b, float::WIDE),
        '-' => a.add(&-b, float::WIDE),
        '*' => a.multiply(&b, float::WIDE),
        _ => a.divide(&b, float::WIDE)?,
    };
    Some(result.value(float::WIDE))
}
