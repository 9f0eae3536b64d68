//! What was decided about callers lately, and on what evidence: kept for whoever asks why.

mod id;
mod memory;
mod ruling;

pub use id::DecisionId;
pub use memory::{Decision, Decisions, Metrics};
pub use ruling::{Applicant, Cost, Evidence, Outcome, Ruling};
