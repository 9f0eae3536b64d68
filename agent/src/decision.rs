//! What was decided about callers lately, and on what evidence: kept for whoever asks why.

mod account;
mod id;
mod memory;
mod ruling;

pub use account::Account;
pub use id::DecisionId;
pub use memory::{Decision, Decisions, Metrics};
pub use ruling::{Applicant, Evidence, Outcome, Ruling};
