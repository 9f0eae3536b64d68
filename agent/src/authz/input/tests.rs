use proptest::prelude::*;
use prost_types::{Any, ListValue, Struct, Timestamp, value::Kind};
use vouch_proto::envoy::{
    config::core::v3::{
        Address, EnvoyInternalAddress, HeaderMap, HeaderValue, Metadata, Pipe, SocketAddress,
        address::Address as AnyAddress, envoy_internal_address::AddressNameSpecifier,
        socket_address::PortSpecifier,
    },
    service::auth::v3::attribute_context::{Peer, Request, TlsSession},
};

use super::*;

mod bodies;
mod urls;

fn json(text: &str) -> Value {
    Value::from_json_str(text).unwrap()
}

fn asked(http: HttpRequest) -> AttributeContext {
    let request = Request { http: Some(http), time: None };
    AttributeContext { request: Some(request), ..AttributeContext::default() }
}

fn input(http: HttpRequest) -> Result<Value, BadRequest> {
    document(&asked(http), &InputOptions::default(), None)
}

fn socket(address: &str, port: u32) -> Option<Address> {
    let port_specifier = Some(PortSpecifier::PortValue(port));
    let socket = SocketAddress { address: address.into(), port_specifier, ..SocketAddress::default() };
    Some(Address { address: Some(AnyAddress::SocketAddress(socket)) })
}

fn peer(address: &str, port: u32, principal: &str) -> Option<Peer> {
    Some(Peer { address: socket(address, port), principal: principal.into(), ..Peer::default() })
}

fn headers(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A request with something of each kind.
fn usual() -> AttributeContext {
    let path = "/data?a=1&a=2&b=%20x+y";
    let xfcc = "By=...;Hash=...;URI=spiffe://example.org/ec-web";
    let http = HttpRequest {
        id: "1335".into(),
        method: "GET".into(),
        host: "ec-backend:8000".into(),
        scheme: "https".into(),
        protocol: "HTTP/1.1".into(),
        path: path.into(),
        headers: headers(&[(":path", path), (":method", "GET"), ("x-forwarded-client-cert", xfcc)]),
        ..HttpRequest::default()
    };
    let time = Timestamp { seconds: 1_795_341_600, nanos: 123_456_789 };
    AttributeContext {
        source: peer("10.1.2.9", 41234, "spiffe://example.org/ec-web"),
        destination: peer("10.1.2.3", 8000, "spiffe://example.org/ec-backend"),
        metadata_context: Some(Metadata::default()),
        request: Some(Request { time: Some(time), http: Some(http) }),
        ..AttributeContext::default()
    }
}

#[test]
fn a_request_as_envoy_sends_it() {
    let expected = r#"{"attributes":{
        "source":{"address":{"socketAddress":{"address":"10.1.2.9","portValue":41234}},
            "principal":"spiffe://example.org/ec-web"},
        "destination":{"address":{"socketAddress":{"address":"10.1.2.3","portValue":8000}},
            "principal":"spiffe://example.org/ec-backend"},
        "metadataContext":{},
        "request":{"time":{"seconds":1795341600,"nanos":123456789},
            "http":{"id":"1335","method":"GET","host":"ec-backend:8000","scheme":"https","protocol":"HTTP/1.1",
                "path":"/data?a=1&a=2&b=%20x+y",
                "headers":{":path":"/data?a=1&a=2&b=%20x+y",":method":"GET",
                    "x-forwarded-client-cert":"By=...;Hash=...;URI=spiffe://example.org/ec-web"}}}},
        "parsed_path":["data"],"parsed_query":{"a":["1","2"],"b":[" x y"]},"parsed_body":null,"truncated_body":false,
        "source_principal":"spiffe://example.org/ec-web","version":{"ext_authz":"v3","encoding":"protojson"}}"#;
    let document = document(&usual(), &InputOptions::default(), None).unwrap();
    assert_eq!(document, json(expected));
}

#[test]
fn what_is_unset_or_empty_is_absent() {
    let expected = r#"{"attributes":{},"parsed_path":[""],"parsed_query":{},"parsed_body":null,
        "truncated_body":false,"version":{"ext_authz":"v3","encoding":"protojson"}}"#;
    let nothing = document(&AttributeContext::default(), &InputOptions::default(), None).unwrap();
    assert_eq!(nothing, json(expected));
    // A message that is set but holds nothing is there.
    let attributes = AttributeContext {
        source: Some(Peer { address: Some(Address::default()), ..Peer::default() }),
        request: Some(Request { time: Some(Timestamp::default()), http: None }),
        tls_session: Some(TlsSession::default()),
        route_metadata_context: Some(Metadata::default()),
        ..AttributeContext::default()
    };
    let expected =
        r#"{"source":{"address":{}},"request":{"time":{}},"tlsSession":{},"routeMetadataContext":{}}"#;
    let document = document(&attributes, &InputOptions::default(), None).unwrap();
    assert_eq!(document["attributes"], json(expected));
    assert_eq!(document["source_principal"], Value::Undefined);
}

#[test]
fn every_field_of_a_request_has_its_name_and_type() {
    let http = HttpRequest {
        size: 1 << 40,
        query: "q".into(),
        fragment: "f".into(),
        body: "b".into(),
        raw_body: vec![0xff, 0xfe],
        header_map: Some(HeaderMap {
            headers: vec![
                HeaderValue { key: "k".into(), value: String::new(), raw_value: b"v".to_vec() },
                HeaderValue { key: "l".into(), value: "w".into(), raw_value: vec![] },
            ],
        }),
        ..HttpRequest::default()
    };
    let expected = r#"{"size":1099511627776,"query":"q","fragment":"f","body":"b","rawBody":"//4=",
        "headerMap":{"headers":[{"key":"k","rawValue":"dg=="},{"key":"l","value":"w"}]}}"#;
    assert_eq!(input(http).unwrap()["attributes"]["request"]["http"], json(expected));
    let sizes = |size| input(HttpRequest { size, ..HttpRequest::default() }).unwrap();
    assert_eq!(sizes(-1)["attributes"]["request"]["http"], json(r#"{"size":-1}"#));
    let empty = HttpRequest { header_map: Some(HeaderMap::default()), ..HttpRequest::default() };
    assert_eq!(input(empty).unwrap()["attributes"]["request"]["http"], json(r#"{"headerMap":{}}"#));
}

#[test]
fn every_kind_of_address_has_its_shape() {
    let full = SocketAddress {
        protocol: 1,
        address: "::1".into(),
        port_specifier: Some(PortSpecifier::NamedPort("http".into())),
        resolver_name: "r".into(),
        ipv4_compat: true,
        network_namespace_filepath: "/n".into(),
    };
    let zero =
        SocketAddress { port_specifier: Some(PortSpecifier::PortValue(0)), ..SocketAddress::default() };
    let name = Some(AddressNameSpecifier::ServerListenerName("l".into()));
    for (address, expected) in [
        (
            AnyAddress::SocketAddress(full),
            r#"{"socketAddress":{"protocol":1,"address":"::1","namedPort":"http","resolverName":"r",
                "ipv4Compat":true,"networkNamespaceFilepath":"/n"}}"#,
        ),
        (AnyAddress::SocketAddress(zero), r#"{"socketAddress":{"portValue":0}}"#),
        (
            AnyAddress::Pipe(Pipe { path: "/run/x".into(), mode: 0o600 }),
            r#"{"pipe":{"path":"/run/x","mode":384}}"#,
        ),
        (
            AnyAddress::EnvoyInternalAddress(EnvoyInternalAddress {
                address_name_specifier: name,
                endpoint_id: "e".into(),
            }),
            r#"{"envoyInternalAddress":{"serverListenerName":"l","endpointId":"e"}}"#,
        ),
    ] {
        let address = Some(Address { address: Some(address) });
        let source = Peer { address, service: "s".into(), ..Peer::default() };
        let attributes = AttributeContext { source: Some(source), ..AttributeContext::default() };
        let document = document(&attributes, &InputOptions::default(), None).unwrap();
        assert_eq!(document["attributes"]["source"]["address"], json(expected));
    }
}

#[test]
fn a_peer_and_what_surrounds_a_request_come_whole() {
    let source = Peer {
        labels: headers(&[("app", "web")]),
        certificate: "-----BEGIN%20CERTIFICATE".into(),
        ..Peer::default()
    };
    let attributes = AttributeContext {
        source: Some(source),
        context_extensions: headers(&[("service", "ec-backend")]),
        tls_session: Some(TlsSession { sni: "example.org".into() }),
        ..AttributeContext::default()
    };
    let expected = r#"{"source":{"labels":{"app":"web"},"certificate":"-----BEGIN%20CERTIFICATE"},
        "contextExtensions":{"service":"ec-backend"},"tlsSession":{"sni":"example.org"}}"#;
    let document = document(&attributes, &InputOptions::default(), None).unwrap();
    assert_eq!(document["attributes"], json(expected));
}

#[test]
fn metadata_are_plain_objects_and_what_is_typed_comes_field_by_field() {
    let value = |kind| prost_types::Value { kind: Some(kind) };
    let list = ListValue { values: vec![value(Kind::BoolValue(true)), prost_types::Value { kind: None }] };
    let inner =
        Struct { fields: [("x".to_owned(), value(Kind::StringValue("".into())))].into_iter().collect() };
    let fields = [
        ("count", Kind::NumberValue(1.0)),
        ("half", Kind::NumberValue(0.5)),
        ("large", Kind::NumberValue(1e20)),
        ("nan", Kind::NumberValue(f64::NAN)),
        ("infinite", Kind::NumberValue(f64::NEG_INFINITY)),
        ("null", Kind::NullValue(0)),
        ("list", Kind::ListValue(list)),
        ("inner", Kind::StructValue(inner)),
    ];
    let fields = fields.into_iter().map(|(key, kind)| (key.to_owned(), value(kind))).collect();
    let metadata = Metadata {
        filter_metadata: [("f".to_owned(), Struct { fields }), ("e".to_owned(), Struct::default())].into(),
        typed_filter_metadata: [
            ("t".to_owned(), Any { type_url: "u".into(), value: vec![1, 2, 255] }),
            ("e".to_owned(), Any::default()),
        ]
        .into(),
    };
    let attributes = AttributeContext { metadata_context: Some(metadata), ..AttributeContext::default() };
    let expected = r#"{"filterMetadata":{"e":{},"f":{"count":1,"half":0.5,"large":100000000000000000000,"nan":"NaN",
            "infinite":"-Infinity","null":null,"list":[true,null],"inner":{"x":""}}},
        "typedFilterMetadata":{"e":{},"t":{"typeUrl":"u","value":"AQL/"}}}"#;
    let document = document(&attributes, &InputOptions::default(), None).unwrap();
    assert_eq!(document["attributes"]["metadataContext"], json(expected));
    let count = &document["attributes"]["metadataContext"]["filterMetadata"]["f"]["count"];
    assert_eq!(count.to_string(), "1");
}

#[test]
fn the_node_adds_what_it_knows_under_one_key() {
    let spiffe = json(r#"{"source":{"id":"spiffe://example.org/ec-web"}}"#);
    let without = document(&asked(HttpRequest::default()), &InputOptions::default(), None).unwrap();
    let with =
        document(&asked(HttpRequest::default()), &InputOptions::default(), Some(spiffe.clone())).unwrap();
    assert_eq!((&without["spiffe"], &with["spiffe"]), (&Value::Undefined, &spiffe));
    let keys = |document: &Value| document.as_object().unwrap().len();
    assert_eq!(keys(&with), keys(&without) + 1);
}

/// `value`, laid out as a field of that name, is what JSON says it is: keys come sorted whatever was put first.
#[test]
fn fields_are_found_whatever_their_order() {
    let source = SocketAddress {
        protocol: 1,
        ipv4_compat: true,
        port_specifier: Some(PortSpecifier::PortValue(1)),
        ..SocketAddress::default()
    };
    let address = Some(Address { address: Some(AnyAddress::SocketAddress(source)) });
    let attributes =
        AttributeContext { source: Some(Peer { address, ..Peer::default() }), ..AttributeContext::default() };
    let document = document(&attributes, &InputOptions::default(), None).unwrap();
    let socket = &document["attributes"]["source"]["address"]["socketAddress"];
    for (key, value) in [("ipv4Compat", Value::from(true)), ("portValue", 1.into()), ("protocol", 1.into())] {
        assert_eq!(socket[key], value, "{key}");
    }
}

#[test]
fn what_nobody_reads_is_not_made_and_a_bad_request_stays_one() {
    let none = Parts::default();
    let little = |attributes: &AttributeContext| {
        let spiffe = || panic!("nobody reads it");
        document_for(&none, attributes, &InputOptions::default(), spiffe)
    };
    assert_eq!(little(&usual()).unwrap()["attributes"], Value::Undefined);
    let bad = asked(HttpRequest { path: "/%zz".into(), ..HttpRequest::default() });
    assert_eq!(little(&bad).unwrap_err(), document(&bad, &InputOptions::default(), None).unwrap_err());
}

/// Places of the input, some of which no request has.
const PLACES: [&str; 28] = [
    "attributes",
    "attributes/contextExtensions",
    "attributes/contextExtensions/a",
    "attributes/destination/address",
    "attributes/metadataContext",
    "attributes/request",
    "attributes/request/http",
    "attributes/request/http/body",
    "attributes/request/http/headers",
    "attributes/request/http/headers/:method",
    "attributes/request/http/headers/nobody",
    "attributes/request/http/headers/x-forwarded-client-cert",
    "attributes/request/http/host",
    "attributes/request/http/id",
    "attributes/request/http/method",
    "attributes/request/http/method/no",
    "attributes/request/http/path",
    "attributes/request/http/protocol",
    "attributes/request/http/query",
    "attributes/request/http/scheme",
    "attributes/request/http/size",
    "attributes/request/time/nanos",
    "attributes/routeMetadataContext",
    "attributes/source/principal",
    "parsed_query/a",
    "source_principal",
    "spiffe/caller",
    "version",
];

proptest! {
    #[test]
    fn what_is_read_is_the_same_however_little_is_made(places in proptest::sample::subsequence(&PLACES, 0..6)) {
        let mut reads = Parts::default();
        for place in places {
            reads.add(&place.split('/').map(str::to_owned).collect::<Vec<_>>());
        }
        let spiffe = || Some(json(r#"{"caller": {"pid": 7}}"#));
        let made = |reads| {
            document_for(reads, &usual(), &InputOptions::default(), spiffe).unwrap()
        };
        prop_assert_eq!(reads.cut(&made(&reads)), reads.cut(&made(&Parts::All)));
    }

    #[test]
    fn no_request_is_too_strange(path in ".*", body in ".*", kind in 0..5_usize, length in ".{0,3}") {
        let kinds = ["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a", "application/grpc", ""];
        let headers = headers(&[("content-type", kinds[kind]), ("content-length", &length)]);
        let _ = input(HttpRequest { path, body, headers, ..HttpRequest::default() });
    }
}
