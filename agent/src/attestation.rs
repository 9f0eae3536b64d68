//! A connected peer becomes a set of selectors.
//!
//! `Peer` is what the kernel says of a connection at the moment it is accepted; `Attestor` learns the rest
//! once, off the async threads, and checks afterwards that it looked at the same run of the same process.

mod attestor;
mod caller_key;
mod capabilities;
mod container;
mod draft;
mod files;
mod fsverity;
mod kernel_facts;
mod learner;
mod look;
mod metrics;
mod names;
mod peer;
mod proc_status;
mod run;
mod runs;
mod selector;
mod standing;
mod testimony;
mod turns;
mod user_namespace;
mod vigil;
mod witness;

pub use attestor::{Attested, Attestor, AttestorConfig, Error};
pub use caller_key::CallerKey;
pub use capabilities::CAPABILITIES;
pub use container::{Container, Containment};
pub use draft::Cost;
pub use files::PathRule;
pub use learner::Wanted;
pub use metrics::Metrics;
pub use peer::{Evidence, Grade, Peer, Refusal};
pub use run::Run;
pub use selector::{Selector, SelectorSet};
pub use standing::Standing;
pub use witness::{DockerConfig, Silence, Subject, Witness, WitnessConfig, system_bus, witnesses};
