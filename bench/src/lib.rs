//! Load and judgement that scenarios use as well as benchmarks.

/// Processes that come and go as fast as the machine makes them.
pub mod storm;
/// Whether the table of processes is what the kernel's own list is.
pub mod table;
