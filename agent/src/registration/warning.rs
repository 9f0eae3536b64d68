//! What is accepted, but probably not what its author means.

use std::{fmt, ops::Deref};

use super::EntryId;
use crate::problem::{Place, Problem};

/// A remark on entries that are served all the same: number, title, place, cause and fix are those of a [`Problem`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The entry it is about, when it is about one.
    pub entry: Option<EntryId>,
    remark: Problem,
}

impl Warning {
    /// `code` is such as `"W0611"`; each stands for one kind of remark.
    pub(super) fn new(code: &'static str, title: impl Into<String>) -> Self {
        Self { entry: None, remark: Problem::new(code, title) }
    }

    pub(super) fn about(mut self, entry: &EntryId) -> Self {
        self.entry = Some(entry.clone());
        self
    }

    pub(super) fn at(self, place: Place) -> Self {
        Self { remark: self.remark.at(place), ..self }
    }

    pub(super) fn why(self, why: impl Into<String>) -> Self {
        Self { remark: self.remark.why(why), ..self }
    }

    pub(super) fn fix(self, fix: impl Into<String>) -> Self {
        Self { remark: self.remark.fix(fix), ..self }
    }
}

impl Deref for Warning {
    type Target = Problem;

    fn deref(&self) -> &Problem {
        &self.remark
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.remark.write(f, "warning")
    }
}
