//! Base64, URLs' queries and JSON.

use std::{collections::BTreeMap, fmt::Write};

use base64::{
    Engine as _, alphabet,
    engine::{
        DecodePaddingMode,
        general_purpose::{GeneralPurpose, GeneralPurposeConfig},
    },
};
use regorus::Value;

use super::{
    Exceeded,
    args::{Answer, Failure, elements, exactly, text},
};
use crate::authz::digits::too_long;

const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::RequireCanonical);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);

/// Bytes that are no UTF-8 become U+FFFD: text holds nothing else.
pub(super) fn base64_decode(args: &[Value]) -> Answer {
    let [value] = exactly(args)?;
    Ok(as_text(&decoded(&STANDARD, text(value)?)?))
}

pub(super) fn base64_is_valid(args: &[Value]) -> Answer {
    let [value] = exactly(args)?;
    Ok(Value::Bool(text(value).is_ok_and(|value| decoded(&STANDARD, value).is_ok())))
}

pub(super) fn base64url_decode(args: &[Value]) -> Answer {
    let [value] = exactly(args)?;
    Ok(as_text(&from_base64url(text(value)?)?))
}

/// With its padding, or without any.
pub(super) fn from_base64url(encoded: &str) -> Result<Vec<u8>, Failure> {
    if encoded.ends_with('=') {
        return decoded(&URL_SAFE, encoded);
    }
    let padding = match encoded.len() % 4 {
        0 => "",
        2 => "==",
        3 => "=",
        _ => return Err(Failure::Error),
    };
    decoded(&URL_SAFE, &format!("{encoded}{padding}"))
}

/// Line breaks are not looked at.
pub(super) fn from_base64(encoded: &str) -> Result<Vec<u8>, Failure> {
    decoded(&STANDARD, encoded)
}

fn decoded(engine: &GeneralPurpose, encoded: &str) -> Result<Vec<u8>, Failure> {
    let plain = encoded.replace(['\r', '\n'], "");
    engine.decode(plain).map_err(|_| Failure::Error)
}

fn as_text(bytes: &[u8]) -> Value {
    Value::from(String::from_utf8_lossy(bytes).as_ref())
}

pub(super) fn urlquery_encode(args: &[Value]) -> Answer {
    let [value] = exactly(args)?;
    Ok(Value::from(query_escaped(text(value)?)))
}

fn query_escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => escaped.push('+'),
            b'-' | b'_' | b'.' | b'~' => escaped.push(byte.into()),
            _ if byte.is_ascii_alphanumeric() => escaped.push(byte.into()),
            _ => write!(escaped, "%{byte:02X}").expect("a String takes all"),
        }
    }
    escaped
}

pub(super) fn urlquery_decode(args: &[Value]) -> Answer {
    let [value] = exactly(args)?;
    Ok(as_text(&query_unescaped(text(value)?)?))
}

/// # Errors
/// When two hexadecimal digits do not follow each `%`.
fn query_unescaped(escaped: &str) -> Result<Vec<u8>, Failure> {
    let (mut plain, mut bytes) = (Vec::with_capacity(escaped.len()), escaped.bytes());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit =
                    || bytes.next().and_then(|b| char::from(b).to_digit(16)).ok_or(Failure::Error);
                let value = digit()? * 16 + digit()?;
                u8::try_from(value).expect("two digits are a byte")
            }
            byte => byte,
        });
    }
    Ok(plain)
}

/// A query as an object: of each key all values, in their order.
pub(super) fn urlquery_decode_object(args: &[Value]) -> Answer {
    let [value] = exactly(args)?;
    let mut object = BTreeMap::<Value, Vec<Value>>::new();
    for pair in text(value)?.split('&').filter(|pair| !pair.is_empty()) {
        if pair.contains(';') {
            return Err(Failure::Error);
        }
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (query_unescaped(key)?, query_unescaped(value)?);
        object.entry(as_text(&key)).or_default().push(as_text(&value));
    }
    let object = object.into_iter().map(|(key, values)| (key, Value::from(values)));
    Ok(Value::from(object.collect::<BTreeMap<_, _>>()))
}

/// An object of texts, or arrays or sets of them, as a query in the order of its keys.
pub(super) fn urlquery_encode_object(args: &[Value]) -> Answer {
    let [Value::Object(object)] = exactly(args)? else { return Err(Failure::Error) };
    let mut pairs = Vec::new();
    for (key, value) in object.iter_sorted() {
        let values = match value {
            Value::String(_) => vec![value],
            value => elements(value)?,
        };
        let key = query_escaped(text(key)?);
        for value in values {
            pairs.push(format!("{key}={}", query_escaped(text(value)?)));
        }
    }
    Ok(Value::from(pairs.join("&")))
}

pub(super) fn json_is_valid(args: &[Value]) -> Answer {
    let [value] = exactly(args)?;
    Ok(Value::Bool(text(value).is_ok_and(|value| parsed(value).is_ok())))
}

pub(super) fn json_unmarshal(args: &[Value]) -> Answer {
    let [value] = exactly(args)?;
    from_json(text(value)?)
}

/// Of several values for a key the last one counts.
pub(super) fn from_json(json: &str) -> Answer {
    if too_long(json).is_some() {
        return Err(Failure::Exceeded(Exceeded::Digits));
    }
    parsed(json)
}

fn parsed(json: &str) -> Answer {
    let parsed = Value::from_json_str(json);
    let parsed = parsed.or_else(|_| Value::from_json_str(&without_lone_surrogates(json)));
    parsed.map_err(|_| Failure::Error)
}

/// Escapes of half a UTF-16 pair stand for U+FFFD.
fn without_lone_surrogates(json: &str) -> String {
    let (mut written, mut rest) = (String::with_capacity(json.len()), json);
    while let Some(at) = rest.find('\\') {
        written.push_str(&rest[..at]);
        rest = &rest[at..];
        let (escape, is_lone) = match (unit(rest), rest.get(6..).and_then(unit)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => (12, false),
            (Some(0xd800..=0xdfff), _) => (6, true),
            (Some(_), _) => (6, false),
            (None, _) => (1 + rest[1..].chars().next().map_or(0, char::len_utf8), false),
        };
        written.push_str(if is_lone { r"\ufffd" } else { &rest[..escape] });
        rest = &rest[escape..];
    }
    written + rest
}

/// The UTF-16 unit that a text starts with an escape for.
fn unit(text: &str) -> Option<u16> {
    u16::from_str_radix(text.strip_prefix(r"\u")?.get(..4)?, 16).ok()
}

pub(super) fn json_marshal(args: &[Value]) -> Answer {
    let [value] = exactly(args)?;
    let mut json = String::new();
    write_json(value, &mut json)?;
    Ok(Value::from(json))
}

/// Without spaces, objects in the order of their keys, sets as arrays; what HTML takes for markup is escaped.
fn write_json(value: &Value, json: &mut String) -> Result<(), Failure> {
    match value {
        Value::String(text) => write_json_text(text, json),
        Value::Array(_) | Value::Set(_) => {
            let elements = elements(value)?.into_iter();
            write_joined(json, ['[', ']'], elements, write_json)?;
        }
        Value::Object(object) => {
            let pair = |(key, value): (&Value, &Value), json: &mut String| {
                let key = json_key(key)?;
                write_json_text(&key, json);
                json.push(':');
                write_json(value, json)
            };
            write_joined(json, ['{', '}'], object.iter_sorted(), pair)?;
        }
        plain => *json += &plain.to_string(),
    }
    Ok(())
}

fn write_joined<T>(
    json: &mut String,
    [open, close]: [char; 2],
    elements: impl Iterator<Item = T>,
    mut write: impl FnMut(T, &mut String) -> Result<(), Failure>,
) -> Result<(), Failure> {
    json.push(open);
    for (n, element) in elements.enumerate() {
        if n > 0 {
            json.push(',');
        }
        write(element, json)?;
    }
    json.push(close);
    Ok(())
}

/// A key that is not text is its own JSON as text.
fn json_key(key: &Value) -> Result<String, Failure> {
    match key {
        Value::String(text) => Ok(text.to_string()),
        key => {
            let mut json = String::new();
            write_json(key, &mut json)?;
            Ok(json)
        }
    }
}

fn write_json_text(text: &str, json: &mut String) {
    json.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            '\n' => *json += r"\n",
            '\r' => *json += r"\r",
            '\t' => *json += r"\t",
            '\u{8}' => *json += r"\b",
            '\u{c}' => *json += r"\f",
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\x1f' => {
                write!(json, r"\u{:04x}", u32::from(c)).expect("a String takes all");
            }
            c => json.push(c),
        }
    }
    json.push('"');
}
