//! The message itself, field by field.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use prost_types::{Any, Struct, Timestamp, value::Kind};
use regorus::Value;
use vouch_proto::envoy::{
    config::core::v3::{
        Address, EnvoyInternalAddress, HeaderMap, HeaderValue, Metadata, Pipe, SocketAddress,
        address::Address as AnyAddress, envoy_internal_address::AddressNameSpecifier,
        socket_address::PortSpecifier,
    },
    service::auth::v3::{
        AttributeContext,
        attribute_context::{HttpRequest, Peer, Request, TlsSession},
    },
};

use super::keys::Keys;
use crate::authz::{object::Fields, parts::Parts};

pub(super) fn value(keys: &Keys, reads: &Parts, attributes: &AttributeContext) -> Value {
    let mut fields = Fields::with_capacity(7);
    let own = &attributes.context_extensions;
    fields.some(&keys.context_extensions, texts(reads.under("contextExtensions"), own));
    let destination = attributes.destination.as_ref().filter(|_| reads.has("destination"));
    fields.some(&keys.destination, destination.map(|peer| self::peer(keys, peer)));
    let context = attributes.metadata_context.as_ref().filter(|_| reads.has("metadataContext"));
    fields.some(&keys.metadata_context, context.map(|metadata| self::metadata(keys, metadata)));
    let request = attributes.request.as_ref().filter(|_| reads.has("request"));
    fields.some(&keys.request, request.map(|request| self::request(keys, reads.under("request"), request)));
    let context = attributes.route_metadata_context.as_ref().filter(|_| reads.has("routeMetadataContext"));
    fields.some(&keys.route_metadata_context, context.map(|metadata| self::metadata(keys, metadata)));
    let source = attributes.source.as_ref().filter(|_| reads.has("source"));
    fields.some(&keys.source, source.map(|peer| self::peer(keys, peer)));
    fields.some(&keys.tls_session, attributes.tls_session.as_ref().map(|session| tls_session(keys, session)));
    fields.into_value()
}

fn peer(keys: &Keys, peer: &Peer) -> Value {
    let mut fields = Fields::with_capacity(5);
    fields.some(&keys.address, peer.address.as_ref().map(|address| self::address(keys, address)));
    fields.text(&keys.certificate, &peer.certificate);
    fields.some(&keys.labels, texts(&Parts::All, &peer.labels));
    fields.text(&keys.principal, &peer.principal);
    fields.text(&keys.service, &peer.service);
    fields.into_value()
}

fn address(keys: &Keys, address: &Address) -> Value {
    let mut fields = Fields::with_capacity(1);
    match &address.address {
        None => {}
        Some(AnyAddress::SocketAddress(socket)) => {
            fields.put(keys.socket_address.clone(), socket_address(keys, socket));
        }
        Some(AnyAddress::Pipe(pipe)) => fields.put(keys.pipe.clone(), self::pipe(keys, pipe)),
        Some(AnyAddress::EnvoyInternalAddress(internal)) => {
            fields.put(keys.envoy_internal_address.clone(), internal_address(keys, internal));
        }
    }
    fields.into_value()
}

fn socket_address(keys: &Keys, socket: &SocketAddress) -> Value {
    let mut fields = Fields::with_capacity(4);
    fields.text(&keys.address, &socket.address);
    fields.scalar(&keys.ipv4_compat, socket.ipv4_compat);
    // One of several that is set is there whatever it holds.
    if let Some(PortSpecifier::NamedPort(name)) = &socket.port_specifier {
        fields.put(keys.named_port.clone(), (&**name).into());
    }
    fields.text(&keys.network_namespace_filepath, &socket.network_namespace_filepath);
    if let Some(PortSpecifier::PortValue(port)) = socket.port_specifier {
        fields.put(keys.port_value.clone(), port.into());
    }
    fields.scalar(&keys.protocol, socket.protocol);
    fields.text(&keys.resolver_name, &socket.resolver_name);
    fields.into_value()
}

fn pipe(keys: &Keys, pipe: &Pipe) -> Value {
    let mut fields = Fields::with_capacity(2);
    fields.scalar(&keys.mode, pipe.mode);
    fields.text(&keys.path, &pipe.path);
    fields.into_value()
}

fn internal_address(keys: &Keys, internal: &EnvoyInternalAddress) -> Value {
    let mut fields = Fields::with_capacity(2);
    fields.text(&keys.endpoint_id, &internal.endpoint_id);
    if let Some(AddressNameSpecifier::ServerListenerName(name)) = &internal.address_name_specifier {
        fields.put(keys.server_listener_name.clone(), (&**name).into());
    }
    fields.into_value()
}

fn request(keys: &Keys, reads: &Parts, request: &Request) -> Value {
    let mut fields = Fields::with_capacity(2);
    let http = request.http.as_ref().filter(|_| reads.has("http"));
    fields.some(&keys.http, http.map(|http| self::http(keys, reads.under("http"), http)));
    let time = request.time.as_ref().filter(|_| reads.has("time"));
    fields.some(&keys.time, time.map(|time| timestamp(keys, time)));
    fields.into_value()
}

fn timestamp(keys: &Keys, time: &Timestamp) -> Value {
    let mut fields = Fields::with_capacity(2);
    fields.scalar(&keys.nanos, time.nanos);
    fields.scalar(&keys.seconds, time.seconds);
    fields.into_value()
}

fn http(keys: &Keys, reads: &Parts, http: &HttpRequest) -> Value {
    let mut fields = Fields::with_capacity(12);
    let text = |fields: &mut Fields, name: &str, key: &Value, text: &str| {
        if reads.has(name) {
            fields.text(key, text);
        }
    };
    text(&mut fields, "body", &keys.body, &http.body);
    text(&mut fields, "fragment", &keys.fragment, &http.fragment);
    let map = http.header_map.as_ref().filter(|_| reads.has("headerMap"));
    fields.some(&keys.header_map, map.map(|map| header_map(keys, map)));
    fields.some(&keys.headers, texts(reads.under("headers"), &http.headers));
    text(&mut fields, "host", &keys.host, &http.host);
    text(&mut fields, "id", &keys.id, &http.id);
    text(&mut fields, "method", &keys.method, &http.method);
    text(&mut fields, "path", &keys.path, &http.path);
    text(&mut fields, "protocol", &keys.protocol, &http.protocol);
    text(&mut fields, "query", &keys.query, &http.query);
    if reads.has("rawBody") {
        fields.some(&keys.raw_body, bytes(&http.raw_body));
    }
    text(&mut fields, "scheme", &keys.scheme, &http.scheme);
    fields.scalar(&keys.size, http.size);
    fields.into_value()
}

fn header_map(keys: &Keys, map: &HeaderMap) -> Value {
    let mut fields = Fields::with_capacity(1);
    if !map.headers.is_empty() {
        let headers = map.headers.iter().map(|header| header_value(keys, header));
        fields.put(keys.headers.clone(), headers.collect::<Vec<_>>().into());
    }
    fields.into_value()
}

fn header_value(keys: &Keys, header: &HeaderValue) -> Value {
    let mut fields = Fields::with_capacity(3);
    fields.text(&keys.key, &header.key);
    fields.some(&keys.raw_value, bytes(&header.raw_value));
    fields.text(&keys.value, &header.value);
    fields.into_value()
}

fn tls_session(keys: &Keys, session: &TlsSession) -> Value {
    let mut fields = Fields::with_capacity(1);
    fields.text(&keys.sni, &session.sni);
    fields.into_value()
}

fn metadata(keys: &Keys, metadata: &Metadata) -> Value {
    let mut fields = Fields::with_capacity(2);
    fields.some(&keys.filter_metadata, map(&metadata.filter_metadata, structure));
    fields
        .some(&keys.typed_filter_metadata, map(&metadata.typed_filter_metadata, |any| self::any(keys, any)));
    fields.into_value()
}

/// What it holds is not looked into.
fn any(keys: &Keys, any: &Any) -> Value {
    let mut fields = Fields::with_capacity(2);
    fields.text(&keys.type_url, &any.type_url);
    fields.some(&keys.value, bytes(&any.value));
    fields.into_value()
}

/// A plain object. The depth is bounded by prost, which decodes no deeper than 100 messages.
fn structure(of: &Struct) -> Value {
    object(&of.fields, dynamic)
}

fn dynamic(value: &prost_types::Value) -> Value {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => (*value).into(),
        Some(Kind::NumberValue(number)) => self::number(*number),
        Some(Kind::StringValue(text)) => (&**text).into(),
        Some(Kind::StructValue(inner)) => structure(inner),
        Some(Kind::ListValue(list)) => list.values.iter().map(dynamic).collect::<Vec<_>>().into(),
    }
}

/// What JSON has no number for is its name.
fn number(number: f64) -> Value {
    match number {
        number if number.is_nan() => "NaN".into(),
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        // A number without a fraction is an integer: `count % 2` and printing ask for one.
        number if number.fract() == 0.0 && number.abs() < EXACT => (number as i64).into(),
        number => number.into(),
    }
}

/// Below it every integer is one that a double holds exactly.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Those texts that are read.
fn texts(reads: &Parts, map: &BTreeMap<String, String>) -> Option<Value> {
    match reads {
        Parts::All => self::map(map, |text| (&**text).into()),
        Parts::Of(keys) => {
            let read = keys.keys().filter_map(|key| Some((&**key, &**map.get(key)?)));
            let read: BTreeMap<Value, Value> = read.map(|(key, text)| (key.into(), text.into())).collect();
            (!read.is_empty()).then(|| read.into())
        }
    }
}

/// An empty map is absent.
fn map<T>(map: &BTreeMap<String, T>, value: impl Fn(&T) -> Value) -> Option<Value> {
    (!map.is_empty()).then(|| object(map, value))
}

fn object<T>(map: &BTreeMap<String, T>, value: impl Fn(&T) -> Value) -> Value {
    let fields = map.iter().map(|(key, of)| (Value::from(&**key), value(of)));
    fields.collect::<BTreeMap<_, _>>().into()
}

fn bytes(bytes: &[u8]) -> Option<Value> {
    (!bytes.is_empty()).then(|| STANDARD.encode(bytes).into())
}
