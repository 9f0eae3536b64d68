//! SPIFFE IDs that say by selectors whom they name: `spiffe://example.org/ns/{k8s:ns}/sa/{k8s:sa}`.

mod fault;
mod placeholder;

use std::{fmt, ops::Range, str::FromStr};

use crate::{
    attestation::{Selector, SelectorSet},
    spiffe::{IdError, MAX_ID_LEN, SpiffeId, check_segment},
};
pub use fault::TemplateFault;
pub use placeholder::{Placeholder, Reason, Refusal};

/// Longest template in bytes: a whole SPIFFE ID, and as much again for names of labels.
pub(super) const MAX_TEMPLATE_LEN: usize = 2 * MAX_ID_LEN;
const SCHEME: &str = "spiffe://";

/// A SPIFFE ID some of whose segments hold a placeholder, one at least and one in a segment at most.
///
/// So two processes whose values differ anywhere never get the same ID: segments are as many as in the template, and
/// what is not a value is the same in all. With two in a segment, `{k8s:ns}-{k8s:sa}`, the values `a-b`, `c` and
/// `a`, `b-c` would read the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdTemplate {
    text: Box<str>,
    /// Bytes of the text before the path.
    path_at: usize,
    segments: Vec<Segment>,
}

/// What stands between two slashes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Segment {
    before: Box<str>,
    /// With what stands behind it.
    placeholder: Option<(Placeholder, Box<str>)>,
}

impl IdTemplate {
    /// Whether a text is meant to be a template: no SPIFFE ID holds a brace.
    pub(super) fn is_meant(text: &str) -> bool {
        text.contains(['{', '}'])
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// In their order; one may stand there twice.
    pub fn placeholders(&self) -> impl Iterator<Item = &Placeholder> {
        self.segments
            .iter()
            .filter_map(|segment| segment.placeholder.as_ref())
            .map(|(placeholder, _)| placeholder)
    }

    /// `example.org`.
    pub(super) fn trust_domain(&self) -> &str {
        &self.text[SCHEME.len()..self.path_at]
    }

    /// The ID that it gives to `process`; `None` when that lacks a value, or may have others that are not known.
    ///
    /// # Errors
    /// When a value cannot stand where it should, or is one of several. It is never made to fit.
    pub fn name(&self, process: &SelectorSet) -> Result<Option<SpiffeId>, Refusal> {
        let mut id = self.text[..self.path_at].to_owned();
        for segment in &self.segments {
            id.push('/');
            let Some(text) = segment.fill(process)? else { return Ok(None) };
            id.push_str(&text);
        }
        let first = self.placeholders().next().expect("a template has a placeholder");
        // Each segment is legal, so all that may be wrong is their length.
        id.parse().map(Some).map_err(|error| Refusal::new(first, Reason::Illegal { value: id, error }))
    }

    /// What each placeholder stands for in `process`, in their order: as [`Self::name`] has it of the whole.
    pub(super) fn values<'a>(
        &'a self,
        process: &'a SelectorSet,
    ) -> impl Iterator<Item = (&'a Placeholder, Result<Option<String>, Refusal>)> {
        let named = |segment: &'a Segment| Some((&segment.placeholder.as_ref()?.0, segment.fill(process)));
        self.segments.iter().filter_map(named)
    }

    /// The selectors that make it give `id`, sorted, without duplicates; `None` when it never does.
    pub fn selectors_of(&self, id: &SpiffeId) -> Option<Vec<Selector>> {
        let path = id.as_str().strip_prefix(&self.text[..self.path_at])?.strip_prefix('/')?;
        let mut values: Vec<(&Placeholder, &str)> = Vec::new();
        let mut parts = path.split('/');
        for segment in &self.segments {
            let value = segment.value_in(parts.next()?)?;
            values.extend(segment.placeholder.as_ref().map(|(placeholder, _)| (placeholder, value)));
        }
        let agree = |(placeholder, value): &(&Placeholder, &str)| {
            values.iter().all(|(other, otherwise)| other != placeholder || otherwise == value)
        };
        if parts.next().is_some() || !values.iter().all(agree) {
            return None;
        }
        let mut selectors: Vec<Selector> =
            values.iter().map(|(placeholder, value)| placeholder.selector(value)).collect();
        selectors.sort();
        selectors.dedup();
        Some(selectors)
    }

    /// Whether some ID can be given by both.
    pub(super) fn may_meet(&self, other: &Self) -> bool {
        self.text[..self.path_at] == other.text[..other.path_at]
            && self.segments.len() == other.segments.len()
            && self.segments.iter().zip(&other.segments).all(|(a, b)| a.may_meet(b))
    }
}

impl Segment {
    /// `None` when `process` has no value for it.
    fn fill(&self, process: &SelectorSet) -> Result<Option<String>, Refusal> {
        let Some((placeholder, behind)) = &self.placeholder else {
            return Ok(Some(self.before.to_string()));
        };
        let Some(value) = placeholder.value_of(process)? else { return Ok(None) };
        let text = format!("{}{value}{behind}", self.before);
        let legal = if value.is_empty() { Err(IdError::EmptySegment) } else { check_segment(&text) };
        match legal {
            Ok(()) => Ok(Some(text)),
            Err(error) => Err(Refusal::new(placeholder, Reason::Illegal { value: value.to_owned(), error })),
        }
    }

    /// What stands for the placeholder in `text`, nothing where there is none; `None` when `text` is not this segment.
    fn value_in<'t>(&self, text: &'t str) -> Option<&'t str> {
        let rest = text.strip_prefix(&*self.before)?;
        match &self.placeholder {
            Some((_, behind)) => rest.strip_suffix(&**behind).filter(|value| !value.is_empty()),
            None => rest.is_empty().then_some(rest),
        }
    }

    fn may_meet(&self, other: &Self) -> bool {
        match (&self.placeholder, &other.placeholder) {
            (_, None) => self.value_in(&other.before).is_some(),
            (None, Some(_)) => other.value_in(&self.before).is_some(),
            (Some((_, behind)), Some((_, others))) => {
                let starts = |a: &str, b: &str| a.starts_with(b) || b.starts_with(a);
                let ends = |a: &str, b: &str| a.ends_with(b) || b.ends_with(a);
                starts(&self.before, &other.before) && ends(behind, others)
            }
        }
    }
}

impl FromStr for IdTemplate {
    type Err = TemplateFault;

    fn from_str(text: &str) -> Result<Self, TemplateFault> {
        if text.len() > MAX_TEMPLATE_LEN {
            let title = format!("the template has more than {MAX_TEMPLATE_LEN} bytes");
            return Err(TemplateFault::new(0..text.len(), title, "shorten it"));
        }
        let path_at = check_trust_domain(text)?;
        let segments = split(text, path_at)?;
        let template = Self { text: text.into(), path_at, segments };
        if template.placeholders().next().is_none() {
            let title = "the template has no placeholder".to_owned();
            return Err(TemplateFault::new(
                0..text.len(),
                title,
                "write a SPIFFE ID, or {unix:user} for a part of it",
            ));
        }
        template.sample().parse::<SpiffeId>().map_err(|error| {
            let fix = "mend what stands around the placeholders: it is part of each SPIFFE ID";
            TemplateFault::new(0..text.len(), format!("the template gives no SPIFFE ID: {error}"), fix)
        })?;
        Ok(template)
    }
}

impl IdTemplate {
    /// The ID that it gives where each value is a letter.
    fn sample(&self) -> String {
        let mut id = self.text[..self.path_at].to_owned();
        for Segment { before, placeholder } in &self.segments {
            let (value, behind) = placeholder.as_ref().map_or(("", ""), |(_, behind)| ("x", behind));
            id.extend(["/", before, value, behind]);
        }
        id
    }
}

/// Where the path begins.
fn check_trust_domain(text: &str) -> Result<usize, TemplateFault> {
    let fix = "begin with the trust domain of this agent, such as spiffe://example.org/{unix:user}";
    let Some(rest) = text.strip_prefix(SCHEME) else {
        let title = "the template does not start with spiffe://".to_owned();
        return Err(TemplateFault::new(0..text.len(), title, fix));
    };
    let path_at = SCHEME.len() + rest.find('/').unwrap_or(rest.len());
    if IdTemplate::is_meant(&text[..path_at]) {
        let title = "the trust domain is no part that a placeholder may give".to_owned();
        return Err(TemplateFault::new(SCHEME.len()..path_at, title, fix));
    }
    Ok(path_at)
}

/// The segments of the path; a slash inside of a placeholder ends none.
fn split(text: &str, path_at: usize) -> Result<Vec<Segment>, TemplateFault> {
    let mut segments = Vec::new();
    let (mut segment, mut from) = (Segment { before: "".into(), placeholder: None }, path_at + 1);
    let mut at = from;
    while at <= text.len() {
        match text.as_bytes().get(at) {
            Some(b'{') => {
                let end = text[at..].find('}').map(|length| at + length);
                let end = end.ok_or_else(|| unclosed(at..text.len()))?;
                let placeholder = Placeholder::parse(text, at + 1..end)?;
                if segment.placeholder.is_some() {
                    return Err(second(at..end + 1));
                }
                segment =
                    Segment { before: text[from..at].into(), placeholder: Some((placeholder, "".into())) };
                (at, from) = (end + 1, end + 1);
            }
            Some(b'}') => return Err(unopened(at..at + 1)),
            Some(b'/') | None => {
                match &mut segment.placeholder {
                    Some((_, behind)) => *behind = text[from..at].into(),
                    None => segment.before = text[from..at].into(),
                }
                segments
                    .push(std::mem::replace(&mut segment, Segment { before: "".into(), placeholder: None }));
                (at, from) = (at + 1, at + 1);
            }
            Some(_) => at += 1,
        }
    }
    Ok(segments)
}

fn unclosed(at: Range<usize>) -> TemplateFault {
    TemplateFault::new(at, "the placeholder has no end".into(), "close it: {unix:user}")
}

fn unopened(at: Range<usize>) -> TemplateFault {
    TemplateFault::new(at, "a placeholder ends that has not begun".into(), "write it as {unix:user}")
}

fn second(at: Range<usize>) -> TemplateFault {
    let fix = "put a slash between the two: in one segment different values could read the same";
    TemplateFault::new(at, "this is the second placeholder of one segment".into(), fix)
}

impl fmt::Display for IdTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests;
