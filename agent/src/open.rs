//! Counts what is open.

use prometheus_client::metrics::gauge::Gauge;

/// Counts something in a gauge for as long as it is held.
#[derive(Debug)]
pub struct Open(Gauge);

impl Open {
    pub fn count(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
