//! What an Envoy of the OPA mesh asks, and what is to be said of it.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use prost::Message as _;
use prost_types::{Timestamp, Value, value::Kind};
use vouch_proto::envoy::{
    config::core::v3::{Address, Metadata, SocketAddress, address, socket_address::PortSpecifier},
    service::auth::v3::{
        AttributeContext, CheckRequest, CheckResponse,
        attribute_context::{HttpRequest, Peer, Request},
        check_response::HttpResponse,
    },
};

use super::mesh::Service;

pub(crate) const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
/// What an Envoy says of a call of its own beside what gRPC wants.
pub(crate) const METADATA: [(&str, &str); 3] =
    [("grpc-timeout", "500m"), ("x-envoy-internal", "true"), ("x-forwarded-for", "10.1.2.3")];
/// The context extension that names the service whose policy decides.
pub(crate) const SERVICE: &str = "service";
/// The response header in which a policy says which version of itself it is.
pub(crate) const VERSION: &str = "x-version";

const TIME: Timestamp = Timestamp { seconds: 1_795_341_600, nanos: 123_456_789 };

/// One that `service`'s policy allows, or would if it did not come from somewhere else.
pub(crate) fn attributes(service: Service, is_allowed: bool) -> AttributeContext {
    let from = if is_allowed { service.client() } else { "stranger" };
    let headers = headers(service, from).into_iter().map(|(name, value)| (name.to_owned(), value));
    let http = HttpRequest {
        id: "13359530607844510314".into(),
        method: "GET".into(),
        headers: headers.collect(),
        path: "/data".into(),
        host: format!("{}:8000", service.name()),
        scheme: "https".into(),
        protocol: "HTTP/1.1".into(),
        ..HttpRequest::default()
    };
    AttributeContext {
        source: Some(peer(from, "10.1.2.9", 41_234)),
        destination: Some(peer(service.name(), "10.1.2.3", 8_000)),
        request: Some(Request { time: Some(TIME), http: Some(http) }),
        context_extensions: BTreeMap::from([(SERVICE.to_owned(), service.name().to_owned())]),
        metadata_context: Some(Metadata::default()),
        ..AttributeContext::default()
    }
}

/// Twelve, as a request has them when two Envoys have passed it on.
fn headers(service: Service, from: &str) -> [(&'static str, String); 12] {
    [
        (":authority", format!("{}:8000", service.name())),
        (":method", "GET".into()),
        (":path", "/data".into()),
        (":scheme", "https".into()),
        ("accept", "*/*".into()),
        ("accept-encoding", "gzip".into()),
        ("user-agent", "curl/8.14.1".into()),
        ("x-envoy-expected-rq-timeout-ms", "15000".into()),
        ("x-forwarded-client-cert", forwarded(service, from)),
        ("x-forwarded-proto", "https".into()),
        ("x-opa-secret", format!("{from}-secret")),
        ("x-request-id", "4f0e1a5e-6b5c-9d57-8f1c-4f2b8a1c7a90".into()),
    ]
}

fn forwarded(service: Service, from: &str) -> String {
    let hash = "0f3c".repeat(16);
    format!("By={};Hash={hash};URI={}", id(service.name()), id(from))
}

fn id(name: &str) -> String {
    format!("spiffe://example.org/{name}")
}

fn peer(name: &str, address: &str, port: u32) -> Peer {
    let socket = SocketAddress {
        address: address.into(),
        port_specifier: Some(PortSpecifier::PortValue(port)),
        ..SocketAddress::default()
    };
    Peer {
        address: Some(Address { address: Some(address::Address::SocketAddress(socket)) }),
        principal: id(name),
        ..Peer::default()
    }
}

/// As a message of gRPC.
pub(crate) fn message(attributes: AttributeContext) -> Vec<u8> {
    crate::sds::grpc(&CheckRequest { attributes: Some(attributes) })
}

/// What an answer says, as far as it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) is_allowed: bool,
    pub(crate) has_decision_id: bool,
    /// Of the policy that says it.
    pub(crate) version: Option<u32>,
}

impl Said {
    /// # Errors
    /// For what is no answer.
    pub(crate) fn read(message: &[u8]) -> Result<Self> {
        let CheckResponse { status, http_response, dynamic_metadata } = CheckResponse::decode(message)?;
        let code = status.map_or(0, |status| status.code);
        ensure!([0, 7].contains(&code), "an answer with status {code}");
        let id = dynamic_metadata.and_then(|mut metadata| metadata.fields.remove("decision_id"));
        let has_decision_id = id.is_some_and(|id| is_text(&id));
        Ok(Self { is_allowed: code == 0, has_decision_id, version: version(http_response) })
    }
}

fn is_text(value: &Value) -> bool {
    matches!(&value.kind, Some(Kind::StringValue(text)) if !text.is_empty())
}

fn version(answer: Option<HttpResponse>) -> Option<u32> {
    let headers = match answer? {
        HttpResponse::OkResponse(ok) => ok.headers,
        HttpResponse::DeniedResponse(denied) => denied.headers,
    };
    let mut headers = headers.into_iter().filter_map(|option| option.header);
    headers.find(|header| header.key == VERSION)?.value.parse().ok()
}
