//! `parsed_body` and `truncated_body`.

use regorus::Value;
use vouch_proto::envoy::service::auth::v3::attribute_context::HttpRequest;

use super::{BadRequest, Part, query};

pub(super) mod json;
mod media_type;
mod multipart;

/// What is known of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Body {
    /// Null when there is none, or none that is understood.
    pub(super) parsed: Value,
    /// The request has more than was sent to us.
    pub(super) is_truncated: bool,
}

impl Body {
    pub(super) const NONE: Self = Self { parsed: Value::Null, is_truncated: false };
    const TRUNCATED: Self = Self { parsed: Value::Null, is_truncated: true };
}

/// By what it says it is. Said in any way: a content type is looked for within the header.
#[derive(Debug, Clone, Copy)]
enum Format {
    Json,
    Form,
    Multipart,
}

impl Format {
    fn of(content_type: &str) -> Option<Self> {
        let is = |name| content_type.contains(name);
        match () {
            () if is("application/json") => Some(Self::Json),
            // Its messages cannot be read without their descriptors.
            () if is("application/grpc") => None,
            () if is("application/x-www-form-urlencoded") => Some(Self::Form),
            () if is("multipart/form-data") => Some(Self::Multipart),
            () => None,
        }
    }
}

/// JSON is parsed as deep as `depth`.
///
/// # Errors
/// When a whole body is not what it says it is.
pub(super) fn parse(http: &HttpRequest, depth: usize) -> Result<Body, BadRequest> {
    let header = |name| http.headers.get(name).map(String::as_str);
    // Envoy's own word; it drops a client's.
    if header("x-envoy-auth-partial-body") == Some("true") {
        return Ok(Body::TRUNCATED);
    }
    let Some(content_type) = header("content-type") else { return Ok(Body::NONE) };
    let Some(format) = Format::of(content_type) else { return Ok(Body::NONE) };
    let body = if http.body.is_empty() { &*http.raw_body } else { http.body.as_bytes() };
    if body.is_empty() {
        return Ok(Body::NONE);
    }
    if let Some(length) = header("content-length")
        && is_longer(length, body.len())?
    {
        return Ok(Body::TRUNCATED);
    }
    let parsed = match format {
        Format::Json => json::parse(body, depth)?,
        Format::Form => query::parameters(body, Part::Body)?,
        Format::Multipart => multipart::parse(body, content_type, depth)?,
    };
    Ok(Body { parsed, is_truncated: false })
}

/// Whether a body of `content_length` is more than the `received` bytes. -1 says nothing.
fn is_longer(content_length: &str, received: usize) -> Result<bool, BadRequest> {
    let length: i64 = content_length.parse().map_err(|_| BadRequest::ContentLength)?;
    Ok(u64::try_from(length).is_ok_and(|length| length > received as u64))
}
