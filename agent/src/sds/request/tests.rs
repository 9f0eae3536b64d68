use envoy_types::pb::{
    envoy::{
        config::core::v3::{BuildVersion, Extension, Node, node::UserAgentVersionType},
        service::discovery::v3::DiscoveryRequest,
        r#type::v3::SemanticVersion,
    },
    google::{
        protobuf::{Struct, Value, value::Kind},
        rpc::Status,
    },
};
use proptest::prelude::*;
use prost::Message as _;

use super::*;

const LIMITS: Limits = Limits { request_bytes: 1 << 20, names: 8 };

fn framed(message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(message);
    bytes
}

fn read_all(bytes: &[u8], chunk: usize) -> Result<Vec<Request>, ReadError> {
    let mut reader = RequestReader::new(LIMITS);
    let mut requests = vec![];
    for mut piece in bytes.chunks(chunk.max(1)) {
        while let Some(request) = reader.read(&mut piece)? {
            requests.push(request);
        }
    }
    Ok(requests)
}

fn envoy_request() -> DiscoveryRequest {
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.into())) };
    let metadata = [("disable_spiffe_cert_validation", text("true")), ("big", text(&"x".repeat(5000)))];
    DiscoveryRequest {
        version_info: "v1".into(),
        node: Some(Node {
            id: "sidecar".into(),
            metadata: Some(Struct { fields: metadata.map(|(k, v)| (k.to_owned(), v)).into_iter().collect() }),
            user_agent_version_type: Some(UserAgentVersionType::UserAgentBuildVersion(BuildVersion {
                version: Some(SemanticVersion { major_number: 1, minor_number: 17, patch: 3 }),
                metadata: None,
            })),
            extensions: (0..500)
                .map(|n| Extension { name: format!("envoy.filters.http.number_{n}"), ..Default::default() })
                .collect(),
            ..Default::default()
        }),
        resource_names: vec!["default".into(), String::new(), "ROOTCA".into()],
        type_url: "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret".into(),
        response_nonce: "n1".into(),
        error_detail: Some(Status { code: 13, message: "no such key".into(), details: vec![] }),
        ..Default::default()
    }
}

#[test]
fn a_request_of_an_independent_encoder_is_read_in_pieces_of_any_size() {
    let bytes = framed(&envoy_request().encode_to_vec()).repeat(2);
    for chunk in [1, 2, 3, 7, 64, 1000, usize::MAX] {
        let requests = read_all(&bytes, chunk).unwrap();
        assert_eq!(requests.len(), 2);
        for request in requests {
            assert_eq!(request.names, ["default", "ROOTCA"]);
            assert_eq!((&*request.version, &*request.nonce), ("v1", "n1"));
            assert_eq!(request.error.as_deref(), Some("no such key"));
            let node = request.node.unwrap();
            assert!(!node.takes_spiffe_validator(false));
        }
    }
}

#[test]
fn an_empty_message_is_a_request_for_everything() {
    assert_eq!(read_all(&framed(&[]), 1).unwrap(), [Request::default()]);
}

#[test]
fn a_node_nested_ten_thousand_deep_is_passed_over() {
    let mut value = vec![];
    for _ in 0..10_000 {
        // Value.struct_value = 5 or Node.metadata = 3, whatever: each holds the one before.
        let mut outer = vec![0x1a];
        prost::encoding::encode_varint(value.len() as u64, &mut outer);
        outer.extend_from_slice(&value);
        value = outer;
    }
    let mut message = vec![0x12];
    prost::encoding::encode_varint(value.len() as u64, &mut message);
    message.extend_from_slice(&value);
    DiscoveryRequest { response_nonce: "n".into(), ..Default::default() }.encode(&mut message).unwrap();
    let requests = read_all(&framed(&message), 4096).unwrap();
    assert_eq!(requests[0].nonce, "n");
}

#[test]
fn what_is_too_large_is_refused_before_it_is_read() {
    let mut header = vec![0];
    header.extend_from_slice(&(4u32 << 20).to_be_bytes());
    assert_eq!(read_all(&header, 5).unwrap_err(), ReadError::TooLarge { size: 4 << 20, limit: 1 << 20 });
    let names = DiscoveryRequest { resource_names: vec!["n".into(); 9], ..Default::default() };
    let error = read_all(&framed(&names.encode_to_vec()), 100).unwrap_err();
    assert_eq!(error, ReadError::TooManyNames { limit: 8 });
    let nonce = DiscoveryRequest { response_nonce: "n".repeat(257), ..Default::default() };
    let error = read_all(&framed(&nonce.encode_to_vec()), 100).unwrap_err();
    assert_eq!(error, ReadError::FieldTooLong { field: "response_nonce", limit: 256 });
}

#[test]
fn a_long_error_text_is_cut() {
    let error_detail = Some(Status { code: 3, message: "é".repeat(4000), details: vec![] });
    let request = DiscoveryRequest { error_detail, ..Default::default() };
    let requests = read_all(&framed(&request.encode_to_vec()), 100).unwrap();
    assert_eq!(requests[0].error.as_ref().unwrap().len(), 1024);
}

#[test]
fn a_nack_without_text_is_a_nack() {
    let request = DiscoveryRequest {
        error_detail: Some(Status { code: 3, ..Default::default() }),
        ..Default::default()
    };
    assert_eq!(read_all(&framed(&request.encode_to_vec()), 9).unwrap()[0].error.as_deref(), Some(""));
}

proptest! {
    #[test]
    fn no_bytes_panic_or_hold_memory(bytes in proptest::collection::vec(any::<u8>(), 0..600), chunk in 1usize..600) {
        let _ = read_all(&framed(&bytes), chunk);
        let _ = read_all(&bytes, chunk);
    }

    #[test]
    fn pieces_make_no_difference(
        bytes in proptest::collection::vec(any::<u8>(), 0..200), chunk in 1usize..200, tail in "[a-z]{0,9}",
    ) {
        let mut message = DiscoveryRequest { response_nonce: tail, ..Default::default() }.encode_to_vec();
        message.extend(bytes);
        prop_assert_eq!(read_all(&framed(&message), chunk), read_all(&framed(&message), usize::MAX));
    }

    /// In pieces of one byte nothing lies there whole.
    #[test]
    fn what_lies_there_whole_is_passed_over_as_it_is_byte_by_byte(
        fields in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..300)), 0..20),
        cut in 0_usize..4, inside in any::<bool>(),
    ) {
        let mut node = Vec::new();
        for (tag, content) in fields {
            // Mostly fields with a length.
            node.push(if tag < 200 { tag & 0x78 | 2 } else { tag });
            prost::encode_length_delimiter(content.len(), &mut node).unwrap();
            node.extend(content);
        }
        node.truncate(node.len() - cut.min(node.len()));
        let mut message = vec![];
        if inside {
            message.push(0x12);
            prost::encode_length_delimiter(node.len(), &mut message).unwrap();
        }
        message.extend(node);
        message.extend(DiscoveryRequest { response_nonce: "n".into(), ..Default::default() }.encode_to_vec());
        prop_assert_eq!(read_all(&framed(&message), 1), read_all(&framed(&message), usize::MAX));
    }

    #[test]
    fn agrees_with_an_independent_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        // Where both read it, they read the same; ours may read what a full decoder refuses in fields we pass over.
        if let (Ok(ours), Ok(theirs)) = (read_all(&framed(&bytes), 7), DiscoveryRequest::decode(&bytes[..])) {
            prop_assert_eq!(&ours[0].nonce, &theirs.response_nonce);
            prop_assert_eq!(&ours[0].version, &theirs.version_info);
        }
    }
}
