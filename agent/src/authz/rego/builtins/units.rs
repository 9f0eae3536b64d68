//! Amounts with a unit, such as `10Ki`.

use num_bigint::BigInt;
use regorus::Value;

use super::{
    Exceeded,
    args::{Answer, Failure, exactly, text},
};
use crate::authz::rego::float;

/// The largest exponent of an amount.
pub(super) const EXPONENT: u32 = 400;

/// `units.parse`: a whole number, or one with ten digits behind the point.
pub(super) fn parse(args: &[Value]) -> Answer {
    let [written] = exactly(args)?;
    let written = text(written)?.replace('"', "");
    let (amount, unit) = written.split_at(end_of_amount(&written));
    let (above, below) = factor(unit).ok_or(Failure::Error)?;
    let (mut numerator, mut denominator) = (BigInt::from(above), BigInt::from(below));
    let (digits, exponent) = decimal(amount).ok_or(Failure::Error)?;
    if exponent.unsigned_abs() > EXPONENT {
        return Err(Failure::Exceeded(Exceeded::Exponent));
    }
    let power = BigInt::from(10).pow(exponent.unsigned_abs());
    *if exponent < 0 { &mut denominator } else { &mut numerator } *= power;
    numerator *= digits;
    let whole: BigInt = &numerator / &denominator;
    if &whole * &denominator == numerator {
        return Ok(float::whole_value(&whole));
    }
    rounded(&numerator, &denominator)
}

fn rounded(numerator: &BigInt, denominator: &BigInt) -> Answer {
    let doubled: BigInt = numerator * 20_000_000_000_u64;
    let half = if doubled < BigInt::ZERO { -denominator.clone() } else { denominator.clone() };
    let scaled: BigInt = (doubled + half) / (denominator * 2);
    let value = Value::from_numeric_string(&format!("{scaled}e-10")).map_err(|_| Failure::Error)?;
    // More digits than a number of ours has cannot be told.
    if float::is_short_number(&value) { Ok(value) } else { Err(Failure::Exceeded(Exceeded::Digits)) }
}

/// Where the unit begins: behind digits, points, signs, and an `e` that a digit or a sign follows.
fn end_of_amount(written: &str) -> usize {
    let bytes = written.as_bytes();
    let is_of_amount = |at: usize| match bytes[at] {
        b'0'..=b'9' | b'.' | b'+' | b'-' => true,
        b'e' | b'E' => bytes.get(at + 1).is_some_and(|next| matches!(next, b'0'..=b'9' | b'+' | b'-')),
        _ => false,
    };
    (0..bytes.len()).find(|at| !is_of_amount(*at)).unwrap_or(bytes.len())
}

/// Digits, and the power of ten that they are multiplied by.
fn decimal(amount: &str) -> Option<(BigInt, i32)> {
    let (mantissa, exponent) = amount.split_once(['e', 'E']).unwrap_or((amount, "0"));
    let unsigned = mantissa.strip_prefix(['+', '-']).unwrap_or(mantissa);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits: BigInt = digits.parse().ok()?;
    let digits = if mantissa.starts_with('-') { -digits } else { digits };
    let exponent: i32 = exponent.parse().ok()?;
    Some((digits, exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?))
}

/// What a unit multiplies by, as a fraction. Upper and lower case mean the same but for `m` and `M`.
fn factor(unit: &str) -> Option<(u64, u64)> {
    let mut chars = unit.chars();
    let Some(first) = chars.next() else { return Some((1, 1)) };
    let rest = chars.as_str().to_lowercase();
    if first == 'm' && rest.is_empty() {
        // The number of 53 bits that is nearest to a thousandth.
        return Some((1_152_921_504_606_847, 1 << 60));
    }
    let power = match first.to_ascii_lowercase() {
        'k' => 1,
        'm' => 2,
        'g' => 3,
        't' => 4,
        'p' => 5,
        'e' => 6,
        _ => return None,
    };
    match rest.as_str() {
        "" => Some((1000_u64.pow(power), 1)),
        "i" => Some((1024_u64.pow(power), 1)),
        _ => None,
    }
}
