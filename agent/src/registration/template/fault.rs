//! Why a text is no template.

use std::ops::Range;

/// What is wrong with a template, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{title}")]
pub struct TemplateFault {
    /// Bytes of the template.
    pub at: Range<usize>,
    pub title: String,
    pub fix: String,
}

impl TemplateFault {
    pub(super) fn new(at: Range<usize>, title: String, fix: impl Into<String>) -> Self {
        Self { at, title, fix: fix.into() }
    }
}
