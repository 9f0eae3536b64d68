//! What a policy says, and what Envoy is told.
//!
//! `true` and `false` are answers. So is an object with a boolean `allowed`: with `headers`, `dynamic_metadata` and, when
//! it allows, `request_headers_to_remove`, `response_headers_to_add`, `query_parameters_to_set` and
//! `query_parameters_to_remove`; when it denies, `body` and `http_status`. What does not belong to its kind of answer, and
//! every other key, is passed over. Everything else is no answer but a `ResultError`, which never allows.

use prost_types::Struct;
use regorus::Value;

mod error;
mod fields;
mod metadata;
mod response;
mod status;

pub use error::{Kind, ResultError};
pub use response::{HeaderAppend, bad_request};

/// Most headers, names or parameters in one list of an answer.
pub const MAX_ENTRIES: usize = 256;
/// Most bytes of their names and values together.
pub const MAX_ENTRY_BYTES: usize = 64 * 1024;
/// Longest body of a denial.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Deepest nesting of dynamic metadata. Each level is three messages, and decoders stop at a hundred.
pub const MAX_METADATA_DEPTH: usize = 32;
/// Most values in dynamic metadata, those within others counted.
pub const MAX_METADATA_VALUES: usize = 4096;
/// Most bytes of the names and texts in dynamic metadata together.
pub const MAX_METADATA_BYTES: usize = 64 * 1024;

/// A policy's answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    Allow(Allowed),
    Deny(Denied),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Allowed {
    /// `None` for a bare `true`.
    pub changes: Option<Changes>,
    pub dynamic_metadata: Struct,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Denied {
    /// `None` for a bare `false`: Envoy answers 403 without a body.
    pub answer: Option<Answer>,
    pub dynamic_metadata: Struct,
}

/// A name and one value. A name with several values comes several times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub value: String,
}

/// What is done to a request on its way, and to its response. Lists are in the order of the policy's value: arrays as
/// they are, objects and sets sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// To the upstream.
    pub headers: Vec<Entry>,
    pub request_headers_to_remove: Vec<String>,
    /// To the client.
    pub response_headers_to_add: Vec<Entry>,
    pub query_parameters_to_set: Vec<Entry>,
    pub query_parameters_to_remove: Vec<String>,
}

/// What the client gets instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// One that Envoy knows.
    pub http_status: u16,
    pub headers: Vec<Entry>,
    pub body: String,
}

/// The answer in `value`, what a policy's rule came to.
///
/// # Errors
/// When it is none: the caller denies.
pub fn interpret(value: &Value) -> Result<Verdict, ResultError> {
    match value {
        Value::Bool(true) => {
            Ok(Verdict::Allow(Allowed { changes: None, dynamic_metadata: Struct::default() }))
        }
        Value::Bool(false) => Ok(Verdict::Deny(Denied { answer: None, dynamic_metadata: Struct::default() })),
        Value::Object(_) => of_object(value),
        Value::Undefined => Err(ResultError::Undefined),
        other => Err(ResultError::NoAnswer(Kind::of(other))),
    }
}

fn of_object(object: &Value) -> Result<Verdict, ResultError> {
    let is_allowed = match &object["allowed"] {
        Value::Bool(is_allowed) => *is_allowed,
        Value::Undefined => return Err(ResultError::NoAllowed),
        other => return Err(ResultError::Allowed(Kind::of(other))),
    };
    let headers = fields::headers(object, "headers")?;
    let dynamic_metadata = metadata::of(&object["dynamic_metadata"])?;
    if is_allowed {
        let changes = Some(Changes {
            headers,
            request_headers_to_remove: fields::names(object, "request_headers_to_remove")?,
            response_headers_to_add: fields::headers(object, "response_headers_to_add")?,
            query_parameters_to_set: fields::parameters(object, "query_parameters_to_set")?,
            query_parameters_to_remove: fields::names(object, "query_parameters_to_remove")?,
        });
        return Ok(Verdict::Allow(Allowed { changes, dynamic_metadata }));
    }
    let http_status = status::of(&object["http_status"])?;
    let answer = Some(Answer { http_status, headers, body: fields::body(&object["body"])? });
    Ok(Verdict::Deny(Denied { answer, dynamic_metadata }))
}

#[cfg(test)]
mod tests;
