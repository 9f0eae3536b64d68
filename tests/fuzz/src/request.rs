//! `sds::RequestReader`, which takes `DiscoveryRequest`s out of a byte stream that comes in pieces.
//!
//! However a stream is cut, the reader finds the same; what it finds is what an independent decoder finds in the
//! whole; it holds no more than its limits allow; and a subscription can be asked whatever it found.

mod reference;
mod seeds;
mod workload;

use std::borrow::Cow;

use vouch::{
    sds::{Limits, ReadError, Request, RequestReader},
    spiffe::MAX_ID_LEN,
};

use crate::allocated::most_held;

/// Small, so that short inputs break them.
const LIMITS: Limits = Limits { request_bytes: 1 << 16, names: 4 };
/// Of the reader's own limits, as its documentation says them.
const MAX_TOKEN: usize = 256;
const MAX_ERROR_TEXT: usize = 1024;
const MAX_BUILD_VERSION: usize = 4096;
const MAX_METADATA_ENTRY: usize = 256;
/// All names, three tokens, a build version, and an error text: at worst a replacement character of three bytes
/// for each of its own, in a string that doubled as it grew. The rest is for the lists that hold them.
const MOST_HELD: usize =
    LIMITS.names * MAX_ID_LEN + 3 * MAX_TOKEN + MAX_BUILD_VERSION + 4 * MAX_ERROR_TEXT + 1024;
/// More than may be held, and room for all of it in one message.
static FLOOD: [u8; 2 * MOST_HELD] = [b'b'; 2 * MOST_HELD];
const _: () = assert!(2 * MOST_HELD < LIMITS.request_bytes);

/// The rest of an input is one message, whose prefix is not in it.
const FRAMED: u8 = 0x80;
/// How many bytes say where to cut.
const CUTS: u8 = 0x0f;

/// Asks everything of one input: a byte with `FRAMED` and `CUTS`, the sizes of the pieces, and the bytes.
///
/// # Panics
/// When the reader breaks a rule.
pub fn check(input: &[u8]) {
    let Some((how, rest)) = input.split_first() else { return };
    let (sizes, bytes) = rest.split_at(usize::from(how & CUTS).min(rest.len()));
    let stream = if how & FRAMED == 0 { Cow::Borrowed(bytes) } else { Cow::Owned(framed(bytes)) };
    let whole = Outcome::of([&*stream]);
    assert_eq!(Outcome::of(pieces(&stream, sizes)), whole, "in pieces, not as a whole");
    assert_eq!(Outcome::of(stream.chunks(1)), whole, "byte by byte, not as a whole");
    reference::judge(&stream, &whole);
    let held = most_held(|| flood(&stream));
    assert!(held <= MOST_HELD, "{held} bytes were held at once, {MOST_HELD} are allowed");
    workload::ask(whole.requests);
}

/// The inputs to start from.
///
/// # Panics
/// As [`crate::write_seeds`].
pub fn write_seeds() {
    crate::write_seeds(seeds::all());
}

/// What a reader made of a stream.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    requests: Vec<Request>,
    end: End,
}

/// Where it stood when the stream ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    BetweenMessages,
    WithinMessage,
    Error(ReadError),
}

impl Outcome {
    fn of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut reader = RequestReader::new(LIMITS);
        let mut requests = vec![];
        for mut piece in pieces {
            loop {
                match reader.read(&mut piece) {
                    Ok(Some(request)) => requests.push(request),
                    Ok(None) => break,
                    Err(error) => return Self { requests, end: End::Error(error) },
                }
            }
            assert!(piece.is_empty(), "the reader left bytes that it asked for");
        }
        let between = reader.is_between_messages();
        Self { requests, end: if between { End::BetweenMessages } else { End::WithinMessage } }
    }
}

/// `stream` in pieces of `sizes`, over and over; empty ones are pieces too.
fn pieces<'a>(mut stream: &'a [u8], sizes: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = vec![];
    if sizes.iter().any(|size| *size > 0) {
        for size in sizes.iter().cycle() {
            if stream.is_empty() {
                break;
            }
            let (piece, rest) = stream.split_at(usize::from(*size).min(stream.len()));
            pieces.push(piece);
            stream = rest;
        }
    }
    pieces.push(stream);
    pieces
}

/// Reads `stream` and, if that ends within a message, much more of the same message; keeps nothing.
fn flood(stream: &[u8]) {
    let mut reader = RequestReader::new(LIMITS);
    let mut rest = stream;
    while let Ok(read) = reader.read(&mut rest) {
        if read.is_some() {
            continue;
        }
        if rest.is_empty() && !reader.is_between_messages() {
            // It ends with a request, an error, or in a message that is longer still.
            reader.read(&mut &FLOOD[..]).ok();
        }
        return;
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    let size = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0], &size.to_be_bytes()[..], message].concat()
}

#[cfg(test)]
mod tests;
