//! The SPIFFE Workload API.

mod service;

pub use service::{Metrics, WorkloadApi};
