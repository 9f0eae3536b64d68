//! gRPC calls as bytes: what a process can have sent before it becomes another one, and what that one can read.

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use prost::Message;
use vouch_proto::workload::X509svidResponse;

use crate::{sds, x509};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER: usize = 9;
const MAX_FRAME: usize = 1 << 20;

/// Kinds and flags of frames, RFC 9113 §6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What came of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The first message.
    Message(Vec<u8>),
    /// The call ended without a message.
    Denied,
    /// The connection ended before the call did.
    Closed,
}

/// A whole client's side of a connection: one call to the Workload API for X.509-SVIDs, then one call to SDS for
/// each of `names`.
pub fn calls(names: &[&str]) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    frame(&mut bytes, SETTINGS, 0, 0, &[]);
    call(&mut bytes, 0, "/SpiffeWorkloadAPI/FetchX509SVID", &[]);
    for (name, index) in names.iter().zip(1..) {
        let request = DiscoveryRequest { node: None, ..sds::request(&[name]) };
        call(&mut bytes, index, sds::FETCH, &request.encode_to_vec());
    }
    bytes
}

/// Reads until each of `count` calls has an answer.
pub fn answers(mut socket: impl Read, count: u32) -> Vec<Answer> {
    let mut heard: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let mut answers = vec![Answer::Closed; count as usize];
    let mut open = count;
    while open > 0 {
        let Ok((kind, flags, stream, payload)) = read_frame(&mut socket) else { return answers };
        let ended = kind == RST_STREAM || matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
        if kind == DATA {
            heard.entry(stream).or_default().extend(payload);
        }
        let whole = heard.get(&stream).and_then(|bytes| message(bytes));
        let Some(answer) = stream.checked_sub(1).and_then(|odd| answers.get_mut(odd as usize / 2)) else {
            continue;
        };
        if *answer == Answer::Closed && (whole.is_some() || ended) {
            *answer = whole.map_or(Answer::Denied, Answer::Message);
            open -= 1;
        }
    }
    answers
}

/// The SPIFFE IDs of everything in `message`, which answers call number `call` of [`calls`].
///
/// # Panics
/// When it is no answer to that.
pub fn identities(call: usize, message: &[u8]) -> Vec<String> {
    if call == 0 {
        let response = X509svidResponse::decode(message).expect("an answer of the Workload API");
        return response.svids.into_iter().map(|svid| svid.spiffe_id).collect();
    }
    let response = DiscoveryResponse::decode(message).expect("an answer of SDS");
    let chains = sds::secrets(&response).iter().filter_map(sds::chain).collect::<Vec<_>>();
    chains.iter().flat_map(|chain| x509::facts(&x509::certificates(chain)[0]).uris).collect()
}

fn call(bytes: &mut Vec<u8>, index: u32, path: &str, message: &[u8]) {
    let stream = 2 * index + 1;
    let mut fields = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("workload.spiffe.io", "true"),
    ] {
        // RFC 7541 §6.2.2: a literal with a new name, not indexed; no length of ours needs a second byte.
        fields.push(0);
        for text in [name, value] {
            fields.push(u8::try_from(text.len()).expect("a short text"));
            fields.extend(text.as_bytes());
        }
    }
    frame(bytes, HEADERS, END_HEADERS, stream, &fields);
    let mut data = vec![0];
    data.extend(u32::try_from(message.len()).expect("a short message").to_be_bytes());
    data.extend(message);
    frame(bytes, DATA, END_STREAM, stream, &data);
}

fn frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    bytes.extend(&u32::try_from(payload.len()).expect("a short frame").to_be_bytes()[1..]);
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
}

fn read_frame(socket: &mut impl Read) -> io::Result<(u8, u8, u32, Vec<u8>)> {
    let mut header = [0; FRAME_HEADER];
    socket.read_exact(&mut header)?;
    let [a, b, c, kind, flags, stream @ ..] = header;
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    if length > MAX_FRAME {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut payload = vec![0; length];
    socket.read_exact(&mut payload)?;
    Ok((kind, flags, u32::from_be_bytes(stream) & 0x7fff_ffff, payload))
}

/// The first gRPC message, once all of it is there.
fn message(bytes: &[u8]) -> Option<Vec<u8>> {
    let (length, rest) = bytes.get(1..)?.split_at_checked(4)?;
    let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
    rest.get(..length).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart_from_denials_and_from_a_connection_that_ends() {
        let mut bytes = Vec::new();
        frame(&mut bytes, SETTINGS, 0, 0, &[]);
        frame(&mut bytes, HEADERS, END_HEADERS, 1, &[]);
        frame(&mut bytes, HEADERS, END_HEADERS | END_STREAM, 3, &[]);
        frame(&mut bytes, DATA, 0, 1, &[0, 0, 0, 0, 2, 7]);
        frame(&mut bytes, DATA, 0, 1, &[8]);
        let expected = [Answer::Message(vec![7, 8]), Answer::Denied, Answer::Closed];
        assert_eq!(answers(&bytes[..], 3), expected);
    }
}
