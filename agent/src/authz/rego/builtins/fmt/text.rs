//! Text in quotes, and Rego's values as text.

use std::{fmt::Write, sync::LazyLock};

use regex::Regex;
use regorus::Value;

use crate::authz::rego::order;

/// A value as Rego writes it.
pub(in super::super) fn term(value: &Value) -> String {
    let joined = |terms: Vec<String>| terms.join(", ");
    match value {
        Value::Array(array) => format!("[{}]", joined(array.iter().map(term).collect())),
        Value::Set(set) if set.is_empty() => "set()".to_owned(),
        Value::Set(set) => {
            format!("{{{}}}", joined(order::sorted(set.iter()).into_iter().map(term).collect()))
        }
        Value::Object(object) => {
            let pairs = object.iter_sorted().map(|(key, value)| format!("{}: {}", term(key), term(value)));
            format!("{{{}}}", joined(pairs.collect()))
        }
        Value::String(text) => quoted(text, false),
        plain => plain.to_string(),
    }
}

/// In double quotes, with escapes for what is not printed, or else for all that is not ASCII.
pub(super) fn quoted(text: &str, only_ascii: bool) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        push_escaped(c, '"', only_ascii, &mut quoted);
    }
    quoted.push('"');
    quoted
}

pub(super) fn quoted_char(c: char, only_ascii: bool) -> String {
    let mut quoted = String::from('\'');
    push_escaped(c, '\'', only_ascii, &mut quoted);
    quoted.push('\'');
    quoted
}

fn push_escaped(c: char, quote: char, only_ascii: bool, quoted: &mut String) {
    match c {
        '\\' => *quoted += r"\\",
        '\x07' => *quoted += r"\a",
        '\x08' => *quoted += r"\b",
        '\x0c' => *quoted += r"\f",
        '\n' => *quoted += r"\n",
        '\r' => *quoted += r"\r",
        '\t' => *quoted += r"\t",
        '\x0b' => *quoted += r"\v",
        c if c == quote => quoted.extend(['\\', c]),
        c if c.is_ascii() && is_printed(c) || !c.is_ascii() && !only_ascii && is_printed(c) => quoted.push(c),
        c => {
            let written = match u32::from(c) {
                code @ ..0x80 => write!(quoted, r"\x{code:02x}"),
                code @ 0x80..0x1_0000 => write!(quoted, r"\u{code:04x}"),
                code => write!(quoted, r"\U{code:08x}"),
            };
            written.expect("a String takes all");
        }
    }
}

/// Letters, marks, numbers, punctuation, symbols, and ASCII's space.
pub(super) fn is_printed(c: char) -> bool {
    static PRINTED: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^[\pL\pM\pN\pP\pS ]$").expect("the pattern is a constant"));
    if c.is_ascii() {
        return c == ' ' || c.is_ascii_graphic();
    }
    PRINTED.is_match(c.encode_utf8(&mut [0; 4]))
}

/// Whether text can stand between backquotes.
pub(super) fn fits_backquotes(text: &str) -> bool {
    !text.chars().any(|c| (c < ' ' && c != '\t') || matches!(c, '`' | '\x7f' | '\u{feff}'))
}

/// U+FFFD for what is no code point of text.
pub(super) fn code_point(n: i64) -> char {
    u32::try_from(n).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER)
}
