//! `{type:field}`: what stands behind that in a selector of the process.

use std::{fmt, ops::Range};

use super::TemplateFault;
use crate::{
    attestation::{Selector, SelectorSet},
    registration::vocabulary,
    spiffe::IdError,
};

/// The name of one fact: `{k8s:ns}`, `{docker:label:app}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Placeholder {
    kind: Box<str>,
    /// What follows the type: `ns`, `label:app`.
    name: Box<str>,
}

/// Why a process that has what a placeholder names gets no ID by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub placeholder: Placeholder,
    pub reason: Reason,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The value is no part of a segment.
    Illegal { value: String, error: IdError },
    /// The process has more than one.
    Ambiguous { one: String, other: String },
}

impl Placeholder {
    /// What stands at `at` in `text`, the braces left out.
    pub(super) fn parse(text: &str, at: Range<usize>) -> Result<Self, TemplateFault> {
        let inner = &text[at.clone()];
        let fault = |title: String, fix: &str| Err(TemplateFault::new(at.start - 1..at.end + 1, title, fix));
        if inner.contains('{') {
            return fault(
                "a placeholder begins inside of another".into(),
                "close the first one: {unix:user}",
            );
        }
        let Some((kind, name)) =
            inner.split_once(':').filter(|(kind, name)| !kind.is_empty() && !name.is_empty())
        else {
            return fault(format!("`{{{inner}}}` names no selector"), "write type and field: {unix:user}");
        };
        let (field, key) = name.split_once(':').map_or((name, None), |(field, key)| (field, Some(key)));
        match vocabulary::fault_of_name(kind, field, key) {
            Some((title, fix)) => fault(title, &fix),
            None => Ok(Self { kind: kind.into(), name: name.into() }),
        }
    }

    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// What follows the type, such as `label:app`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Such as `label`.
    pub fn field(&self) -> &str {
        self.name.split_once(':').map_or(&*self.name, |(field, _)| field)
    }

    /// The selector that has `value` behind the name.
    pub(in crate::registration) fn selector(&self, value: &str) -> Selector {
        Selector::new(&*self.kind, format!("{}:{value}", self.name))
    }

    /// Whether `process` has a value for it, and no other.
    pub(in crate::registration) fn is_had_by(&self, process: &SelectorSet) -> bool {
        matches!(self.value_of(process), Ok(Some(_)))
    }

    /// Its only value of `process`; `None` when there is none, or a gap leaves it open how many there are.
    pub(in crate::registration) fn value_of<'p>(
        &self,
        process: &'p SelectorSet,
    ) -> Result<Option<&'p str>, Refusal> {
        let Some(mut values) = process.behind(&self.kind, &self.name) else { return Ok(None) };
        match (values.next(), values.next()) {
            (Some(one), Some(other)) => {
                let reason = Reason::Ambiguous { one: one.to_owned(), other: other.to_owned() };
                Err(Refusal::new(self, reason))
            }
            (one, _) => Ok(one),
        }
    }
}

impl Refusal {
    pub(super) fn new(placeholder: &Placeholder, reason: Reason) -> Self {
        Self { placeholder: placeholder.clone(), reason }
    }
}

impl Reason {
    /// Its name as a label.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Illegal { .. } => "illegal",
            Self::Ambiguous { .. } => "ambiguous",
        }
    }
}

impl fmt::Display for Placeholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{}:{}}}", self.kind, self.name)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.placeholder, self.reason)
    }
}

/// Values are shown as they are quoted in code, and cut: a stranger may have written them.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 64;
        let cut = |value: &str| value.chars().take(SHOWN).collect::<String>();
        match self {
            Self::Illegal { value, error } => write!(f, "{:?} cannot stand there: {error}", cut(value)),
            Self::Ambiguous { one, other } => {
                write!(f, "the process has {:?} and {:?}, and only one can stand there", cut(one), cut(other))
            }
        }
    }
}
