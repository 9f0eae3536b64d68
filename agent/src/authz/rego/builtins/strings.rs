//! Text: what differs beyond ASCII, or could grow without end.

use regorus::Value;

use super::{
    Exceeded, TEXT_BYTES,
    args::{Answer, Failure, exactly, integer, text},
};

/// How many elements a collection has; of text, code points.
pub(super) fn count(args: &[Value]) -> Answer {
    let [value] = exactly(args)?;
    let count = match value {
        Value::String(text) => text.chars().count(),
        Value::Array(array) => array.len(),
        Value::Set(set) => set.len(),
        Value::Object(object) => object.len(),
        _ => return Err(Failure::Error),
    };
    Ok(Value::from(count))
}

/// Where `search` is first, counted in code points; −1 where it is not.
pub(super) fn indexof(args: &[Value]) -> Answer {
    let [base, search] = exactly(args)?;
    let (base, search) = (text(base)?, not_empty(text(search)?)?);
    let at = base.find(search).map(|at| base[..at].chars().count());
    Ok(at.map_or_else(|| Value::from(-1_i64), Value::from))
}

/// Everywhere that `search` is, even where it overlaps itself.
pub(super) fn indexof_n(args: &[Value]) -> Answer {
    let [base, search] = exactly(args)?;
    let (base, search) = (text(base)?, not_empty(text(search)?)?);
    let starts = base.char_indices().enumerate();
    let found = starts.filter(|&(_, (at, _))| base[at..].starts_with(search)).map(|(n, _)| Value::from(n));
    Ok(Value::from(found.collect::<Vec<_>>()))
}

fn not_empty(search: &str) -> Result<&str, Failure> {
    if search.is_empty() { Err(Failure::Error) } else { Ok(search) }
}

/// How often `search` is in `base`, without overlaps. An empty text is around each code point.
pub(super) fn occurrences(args: &[Value]) -> Answer {
    let [base, search] = exactly(args)?;
    Ok(Value::from(text(base)?.matches(text(search)?).count()))
}

/// Each code point by itself: none becomes two, and none depends on its neighbours.
pub(super) fn lower(args: &[Value]) -> Answer {
    let [value] = exactly(args)?;
    // İ, the only one whose lower case is two code points.
    let lower = |c: char| if c == '\u{130}' { 'i' } else { single(c.to_lowercase()).unwrap_or(c) };
    Ok(Value::from(text(value)?.chars().map(lower).collect::<String>()))
}

pub(super) fn upper(args: &[Value]) -> Answer {
    let [value] = exactly(args)?;
    Ok(Value::from(text(value)?.chars().map(single_upper).collect::<String>()))
}

/// Upper case in one code point. Greek's letters with an iota below have one; others that would become several have none.
fn single_upper(c: char) -> char {
    let offset = match c {
        '\u{1f80}'..='\u{1f87}' | '\u{1f90}'..='\u{1f97}' | '\u{1fa0}'..='\u{1fa7}' => 8,
        '\u{1fb3}' | '\u{1fc3}' | '\u{1ff3}' => 9,
        c => return single(c.to_uppercase()).unwrap_or(c),
    };
    char::from_u32(u32::from(c) + offset).expect("the capitals are letters")
}

fn single(mut cased: impl Iterator<Item = char>) -> Option<char> {
    let first = cased.next()?;
    cased.next().is_none().then_some(first)
}

pub(super) fn replace(args: &[Value]) -> Answer {
    let [base, old, new] = exactly(args)?;
    let (base, old, new) = (text(base)?, text(old)?, text(new)?);
    let grown = base.matches(old).count().saturating_mul(new.len()).saturating_add(base.len());
    if grown > TEXT_BYTES {
        return Err(Failure::Exceeded(Exceeded::Text));
    }
    Ok(Value::from(base.replace(old, new)))
}

/// `strings.replace_n`: all replacements in one walk, so that what was put in is not replaced again. Where several texts
/// are in one place, the one that is first in their order is replaced.
pub(super) fn replace_n(args: &[Value]) -> Answer {
    let [Value::Object(patterns), base] = exactly(args)? else { return Err(Failure::Error) };
    let pair = |(old, new)| Ok((text(old)?, text(new)?));
    let pairs = patterns.iter_sorted().map(pair).collect::<Result<Vec<_>, Failure>>()?;
    let (mut replaced, mut rest, mut follows_match) = (String::new(), text(base)?, false);
    loop {
        let found = pairs.iter().find(|(old, _)| rest.starts_with(old) && !(follows_match && old.is_empty()));
        follows_match = found.is_some_and(|(old, _)| !old.is_empty());
        let skipped = match found {
            Some((old, new)) => {
                replaced.push_str(new);
                old.len()
            }
            None => 0,
        };
        rest = &rest[skipped..];
        if skipped == 0 {
            let Some(c) = rest.chars().next() else { return Ok(Value::from(replaced)) };
            replaced.push(c);
            rest = &rest[c.len_utf8()..];
        }
        if replaced.len() > TEXT_BYTES {
            return Err(Failure::Exceeded(Exceeded::Text));
        }
    }
}

/// The first `n` parts, or the last where `n` is below zero.
pub(super) fn split_n(args: &[Value]) -> Answer {
    let [base, delimiter, n] = exactly(args)?;
    let (base, delimiter, n) = (text(base)?, text(delimiter)?, integer(n)?);
    let parts = if delimiter.is_empty() {
        base.char_indices().map(|(at, c)| &base[at..at + c.len_utf8()]).collect()
    } else {
        base.split(delimiter).collect::<Vec<_>>()
    };
    let most = usize::try_from(n.unsigned_abs()).unwrap_or(usize::MAX).min(parts.len());
    let kept = if n < 0 { &parts[parts.len() - most..] } else { &parts[..most] };
    Ok(Value::from(kept.iter().map(|&part| Value::from(part)).collect::<Vec<_>>()))
}

/// `length` code points from `offset` on; all that follow where `length` is below zero.
pub(super) fn substring(args: &[Value]) -> Answer {
    let [base, offset, length] = exactly(args)?;
    let (base, offset, length) = (text(base)?, integer(offset)?, integer(length)?);
    let offset = usize::try_from(offset).map_err(|_| Failure::Error)?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    Ok(Value::from(base.chars().skip(offset).take(length).collect::<String>()))
}
