//! An operator's rotation, until its last SVID is made.

use std::collections::HashMap;

use tokio::sync::oneshot;

use super::super::cache::RotateError;
use crate::registration::EntryId;

#[derive(Debug)]
pub(super) struct Asked {
    /// How many results are still to come for each entry: one that was under way when the wish came is not it.
    open: HashMap<EntryId, u8>,
    done: usize,
    failed: usize,
    first_failure: Option<(EntryId, String)>,
    answer: oneshot::Sender<Result<usize, RotateError>>,
}

impl Asked {
    pub(super) fn new<'a>(
        entries: Vec<EntryId>,
        in_flight: impl Iterator<Item = &'a EntryId>,
        answer: oneshot::Sender<Result<usize, RotateError>>,
    ) -> Self {
        let mut open: HashMap<_, _> = entries.into_iter().map(|id| (id, 1)).collect();
        for id in in_flight {
            open.entry(id.clone()).and_modify(|results| *results += 1);
        }
        Self { open, done: 0, failed: 0, first_failure: None, answer }
    }

    pub(super) fn done(&mut self, id: &EntryId) {
        if self.result(id) {
            self.done += 1;
        }
    }

    pub(super) fn failed(&mut self, id: &EntryId, why: &str) {
        if self.result(id) {
            self.failed += 1;
            self.first_failure.get_or_insert_with(|| (id.clone(), why.to_owned()));
        }
    }

    /// There is nothing to replace any more.
    pub(super) fn gone(&mut self, id: &EntryId) {
        self.open.remove(id);
    }

    pub(super) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    pub(super) fn answer(self) {
        let result = match self.first_failure {
            Some((entry, why)) => {
                Err(RotateError::Failed { done: self.done, failed: self.failed, entry, why })
            }
            None => Ok(self.done),
        };
        // Who asked may have left.
        let _ = self.answer.send(result);
    }

    /// Returns whether this was the result that was waited for.
    fn result(&mut self, id: &EntryId) -> bool {
        let Some(results) = self.open.get_mut(id) else { return false };
        *results -= 1;
        let last = *results == 0;
        if last {
            self.open.remove(id);
        }
        last
    }
}
