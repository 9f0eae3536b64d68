//! A connected peer becomes a set of selectors.
//!
//! `Peer` is what the kernel says of a connection at the moment it is accepted; `Attestor` learns the rest
//! once, off the async threads, and checks afterwards that it looked at the same run of the same process.

mod attestor;
mod container;
mod files;
mod kernel_facts;
mod names;
mod peer;
mod proc_status;
mod selector;
mod user_namespace;
mod witness;

pub use attestor::{Attested, Attestor, AttestorConfig, Error, Metrics};
pub use container::{Container, Containment};
pub use files::PathRule;
pub use peer::{CallerKey, Grade, Peer, Refusal};
pub use selector::{Selector, SelectorSet};
pub use witness::{Silence, Subject, Witness};
