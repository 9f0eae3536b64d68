//! Inputs from which the fuzzer starts: what Envoys send, and what breaks each rule.

use prost::{Message, encoding::encode_varint};
use prost_types::{Struct, Value, value::Kind};
use vouch_proto::{
    envoy::{
        config::core::v3::{BuildVersion, Node, SemanticVersion},
        service::discovery::v3::DiscoveryRequest,
    },
    google::rpc::Status,
};

use super::{FRAMED, LIMITS, MAX_TOKEN, framed};

const SECRET_TYPE: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// Each with the name of its file.
pub(super) fn all() -> Vec<(&'static str, Vec<u8>)> {
    let ask = |names: &[&str]| DiscoveryRequest {
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        type_url: SECRET_TYPE.into(),
        ..Default::default()
    };
    let first = DiscoveryRequest { node: Some(node()), ..ask(&["default"]) };
    let ack = DiscoveryRequest { version_info: "v1".into(), response_nonce: "2".into(), ..ask(&["default"]) };
    let nack = DiscoveryRequest { error_detail: Some(status("no such key")), ..ack.clone() };
    let stream = [&first, &ack, &nack].map(|request| framed(&request.encode_to_vec())).concat();
    vec![
        ("first-with-node", message(&first)),
        ("ack", message(&ack)),
        ("nack", message(&nack)),
        (
            "nack-long",
            message(&DiscoveryRequest { error_detail: Some(status(&"é".repeat(600))), ..ack.clone() }),
        ),
        ("nack-not-utf8", bytes(&field(6, &[0x08, 13, 0x12, 2, 0xc3, b'x']))),
        ("names", message(&ask(&["default", "", "ROOTCA", "ALL", "spiffe://example.org/db"]))),
        ("names-too-many", message(&ask(&["a"; 5]))),
        ("name-too-long", message(&ask(&[&"n".repeat(vouch::spiffe::MAX_ID_LEN + 1)]))),
        ("nonce-longest", message(&DiscoveryRequest { response_nonce: "n".repeat(MAX_TOKEN), ..ask(&[]) })),
        (
            "nonce-too-long",
            message(&DiscoveryRequest { response_nonce: "n".repeat(MAX_TOKEN + 1), ..ask(&[]) }),
        ),
        ("name-not-utf8", bytes(&field(3, &[0xff]))),
        ("empty", bytes(&[])),
        ("group", bytes(&[0x3b, 0x08, 0x01, 0x3c])),
        ("fixed", bytes(&[0x39, 1, 2, 3, 4, 5, 6, 7, 8, 0x3d, 1, 2, 3, 4])),
        ("varint-longest", bytes(&[[0x38].as_slice(), &[0xff; 9], &[0x01]].concat())),
        ("varint-too-long", bytes(&[[0x38].as_slice(), &[0xff; 9], &[0x02]].concat())),
        ("field-zero", bytes(&[0x00, 0x00])),
        ("field-past-end", bytes(&[0x1a, 0x05, b'n'])),
        ("node-past-end", bytes(&[0x12, 0x02, 0x1a, 0x05, 0, 0, 0, 0, 0])),
        ("stream", raw(&stream)),
        ("stream-compressed", raw(&[&stream[..], &[1, 0, 0, 0, 0]].concat())),
        ("stream-too-large", raw(&[0, 0, 1, 0, 1])),
        ("stream-ends-in-prefix", raw(&[&stream[..], &[0, 0, 0]].concat())),
        ("stream-ends-in-error", raw(&started(&[6, 2]))),
        ("stream-ends-in-node", raw(&started(&[2, 9]))),
        ("stream-ends-in-metadata", raw(&started(&[2, 3, 9]))),
    ]
}

/// With both facts that matter, and a metadata entry that is too long to be looked into.
fn node() -> Node {
    let word = Value { kind: Some(Kind::StringValue("true".into())) };
    let long = Value { kind: Some(Kind::StringValue("x".repeat(300))) };
    let fields = [("disable_spiffe_cert_validation".to_owned(), word), ("long".to_owned(), long)];
    let version = Some(SemanticVersion { major_number: 1, minor_number: 17, patch: 3 });
    Node {
        id: "sidecar".into(),
        cluster: "web".into(),
        metadata: Some(Struct { fields: fields.into_iter().collect() }),
        user_agent_name: "envoy".into(),
        user_agent_build_version: Some(BuildVersion { version }),
    }
}

fn status(message: &str) -> Status {
    Status { code: 13, message: message.into() }
}

/// The first bytes of the largest message that is taken, whose fields of these numbers fill it, each within the
/// one before.
fn started(fields: &[u8]) -> Vec<u8> {
    let mut left = LIMITS.request_bytes;
    let mut stream = framed(&vec![0; left]);
    stream.truncate(stream.len() - left);
    for number in fields {
        // A tag of one byte, a length of three.
        left -= 4;
        stream.push(number << 3 | 2);
        encode_varint(left as u64, &mut stream);
    }
    stream
}

/// `content` as a length-delimited field of fewer than 128 bytes.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).unwrap_or(0x7f);
    [&[number << 3 | 2, length], content].concat()
}

fn message(request: &DiscoveryRequest) -> Vec<u8> {
    bytes(&request.encode_to_vec())
}

/// An input with one message, in pieces of 3 and 40 bytes.
fn bytes(message: &[u8]) -> Vec<u8> {
    [&[FRAMED | 2, 3, 40], message].concat()
}

/// An input with a stream, in pieces of 1, 7, 0 and 100 bytes.
fn raw(stream: &[u8]) -> Vec<u8> {
    [&[4, 1, 7, 0, 100], stream].concat()
}
