//! A connected peer becomes a set of selectors.

mod selector;

pub use selector::{Selector, SelectorSet};
