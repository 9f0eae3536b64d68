//! Ranges of numbers, whole numbers beside fractions, and numbers as text.

use num_bigint::BigInt;
use regorus::Value;

use super::{
    Exceeded,
    args::{Answer, Failure, exactly, integer, text},
};
use crate::authz::rego::float::{self, Float};

/// The most numbers that a range has.
pub(super) const RANGE: u64 = 100_000;

/// `numbers.range`: from the first to the second, both among them, upwards or downwards.
pub(super) fn range(args: &[Value]) -> Answer {
    let [from, to] = exactly(args)?;
    stepped(integer(from)?, integer(to)?, 1)
}

pub(super) fn range_step(args: &[Value]) -> Answer {
    let [from, to, step] = exactly(args)?;
    let step = u64::try_from(integer(step)?).ok().filter(|&step| step > 0).ok_or(Failure::Error)?;
    stepped(integer(from)?, integer(to)?, step)
}

fn stepped(from: i64, to: i64, step: u64) -> Answer {
    let last = from.abs_diff(to) / step;
    if last >= RANGE {
        return Err(Failure::Exceeded(Exceeded::Numbers));
    }
    let at = |n: u64| {
        let distance = i128::from(n) * i128::from(step);
        let (from, upwards) = (i128::from(from), from <= to);
        Value::from(if upwards { from + distance } else { from - distance })
    };
    Ok(Value::from((0..=last).map(at).collect::<Vec<_>>()))
}

pub(super) fn abs(args: &[Value]) -> Answer {
    unary(args, |number| number.abs().value(float::WIDE))
}

/// To the nearest whole number; halves away from zero.
pub(super) fn round(args: &[Value]) -> Answer {
    unary(args, |number| {
        let half = if number.is_negative() { -Float::half() } else { Float::half() };
        float::whole_value(&number.add(&half, float::WIDE).whole())
    })
}

/// The next whole number above; of what is between −1 and 0, that is 1 by OPA's reckoning.
pub(super) fn ceil(args: &[Value]) -> Answer {
    unary(args, |number| {
        let whole = number.whole();
        let is_above = whole < BigInt::ZERO || number.is_whole();
        float::whole_value(&if is_above { whole } else { whole + 1 })
    })
}

/// The next whole number below; of what is between −1 and 0, that is 0 by OPA's reckoning.
pub(super) fn floor(args: &[Value]) -> Answer {
    unary(args, |number| {
        let whole = number.whole();
        let is_below = whole >= BigInt::ZERO || number.is_whole();
        float::whole_value(&if is_below { whole } else { whole - 1 })
    })
}

fn unary(args: &[Value], of: impl Fn(Float) -> Value) -> Answer {
    let [number] = exactly(args)?;
    Float::read(number).map(of).ok_or(Failure::Error)
}

/// The whole part of a number in base 2, 8, 10 or 16.
pub(super) fn format_int(args: &[Value]) -> Answer {
    let [Value::Number(number), base] = exactly(args)? else { return Err(Failure::Error) };
    let whole = number.abs().floor();
    let digits = match integer(base)? {
        2 => whole.format_bin(),
        8 => whole.format_octal(),
        10 => whole.format_decimal(),
        16 => whole.format_hex(),
        _ => return Err(Failure::Error),
    };
    let sign = if number.is_positive() || digits == "0" { "" } else { "-" };
    Ok(Value::from(format!("{sign}{digits}")))
}

/// Null, booleans, and text that is a number and nothing else.
pub(super) fn to_number(args: &[Value]) -> Answer {
    let [value] = exactly(args)?;
    match value {
        Value::Null | Value::Bool(false) => Ok(Value::from(0_u64)),
        Value::Bool(true) => Ok(Value::from(1_u64)),
        Value::Number(_) => Ok(value.clone()),
        value => number(text(value)?),
    }
}

/// A decimal: a sign, digits with or without a point, an exponent. Single underscores may stand between digits.
fn number(written: &str) -> Answer {
    let written = without_underscores(written)?;
    let written = written.as_str();
    let (negative, unsigned) = match written.as_bytes().first() {
        Some(b'-') => ("-", &written[1..]),
        Some(b'+') => ("", &written[1..]),
        _ => ("", written),
    };
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let are_digits = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit());
    let is_exponent = |exponent: &str| {
        let digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !digits.is_empty() && are_digits(digits)
    };
    let has_digits = !whole.is_empty() || !fraction.is_empty();
    if !has_digits || !are_digits(whole) || !are_digits(fraction) || !exponent.is_none_or(is_exponent) {
        return Err(Failure::Error);
    }
    let whole = whole.trim_start_matches('0');
    let mut plain = format!("{negative}{}", if whole.is_empty() { "0" } else { whole });
    if !fraction.is_empty() {
        plain += &format!(".{fraction}");
    }
    if let Some(exponent) = exponent {
        plain += &format!("e{exponent}");
    }
    // Beyond what a float holds it is no number.
    if !plain.parse::<f64>().is_ok_and(f64::is_finite) {
        return Err(Failure::Error);
    }
    Value::from_numeric_string(&plain).map_err(|_| Failure::Error)
}

fn without_underscores(written: &str) -> Result<String, Failure> {
    let mut parts = written.split('_');
    let mut joined = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let divides =
            joined.ends_with(|c: char| c.is_ascii_digit()) && part.starts_with(|c: char| c.is_ascii_digit());
        if !divides {
            return Err(Failure::Error);
        }
        joined += part;
    }
    Ok(joined)
}
