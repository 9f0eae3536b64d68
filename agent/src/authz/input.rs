//! What a policy is asked about: a `CheckRequest` as the document `input` that policies for OPA-Envoy know.
//!
//! The message comes as JSON would show it, field by field under lowerCamelCase names: what is unset or empty is absent,
//! a message that is set but empty is `{}`, enums and 64-bit integers are numbers, bytes are base64 text, a timestamp is
//! `{seconds, nanos}`, a `Struct` a plain object. Beside it stand `parsed_path`, `parsed_query`, `parsed_body`,
//! `truncated_body`, `source_principal`, `version` and, where it is known, `spiffe`.
//!
//! Built value by value out of the message, without text in between. A body of gRPC stays unparsed (null): there is no
//! setting that names descriptors of its messages.

use std::borrow::Cow;

use regorus::Value;
use vouch_proto::envoy::service::auth::v3::{AttributeContext, attribute_context::HttpRequest};

use self::keys::Keys;
use super::{object::Fields, parts::Parts};

mod attributes;
mod body;
mod escape;
mod keys;
mod path;
mod query;

/// How a request becomes the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputOptions {
    /// Leaves `parsed_body` and `truncated_body` out, so no body can be a bad one.
    pub skip_request_body_parse: bool,
    /// Deepest nesting of arrays and objects in a JSON body. At most [`MAX_BODY_DEPTH`].
    pub body_depth: usize,
}

/// Default of [`InputOptions::body_depth`].
pub const DEFAULT_BODY_DEPTH: usize = 128;
/// Deeper values need more stack than a thread has, here or where a policy walks over them.
pub const MAX_BODY_DEPTH: usize = 1000;

impl Default for InputOptions {
    fn default() -> Self {
        Self { skip_request_body_parse: false, body_depth: DEFAULT_BODY_DEPTH }
    }
}

/// Why a request cannot be asked about. It is denied as a bad one: 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    #[error("invalid URL escape {0:?} in the {1}")]
    Escape(String, Part),
    #[error("`;` in the {0}: it separates nothing, write it as %3B")]
    Semicolon(Part),
    #[error("more than {max} parameters in the {0}", max = query::MAX_PARAMETERS)]
    TooManyParameters(Part),
    /// Errors show no value of a header.
    #[error("content-length is not a number")]
    ContentLength,
    #[error("JSON, byte {at}: {fault}")]
    Json { at: usize, fault: JsonFault },
    #[error("content-type cannot be read: {0}")]
    ContentType(&'static str),
    #[error("multipart body, byte {at}: {fault}")]
    Multipart { at: usize, fault: &'static str },
}

/// Of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Path,
    Query,
    Body,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Body => "body",
        })
    }
}

/// Why a text is no JSON, or none that can be held.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonFault {
    #[error("{0}")]
    Syntax(&'static str),
    #[error("nested deeper than {0}")]
    TooDeep(usize),
    #[error("more than {} values", body::json::MAX_VALUES)]
    TooManyValues,
    #[error("a number of more than {} bytes", body::json::MAX_NUMBER_BYTES)]
    LongNumber,
    #[error("a number that is too large or too small to be held")]
    NumberRange,
}

/// The input for `attributes`. `spiffe` comes in under that name.
///
/// # Errors
/// When path, query or body cannot be parsed.
pub fn document(
    attributes: &AttributeContext,
    options: &InputOptions,
    spiffe: Option<Value>,
) -> Result<Value, BadRequest> {
    document_for(&Parts::All, attributes, options, || spiffe)
}

/// The same for who looks at no more of it than `reads`; of the rest some may be there. A request that is a bad one is that
/// for everybody.
///
/// # Errors
/// As of [`document`].
pub fn document_for(
    reads: &Parts,
    attributes: &AttributeContext,
    options: &InputOptions,
    spiffe: impl FnOnce() -> Option<Value>,
) -> Result<Value, BadRequest> {
    Keys::with(|keys| document_with(keys, reads, attributes, options, spiffe))
}

fn document_with(
    keys: &Keys,
    reads: &Parts,
    attributes: &AttributeContext,
    options: &InputOptions,
    spiffe: impl FnOnce() -> Option<Value>,
) -> Result<Value, BadRequest> {
    let http = attributes.request.as_ref().and_then(|request| request.http.as_ref());
    let path = http.map_or("", |http| &*http.path);
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let parsed_path = path::segments(path)?;
    let parsed_query = query::parameters(query.as_bytes(), Part::Query)?;
    let body = if options.skip_request_body_parse { None } else { Some(parsed_body(http, options)?) };

    let mut fields = Fields::with_capacity(8);
    if reads.has("attributes") {
        fields.put(keys.attributes.clone(), attributes::value(keys, reads.under("attributes"), attributes));
    }
    if let Some(body) = &body {
        fields.put(keys.parsed_body.clone(), body.parsed.clone());
    }
    fields.put(keys.parsed_path.clone(), parsed_path);
    fields.put(keys.parsed_query.clone(), parsed_query);
    let principal = attributes.source.as_ref().map_or("", |source| &*source.principal);
    fields.text(&keys.source_principal, principal);
    if reads.has("spiffe")
        && let Some(spiffe) = spiffe()
    {
        fields.put(keys.spiffe.clone(), spiffe);
    }
    if let Some(body) = body {
        fields.put(keys.truncated_body.clone(), body.is_truncated.into());
    }
    fields.put(keys.version.clone(), keys.version_value.clone());
    Ok(fields.into_value())
}

/// The name of a parameter as `parsed_query` has it; as it is written where an escape in it is none.
pub(super) fn name_of_parameter(written: &str) -> Cow<'_, str> {
    escape::unescape(written.as_bytes(), escape::Plus::Space, Part::Query).unwrap_or(Cow::Borrowed(written))
}

fn parsed_body(http: Option<&HttpRequest>, options: &InputOptions) -> Result<body::Body, BadRequest> {
    let depth = options.body_depth.min(MAX_BODY_DEPTH);
    http.map_or(Ok(body::Body::NONE), |http| body::parse(http, depth))
}

#[cfg(test)]
mod tests;
