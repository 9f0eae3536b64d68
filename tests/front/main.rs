//! The front over pipes, in this process and in virtual time.

mod conformance;
mod script;
mod stage;
mod templates;
