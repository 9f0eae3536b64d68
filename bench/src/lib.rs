//! Load, judgement and reports that scenarios use as well as benchmarks.

/// Whether one run is worse than another.
pub mod compare;
/// Medians, percentiles, ratios.
pub mod numbers;
/// What a run found, for people.
pub mod report;
/// The file that a run leaves behind.
pub mod results;
/// Callers who mean harm, and one who does not.
pub mod attack;
/// Processes that come and go as fast as the machine makes them.
pub mod storm;
/// Results that nobody measured.
pub mod testing;
/// Whether the table of processes is what the kernel's own list is.
pub mod table;
