//! Fractions, and numbers as long as fractions can be, as OPA calculates with them: read from their decimal digits, with a
//! mantissa of 64 bits or fewer.

use std::{cmp::Ordering, ops::Neg};

use num_bigint::{BigInt, Sign};
use regorus::Value;

/// Bits of a mantissa.
pub(super) const WIDE: u64 = 64;
/// Those of what a product begins with.
pub(super) const NARROW: u64 = 53;

/// Significant digits of the numbers that people write; one with more has most likely been calculated.
const SHORT: usize = 15;

/// `mantissa` times two to the power of `exponent`.
#[derive(Debug, Clone)]
pub(super) struct Float {
    mantissa: BigInt,
    exponent: i64,
}

impl Float {
    /// `None` for what is no number.
    pub(super) fn read(value: &Value) -> Option<Self> {
        match value {
            // Text of the value as a whole would go through a reader that loses bits.
            Value::Number(number) => Self::parse(&number.format_decimal(), WIDE),
            _ => None,
        }
    }

    pub(super) fn one() -> Self {
        Self { mantissa: BigInt::from(1), exponent: 0 }
    }

    pub(super) fn half() -> Self {
        Self { mantissa: BigInt::from(1), exponent: -1 }
    }

    pub(super) fn zero() -> Self {
        Self { mantissa: BigInt::ZERO, exponent: 0 }
    }

    fn parse(text: &str, bits: u64) -> Option<Self> {
        let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let digits: BigInt = format!("{whole}{fraction}").parse().ok()?;
        let exponent = exponent.parse::<i64>().ok()?.checked_sub(fraction.len() as i64)?;
        let power = BigInt::from(10).pow(u32::try_from(exponent.unsigned_abs()).ok()?);
        Some(if exponent < 0 {
            quotient(&digits, &power, 0, bits)
        } else {
            Self { mantissa: digits * power, exponent: 0 }.rounded(bits)
        })
    }

    pub(super) fn add(&self, other: &Self, bits: u64) -> Self {
        let exponent = self.exponent.min(other.exponent);
        let wide = |float: &Self| &float.mantissa << (float.exponent - exponent).unsigned_abs();
        Self { mantissa: wide(self) + wide(other), exponent }.rounded(bits)
    }

    pub(super) fn multiply(&self, other: &Self, bits: u64) -> Self {
        let mantissa = &self.mantissa * &other.mantissa;
        Self { mantissa, exponent: self.exponent + other.exponent }.rounded(bits)
    }

    /// `None` when `other` is zero.
    pub(super) fn divide(&self, other: &Self, bits: u64) -> Option<Self> {
        let is_zero = other.mantissa.sign() == Sign::NoSign;
        (!is_zero).then(|| quotient(&self.mantissa, &other.mantissa, self.exponent - other.exponent, bits))
    }

    pub(super) fn abs(self) -> Self {
        if self.is_negative() { -self } else { self }
    }

    pub(super) fn is_negative(&self) -> bool {
        self.mantissa.sign() == Sign::Minus
    }

    /// Towards zero.
    pub(super) fn whole(&self) -> BigInt {
        let shift = self.exponent.unsigned_abs();
        if self.exponent >= 0 {
            return &self.mantissa << shift;
        }
        let magnitude = self.mantissa.magnitude() >> shift;
        BigInt::from_biguint(self.mantissa.sign(), magnitude)
    }

    pub(super) fn is_whole(&self) -> bool {
        let whole = Self { mantissa: self.whole(), exponent: 0 };
        self.compare(&whole) == Ordering::Equal
    }

    fn compare(&self, other: &Self) -> Ordering {
        let exponent = self.exponent.min(other.exponent);
        let wide = |float: &Self| &float.mantissa << (float.exponent - exponent).unsigned_abs();
        wide(self).cmp(&wide(other))
    }

    /// To that many bits, ties to even.
    fn rounded(mut self, bits: u64) -> Self {
        let excess = self.mantissa.bits().saturating_sub(bits);
        if excess > 0 {
            let (sign, magnitude) = (self.mantissa.sign(), self.mantissa.magnitude().clone());
            let mut kept = &magnitude >> excess;
            let half = num_bigint::BigUint::from(1_u8) << (excess - 1);
            let order = (&magnitude - (&kept << excess)).cmp(&half);
            if order == Ordering::Greater || order == Ordering::Equal && kept.bit(0) {
                kept += 1_u8;
            }
            self =
                Self { mantissa: BigInt::from_biguint(sign, kept), exponent: self.exponent + excess as i64 };
        }
        self
    }

    /// The shortest digits that are this number and no other of as many bits. A fraction that has more than a number of
    /// ours has digits is told by one beside it: never by a short one, which people would compare it with.
    pub(super) fn value(&self, bits: u64) -> Value {
        if self.is_whole() {
            return whole_value(&self.shortest_whole(bits));
        }
        let Some(near) = self.nearest() else { return Value::Undefined };
        let text = format!("{near:e}");
        let Some(read) = Self::parse(&text, bits) else { return Value::Undefined };
        let order = self.compare(&read);
        let chosen = match order {
            Ordering::Greater if is_short(&text) => near.next_up(),
            Ordering::Less if is_short(&text) => near.next_down(),
            _ => near,
        };
        Value::from_numeric_string(&format!("{chosen:e}")).unwrap_or(Value::Undefined)
    }

    /// As a number of 53 bits.
    fn nearest(&self) -> Option<f64> {
        let narrow = self.clone().rounded(NARROW);
        let mantissa: f64 = narrow.mantissa.to_string().parse().ok()?;
        // In two steps: the first power may be too small for a number by itself.
        let half = narrow.exponent / 2;
        let power = |exponent: i64| 2_f64.powi(exponent as i32);
        Some(mantissa * power(half) * power(narrow.exponent - half)).filter(|near| near.is_finite())
    }

    fn shortest_whole(&self, bits: u64) -> BigInt {
        let exact = self.whole();
        let text = exact.magnitude().to_string();
        if exact.bits() <= bits {
            return exact;
        }
        for digits in 1..text.len() {
            let power = BigInt::from(10).pow((text.len() - digits) as u32);
            let half: BigInt = &power / 2;
            let below: BigInt = (exact.magnitude() / power.magnitude()).into();
            let rest = BigInt::from(exact.magnitude().clone()) - &below * &power;
            let near = if rest >= half { (below + 1) * power } else { below * power };
            let near = BigInt::from_biguint(exact.sign(), near.magnitude().clone());
            let read = Self { mantissa: near.clone(), exponent: 0 }.rounded(bits);
            if read.compare(self) == Ordering::Equal {
                return near;
            }
        }
        exact
    }
}

impl Neg for Float {
    type Output = Self;

    fn neg(self) -> Self {
        Self { mantissa: -self.mantissa, ..self }
    }
}

pub(super) fn whole_value(whole: &BigInt) -> Value {
    Value::from_numeric_string(&whole.to_string()).unwrap_or(Value::Undefined)
}

/// A whole number of any size, when `value` is one.
pub(super) fn whole(value: &Value) -> Option<BigInt> {
    match value {
        Value::Number(number) if number.is_integer() => number.to_big().ok().map(|big| big.as_ref().clone()),
        _ => None,
    }
}

/// Whether people write numbers with as many digits.
pub(super) fn is_short_number(value: &Value) -> bool {
    matches!(value, Value::Number(number) if is_short(&number.format_decimal()))
}

fn is_short(text: &str) -> bool {
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    digits.trim_matches('0').len() <= SHORT
}

/// `a / b` times two to the power of `exponent`.
fn quotient(a: &BigInt, b: &BigInt, exponent: i64, bits: u64) -> Float {
    // So many bits that the last one can tell of the rest.
    let shift = (bits + 2 + b.bits()).saturating_sub(a.bits());
    let wide: BigInt = a << shift;
    let whole: BigInt = &wide / b;
    let rest: BigInt = &wide - &whole * b;
    let mut mantissa: BigInt = whole << 1_u8;
    if rest.sign() != Sign::NoSign {
        let away = if (rest.sign() == Sign::Minus) == (b.sign() == Sign::Minus) { 1 } else { -1 };
        mantissa += away;
    }
    Float { mantissa, exponent: exponent - shift as i64 - 1 }.rounded(bits)
}
