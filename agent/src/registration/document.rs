//! A file of entries as a tree in which every value knows where it stands, the same for JSON and TOML.

use std::{borrow::Cow, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// A value and the bytes of the file that it was read from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node<'t> {
    pub(super) value: Value<'t>,
    pub(super) span: Range<usize>,
}

/// A name in a table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Key<'t> {
    pub(super) name: Cow<'t, str>,
    pub(super) span: Range<usize>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'t> {
    Null,
    Bool(bool),
    Integer(i64),
    /// Any other number, and a date; no field of an entry takes one.
    Other,
    Text(Cow<'t, str>),
    List(Vec<Node<'t>>),
    Table(Vec<(Key<'t>, Node<'t>)>),
}

/// Why a text is no document of its format.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SyntaxError {
    pub(super) message: String,
    pub(super) span: Range<usize>,
}

impl Value<'_> {
    /// What the value is called in a message.
    pub(super) fn noun(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Integer(_) => "an integer",
            Self::Other => "a number with a fraction or a date",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// Reads TOML. A key that stands twice is an error, as the format demands.
pub(super) fn from_toml(text: &str) -> Result<Node<'_>, SyntaxError> {
    let root = DeTable::parse(text).map_err(|error| SyntaxError {
        message: error.message().to_owned(),
        span: error.span().unwrap_or(0..0),
    })?;
    let span = root.span();
    Ok(Node { value: table(root.into_inner()), span })
}

// The parser bounds the depth of what it accepts, so this recursion ends early.
fn node(value: Spanned<DeValue<'_>>) -> Node<'_> {
    let span = value.span();
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).map_or(Value::Other, Value::Integer)
        }
        DeValue::Boolean(value) => Value::Bool(value),
        DeValue::Float(_) | DeValue::Datetime(_) => Value::Other,
        DeValue::Array(list) => Value::List(list.into_iter().map(node).collect()),
        DeValue::Table(inner) => table(inner),
    };
    Node { value, span }
}

fn table(table: DeTable<'_>) -> Value<'_> {
    let pairs = table.into_iter().map(|(key, value)| {
        let span = key.span();
        (Key { name: key.into_inner(), span }, node(value))
    });
    Value::Table(pairs.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_values_know_where_they_stand() {
        let text = "a = [1, \"x\"]\n[b]\nc = true\n";
        let Value::Table(pairs) = from_toml(text).unwrap().value else { panic!("no table") };
        assert_eq!(&text[pairs[0].1.span.clone()], "[1, \"x\"]");
        let Value::Table(inner) = &pairs[1].1.value else { panic!("no table") };
        assert_eq!(&text[inner[0].0.span.clone()], "c");
        assert_eq!(&text[inner[0].1.span.clone()], "true");
    }

    #[test]
    fn a_toml_key_that_stands_twice_is_an_error_with_its_place() {
        let text = "a = 1\na = 2\n";
        let error = from_toml(text).unwrap_err();
        assert_eq!(&text[error.span], "a");
    }

    #[test]
    fn deeply_nested_toml_ends_in_an_error() {
        let text = format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(from_toml(&text).is_err());
    }
}
