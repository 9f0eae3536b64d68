//! Selectors in the making: what is not known yet is a gap, so that the work may be left at any moment.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::selector::{Selector, SelectorSet};

/// What one attestor took, and why it says less than it could.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    /// Such as `kernel`, `unix`, `unix:path` or `docker`.
    pub attestor: &'static str,
    pub took: Duration,
    /// Why there is a gap, in words for the operator.
    pub gap: Option<String>,
}

/// Filled on one thread, read at the deadline on another.
#[derive(Debug, Default)]
pub(super) struct Draft(Mutex<(SelectorSet, Vec<Cost>)>);

impl Draft {
    pub(super) fn with_gaps(gaps: impl IntoIterator<Item = Selector>) -> Self {
        let draft = Self::default();
        draft.edit(|set| gaps.into_iter().for_each(|gap| set.mark_gap(gap)));
        draft
    }

    pub(super) fn edit<R>(&self, edit: impl FnOnce(&mut SelectorSet) -> R) -> R {
        edit(&mut self.lock().0)
    }

    /// Runs one attestor and notes what it took. It says why there is a gap, if there is one.
    pub(super) fn charge(&self, attestor: &'static str, work: impl FnOnce() -> Option<String>) {
        let started = Instant::now();
        let gap = work();
        self.lock().1.push(Cost { attestor, took: started.elapsed(), gap });
    }

    /// As far as it has come.
    pub(super) fn read(&self) -> (SelectorSet, Vec<Cost>) {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, (SelectorSet, Vec<Cost>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
