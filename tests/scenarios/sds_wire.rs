//! SDS byte by byte: names, versions, nonces, ACK and NACK, and what is refused, with the words that clients of
//! SPIRE's agent know. Every answer is decoded and encoded again by other people's code, which must give the same
//! bytes.

use envoy_types::pb::{
    envoy::{
        config::core::v3::{BuildVersion, Node, node::UserAgentVersionType},
        extensions::transport_sockets::tls::v3::{
            CertificateValidationContext, SpiffeCertValidatorConfig, secret::Type,
        },
        r#type::v3::SemanticVersion,
    },
    google::protobuf::{Struct, Value, value::Kind},
};
use prost::Message;
use tonic::Code;
use vouch_tests::{
    Agent, Need, Settings, grpc, require,
    sds::{Stream, chain, fetch, inline, secrets},
    settings::entry_of_user,
    x509,
};

const WEB: &str = "spiffe://example.org/web";
const TRUST_DOMAIN: &str = "spiffe://example.org";

/// This test's own process has one identity.
fn agent() -> Agent {
    Agent::start(Settings::new([entry_of_user(WEB, 0)]))
}

#[tokio::test]
async fn every_name_that_spire_serves_is_served() {
    require!(Need::Agent, Need::Root);
    let agent = agent();
    for name in ["default", WEB] {
        let answer = fetch(&agent.socket(), &[name]).await.expect("it is served");
        let [secret] = secrets(&answer).try_into().expect("one secret");
        assert_eq!(secret.name, name);
        let certificates = x509::certificates(&chain(&secret).expect("a TLS certificate"));
        assert_eq!(x509::facts(&certificates[0]).uris, [WEB]);
    }
    for name in ["ROOTCA", "ALL", TRUST_DOMAIN] {
        let answer = fetch(&agent.socket(), &[name]).await.expect("it is served");
        let [secret] = secrets(&answer).try_into().expect("one secret");
        assert_eq!(secret.name, name);
        let Some(Type::ValidationContext(context)) = secret.r#type else {
            panic!("{name} is a validation context")
        };
        let validator = validator(&context).expect("a current client gets the SPIFFE validator");
        assert_eq!(validator.trust_domains.len(), 1);
        assert_eq!(validator.trust_domains[0].name, "example.org");
    }
}

#[tokio::test]
async fn no_name_means_everything() {
    require!(Need::Agent, Need::Root);
    let agent = agent();
    let answer = fetch(&agent.socket(), &[]).await.expect("it is served");
    let mut names: Vec<_> = secrets(&answer).into_iter().map(|secret| secret.name).collect();
    names.sort();
    assert_eq!(names, [TRUST_DOMAIN, WEB]);
}

#[tokio::test]
async fn an_unknown_name_ends_the_stream_with_its_text() {
    require!(Need::Agent, Need::Root);
    let agent = agent();
    let refused = "workload is not authorized for the requested identities [\"spiffe://example.org/other\"]";
    let names = ["default", "spiffe://example.org/other"];
    let status = match Stream::open(&agent.socket(), &names).await {
        Ok(mut stream) => stream.end().await,
        Err(status) => status,
    };
    assert_eq!((status.code(), grpc::before_the_decision(&status)), (Code::InvalidArgument, refused));
    let status = fetch(&agent.socket(), &names).await.expect_err("it is refused");
    assert_eq!((status.code(), grpc::before_the_decision(&status)), (Code::InvalidArgument, refused));
}

#[tokio::test]
async fn a_caller_without_identity_gets_bundles_and_nothing_else() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(Settings::new([entry_of_user(WEB, vouch_tests::user::STRANGER)]));
    assert!(fetch(&agent.socket(), &["ROOTCA"]).await.is_ok());
    let status = fetch(&agent.socket(), &["default"]).await.expect_err("it is refused");
    assert_eq!(status.code(), Code::InvalidArgument);
    let refused = "workload is not authorized for the requested identities [\"default\"]";
    assert_eq!(grpc::before_the_decision(&status), refused);
}

#[tokio::test]
async fn neither_ack_nor_nack_nor_a_stale_nonce_is_answered() {
    require!(Need::Agent, Need::Root);
    let agent = agent();
    let mut stream = Stream::open(&agent.socket(), &["default"]).await.expect("a stream");
    let first = stream.next().await.expect("an answer");
    stream.ack().await.expect("the stream is open");
    stream.stays_quiet().await;
    stream.nack("this Envoy wants none of it").await.expect("the stream is open");
    stream.stays_quiet().await;
    let stale = envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest {
        response_nonce: format!("{}-stale", first.nonce),
        ..vouch_tests::sds::request(&["ROOTCA"])
    };
    stream.send(stale).await.expect("the stream is open");
    stream.stays_quiet().await;
}

#[tokio::test]
async fn the_version_is_the_content_and_the_nonce_is_the_answer() {
    require!(Need::Agent, Need::Root);
    let agent = agent();
    let mut one = Stream::open(&agent.socket(), &["default"]).await.expect("a stream");
    let mut two = Stream::open(&agent.socket(), &["default"]).await.expect("a stream");
    let (first, second) = (one.next().await.expect("an answer"), two.next().await.expect("an answer"));
    assert_eq!(first.version_info, second.version_info, "the same content on two streams");
    drop(two);
    let mut again = Stream::open(&agent.socket(), &["default"]).await.expect("a stream");
    assert_eq!(
        again.next().await.expect("an answer").version_info,
        first.version_info,
        "and after a reconnect"
    );

    one.ask(&["ROOTCA"]).await.expect("the stream is open");
    let other = one.next().await.expect("other names are answered");
    assert_ne!(other.nonce, first.nonce);
    assert_ne!(other.version_info, first.version_info);
    one.ask(&["default"]).await.expect("the stream is open");
    let back = one.next().await.expect("other names are answered");
    assert_eq!(back.version_info, first.version_info, "the content is what it was");
    assert!(back.nonce != other.nonce && back.nonce != first.nonce, "no nonce is used twice");
    assert!(!first.nonce.is_empty());
}

#[tokio::test]
async fn many_names_on_one_stream_come_in_one_answer() {
    require!(Need::Agent, Need::Root);
    let agent = agent();
    let mut stream = Stream::open(&agent.socket(), &["default", "ROOTCA"]).await.expect("a stream");
    let mut names: Vec<_> =
        secrets(&stream.next().await.expect("an answer")).into_iter().map(|secret| secret.name).collect();
    names.sort();
    assert_eq!(names, ["ROOTCA", "default"]);
}

#[tokio::test]
async fn an_envoy_without_the_spiffe_validator_gets_plain_roots() {
    require!(Need::Agent, Need::Root);
    let agent = agent();
    let old = Node {
        user_agent_version_type: Some(UserAgentVersionType::UserAgentBuildVersion(BuildVersion {
            version: Some(SemanticVersion { major_number: 1, minor_number: 17, patch: 4 }),
            metadata: None,
        })),
        ..Node::default()
    };
    let switched_off = |kind| Node {
        metadata: Some(Struct {
            fields: [("disable_spiffe_cert_validation".to_owned(), Value { kind: Some(kind) })].into(),
        }),
        ..Node::default()
    };
    for node in [old, switched_off(Kind::BoolValue(true)), switched_off(Kind::StringValue("true".to_owned()))]
    {
        let channel = grpc::channel(&agent.socket());
        let mut stream = Stream::open_as(&channel, &["ROOTCA"], Some(node.clone())).await.expect("a stream");
        let [secret] = secrets(&stream.next().await.expect("an answer")).try_into().expect("one secret");
        let Some(Type::ValidationContext(context)) = secret.r#type else { panic!("a validation context") };
        assert!(validator(&context).is_none(), "{node:?}");
        let roots = inline(context.trusted_ca.as_ref().expect("roots")).expect("inline bytes");
        assert_eq!(x509::certificates(&roots).len(), 1);
    }
}

#[tokio::test]
async fn a_build_version_without_a_version_is_ordinary_input() {
    require!(Need::Agent, Need::Root);
    let agent = agent();
    let odd = Node {
        user_agent_version_type: Some(UserAgentVersionType::UserAgentBuildVersion(BuildVersion::default())),
        ..Node::default()
    };
    let mut stream =
        Stream::open_as(&grpc::channel(&agent.socket()), &["ROOTCA"], Some(odd)).await.expect("a stream");
    assert_eq!(secrets(&stream.next().await.expect("an answer")).len(), 1);
}

#[tokio::test]
async fn a_key_belongs_to_its_certificate_and_the_chain_ends_at_the_bundle() {
    require!(Need::Agent, Need::Root);
    let agent = agent();
    let answer = fetch(&agent.socket(), &["default"]).await.expect("it is served");
    let [secret] = secrets(&answer).try_into().expect("one secret");
    let Some(Type::TlsCertificate(certificate)) = &secret.r#type else { panic!("a TLS certificate") };
    let key = inline(certificate.private_key.as_ref().expect("a key")).expect("inline bytes");
    let key =
        rcgen::KeyPair::from_pem(std::str::from_utf8(&key).expect("PEM is ASCII")).expect("a PKCS#8 key");
    let leaf = x509::certificates(&chain(&secret).expect("a chain")).remove(0);
    let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).expect("a certificate");
    assert_eq!(leaf.public_key().subject_public_key.data.as_ref(), key.public_key_raw());
}

fn validator(context: &CertificateValidationContext) -> Option<SpiffeCertValidatorConfig> {
    let custom = context.custom_validator_config.as_ref()?;
    assert_eq!(custom.name, "envoy.tls.cert_validator.spiffe");
    let any = custom.typed_config.as_ref().expect("a typed configuration");
    assert_eq!(
        any.type_url,
        "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig"
    );
    let config = SpiffeCertValidatorConfig::decode(any.value.as_slice()).expect("a validator configuration");
    assert_eq!(config.encode_to_vec(), any.value, "encoded as others encode it");
    Some(config)
}
