//! What a stream holds according to prost, which sees every message whole.

use prost::{
    Message,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};
use prost_types::value::Kind;
use vouch::sds::{ReadError, Request};
use vouch_proto::envoy::config::core::v3::BuildVersion;

use super::{End, LIMITS, MAX_BUILD_VERSION, MAX_ERROR_TEXT, MAX_METADATA_ENTRY, MAX_TOKEN, Outcome};

/// The fields of a `DiscoveryRequest` that are looked into. Where unreadable content is no reason to refuse the
/// request, it is taken as bytes; of a field that is read each time it comes, all are taken.
#[derive(Clone, PartialEq, Message)]
struct Judged {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(message, optional, tag = "2")]
    node: Option<JudgedNode>,
    #[prost(string, repeated, tag = "3")]
    names: Vec<String>,
    #[prost(string, tag = "4")]
    type_url: String,
    #[prost(string, tag = "5")]
    nonce: String,
    #[prost(message, optional, tag = "6")]
    error: Option<JudgedStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct JudgedNode {
    #[prost(message, optional, tag = "3")]
    metadata: Option<JudgedMetadata>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    build_versions: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct JudgedMetadata {
    #[prost(bytes = "vec", repeated, tag = "1")]
    entries: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct JudgedStatus {
    #[prost(bytes = "vec", tag = "2")]
    message: Vec<u8>,
}

/// One entry of a `google.protobuf.Struct`.
#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<prost_types::Value>,
}

/// Compares `outcome` with what `stream` holds, message by message.
///
/// # Panics
/// Where they differ.
pub(super) fn judge(mut stream: &[u8], outcome: &Outcome) {
    let mut requests = outcome.requests.iter();
    loop {
        let Some((prefix, rest)) = stream.split_first_chunk() else {
            let end = if stream.is_empty() { End::BetweenMessages } else { End::WithinMessage };
            assert_eq!((requests.next(), &outcome.end), (None, &end));
            return;
        };
        let [compressed, a, b, c, d] = *prefix;
        let (size, limit) = (u32::from_be_bytes([a, b, c, d]) as usize, LIMITS.request_bytes);
        if compressed != 0 {
            assert_eq!((requests.next(), &outcome.end), (None, &End::Error(ReadError::Compressed)));
            return;
        }
        if size > limit {
            let error = End::Error(ReadError::TooLarge { size, limit });
            assert_eq!((requests.next(), &outcome.end), (None, &error));
            return;
        }
        let Some((message, rest)) = rest.split_at_checked(size) else {
            // What is there of it may be wrong already.
            assert_eq!(requests.next(), None, "a request out of a part of it");
            assert_ne!(outcome.end, End::BetweenMessages);
            return;
        };
        match (requests.next(), &outcome.end) {
            (Some(request), _) => is_taken_rightly(message, request),
            (None, End::Error(error)) => return is_refused_rightly(message, error),
            (None, end) => panic!("a whole message is neither taken nor refused: {end:?}"),
        }
        stream = rest;
    }
}

fn is_taken_rightly(message: &[u8], request: &Request) {
    let judged = match Judged::decode(message) {
        Ok(judged) => judged,
        // The reader passes over a field that it knows under another wire type, as over one that it does not know.
        Err(error) if error.to_string().contains("invalid wire type: ") => return is_within_limits(request),
        Err(error) => panic!("it took what is no request ({error}): {request:?}"),
    };
    let error = judged.error.map(|status| {
        let text = &status.message[..status.message.len().min(MAX_ERROR_TEXT)];
        String::from_utf8_lossy(text).into_owned()
    });
    let names = judged.names.into_iter().filter(|name| !name.is_empty()).collect();
    let node = request.node.clone();
    let expected = Request {
        version: judged.version,
        names,
        type_url: judged.type_url,
        nonce: judged.nonce,
        error,
        node: node.clone(),
    };
    assert_eq!(*request, expected);
    assert_eq!(node.is_some(), judged.node.is_some(), "whether there was a node");
    if let (Some(node), Some(judged)) = (node, judged.node)
        && let Some(expected) = takes_validator(&judged)
    {
        assert_eq!([false, true].map(|disabled| node.takes_spiffe_validator(disabled)), expected);
    }
    is_within_limits(request);
}

fn is_within_limits(request: &Request) {
    assert!(request.names.len() <= LIMITS.names);
    for name in &request.names {
        assert!((1..=vouch::spiffe::MAX_ID_LEN).contains(&name.len()));
    }
    for token in [&request.version, &request.type_url, &request.nonce] {
        assert!(token.len() <= MAX_TOKEN);
    }
    // A byte that is no UTF-8 becomes a replacement character, so characters are what is bounded.
    assert!(request.error.iter().all(|text| text.chars().count() <= MAX_ERROR_TEXT));
}

fn is_refused_rightly(message: &[u8], error: &ReadError) {
    let judged = Judged::decode(message);
    let is_right = match (error, judged) {
        (ReadError::Compressed | ReadError::TooLarge { .. }, _) => false,
        // A limit may be met before the fault that prost finds.
        (_, Err(_)) => true,
        (ReadError::TooManyNames { limit }, Ok(judged)) => {
            *limit == LIMITS.names && judged.names.iter().filter(|name| !name.is_empty()).count() > *limit
        }
        (ReadError::FieldTooLong { field: "resource name", limit }, Ok(judged)) => {
            *limit == vouch::spiffe::MAX_ID_LEN && judged.names.iter().any(|name| name.len() > *limit)
        }
        // Of several the last is what prost tells, so only that there was room for it.
        (ReadError::FieldTooLong { limit, .. }, Ok(_)) => *limit == MAX_TOKEN && message.len() > *limit,
        // Nothing that Envoy sends has groups. prost passes over them.
        (ReadError::Malformed("unknown wire type"), Ok(_)) => has_group(message, &REQUEST),
        (ReadError::Malformed(_), Ok(_)) => false,
    };
    assert!(is_right, "a request was refused: {error}");
}

/// The fields in which further fields are looked for.
struct Level(&'static [(u32, Level)]);
const REQUEST: Level = Level(&[(2, Level(&[(3, Level(&[]))])), (6, Level(&[]))]);

/// `message` is one that prost reads.
fn has_group(mut message: &[u8], level: &Level) -> bool {
    while !message.is_empty() {
        let (field, wire_type) = decode_key(&mut message).expect("prost has read it");
        let inner = level.0.iter().find(|(number, _)| *number == field);
        match (wire_type, inner) {
            (WireType::StartGroup, _) => return true,
            (WireType::LengthDelimited, Some((_, inner))) => {
                let length = decode_varint(&mut message).expect("prost has read it");
                let (content, rest) = message.split_at(length as usize);
                if has_group(content, inner) {
                    return true;
                }
                message = rest;
            }
            _ => {
                skip_field(wire_type, field, &mut message, DecodeContext::default())
                    .expect("prost has read it");
            }
        }
    }
    false
}

/// Whether this node takes the SPIFFE validator where the agent enables and where it disables that. `None` when
/// its metadata is not written as an encoder would: what counts then is nobody's rule.
fn takes_validator(node: &JudgedNode) -> Option<[bool; 2]> {
    let versions = node.build_versions.iter().filter(|bytes| bytes.len() <= MAX_BUILD_VERSION);
    let mut versions = versions.filter_map(|bytes| BuildVersion::decode(&**bytes).ok()?.version);
    let is_new = versions.next_back().is_none_or(|v| (v.major_number, v.minor_number) > (1, 17));
    let mut own_word = None;
    let entries = node.metadata.iter().flat_map(|metadata| &metadata.entries);
    for bytes in entries.filter(|bytes| bytes.len() <= MAX_METADATA_ENTRY) {
        let entry = Entry::decode(&**bytes).ok().filter(|entry| entry.encoded_len() == bytes.len())?;
        if entry.key == "disable_spiffe_cert_validation" {
            own_word = entry.value.and_then(|value| as_bool(value.kind?)).or(own_word);
        }
    }
    Some([false, true].map(|disabled| !own_word.unwrap_or(disabled) && is_new))
}

/// As Go's `strconv.ParseBool` reads a text.
fn as_bool(kind: Kind) -> Option<bool> {
    match kind {
        Kind::BoolValue(value) => Some(value),
        Kind::StringValue(text) if ["1", "t", "T", "TRUE", "true", "True"].contains(&&*text) => Some(true),
        Kind::StringValue(text) if ["0", "f", "F", "FALSE", "false", "False"].contains(&&*text) => {
            Some(false)
        }
        _ => None,
    }
}
