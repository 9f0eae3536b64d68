//! Headers, names, parameters and the body of an answer.

use std::borrow::Cow;

use regorus::Value;

use super::{Entry, Kind, MAX_BODY_BYTES, MAX_ENTRIES, MAX_ENTRY_BYTES, ResultError};

/// `{name: value, …}` or a list of such objects; a value is a string or a list of strings.
pub(super) fn headers(answer: &Value, field: &'static str) -> Result<Vec<Entry>, ResultError> {
    let mut entries = Entries::new(field);
    let value = &answer[field];
    if let Some(objects) = list(value) {
        for object in objects {
            entries.headers(object)?;
        }
    } else if *value != Value::Undefined {
        entries.headers(value)?;
    }
    Ok(entries.list)
}

/// `{name: value, …}`; a value is a string or a list of strings.
pub(super) fn parameters(answer: &Value, field: &'static str) -> Result<Vec<Entry>, ResultError> {
    let mut entries = Entries::new(field);
    match &answer[field] {
        Value::Undefined => {}
        Value::Object(object) => {
            for (name, value) in object.iter_sorted() {
                entries.entry(&entries.name(name)?, value)?;
            }
        }
        other => return Err(ResultError::Parameters { field, kind: Kind::of(other) }),
    }
    Ok(entries.list)
}

/// A list of strings.
pub(super) fn names(answer: &Value, field: &'static str) -> Result<Vec<String>, ResultError> {
    let value = &answer[field];
    if *value == Value::Undefined {
        return Ok(Vec::new());
    }
    let listed = list(value).ok_or(ResultError::Names { field, kind: Kind::of(value) })?;
    let mut entries = Entries::new(field);
    for name in listed {
        let Value::String(name) = name else { return Err(ResultError::Name { field, kind: Kind::of(name) }) };
        entries.add(name, "")?;
    }
    Ok(entries.list.into_iter().map(|entry| entry.name).collect())
}

/// A string. Empty when there is none.
pub(super) fn body(value: &Value) -> Result<String, ResultError> {
    match value {
        Value::Undefined => Ok(String::new()),
        Value::String(body) if body.len() > MAX_BODY_BYTES => Err(ResultError::BodyTooLong),
        Value::String(body) => Ok(body.as_ref().to_owned()),
        other => Err(ResultError::Body(Kind::of(other))),
    }
}

/// A list with its size.
struct Entries {
    field: &'static str,
    list: Vec<Entry>,
    bytes: usize,
}

impl Entries {
    fn new(field: &'static str) -> Self {
        Self { field, list: Vec::new(), bytes: 0 }
    }

    fn headers(&mut self, object: &Value) -> Result<(), ResultError> {
        let field = self.field;
        let Value::Object(object) = object else {
            return Err(ResultError::Headers { field, kind: Kind::of(object) });
        };
        for (name, value) in object.iter_sorted() {
            let (name, start) = (self.name(name)?, self.list.len());
            self.entry(&name, value)?;
            let is_line = |entry: &Entry| !entry.value.contains(['\0', '\r', '\n']);
            if !(is_header_name(&name) && self.list[start..].iter().all(is_line)) {
                return Err(ResultError::HeaderText { field, name: name.into_owned() });
            }
        }
        Ok(())
    }

    fn name<'v>(&self, name: &'v Value) -> Result<Cow<'v, str>, ResultError> {
        key(name).ok_or(ResultError::Name { field: self.field, kind: Kind::of(name) })
    }

    fn entry(&mut self, name: &str, value: &Value) -> Result<(), ResultError> {
        let field = self.field;
        let wrong =
            |of: &Value| ResultError::HeaderValue { field, name: name.to_owned(), kind: Kind::of(of) };
        if let Value::String(value) = value {
            return self.add(name, value);
        }
        for value in list(value).ok_or_else(|| wrong(value))? {
            let Value::String(value) = value else { return Err(wrong(value)) };
            self.add(name, value)?;
        }
        Ok(())
    }

    fn add(&mut self, name: &str, value: &str) -> Result<(), ResultError> {
        self.bytes += name.len() + value.len();
        if self.list.len() == MAX_ENTRIES || self.bytes > MAX_ENTRY_BYTES {
            return Err(ResultError::TooManyEntries { field: self.field });
        }
        self.list.push(Entry { name: name.to_owned(), value: value.to_owned() });
        Ok(())
    }
}

/// The values of an array or a set. JSON knows no sets, so they count as arrays.
fn list(value: &Value) -> Option<Box<dyn Iterator<Item = &Value> + '_>> {
    match value {
        Value::Array(array) => Some(Box::new(array.iter())),
        Value::Set(set) => Some(Box::new(set.iter_sorted())),
        _ => None,
    }
}

/// As in JSON, where every key is a text. `None` for what holds further values.
pub(super) fn key(key: &Value) -> Option<Cow<'_, str>> {
    match key {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.format_decimal())),
        Value::Bool(value) => Some(Cow::Borrowed(if *value { "true" } else { "false" })),
        Value::Null => Some(Cow::Borrowed("null")),
        Value::Array(_) | Value::Set(_) | Value::Object(_) | Value::Undefined => None,
    }
}

/// A token (RFC 9110 §5.6.2), or one of HTTP/2's pseudo headers. What a policy takes from a request can be anything, and
/// a line break in it would be a header of its own.
fn is_header_name(name: &str) -> bool {
    let token = name.strip_prefix(':').unwrap_or(name);
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !token.is_empty() && token.bytes().all(is_token)
}
