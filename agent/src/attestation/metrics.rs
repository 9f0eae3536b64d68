use std::time::Duration;

use prometheus_client::metrics::{
    counter::Counter,
    family::{Family, MetricConstructor},
    histogram::Histogram,
};

type Label = [(&'static str, &'static str); 1];

/// What attestation counts.
#[derive(Debug)]
pub struct Metrics {
    /// Runs of processes that were attested.
    pub attested: Counter,
    /// Connections whose process was known already.
    pub shared: Counter,
    pub failed: Counter,
    /// Turned away, by the limit that was reached.
    pub shed: Family<Label, Counter>,
    /// Facts that could not be learned of a peer that was attested all the same.
    pub gaps: Counter,
    /// Questions to a witness that it did not answer.
    pub silences: Counter,
    /// Executables that were read to be hashed.
    pub hashed: Counter,
    /// Processes with a connection that were judged again, by what had changed.
    pub changed: Family<Label, Counter>,
    /// Processes that ended while they were connected or remembered.
    pub ended: Counter,
    /// From the first call of a connection to its selectors, by whether the process was known.
    pub seconds: Family<Label, Histogram, Buckets>,
    /// One look at all processes that are connected.
    pub sweeps: Histogram,
}

/// From a microsecond to some seven seconds, six to each power of ten, so that a bound in round numbers is one of them.
#[derive(Debug, Clone)]
pub struct Buckets;

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        // A quotient of exact numbers is the double nearest to the bound, which is shown as it is written.
        let parts = (0..=6).rev().map(|exponent| 10_f64.powi(exponent));
        Histogram::new(parts.flat_map(|part| [1.0, 1.5, 2.0, 3.0, 5.0, 7.5].map(|step| step / part)))
    }
}

impl Metrics {
    pub(super) fn new(hashed: Counter) -> Self {
        Self {
            attested: Counter::default(),
            shared: Counter::default(),
            failed: Counter::default(),
            shed: Family::default(),
            gaps: Counter::default(),
            silences: Counter::default(),
            hashed,
            changed: Family::default(),
            ended: Counter::default(),
            seconds: Family::new_with_constructor(Buckets),
            sweeps: Buckets.new_metric(),
        }
    }

    pub(super) fn answered(&self, known: bool, took: Duration) {
        if known {
            self.shared.inc();
        }
        let label = [("process", if known { "known" } else { "new" })];
        self.seconds.get_or_create(&label).observe(took.as_secs_f64());
    }

    pub(super) fn shed(&self, limit: &'static str) {
        self.shed.get_or_create(&[("reason", limit)]).inc();
    }

    pub(super) fn changed(&self, what: &'static str) {
        self.changed.get_or_create(&[("change", what)]).inc();
    }
}
