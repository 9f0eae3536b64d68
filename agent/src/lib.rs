//! The Vouch node agent: who is this process, and what identity does it earn?
//!
//! The modules stand in the order in which a `connect()` in the kernel becomes a certificate in Envoy.

/// Standard names and documents: SPIFFE IDs, trust domains, SVIDs, bundles.
pub mod spiffe;
/// Numbered problems, each with a cause and a fix.
pub mod problem;
/// Counts what is open.
pub mod open;
/// Files that an operator wrote.
pub mod plain_file;
/// Log lines that strangers can cause, so many a second.
pub mod quiet;
/// How often somebody may do something.
pub mod rate;
/// A total that many share, with a reserve for those who hold little.
pub mod share;
/// What the kernel programs saw: the record of each `connect()`, and exec, fork and exit events.
pub mod kernel;
/// Every process of this machine, kept true by kernel events.
pub mod process;
/// A connected peer becomes a set of selectors.
pub mod attestation;
/// Selectors become the registration entries that they earn.
pub mod registration;
/// What was decided about callers lately, and on what evidence.
pub mod decision;
/// Who signs: the embedded CA, or an intermediate from files.
pub mod authority;
/// Fresh SVIDs for the entries in use, behind one atomic pointer.
pub mod svid;
/// One connection's peer: attested once, then told what it has earned.
pub mod caller;
/// Envoy's Secret Discovery Service.
pub mod sds;
/// The SPIFFE Workload API.
pub mod workload_api;
/// The public socket: HTTP/2, limits, and who serves which call.
pub mod front;
/// External authorization for Envoy: requests are judged by Rego policies.
#[cfg(feature = "authz")]
pub mod authz;
/// Settings: one TOML file becomes facts.
pub mod config;
/// One list of what is wrong now.
pub mod health;
/// The admin socket: what the operator's commands ask.
pub mod admin;
/// Logs, metrics and probes.
pub mod telemetry;
/// Builds every part and runs them.
pub mod app;
/// The commands of the `vouch` binary.
pub mod cli;
