//! What is counted of authorization. Policies are labels, and as many as the configuration names.

use std::fmt;

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};

/// In seconds: from 20 microseconds to a second.
const BUCKETS: [f64; 14] =
    [20e-6, 50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 100e-3, 500e-3, 1.0];

/// Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub connections: Gauge,
    /// Connections that were closed at once, since there are too many or their other end cannot be known.
    pub refused: Counter,
    pub checks: Family<Check, Counter>,
    pub seconds: Histogram,
    pub reloads: Family<Reloaded, Counter>,
    /// Decisions that were not logged, since the log is behind or cannot be written.
    pub log_lost: Counter,
    /// Policies whose machine was found to decide otherwise than the engine, each counted once for each time it is loaded.
    pub shadow_differences: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Check {
    /// Empty when none decided.
    pub policy: String,
    pub answer: Answered,
    /// Why there was no answer of the policy's; `policy` when there was one.
    pub reason: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answered {
    Allowed,
    Denied,
    /// A dry run allowed what its policy denies.
    DryRun,
    /// The call failed, as `errors = "grpc"` wants it.
    Failed,
}

impl Answered {
    pub fn word(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::DryRun => "dry_run",
            Self::Failed => "failed",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reloaded {
    pub policy: String,
    pub outcome: Reload,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reload {
    Accepted,
    /// The old one stays.
    Refused,
}

impl EncodeLabelValue for Answered {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        self.word().encode(encoder)
    }
}

impl EncodeLabelValue for Reload {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
        }
        .encode(encoder)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            connections: Gauge::default(),
            refused: Counter::default(),
            checks: Family::default(),
            seconds: Histogram::new(BUCKETS),
            reloads: Family::default(),
            log_lost: Counter::default(),
            shadow_differences: Counter::default(),
        }
    }
}

impl Metrics {
    pub(super) fn reloaded(&self, policy: &str, outcome: Reload) {
        self.reloads.get_or_create(&Reloaded { policy: policy.to_owned(), outcome }).inc();
    }

    pub(super) fn checked(&self, policy: &str, answer: Answered, reason: &'static str) {
        self.checks.get_or_create(&Check { policy: policy.to_owned(), answer, reason }).inc();
    }
}
