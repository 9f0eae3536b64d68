//! What rewritten policies call.

use std::cmp::Ordering;

use regorus::Value;

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

/// The order of all values: null, booleans, numbers, strings, arrays, objects, sets.
fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => in_turn(a.iter(), b.iter()),
        (Value::Set(a), Value::Set(b)) => in_turn(a.iter(), b.iter()),
        (Value::Object(a), Value::Object(b)) => {
            let flat = |(key, value)| [key, value];
            in_turn(a.iter_sorted().flat_map(flat), b.iter_sorted().flat_map(flat))
        }
        (Value::Set(_), Value::Object(_)) => Ordering::Greater,
        (Value::Object(_), Value::Set(_)) => Ordering::Less,
        _ => a.cmp(b),
    }
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
    if !whole && let Some(exact) = decimal::calculate(&args[0], &args[1], operator) {
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

/// Fractions as OPA calculates with them: in tenths, not in halves.
mod decimal {
    use regorus::Value;

    /// Digits that may stand behind the point.
    const MOST: u32 = 15;

    /// `None` where a number is too long for it, or for divisions.
    pub(super) fn calculate(a: &Value, b: &Value, operator: char) -> Option<Value> {
        let ((a, a_scale), (b, b_scale)) = (read(a)?, read(b)?);
        let scale = a_scale.max(b_scale);
        let (a_wide, b_wide) = (a * 10_i128.pow(scale - a_scale), b * 10_i128.pow(scale - b_scale));
        let (result, scale) = match operator {
            '+' => (a_wide + b_wide, scale),
            '-' => (a_wide - b_wide, scale),
            '*' => (a.checked_mul(b)?, a_scale + b_scale),
            _ => return None,
        };
        Value::from_numeric_string(&format!("{result}e-{scale}")).ok()
    }

    fn read(value: &Value) -> Option<(i128, u32)> {
        let text = value.to_string();
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let is_short = whole.len() + fraction.len() <= MOST as usize + 2 && fraction.len() <= MOST as usize;
        let digits = is_short.then(|| format!("{whole}{fraction}"))?;
        Some((digits.parse().ok()?, fraction.len() as u32))
    }
}
