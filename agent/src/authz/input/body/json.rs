//! JSON as bytes, into values of Rego.
//!
//! Written here because bodies of strangers need a depth that is set, integers of any size need all their digits, and
//! texts that are no UTF-8 or hold half a surrogate pair must read as they do for policies elsewhere: as U+FFFD. A
//! property test holds it against the usual parser.

use std::collections::BTreeMap;

use regorus::Value;

use crate::authz::input::{BadRequest, JsonFault, escape::lossy};

/// Longest number: of what a double could hold roughly, an integer keeps all digits.
pub(in crate::authz::input) const MAX_NUMBER_BYTES: usize = 400;
/// Most values of one body, those within others counted: small ones take some 30 times the memory of their text.
pub(in crate::authz::input) const MAX_VALUES: usize = 1 << 18;
/// Largest power of ten: past it a number is out of a double's range anyway.
const MAX_EXPONENT: u32 = 400;

/// The one value that is all of `body`. Of two members with one name the last counts. Numbers with a fraction are doubles.
///
/// # Errors
/// When it is no JSON, is nested deeper than `depth`, or holds a number that cannot be held. Source: RFC 8259.
pub(super) fn parse(body: &[u8], depth: usize) -> Result<Value, BadRequest> {
    let mut parser = Parser { bytes: body, at: 0, values: 0, max_depth: depth };
    let value = parser.value(0).and_then(|value| match parser.next() {
        None => Ok(value),
        Some(_) => Err(JsonFault::Syntax("text behind the value")),
    });
    value.map_err(|fault| BadRequest::Json { at: parser.at, fault })
}

struct Parser<'t> {
    bytes: &'t [u8],
    at: usize,
    values: usize,
    max_depth: usize,
}

type Parsed<T> = Result<T, JsonFault>;

impl Parser<'_> {
    /// Within `depth` arrays and objects.
    fn value(&mut self, depth: usize) -> Parsed<Value> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(JsonFault::TooManyValues);
        }
        match self.next() {
            Some(b'{') => self.object(self.deeper(depth)?),
            Some(b'[') => self.array(self.deeper(depth)?),
            Some(b'"') => Ok(Value::from(self.text()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true", Value::Bool(true)),
            Some(b'f') => self.word(b"false", Value::Bool(false)),
            Some(b'n') => self.word(b"null", Value::Null),
            Some(_) => Err(JsonFault::Syntax("a value is missing")),
            None => Err(JsonFault::Syntax("the end comes within a value")),
        }
    }

    fn deeper(&self, depth: usize) -> Parsed<usize> {
        if depth < self.max_depth { Ok(depth + 1) } else { Err(JsonFault::TooDeep(self.max_depth)) }
    }

    /// The next byte that is no white space; it is not passed.
    fn next(&mut self) -> Option<u8> {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        self.peek()
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Whether `byte` comes next, which is then passed.
    fn takes(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn word(&mut self, word: &[u8], value: Value) -> Parsed<Value> {
        if !self.bytes[self.at..].starts_with(word) {
            return Err(JsonFault::Syntax("a value is missing"));
        }
        self.at += word.len();
        Ok(value)
    }

    fn array(&mut self, depth: usize) -> Parsed<Value> {
        self.at += 1;
        let mut values = Vec::new();
        if self.next() == Some(b']') {
            self.at += 1;
            return Ok(values.into());
        }
        loop {
            values.push(self.value(depth)?);
            self.next();
            if self.takes(b']') {
                return Ok(values.into());
            }
            if !self.takes(b',') {
                return Err(JsonFault::Syntax("neither `,` nor `]` behind a value"));
            }
        }
    }

    fn object(&mut self, depth: usize) -> Parsed<Value> {
        self.at += 1;
        let mut members = Vec::new();
        if self.next() == Some(b'}') {
            self.at += 1;
            return Ok(Value::new_object());
        }
        loop {
            members.push(self.member(depth)?);
            self.next();
            if self.takes(b'}') {
                return Ok(members.into_iter().collect::<BTreeMap<_, _>>().into());
            }
            if !self.takes(b',') {
                return Err(JsonFault::Syntax("neither `,` nor `}` behind a member"));
            }
        }
    }

    fn member(&mut self, depth: usize) -> Parsed<(Value, Value)> {
        if self.next() != Some(b'"') {
            return Err(JsonFault::Syntax("the name of a member is missing"));
        }
        let name = self.text()?;
        self.next();
        if !self.takes(b':') {
            return Err(JsonFault::Syntax("`:` is missing behind the name of a member"));
        }
        Ok((name.into(), self.value(depth)?))
    }

    fn text(&mut self) -> Parsed<String> {
        self.at += 1;
        let mut text = String::new();
        loop {
            let rest = &self.bytes[self.at..];
            let length = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
            let length = length.unwrap_or(rest.len());
            text.push_str(&lossy(&rest[..length]));
            self.at += length;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => text.push(self.escape()?),
                Some(_) => return Err(JsonFault::Syntax("a control character in a text")),
                None => return Err(JsonFault::Syntax("the end comes within a text")),
            }
        }
    }

    /// From the backslash on.
    fn escape(&mut self) -> Parsed<char> {
        let fault = JsonFault::Syntax("no such escape in a text");
        let Some(kind) = self.bytes.get(self.at + 1) else { return Err(fault) };
        let escaped = match kind {
            b'"' | b'\\' | b'/' => char::from(*kind),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape().ok_or(fault),
            _ => return Err(fault),
        };
        self.at += 2;
        Ok(escaped)
    }

    /// A surrogate that has no partner is U+FFFD.
    fn unicode_escape(&mut self) -> Option<char> {
        let first = self.code_unit(self.at)?;
        self.at += 6;
        if !(0xd800..0xdc00).contains(&first) {
            return Some(char::from_u32(u32::from(first)).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        let pair = self.code_unit(self.at).map(|second| [first, second]);
        let pair = pair.and_then(|pair| char::decode_utf16(pair).next()?.ok());
        self.at += if pair.is_some() { 6 } else { 0 };
        Some(pair.unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    /// Of the escape `\uXXXX` at `at`.
    fn code_unit(&self, at: usize) -> Option<u16> {
        let digits = self.bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
        digits.iter().try_fold(0, |unit, digit| {
            let digit = char::from(*digit).to_digit(16)?;
            Some(unit * 16 + u16::try_from(digit).ok()?)
        })
    }

    fn number(&mut self) -> Parsed<Value> {
        let start = self.at;
        self.takes(b'-');
        let integer = self.digits()?;
        if integer > 1 && self.bytes[self.at - integer] == b'0' {
            return Err(JsonFault::Syntax("a number starts with 0"));
        }
        let mut is_integer = true;
        if self.takes(b'.') {
            is_integer = false;
            self.digits()?;
        }
        let mantissa = start..self.at;
        if self.takes(b'e') || self.takes(b'E') {
            is_integer = false;
            let _ = self.takes(b'-') || self.takes(b'+');
            self.digits()?;
        }
        if self.at - start > MAX_NUMBER_BYTES {
            return Err(JsonFault::LongNumber);
        }
        let text = str::from_utf8(&self.bytes[start..self.at]).expect("digits are ASCII");
        if is_integer && let Ok(number) = text.parse::<i64>() {
            return Ok(number.into());
        }
        held(text, mantissa.len()).ok_or(JsonFault::NumberRange)
    }

    /// How many there are: one at least.
    fn digits(&mut self) -> Parsed<usize> {
        let rest = &self.bytes[self.at..];
        let count = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
        self.at += count;
        if count > 0 { Ok(count) } else { Err(JsonFault::Syntax("a digit is missing in a number")) }
    }
}

/// `None` when it is too large, or so small that it would be zero.
fn held(text: &str, mantissa: usize) -> Option<Value> {
    let (mantissa, exponent) = text.split_at(mantissa);
    if !mantissa.bytes().any(|digit| (b'1'..=b'9').contains(&digit)) {
        return Some(0_i64.into());
    }
    if !exponent.is_empty() && exponent[1..].parse::<i32>().ok()?.unsigned_abs() > MAX_EXPONENT {
        return None;
    }
    // Past doubles nothing could print it.
    let double: f64 = text.parse().ok()?;
    if !double.is_finite() || double == 0.0 {
        return None;
    }
    Value::from_numeric_string(text).ok()
}

#[cfg(test)]
mod tests;
