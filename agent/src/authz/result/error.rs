//! Why a value is no answer.

use std::fmt;

use regorus::Value;

use super::{
    MAX_BODY_BYTES, MAX_ENTRIES, MAX_ENTRY_BYTES, MAX_METADATA_BYTES, MAX_METADATA_DEPTH, MAX_METADATA_VALUES,
};

/// Why what a policy came to is no answer. Each text says what the policy should give.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResultError {
    #[error("the policy's rule is undefined: give it a default")]
    Undefined,
    #[error("the policy's rule is {0}: it should be a boolean or an object with `allowed`")]
    NoAnswer(Kind),
    #[error("the object has no `allowed`: add it, as a boolean")]
    NoAllowed,
    #[error("`allowed` is {0}: it should be a boolean")]
    Allowed(Kind),
    #[error("`{field}` is {kind}: it should be an object, or an array of objects")]
    Headers { field: &'static str, kind: Kind },
    #[error("{name:?} in `{field}` is {kind}: it should be a string or an array of strings")]
    HeaderValue { field: &'static str, name: String, kind: Kind },
    #[error("`{field}` has {name:?}, which is no header: its name should be a token, its value one line")]
    HeaderText { field: &'static str, name: String },
    #[error("`{field}` is {kind}: it should be an array of strings")]
    Names { field: &'static str, kind: Kind },
    #[error("`{field}` holds {kind}: it should hold strings only")]
    Name { field: &'static str, kind: Kind },
    #[error("`{field}` is {kind}: it should be an object")]
    Parameters { field: &'static str, kind: Kind },
    #[error("`{field}` has more than {MAX_ENTRIES} entries, or more than {MAX_ENTRY_BYTES} bytes")]
    TooManyEntries { field: &'static str },
    #[error("`body` is {0}: it should be a string")]
    Body(Kind),
    #[error("`body` has more than {MAX_BODY_BYTES} bytes")]
    BodyTooLong,
    #[error("`http_status` is {0}: it should be a number")]
    HttpStatus(Kind),
    #[error("`http_status` is {0}: it should be a status code that Envoy knows, such as 403")]
    HttpStatusCode(String),
    #[error("`dynamic_metadata` is {0}: it should be an object")]
    DynamicMetadata(Kind),
    #[error(
        "`dynamic_metadata` holds {0} that metadata cannot hold: its keys should be strings, its numbers doubles"
    )]
    DynamicMetadataValue(Kind),
    #[error(
        "`dynamic_metadata` is nested deeper than {MAX_METADATA_DEPTH}, or has more than {MAX_METADATA_VALUES} values \
         or {MAX_METADATA_BYTES} bytes"
    )]
    DynamicMetadataTooLarge,
}

impl ResultError {
    /// One word for each variant, for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Undefined => "undefined",
            Self::NoAnswer(_) => "result_type",
            Self::NoAllowed => "allowed_missing",
            Self::Allowed(_) => "allowed_type",
            Self::Headers { .. } => "headers_type",
            Self::HeaderValue { .. } => "header_value_type",
            Self::HeaderText { .. } => "header_text",
            Self::Names { .. } => "names_type",
            Self::Name { .. } => "name_type",
            Self::Parameters { .. } => "query_parameters_type",
            Self::TooManyEntries { .. } => "entries_limit",
            Self::Body(_) => "body_type",
            Self::BodyTooLong => "body_limit",
            Self::HttpStatus(_) => "http_status_type",
            Self::HttpStatusCode(_) => "http_status_code",
            Self::DynamicMetadata(_) => "dynamic_metadata_type",
            Self::DynamicMetadataValue(_) => "dynamic_metadata_value",
            Self::DynamicMetadataTooLarge => "dynamic_metadata_limit",
        }
    }
}

/// What a value is, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Null,
    Boolean,
    Number,
    String,
    Array,
    Set,
    Object,
    Undefined,
}

impl Kind {
    pub fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Boolean,
            Value::Number(_) => Self::Number,
            Value::String(_) => Self::String,
            Value::Array(_) => Self::Array,
            Value::Set(_) => Self::Set,
            Value::Object(_) => Self::Object,
            Value::Undefined => Self::Undefined,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Number => "a number",
            Self::String => "a string",
            Self::Array => "an array",
            Self::Set => "a set",
            Self::Object => "an object",
            Self::Undefined => "undefined",
        })
    }
}
