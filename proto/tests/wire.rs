//! Our subset against an independent crate that holds Envoy's messages in full: what one writes, the other reads,
//! and writes back byte for byte.

#![expect(clippy::unwrap_used, reason = "what cannot be read fails the test")]

use envoy_types::pb::envoy::{
    config::core::v3 as full_core, extensions::transport_sockets::tls::v3 as full_tls,
    service::auth::v3 as full_auth, service::discovery::v3 as full,
};
use prost::Message;
use prost_types::{Any, Struct, Value, value::Kind};
use vouch_proto::{
    envoy::{
        config::core::v3::{
            Address, BuildVersion, DataSource, EnvoyInternalAddress, HeaderMap, HeaderValue,
            HeaderValueOption, Metadata, Node, Pipe, QueryParameter, SemanticVersion, SocketAddress,
            TypedExtensionConfig, address, data_source::Specifier, envoy_internal_address,
            socket_address::PortSpecifier,
        },
        extensions::transport_sockets::tls::v3::{
            CertificateValidationContext, Secret, SpiffeCertValidatorConfig, TlsCertificate, secret,
            spiffe_cert_validator_config::TrustDomain,
        },
        service::{
            auth::v3::{
                AttributeContext, CheckRequest, CheckResponse, DeniedHttpResponse, HttpStatus,
                OkHttpResponse,
                attribute_context::{HttpRequest, Peer, Request, TlsSession},
                check_response::HttpResponse,
            },
            discovery::v3::{DiscoveryRequest, DiscoveryResponse},
        },
    },
    google::rpc::Status,
};

/// What `Full` reads of our bytes, after it has written the same bytes back.
fn read_by<Full: Message + Default>(ours: &impl Message) -> Full {
    let bytes = ours.encode_to_vec();
    let full = Full::decode(&*bytes).unwrap();
    assert_eq!(full.encode_to_vec(), bytes);
    full
}

fn inline(text: &str) -> Option<DataSource> {
    Some(DataSource { specifier: Some(Specifier::InlineBytes(text.as_bytes().to_vec())) })
}

#[test]
fn a_request_is_envoys() {
    let metadata = Struct {
        fields: [("k".to_owned(), Value { kind: Some(Kind::BoolValue(true)) })].into_iter().collect(),
    };
    let full: full::DiscoveryRequest = read_by(&DiscoveryRequest {
        version_info: "v".into(),
        node: Some(Node {
            id: "n".into(),
            cluster: "c".into(),
            metadata: Some(metadata),
            user_agent_name: "envoy".into(),
            user_agent_build_version: Some(BuildVersion {
                version: Some(SemanticVersion { major_number: 1, minor_number: 40, patch: 2 }),
            }),
        }),
        resource_names: vec!["a".into(), "b".into()],
        type_url: "t".into(),
        response_nonce: "7".into(),
        error_detail: Some(Status { code: 3, message: "no".into() }),
    });
    assert_eq!((&*full.version_info, &*full.response_nonce, full.resource_names.len()), ("v", "7", 2));
    assert_eq!(full.error_detail.unwrap().message, "no");
    let node = full.node.unwrap();
    assert_eq!((&*node.id, &*node.cluster, &*node.user_agent_name), ("n", "c", "envoy"));
    let Some(full_core::node::UserAgentVersionType::UserAgentBuildVersion(build)) =
        node.user_agent_version_type
    else {
        panic!("the version is where Envoy keeps it")
    };
    assert_eq!(build.version.unwrap().minor_number, 40);
}

#[test]
fn a_response_with_its_secrets_is_envoys() {
    let certificate = Secret {
        name: "default".into(),
        r#type: Some(secret::Type::TlsCertificate(TlsCertificate {
            certificate_chain: inline("chain"),
            private_key: inline("key"),
        })),
    };
    let full: full_tls::Secret = read_by(&certificate);
    let Some(full_tls::secret::Type::TlsCertificate(read)) = full.r#type else {
        panic!("it is a certificate")
    };
    let bytes = |source: Option<full_core::DataSource>| match source.unwrap().specifier.unwrap() {
        full_core::data_source::Specifier::InlineBytes(bytes) => bytes,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        (bytes(read.certificate_chain), bytes(read.private_key)),
        (b"chain".to_vec(), b"key".to_vec())
    );

    let trust_domains = vec![TrustDomain { name: "example.org".into(), trust_bundle: inline("roots") }];
    let validator = SpiffeCertValidatorConfig { trust_domains };
    let _: full_tls::SpiffeCertValidatorConfig = read_by(&validator);
    let extension = TypedExtensionConfig {
        name: "envoy.tls.cert_validator.spiffe".into(),
        typed_config: Some(Any { type_url: "t".into(), value: validator.encode_to_vec() }),
    };
    for context in [
        CertificateValidationContext { custom_validator_config: Some(extension), trusted_ca: None },
        CertificateValidationContext { custom_validator_config: None, trusted_ca: inline("roots") },
    ] {
        let secret = Secret { name: "ROOTCA".into(), r#type: Some(secret::Type::ValidationContext(context)) };
        let _: full_tls::Secret = read_by(&secret);
    }

    let full: full::DiscoveryResponse = read_by(&DiscoveryResponse {
        version_info: "v".into(),
        resources: vec![Any { type_url: "t".into(), value: certificate.encode_to_vec() }],
        type_url: "t".into(),
        nonce: "7".into(),
    });
    assert_eq!((full.resources.len(), &*full.nonce), (1, "7"));
}

fn text(of: &str) -> Struct {
    let value = Value { kind: Some(Kind::StringValue(of.into())) };
    Struct { fields: [(of.to_owned(), value)].into_iter().collect() }
}

fn one(key: &str, value: &str) -> std::collections::BTreeMap<String, String> {
    [(key.to_owned(), value.to_owned())].into()
}

#[test]
fn a_question_of_authorization_is_envoys() {
    let socket = SocketAddress {
        protocol: 1,
        address: "10.1.2.9".into(),
        resolver_name: "r".into(),
        ipv4_compat: true,
        network_namespace_filepath: "/n".into(),
        port_specifier: Some(PortSpecifier::PortValue(41234)),
    };
    let named =
        SocketAddress { port_specifier: Some(PortSpecifier::NamedPort("http".into())), ..socket.clone() };
    let internal = EnvoyInternalAddress {
        endpoint_id: "e".into(),
        address_name_specifier: Some(envoy_internal_address::AddressNameSpecifier::ServerListenerName(
            "l".into(),
        )),
    };
    let metadata = Metadata {
        filter_metadata: [("f".to_owned(), text("v"))].into(),
        typed_filter_metadata: [("t".to_owned(), Any { type_url: "u".into(), value: vec![1, 2] })].into(),
    };
    let http = HttpRequest {
        id: "1335".into(),
        method: "GET".into(),
        headers: one("x", "y"),
        path: "/data".into(),
        host: "h".into(),
        scheme: "https".into(),
        query: "q".into(),
        fragment: "g".into(),
        size: -1,
        protocol: "HTTP/1.1".into(),
        body: "b".into(),
        raw_body: vec![255],
        header_map: Some(HeaderMap {
            headers: vec![HeaderValue { key: "k".into(), value: "v".into(), raw_value: vec![254] }],
        }),
    };
    for address in [
        address::Address::SocketAddress(socket),
        address::Address::SocketAddress(named),
        address::Address::Pipe(Pipe { path: "/p".into(), mode: 0o600 }),
        address::Address::EnvoyInternalAddress(internal),
    ] {
        let peer = Peer {
            address: Some(Address { address: Some(address) }),
            service: "s".into(),
            labels: one("l", "m"),
            principal: "spiffe://example.org/web".into(),
            certificate: "pem".into(),
        };
        let attributes = AttributeContext {
            source: Some(peer.clone()),
            destination: Some(peer),
            request: Some(Request {
                time: Some(prost_types::Timestamp { seconds: 7, nanos: 8 }),
                http: Some(http.clone()),
            }),
            context_extensions: one("service", "ec-backend"),
            metadata_context: Some(metadata.clone()),
            tls_session: Some(TlsSession { sni: "n".into() }),
            route_metadata_context: Some(metadata.clone()),
        };
        let full: full_auth::CheckRequest = read_by(&CheckRequest { attributes: Some(attributes) });
        let attributes = full.attributes.unwrap();
        assert_eq!(attributes.source.unwrap().principal, "spiffe://example.org/web");
        assert_eq!(attributes.context_extensions["service"], "ec-backend");
        assert_eq!(attributes.request.unwrap().http.unwrap().raw_body, [255]);
    }
}

#[test]
fn an_answer_about_authorization_is_envoys() {
    let header = HeaderValueOption {
        header: Some(HeaderValue { key: "k".into(), value: "v".into(), raw_value: vec![] }),
        append: Some(true),
        append_action: 2,
        keep_empty_value: true,
    };
    let parameter = QueryParameter { key: "a".into(), value: "b".into() };
    for http_response in [
        HttpResponse::DeniedResponse(DeniedHttpResponse {
            status: Some(HttpStatus { code: 403 }),
            headers: vec![header.clone()],
            body: "no".into(),
        }),
        HttpResponse::OkResponse(OkHttpResponse {
            headers: vec![header.clone()],
            headers_to_remove: vec!["gone".into()],
            response_headers_to_add: vec![header],
            query_parameters_to_set: vec![parameter],
            query_parameters_to_remove: vec!["c".into()],
        }),
    ] {
        let full: full_auth::CheckResponse = read_by(&CheckResponse {
            status: Some(Status { code: 7, message: "m".into() }),
            http_response: Some(http_response),
            dynamic_metadata: Some(text("decision_id")),
        });
        match full.http_response.unwrap() {
            full_auth::check_response::HttpResponse::DeniedResponse(denied) => {
                assert_eq!((denied.status.unwrap().code, &*denied.body), (403, "no"));
            }
            full_auth::check_response::HttpResponse::OkResponse(allowed) => {
                assert_eq!(allowed.headers_to_remove, ["gone"]);
                assert_eq!(allowed.query_parameters_to_remove, ["c"]);
            }
            other => panic!("{other:?}"),
        }
    }
}
