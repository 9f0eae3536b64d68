//! Our subset against an independent crate that holds Envoy's messages in full: what one writes, the other reads,
//! and writes back byte for byte.

#![expect(clippy::unwrap_used, reason = "what cannot be read fails the test")]

use envoy_types::pb::envoy::{
    config::core::v3 as full_core, extensions::transport_sockets::tls::v3 as full_tls,
    service::discovery::v3 as full,
};
use prost::Message;
use prost_types::{Any, Struct, Value, value::Kind};
use vouch_proto::{
    envoy::{
        config::core::v3::{
            BuildVersion, DataSource, Node, SemanticVersion, TypedExtensionConfig, data_source::Specifier,
        },
        extensions::transport_sockets::tls::v3::{
            CertificateValidationContext, Secret, SpiffeCertValidatorConfig, TlsCertificate, secret,
            spiffe_cert_validator_config::TrustDomain,
        },
        service::discovery::v3::{DiscoveryRequest, DiscoveryResponse},
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
