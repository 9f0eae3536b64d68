//! Which document of a policy is the decision.

use std::{fmt, str::FromStr};

use regorus::Value;

/// A path below `data`, such as `envoy/authz/allow`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entrypoint(Vec<String>);

/// Why a text is no [`Entrypoint`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadEntrypoint {
    #[error("the path of the decision is empty; write package and rule, such as \"envoy/authz/allow\"")]
    Empty,
    #[error("{0:?} has an empty part; write package and rule, such as \"envoy/authz/allow\"")]
    EmptyPart(String),
    #[error("{0:?} has more than {MAX_PARTS} parts")]
    TooLong(String),
    #[error("{0:?} names a part of the input; a decision is a document below data")]
    Input(String),
}

const MAX_PARTS: usize = 32;

impl Entrypoint {
    pub fn parts(&self) -> &[String] {
        &self.0
    }

    /// The document as a reference in Rego. A part of digits is a number, as in OPA.
    pub(super) fn reference(&self) -> String {
        reference("data", &self.0, |part| part.bytes().all(|byte| byte.is_ascii_digit()))
    }
}

/// `root` and `parts` as a reference in Rego; those that `is_number` are indexes.
pub(super) fn reference(root: &str, parts: &[String], is_number: impl Fn(&str) -> bool) -> String {
    let mut text = root.to_owned();
    for part in parts {
        if is_number(part) {
            text.push_str(&format!("[{part}]"));
        } else if is_identifier(part) {
            text.push_str(&format!(".{part}"));
        } else {
            let quoted = Value::from(part.as_str()).to_string();
            text.push_str(&format!("[{quoted}]"));
        }
    }
    text
}

fn is_identifier(part: &str) -> bool {
    part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl FromStr for Entrypoint {
    type Err = BadEntrypoint;

    /// Reads `envoy/authz/allow`, and also `data.envoy.authz.allow` as queries spell it.
    fn from_str(text: &str) -> Result<Self, BadEntrypoint> {
        let parts: Vec<String> = match text.strip_prefix("data.") {
            Some(rest) if !text.contains('/') => rest.split('.').map(str::to_owned).collect(),
            _ => text.trim_matches('/').split('/').map(str::to_owned).collect(),
        };
        match parts.as_slice() {
            [only] if only.is_empty() || only == "data" => Err(BadEntrypoint::Empty),
            parts if parts.iter().any(String::is_empty) => Err(BadEntrypoint::EmptyPart(text.into())),
            parts if parts.len() > MAX_PARTS => Err(BadEntrypoint::TooLong(text.into())),
            [first, ..] if first.starts_with("input.") || first == "input" => {
                Err(BadEntrypoint::Input(text.into()))
            }
            _ => Ok(Self(parts)),
        }
    }
}

impl fmt::Display for Entrypoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(text: &str) -> String {
        text.parse::<Entrypoint>().unwrap().reference()
    }

    #[test]
    fn both_spellings_name_the_same_document() {
        assert_eq!(reference("envoy/authz/allow"), "data.envoy.authz.allow");
        assert_eq!(reference("/envoy/authz/allow"), "data.envoy.authz.allow");
        assert_eq!(reference("data.envoy.authz.allow"), "data.envoy.authz.allow");
    }

    #[test]
    fn digits_are_numbers_and_other_parts_are_quoted() {
        assert_eq!(reference("a/0/b-c"), "data.a[0][\"b-c\"]");
    }

    #[test]
    fn what_names_no_document_is_refused_with_an_example() {
        for text in ["", "/", "data", "a//b", "input.x", "input/x"] {
            assert!(text.parse::<Entrypoint>().is_err(), "{text}");
        }
        assert!("a/".repeat(33).parse::<Entrypoint>().is_err());
    }
}
