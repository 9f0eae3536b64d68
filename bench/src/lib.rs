//! Load, judgement and reports that scenarios use as well as benchmarks.

/// Medians, percentiles, ratios.
pub mod numbers;
/// The file that a run leaves behind.
pub mod results;
/// Processes that come and go as fast as the machine makes them.
pub mod storm;
/// Whether the table of processes is what the kernel's own list is.
pub mod table;
