//! What the agent says of its attestations: the histogram behind `vouch_attestation_seconds`, read over HTTP.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result};

const METRIC: &str = "vouch_attestation_seconds";
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// More than a page of metrics.
const PAGE_BYTES: u64 = 4 << 20;

/// Durations, counted in buckets, from the start of the agent or between two looks.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Histogram {
    /// Upper bounds in seconds with all that is not above; the last bound is infinite.
    pub(super) cumulative: Vec<(f64, u64)>,
    pub(super) sum_seconds: f64,
}

impl Histogram {
    pub(super) fn read(address: SocketAddr) -> Result<Self> {
        let mut connection = TcpStream::connect(address)?;
        connection.set_read_timeout(Some(ANSWER_LIMIT))?;
        connection.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut page = String::new();
        connection.take(PAGE_BYTES).read_to_string(&mut page)?;
        Self::parse(&page)
    }

    /// Of all labels together. Nothing was counted yet where the page does not name it.
    fn parse(page: &str) -> Result<Self> {
        let (mut counts, mut sum_seconds) = (BTreeMap::new(), 0.0);
        for line in page.lines() {
            let Some(rest) = line.strip_prefix(METRIC) else { continue };
            let (series, value) = rest.rsplit_once(' ').context("a series without a value")?;
            if series.starts_with("_sum") {
                sum_seconds += value.parse::<f64>()?;
            } else if series.starts_with("_bucket") {
                let (_, bound) = series.split_once("le=\"").context("a bucket without a bound")?;
                let bound = bound.split('"').next().unwrap_or_default();
                let bound: f64 = if bound == "+Inf" { f64::INFINITY } else { bound.parse()? };
                // Positive numbers have the order of their bits.
                *counts.entry(bound.to_bits()).or_default() += value.parse::<u64>()?;
            }
        }
        let cumulative = counts.into_iter().map(|(bound, count)| (f64::from_bits(bound), count)).collect();
        Ok(Self { cumulative, sum_seconds })
    }

    /// What came after `earlier`.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let then = |at: usize| earlier.cumulative.get(at).map_or(0, |(_, count)| *count);
        let counts = self.cumulative.iter().enumerate();
        Self {
            cumulative: counts.map(|(at, (bound, now))| (*bound, now.saturating_sub(then(at)))).collect(),
            sum_seconds: self.sum_seconds - earlier.sum_seconds,
        }
    }

    /// Of all of them; those that have counted something have the same buckets.
    pub(super) fn total<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut all = all.into_iter().filter(|histogram| histogram.count() > 0);
        let mut total = all.next().cloned().unwrap_or_default();
        for more in all {
            total.sum_seconds += more.sum_seconds;
            for (bucket, (_, count)) in total.cumulative.iter_mut().zip(&more.cumulative) {
                bucket.1 += count;
            }
        }
        total
    }

    pub(super) fn count(&self) -> u64 {
        self.cumulative.last().map_or(0, |(_, count)| *count)
    }

    pub(super) fn mean_seconds(&self) -> Option<f64> {
        (self.count() > 0).then(|| self.sum_seconds / self.count() as f64)
    }

    /// The bounds of the bucket in which `quantile` lies, in seconds.
    pub(super) fn quantile(&self, quantile: f64) -> Option<(f64, f64)> {
        let rank = (quantile * self.count() as f64).ceil();
        let position = self.cumulative.iter().position(|(_, count)| *count > 0 && *count as f64 >= rank)?;
        let below = position.checked_sub(1).map_or(0.0, |below| self.cumulative[below].0);
        Some((below, self.cumulative[position].0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "HTTP/1.1 200 OK\r\n\r\n# TYPE vouch_attestation_seconds histogram\n\
        vouch_attestation_seconds_sum 0.5\nvouch_attestation_seconds_count 100\n\
        vouch_attestation_seconds_bucket{le=\"1e-6\"} 10\nvouch_attestation_seconds_bucket{le=\"0.000002\"} 98\n\
        vouch_attestation_seconds_bucket{le=\"0.000004\"} 99\nvouch_attestation_seconds_bucket{le=\"+Inf\"} 100\n\
        vouch_attestations_total 100\n";

    #[test]
    fn a_quantile_lies_in_a_bucket() {
        let histogram = Histogram::parse(PAGE).unwrap();
        assert_eq!((histogram.count(), histogram.sum_seconds), (100, 0.5));
        assert_eq!(histogram.quantile(0.5), Some((1e-6, 2e-6)));
        assert_eq!(histogram.quantile(0.05), Some((0.0, 1e-6)));
        assert_eq!(histogram.quantile(0.99), Some((2e-6, 4e-6)));
        assert_eq!(histogram.quantile(1.0), Some((4e-6, f64::INFINITY)));
        assert_eq!(histogram.mean_seconds(), Some(0.005));
    }

    #[test]
    fn what_lies_between_two_looks_is_their_difference() {
        let histogram = Histogram::parse(PAGE).unwrap();
        let none = histogram.since(&histogram);
        assert_eq!((none.count(), none.quantile(0.5), none.mean_seconds()), (0, None, None));
        let twice = Histogram::total([&histogram, &histogram]);
        assert_eq!(twice.since(&histogram), histogram);
    }

    #[test]
    fn labels_are_added_up() {
        let labelled =
            PAGE.replace("{le=", "{process=\"known\",le=").replace("_sum ", "_sum{process=\"known\"} ");
        let both = Histogram::parse(&format!("{PAGE}{labelled}")).unwrap();
        assert_eq!((both.count(), both.sum_seconds), (200, 1.0));
        assert_eq!(both.quantile(0.99), Some((2e-6, 4e-6)));
    }

    #[test]
    fn before_the_first_attestation_there_is_nothing() {
        let nothing = Histogram::parse("vouch_attestations_total 0\n").unwrap();
        assert_eq!((nothing.count(), nothing.quantile(0.5)), (0, None));
        let first = Histogram::parse(PAGE).unwrap();
        assert_eq!(first.since(&nothing), first);
        assert_eq!(Histogram::total([&nothing, &first]), first);
        assert!(Histogram::parse("vouch_attestation_seconds_bucket{} 5\n").is_err());
    }
}
