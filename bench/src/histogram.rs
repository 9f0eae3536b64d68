//! Deliveries as the results hold them.

use std::time::Duration;

use anyhow::Result;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use hdrhistogram::{
    Histogram,
    serialization::{Serializer as _, V2DeflateSerializer},
};

/// Longest delivery that is told from longer ones.
const LONGEST: Duration = Duration::from_secs(60);
const SIGNIFICANT_DIGITS: u8 = 3;

/// `times` in microseconds in HDR's own encoding and base64, to three digits; longer ones than a minute count as a minute,
/// and none as less than one microsecond.
pub(crate) fn encoded(times: impl Iterator<Item = Duration>) -> Result<String> {
    let longest = u64::try_from(LONGEST.as_micros())?;
    let mut histogram = Histogram::<u64>::new_with_bounds(1, longest, SIGNIFICANT_DIGITS)?;
    for time in times {
        histogram.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1));
    }
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(&histogram, &mut bytes)?;
    Ok(BASE64_STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use vouch_bench::report::Delivery;

    use super::*;

    #[test]
    fn percentiles_survive_their_encoding() {
        let times = (1..=1_000).map(|n| Duration::from_micros(n * 10));
        let found = Delivery::parse(&encoded(times).unwrap()).unwrap();
        assert_eq!(found.total(), 1_000);
        for (quantile, right) in [(0.5, 5_000.0), (0.9, 9_000.0), (0.99, 9_900.0), (1.0, 10_000.0)] {
            let found = found.quantile(quantile).unwrap();
            assert!((found / right - 1.0).abs() < 0.002, "{found} for {right}");
        }
    }

    #[test]
    fn what_is_out_of_bounds_counts_at_them() {
        let times = [Duration::ZERO, Duration::from_secs(3_600)].into_iter();
        let found = Delivery::parse(&encoded(times).unwrap()).unwrap();
        assert_eq!((found.total(), found.quantile(0.1)), (2, Some(1.0)));
        assert!((found.quantile(1.0).unwrap() / 60e6 - 1.0).abs() < 0.002);
    }
}
