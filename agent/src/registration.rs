//! Selectors become the registration entries that they earn.

mod entry;

pub use entry::{EntryId, RegistrationEntry};
