//! `input.spiffe`: what only a node knows.

use regorus::Value;

use super::{object, xfcc};
use crate::spiffe::SpiffeId;
use vouch_proto::envoy::service::auth::v3::{AttributeContext, attribute_context::Peer};

const XFCC: &str = "x-forwarded-client-cert";

/// ```text
/// {
///   "source":      {"id", "trust_domain", "path", "from": "certificate" | "xfcc"},
///   "destination": {"id", "trust_domain", "path", "from": "certificate"},
///   "xfcc":        {"claimed": bool, "elements": [...] | "error": text},
///   "caller":      {"ids", "selectors", "grade", "pid", "uid"},
/// }
/// ```
///
/// `source` and `destination` are of the certificates that Envoy names, and verified if it is told to. x-forwarded-client-cert is a claim of whoever
/// sent the request, unless `xfcc_is_sanitized`: then it names the source where Envoy named none. `caller` is the Envoy
/// that asks, as the kernel attested it. What is not known is not there.
pub(super) fn document(
    attributes: &AttributeContext,
    xfcc_is_sanitized: bool,
    caller: Option<&Value>,
) -> Value {
    let header = attributes
        .request
        .as_ref()
        .and_then(|request| request.http.as_ref())
        .and_then(|http| http.headers.get(XFCC));
    let elements = header.map(|header| xfcc::parse(header));
    let certificate = |peer: &Option<Peer>| {
        let id: SpiffeId = peer.as_ref()?.principal.parse().ok()?;
        Some(identity(&id, "certificate"))
    };
    let from_xfcc = || match &elements {
        Some(Ok(elements)) if xfcc_is_sanitized => sole_identity(elements),
        _ => None,
    };
    let parts = [
        ("caller", caller.cloned()),
        ("destination", certificate(&attributes.destination)),
        ("source", certificate(&attributes.source).or_else(from_xfcc)),
        ("xfcc", elements.as_ref().map(|elements| forwarded(elements.as_deref(), xfcc_is_sanitized))),
    ];
    object(parts.into_iter().filter_map(|(key, part)| Some((key, part?))))
}

/// Of the one certificate that Envoy put there: more elements, or more URIs, leave open which is meant.
fn sole_identity(elements: &[xfcc::Element]) -> Option<Value> {
    let [element] = elements else { return None };
    let [uri] = element.uri.as_slice() else { return None };
    Some(identity(&uri.parse().ok()?, "xfcc"))
}

fn forwarded(elements: Result<&[xfcc::Element], &xfcc::Error>, is_sanitized: bool) -> Value {
    let said = match elements {
        Ok(elements) => ("elements", xfcc::value(elements)),
        Err(error) => ("error", Value::from(error.to_string())),
    };
    object([("claimed", Value::from(!is_sanitized)), said])
}

fn identity(id: &SpiffeId, from: &str) -> Value {
    object([
        ("from", Value::from(from)),
        ("id", Value::from(id.as_str())),
        ("path", Value::from(id.path())),
        ("trust_domain", Value::from(id.trust_domain().name())),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use vouch_proto::envoy::service::auth::v3::attribute_context::{HttpRequest, Request};

    /// The document of a request with that header, from an Envoy that replaces what others put there.
    fn sanitized(header: &str) -> Value {
        let headers = [(XFCC.to_owned(), header.to_owned())].into();
        let http = Some(HttpRequest { headers, ..HttpRequest::default() });
        let request = Some(Request { http, ..Request::default() });
        document(&AttributeContext { request, ..AttributeContext::default() }, true, None)
    }

    #[test]
    fn a_certificate_with_one_uri_names_the_source() {
        let document = sanitized("Hash=ab;URI=spiffe://example.org/web;DNS=web");
        assert_eq!(document["source"]["id"], Value::from("spiffe://example.org/web"));
        assert_eq!(document["source"]["from"], Value::from("xfcc"));
    }

    #[test]
    fn a_certificate_with_several_uris_names_none_wherever_they_stand() {
        let (web, admin) = ("URI=spiffe://example.org/web", "URI=spiffe://example.org/admin");
        for header in [
            format!("{web};{admin}"),
            format!("{web};DNS=x;{admin}"),
            format!("{web};Hash=ab;Subject=\"URI=a\";{admin}"),
            format!("{web};DNS=x;{web}"),
            format!("{web};DNS=x;uri=spiffe://example.org/admin"),
            format!("{web},{admin}"),
        ] {
            let document = sanitized(&header);
            assert_eq!(document["source"], Value::Undefined, "{header}: {document}");
            assert_eq!(document["xfcc"]["claimed"], Value::from(false), "{header}");
        }
    }
}
