//! What is accepted, but probably not what its author means.

use std::fmt;

use super::EntryId;
use crate::problem::Place;

/// A remark on entries that are served all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Such as `"W0611"`; each code stands for one kind of remark.
    pub code: &'static str,
    /// One lower-case clause without a full stop.
    pub title: String,
    /// The entry it is about, when it is about one.
    pub entry: Option<EntryId>,
    pub place: Option<Place>,
    pub why: Option<String>,
    pub fix: Option<String>,
}

impl Warning {
    pub(super) fn new(code: &'static str, title: impl Into<String>) -> Self {
        Self { code, title: title.into(), entry: None, place: None, why: None, fix: None }
    }

    pub(super) fn about(mut self, entry: &EntryId) -> Self {
        self.entry = Some(entry.clone());
        self
    }

    pub(super) fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    pub(super) fn why(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    pub(super) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "warning[{}]: {}", self.code, self.title)?;
        if let Some(place) = &self.place {
            write!(f, "\n{place}")?;
        }
        if let Some(why) = &self.why {
            write!(f, "\n  why: {why}")?;
        }
        if let Some(fix) = &self.fix {
            write!(f, "\n  fix: {fix}")?;
        }
        Ok(())
    }
}
