//! Semantic versions, with a `v` in front or without.
//!
//! Source: Semantic Versioning 2.0.0.

use std::cmp::Ordering;

use regorus::Value;

use super::args::{Answer, Failure, exactly, text};

pub(super) fn is_valid(args: &[Value]) -> Answer {
    let [version] = exactly(args)?;
    Ok(Value::Bool(text(version).ok().and_then(Version::parse).is_some()))
}

/// −1, 0 or 1 as the first is lower than, as high as, or higher than the second. Metadata does not count.
pub(super) fn compare(args: &[Value]) -> Answer {
    let [a, b] = exactly(args)?;
    let version = |value| Version::parse(text(value)?).ok_or(Failure::Error);
    let ordering = version(a)?.compare(&version(b)?);
    Ok(Value::from(i64::from(ordering as i8)))
}

struct Version<'a> {
    numbers: [i64; 3],
    pre_release: Option<&'a str>,
}

impl<'a> Version<'a> {
    fn parse(version: &'a str) -> Option<Self> {
        let version = version.strip_prefix('v').unwrap_or(version);
        let (version, metadata) = cut(version, '+');
        let (version, pre_release) = cut(version, '-');
        let has_zeros = |part: &str| part.len() > 1 && part.starts_with('0') && is_number(part);
        let is_valid = metadata.is_none_or(are_parts)
            && pre_release.is_none_or(|pre| are_parts(pre) && !pre.split('.').any(has_zeros));
        let numbers = version.split('.').map(number).collect::<Option<Vec<_>>>()?;
        is_valid.then_some(Version { numbers: numbers.try_into().ok()?, pre_release })
    }

    fn compare(&self, other: &Self) -> Ordering {
        let by_pre_release = || match (self.pre_release, other.pre_release) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(a), Some(b)) => a.split('.').map(Part::new).cmp(b.split('.').map(Part::new)),
        };
        self.numbers.cmp(&other.numbers).then_with(by_pre_release)
    }
}

fn cut(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at).map_or((text, None), |(before, after)| (before, Some(after)))
}

fn is_number(part: &str) -> bool {
    part.bytes().all(|b| b.is_ascii_digit())
}

fn number(part: &str) -> Option<i64> {
    let is_plain = is_number(part) && (part == "0" || !part.starts_with('0'));
    is_plain.then(|| part.parse().ok())?
}

/// Letters, digits and hyphens with dots between.
fn are_parts(text: &str) -> bool {
    text.split('.')
        .all(|part| !part.is_empty() && part.bytes().all(|b| b == b'-' || b.is_ascii_alphanumeric()))
}

/// A part of a pre-release. Numbers are lower than names, and compared as numbers of any length.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Part<'a> {
    Number(usize, &'a str),
    Name(&'a str),
}

impl<'a> Part<'a> {
    fn new(part: &'a str) -> Self {
        if is_number(part) { Part::Number(part.len(), part) } else { Part::Name(part) }
    }
}
