//! Logs, metrics and probes.

mod bounded;
mod http;
mod log;
mod metrics;

pub use http::{Probes, serve};
pub use log::{LogConfig, LogFormat, init};
pub use metrics::registry;
