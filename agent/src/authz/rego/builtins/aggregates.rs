//! What all elements of an array or a set come to.

use num_bigint::BigInt;
use regorus::Value;

use super::{
    Exceeded,
    args::{Answer, Failure, elements, exactly},
};
use crate::authz::rego::{
    float::{self, Float},
    order,
};

/// The longest whole number that `product` answers with.
pub(super) const PRODUCT_BITS: u64 = 1 << 16;

pub(super) fn max(args: &[Value]) -> Answer {
    extreme(args, |elements| elements.last().copied())
}

pub(super) fn min(args: &[Value]) -> Answer {
    extreme(args, |elements| elements.first().copied())
}

/// Undefined when there is none.
fn extreme(args: &[Value], choose: impl for<'a> Fn(&[&'a Value]) -> Option<&'a Value>) -> Answer {
    let [values] = exactly(args)?;
    let sorted = order::sorted(elements(values)?.into_iter());
    choose(&sorted).cloned().ok_or(Failure::Error)
}

pub(super) fn sort(args: &[Value]) -> Answer {
    let [values] = exactly(args)?;
    let sorted = order::sorted(elements(values)?.into_iter());
    Ok(Value::from(sorted.into_iter().cloned().collect::<Vec<_>>()))
}

/// Of whole numbers it is exact.
pub(super) fn sum(args: &[Value]) -> Answer {
    let [values] = exactly(args)?;
    let values = elements(values)?;
    if let Some(whole) = values.iter().map(|value| float::whole(value)).sum::<Option<BigInt>>() {
        return Ok(float::whole_value(&whole));
    }
    let sum = values
        .into_iter()
        .try_fold(Float::zero(), |sum, value| Some(sum.add(&Float::read(value)?, float::WIDE)));
    Ok(sum.ok_or(Failure::Error)?.value(float::WIDE))
}

/// Of whole numbers it is exact.
pub(super) fn product(args: &[Value]) -> Answer {
    let [values] = exactly(args)?;
    let values = elements(values)?;
    if let Some(whole) = values.iter().map(|value| float::whole(value)).collect::<Option<Vec<_>>>() {
        let product = whole.into_iter().try_fold(BigInt::from(1), |product, factor| {
            let product = product * factor;
            (product.bits() <= PRODUCT_BITS).then_some(product)
        });
        return product.map(|whole| float::whole_value(&whole)).ok_or(Failure::Exceeded(Exceeded::Product));
    }
    let product = values
        .into_iter()
        .try_fold(Float::one(), |product, value| Some(product.multiply(&Float::read(value)?, float::NARROW)));
    Ok(product.ok_or(Failure::Error)?.value(float::NARROW))
}
