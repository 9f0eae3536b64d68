//! Load that scenarios use as well as benchmarks.

/// Processes that come and go as fast as the machine makes them.
pub mod storm;
