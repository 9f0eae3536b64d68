//! `glob.match`: patterns with `*`, `**`, `?`, classes and alternatives, as regular expressions in the engine's syntax.

use regorus::Value;

use super::{
    args::{Answer, Failure, exactly, text},
    regex,
};

/// Whether text as a whole is like a pattern. Delimiters are what `*` and `?` do not match: none for null, a dot for an
/// empty array.
pub(super) fn is_match(args: &[Value]) -> Answer {
    let [pattern, delimiters, value] = exactly(args)?;
    let (pattern, delimiters, value) = (text(pattern)?, delimiters_of(delimiters)?, text(value)?);
    let key = format!("glob {delimiters} {pattern}");
    regex::is_match_of(&key, value, || translate(pattern, &delimiters))
}

fn delimiters_of(value: &Value) -> Result<String, Failure> {
    match value {
        Value::Null => Ok(String::new()),
        Value::Array(array) if array.is_empty() => Ok(".".to_owned()),
        Value::Array(array) => array.iter().map(delimiter).collect(),
        _ => Err(Failure::Error),
    }
}

fn delimiter(value: &Value) -> Result<char, Failure> {
    let mut chars = text(value)?.chars();
    let delimiter = chars.next().ok_or(Failure::Error)?;
    if chars.next().is_some() { Err(Failure::Error) } else { Ok(delimiter) }
}

/// Text in which nothing is special any more.
pub(super) fn quote_meta(args: &[Value]) -> Answer {
    let [value] = exactly(args)?;
    let mut quoted = String::new();
    for c in text(value)?.chars() {
        if r"*?\[]{}".contains(c) {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    Ok(Value::from(quoted))
}

/// The expression for a pattern.
fn translate(pattern: &str, delimiters: &str) -> Result<String, Failure> {
    let any = match delimiters {
        "" => "(?s:.)".to_owned(),
        delimiters => format!("[^{}]", delimiters.chars().map(literal).collect::<String>()),
    };
    let (mut expression, mut chars, mut depth) = (r"\A".to_owned(), pattern.chars().peekable(), 0_usize);
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.next_if_eq(&'*').is_some() => expression += "(?s:.)*",
            '*' => expression += &format!("{any}*"),
            '?' => expression += &any,
            '[' => expression += &class(&mut chars)?,
            '{' => {
                depth += 1;
                expression += "(?:";
            }
            ',' if depth > 0 => expression.push('|'),
            '}' if depth > 0 => {
                depth -= 1;
                expression.push(')');
            }
            '\\' => expression += &literal(chars.next().ok_or(Failure::Error)?),
            c => expression += &literal(c),
        }
    }
    if depth > 0 { Err(Failure::Error) } else { Ok(expression + r"\z") }
}

/// One code point, in and out of a class.
fn literal(c: char) -> String {
    format!(r"\x{{{:x}}}", u32::from(c))
}

/// A class whose `[` is read: a range, or code points that are listed; `!` in front negates it.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<String, Failure> {
    let not = if chars.next_if_eq(&'!').is_some() { "^" } else { "" };
    let first = chars.next().ok_or(Failure::Error)?;
    if chars.next_if_eq(&'-').is_some() {
        let last = chars.next().filter(|&last| last >= first).ok_or(Failure::Error)?;
        chars.next().filter(|&c| c == ']').ok_or(Failure::Error)?;
        return Ok(format!("[{not}{}-{}]", literal(first), literal(last)));
    }
    let (mut members, mut next) = (String::new(), first);
    while next != ']' {
        let member = if next == '\\' { chars.next().ok_or(Failure::Error)? } else { next };
        members += &literal(member);
        next = chars.next().ok_or(Failure::Error)?;
    }
    if members.is_empty() { Err(Failure::Error) } else { Ok(format!("[{not}{members}]")) }
}
