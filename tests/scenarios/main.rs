//! Promises made to operators, one file each. `cargo xtask test` runs them all.

mod attacks;
mod bad_input;
mod bench_harness;
mod containers;
mod doctor;
mod endless_file;
mod envoy_mtls;
mod explain;
mod hostile;
mod kernel_capture;
mod kernel_grade;
mod late_agent;
mod late_hash;
mod limits;
mod report_page;
mod restart;
mod rotation;
mod sds_lifecycle;
mod sds_wire;
mod spire_bootstrap;
mod storm;
mod tcp_attacks;
mod tcp_capture;
mod templates;
mod two_nodes;
mod workload_api;
