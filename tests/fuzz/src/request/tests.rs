//! Plain `cargo test` asks the seeds everything, and shows that each way to be wrong is seen.

use std::panic::catch_unwind;

use super::*;

fn seed(name: &str) -> Vec<u8> {
    let seeds = seeds::all().into_iter();
    seeds.filter(|(known, _)| *known == name).map(|(_, input)| input).next().unwrap()
}

/// The stream of a seed, without how to cut it.
fn stream(name: &str) -> Vec<u8> {
    let input = seed(name);
    let bytes = &input[1 + usize::from(input[0] & CUTS)..];
    if input[0] & FRAMED == 0 { bytes.to_vec() } else { framed(bytes) }
}

#[test]
fn every_seed_keeps_the_rules() {
    for (name, input) in seeds::all() {
        println!("{name}");
        check(&input);
    }
}

#[test]
fn the_seeds_end_in_every_way_that_a_stream_can() {
    let long = |field, limit| End::Error(ReadError::FieldTooLong { field, limit });
    let malformed = |why| End::Error(ReadError::Malformed(why));
    for (name, requests, end) in [
        ("first-with-node", 1, End::BetweenMessages),
        ("stream", 3, End::BetweenMessages),
        ("empty", 1, End::BetweenMessages),
        ("fixed", 1, End::BetweenMessages),
        ("varint-longest", 1, End::BetweenMessages),
        ("nonce-longest", 1, End::BetweenMessages),
        ("nack-not-utf8", 1, End::BetweenMessages),
        ("stream-ends-in-prefix", 3, End::WithinMessage),
        ("stream-ends-in-error", 0, End::WithinMessage),
        ("stream-ends-in-node", 0, End::WithinMessage),
        ("stream-ends-in-metadata", 0, End::WithinMessage),
        ("stream-compressed", 3, End::Error(ReadError::Compressed)),
        ("stream-too-large", 0, End::Error(ReadError::TooLarge { size: 65_537, limit: 65_536 })),
        ("names-too-many", 0, End::Error(ReadError::TooManyNames { limit: 4 })),
        ("name-too-long", 0, long("resource name", MAX_ID_LEN)),
        ("nonce-too-long", 0, long("response_nonce", MAX_TOKEN)),
        ("name-not-utf8", 0, malformed("text is not UTF-8")),
        ("group", 0, malformed("unknown wire type")),
        ("varint-too-long", 0, malformed("varint is too long")),
        ("field-zero", 0, malformed("field number out of range")),
        ("field-past-end", 0, malformed("field passes its end")),
        ("node-past-end", 0, malformed("field passes its end")),
    ] {
        let outcome = Outcome::of([&*stream(name)]);
        assert_eq!((outcome.requests.len(), outcome.end), (requests, end), "{name}");
    }
}

#[test]
fn the_reference_sees_what_a_reader_gets_wrong() {
    type Fault = fn(&mut Outcome);
    let faults: [(&str, &str, Fault); 9] = [
        ("stream", "a request is missing", |read| drop(read.requests.pop())),
        ("stream", "the end is taken for an error", |read| read.end = End::Error(ReadError::Compressed)),
        ("stream-ends-in-prefix", "the end is not seen", |read| read.end = End::BetweenMessages),
        ("nack", "a NACK is an ACK", |read| read.requests[0].error = None),
        ("first-with-node", "the node is not seen", |read| read.requests[0].node = None),
        ("first-with-node", "its metadata is not seen", |read| {
            read.requests[0].node = Some(Default::default());
        }),
        ("names", "a name is missing", |read| drop(read.requests[0].names.pop())),
        ("ack", "what is whole is refused", |read| {
            *read = Outcome { requests: vec![], end: End::Error(ReadError::Malformed("varint is too long")) };
        }),
        ("field-past-end", "what is no request is taken", |read| {
            *read = Outcome { requests: vec![Request::default()], end: End::BetweenMessages };
        }),
    ];
    for (name, fault, put_in) in faults {
        let stream = stream(name);
        let mut outcome = Outcome::of([&*stream]);
        reference::judge(&stream, &outcome);
        put_in(&mut outcome);
        assert!(catch_unwind(|| reference::judge(&stream, &outcome)).is_err(), "{fault}");
    }
}
