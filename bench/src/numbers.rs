//! Medians, percentiles, ratios.

use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;

/// Longest delivery that is told from longer ones.
const LONGEST: Duration = Duration::from_secs(60);
const SIGNIFICANT_DIGITS: u8 = 3;

/// How a number was spread over the rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// Of one value or more.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => f64::midpoint(values[middle - 1], values[middle]),
            _ => values[middle],
        };
        Some(Self { median, min, max })
    }

    /// Of the ratio of each round: only what ran side by side is compared.
    pub fn of_ratios(over: &[f64], under: &[f64]) -> Option<Self> {
        Self::of(over.iter().zip(under).map(|(over, under)| over / under))
    }
}

/// How long deliveries took, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Percentiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
}

impl Percentiles {
    /// Of all `times`, to three digits; longer ones than a minute count as a minute.
    pub fn of<'a>(times: impl IntoIterator<Item = &'a Duration>) -> Result<Self> {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let mut histogram = Histogram::<u64>::new_with_bounds(1, nanoseconds(LONGEST), SIGNIFICANT_DIGITS)?;
        for time in times {
            histogram.saturating_record(nanoseconds(*time));
        }
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e6;
        Ok(Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1.0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        let spread = |values: &[f64]| Spread::of(values.iter().copied());
        assert_eq!(spread(&[3.0, 1.0, 8.0]), Some(Spread { median: 3.0, min: 1.0, max: 8.0 }));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 9.0]), Some(Spread { median: 3.0, min: 1.0, max: 9.0 }));
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn a_ratio_is_taken_in_each_round() {
        let ratio = Spread::of_ratios(&[10.0, 40.0, 9.0], &[5.0, 10.0, 3.0]);
        assert_eq!(ratio, Some(Spread { median: 3.0, min: 2.0, max: 4.0 }));
    }

    #[test]
    fn percentiles_are_near_what_was_recorded() {
        let times: Vec<_> = (1..=1_000).map(|n| Duration::from_micros(n * 10)).collect();
        let found = Percentiles::of(&times).unwrap();
        for (found, right) in [(found.p50, 5.0), (found.p90, 9.0), (found.p99, 9.9), (found.max, 10.0)] {
            assert!((found / right - 1.0).abs() < 0.002, "{found} for {right}");
        }
        let long = Percentiles::of(&[Duration::from_secs(3_600)]).unwrap();
        assert!((long.max / 60_000.0 - 1.0).abs() < 0.002);
    }
}
