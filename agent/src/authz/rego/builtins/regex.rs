//! `regex.*`: regular expressions with RE2's meaning.
//!
//! Matching takes time linear in the text. What a pattern may cost is bounded by [`COMPILED_BYTES`] and [`PATTERN_BYTES`]:
//! a policy that makes patterns of what a caller sends ends with an error there, not with a match.

mod class;
mod syntax;

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use regex::{Captures, Regex, RegexBuilder};
use regorus::Value;

use super::{
    Exceeded,
    args::{Answer, Failure, exactly, integer, text},
};

/// The most that one pattern takes when it is compiled.
pub(super) const COMPILED_BYTES: usize = 4 << 20;

/// The longest pattern.
const PATTERN_BYTES: usize = 16 << 10;

/// How deeply a pattern nests, at most, as the engine counts it.
const NESTED: u32 = 500;

/// How many compiled patterns are kept. Policies have few, and each of them costs a few kilobytes.
const KEPT: usize = 128;

/// `regex.match` and `re_match`: whether there is a match anywhere.
pub(super) fn is_match(args: &[Value]) -> Answer {
    let [pattern, value] = exactly(args)?;
    Ok(Value::Bool(compiled(text(pattern)?)?.regex.is_match(text(value)?)))
}

/// Whether this is text, and RE2 has the pattern.
pub(super) fn is_valid(args: &[Value]) -> Answer {
    let [pattern] = exactly(args)?;
    let Ok(pattern) = text(pattern) else { return Ok(Value::Bool(false)) };
    within_length(pattern)?;
    Ok(Value::Bool(syntax::translate(pattern).is_ok()))
}

pub(super) fn split(args: &[Value]) -> Answer {
    let [pattern, value] = exactly(args)?;
    let (pattern, value) = (text(pattern)?, text(value)?);
    let parts = match (value, compiled(pattern)?) {
        ("", _) if pattern.is_empty() => Vec::new(),
        ("", _) => vec![""],
        (value, pattern) => parts(&pattern.regex, value),
    };
    Ok(Value::from(parts.into_iter().map(Value::from).collect::<Vec<_>>()))
}

/// What is between the matches. An empty match at the start parts nothing, nor does one at the end.
fn parts<'t>(regex: &Regex, value: &'t str) -> Vec<&'t str> {
    let (mut parts, mut begin, mut end) = (Vec::new(), 0, 0);
    for found in regex.find_iter(value) {
        end = found.start();
        if found.end() != 0 {
            parts.push(&value[begin..end]);
        }
        begin = found.end();
    }
    if end != value.len() {
        parts.push(&value[begin..]);
    }
    parts
}

/// The first `n` matches; all of them where `n` is below zero.
pub(super) fn find_n(args: &[Value]) -> Answer {
    let [pattern, value, n] = exactly(args)?;
    let (pattern, value, n) = (text(pattern)?, text(value)?, most(n)?);
    let found =
        compiled(pattern)?.regex.find_iter(value).take(n).map(|found| found.as_str().into()).collect();
    Ok(Value::Array(Arc::new(found)))
}

/// The first `n` matches, each as itself and what its groups matched: `""` for a group that took no part.
pub(super) fn find_all_string_submatch_n(args: &[Value]) -> Answer {
    let [pattern, value, n] = exactly(args)?;
    let (pattern, value, n) = (text(pattern)?, text(value)?, most(n)?);
    let groups = |found: Captures<'_>| {
        let texts = found.iter().map(|group| group.map_or("", |group| group.as_str()).into());
        Value::from(texts.collect::<Vec<Value>>())
    };
    let found = compiled(pattern)?.regex.captures_iter(value).take(n).map(groups).collect::<Vec<_>>();
    Ok(Value::from(found))
}

fn most(n: &Value) -> Result<usize, Failure> {
    Ok(usize::try_from(integer(n)?).unwrap_or(usize::MAX))
}

/// `base` with what `template` says in the place of each match: `$1` and `${1}`, `$name` and `${name}` are groups, `$$` is
/// a dollar.
pub(super) fn replace(args: &[Value]) -> Answer {
    let [base, pattern, template] = exactly(args)?;
    let (base, pattern, template) = (text(base)?, compiled(text(pattern)?)?, text(template)?);
    let (mut replaced, mut end) = (String::new(), 0);
    for found in pattern.regex.captures_iter(base) {
        let whole = found.get(0).expect("the first group is the match");
        replaced.push_str(&base[end..whole.start()]);
        pattern.expand(template, &found, &mut replaced);
        end = whole.end();
        if replaced.len() > super::TEXT_BYTES {
            return Err(Failure::Exceeded(Exceeded::Text));
        }
    }
    replaced.push_str(&base[end..]);
    Ok(Value::from(replaced))
}

/// Whether `value` is as a whole like `template`, in which patterns stand between two delimiters and the rest is text.
pub(super) fn template_match(args: &[Value]) -> Answer {
    let [template, value, start, end] = exactly(args)?;
    let (template, value, start, end) = (text(template)?, text(value)?, text(start)?, text(end)?);
    let (&[start], &[end]) = (start.as_bytes(), end.as_bytes()) else { return Err(Failure::Error) };
    let pattern = from_template(template, start, end)?;
    Ok(Value::Bool(compiled(&pattern)?.regex.is_match(value)))
}

/// The pattern that a template stands for.
fn from_template(template: &str, start: u8, end: u8) -> Result<String, Failure> {
    within_length(template)?;
    let (mut pattern, mut depth, mut from) = ("^".to_owned(), 0_usize, 0);
    for (at, byte) in template.bytes().enumerate() {
        if byte == start {
            depth += 1;
            if depth == 1 {
                pattern += &quoted(&template[from..at]);
                from = at + 1;
            }
        } else if byte == end {
            depth = depth.checked_sub(1).ok_or(Failure::Error)?;
            if depth == 0 {
                let part = &template[from..at];
                syntax::translate(&format!("^{part}$")).map_err(|_| Failure::Error)?;
                pattern = format!("{pattern}({part})");
                from = at + 1;
            }
        }
    }
    if depth != 0 {
        return Err(Failure::Error);
    }
    Ok(pattern + &quoted(&template[from..]) + "$")
}

/// A pattern for this text and no other.
fn quoted(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// A pattern that is ready to match.
#[derive(Debug)]
struct Compiled {
    regex: Regex,
    group_names: Vec<Option<String>>,
}

impl Compiled {
    /// # Errors
    /// [`Failure::Error`] when RE2 has no such pattern, [`Exceeded::Pattern`] when the engine cannot hold it.
    fn new(pattern: &str) -> Result<Self, Failure> {
        let translated = syntax::translate(pattern).map_err(|_| Failure::Error)?;
        Ok(Compiled { regex: built(&translated.pattern)?, group_names: translated.group_names })
    }

    /// Writes `template` for one match.
    fn expand(&self, template: &str, found: &Captures<'_>, to: &mut String) {
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('$') {
            to.push_str(before);
            rest = after;
            if let Some(after) = rest.strip_prefix('$') {
                to.push('$');
                rest = after;
            } else if let Some((name, after)) = group_name(rest) {
                to.push_str(self.group(name, found));
                rest = after;
            } else {
                to.push('$');
            }
        }
        to.push_str(rest);
    }

    fn group<'t>(&self, name: &str, found: &Captures<'t>) -> &'t str {
        let is_number = name.bytes().all(|b| b.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
        if is_number {
            let group = name.parse().ok().and_then(|number| found.get(number));
            return group.map_or("", |group| group.as_str());
        }
        // Of several groups with one name, the first that took part.
        let mut named = self.group_names.iter().zip(found.iter());
        named
            .find_map(|(known, group)| group.filter(|_| known.as_deref() == Some(name)))
            .map_or("", |g| g.as_str())
    }
}

/// The name that a template has after a dollar, in braces or as long as it can be, and what follows.
fn group_name(template: &str) -> Option<(&str, &str)> {
    let is_part = |c: char| c == '_' || c.is_alphanumeric();
    let (name, rest) = match template.strip_prefix('{') {
        Some(inner) => inner.split_once('}')?,
        None => template.split_at(template.find(|c| !is_part(c)).unwrap_or(template.len())),
    };
    (!name.is_empty() && name.chars().all(is_part)).then_some((name, rest))
}

fn within_length(pattern: &str) -> Result<(), Failure> {
    if pattern.len() > PATTERN_BYTES { Err(Failure::Exceeded(Exceeded::Pattern)) } else { Ok(()) }
}

/// Compiled patterns by their text.
#[derive(Debug, Default)]
struct Kept {
    patterns: HashMap<Box<str>, (Arc<Compiled>, u64)>,
    uses: u64,
}

impl Kept {
    fn get(&mut self, pattern: &str) -> Option<Arc<Compiled>> {
        self.uses += 1;
        let (compiled, used) = self.patterns.get_mut(pattern)?;
        *used = self.uses;
        Some(Arc::clone(compiled))
    }

    /// Keeps one more, in the place of the one that was used longest ago.
    fn insert(&mut self, pattern: &str, compiled: Arc<Compiled>) {
        if self.patterns.len() >= KEPT {
            let oldest =
                self.patterns.iter().min_by_key(|(_, (_, used))| *used).map(|(text, _)| text.clone());
            oldest.and_then(|oldest| self.patterns.remove(&oldest));
        }
        self.patterns.insert(pattern.into(), (compiled, self.uses));
    }
}

/// Compiles a pattern, or finds it compiled.
fn compiled(pattern: &str) -> Result<Arc<Compiled>, Failure> {
    kept_or(pattern, || Compiled::new(pattern))
}

/// Whether an expression in the engine's syntax matches. It is kept by `key`, which no pattern of RE2 may be.
pub(super) fn is_match_of(
    key: &str,
    value: &str,
    expression: impl FnOnce() -> Result<String, Failure>,
) -> Answer {
    let compiled = kept_or(&format!("({key}"), || {
        Ok(Compiled { regex: built(&expression()?)?, group_names: Vec::new() })
    })?;
    Ok(Value::Bool(compiled.regex.is_match(value)))
}

fn built(expression: &str) -> Result<Regex, Failure> {
    let regex = RegexBuilder::new(expression).size_limit(COMPILED_BYTES).nest_limit(NESTED).build();
    regex.map_err(|_| Failure::Exceeded(Exceeded::Pattern))
}

fn kept_or(key: &str, compile: impl FnOnce() -> Result<Compiled, Failure>) -> Result<Arc<Compiled>, Failure> {
    static COMPILED: LazyLock<Mutex<Kept>> = LazyLock::new(Mutex::default);
    // Nothing that panics runs under the lock.
    let kept = || COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(compiled) = kept().get(key) {
        return Ok(compiled);
    }
    within_length(key)?;
    let compiled = Arc::new(compile()?);
    kept().insert(key, Arc::clone(&compiled));
    Ok(compiled)
}

#[cfg(test)]
mod tests;
