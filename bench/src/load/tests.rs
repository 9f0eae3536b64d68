//! Streams of two sockets, with the peer's side in the test's hands.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
};

use prost_types::Any;
use vouch_proto::envoy::service::discovery::v3::DiscoveryResponse;

use super::*;
use crate::{connection::STREAM, http2, sds::AckShape};

const PATIENCE: Option<Duration> = Some(Duration::from_secs(1));

/// A DATA frame with one resource.
fn frame(version: &str, resource: &[u8]) -> Vec<u8> {
    let message = DiscoveryResponse {
        version_info: version.into(),
        resources: vec![Any { type_url: "t".into(), value: resource.to_vec() }],
        type_url: "t".into(),
        nonce: "5".into(),
    };
    let mut bytes = Vec::new();
    http2::put_frame(&mut bytes, http2::DATA, 0, STREAM, &sds::grpc(&message));
    bytes
}

fn load(streams: usize, ack: AckShape) -> (Load, Vec<UnixStream>) {
    let mut load = Load::new(vec!["default".into()], Watch::Each, Requests::new(ack)).unwrap();
    let mut peers = Vec::new();
    for _ in 0..streams {
        let (ours, peer) = UnixStream::pair().unwrap();
        load.add(Connection::raw(ours).unwrap(), &[0]).unwrap();
        peers.push(peer);
    }
    (load, peers)
}

#[test]
fn a_version_is_counted_when_it_came_and_when_its_ack_went() {
    let (mut load, mut peers) = load(2, AckShape::Small);
    for round in 1..=2 {
        load.expect_next();
        let version = round.to_string();
        for (sent, peer) in peers.iter_mut().enumerate() {
            assert_eq!(load.acknowledged(), sent);
            peer.write_all(&frame(&version, b"secret")).unwrap();
            load.serve(PATIENCE).unwrap();
            let ack = load.requests.ack("default", version.as_bytes(), b"5").unwrap();
            let mut received = vec![0; ack.len() + http2::HEADER_LEN];
            peer.read_exact(&mut received).unwrap();
            assert_eq!(received[http2::HEADER_LEN..], *ack);
        }
        assert_eq!((load.delivered(), load.acknowledged(), load.behind()), (2, 2, 0));
    }
}

#[test]
fn an_ack_with_a_node_is_an_envoys_in_size_and_counts_when_its_last_byte_went() {
    let (mut load, mut peers) = load(1, AckShape::Envoy);
    peers[0].write_all(&frame("1", b"secret")).unwrap();
    load.serve(PATIENCE).unwrap();
    let (mut received, mut bytes) = (0, vec![0; 8 << 10]);
    while load.acknowledged() == 0 || received < 61_000 {
        received += peers[0].read(&mut bytes).unwrap();
        load.serve(Some(Duration::ZERO)).unwrap();
    }
    assert!((61_000..61_600).contains(&received), "{received}");
}

#[test]
fn another_secret_a_repeated_one_and_a_closed_stream_fail_the_run() {
    let (mut load, mut peers) = load(2, AckShape::Small);
    peers[0].write_all(&frame("1", b"secret")).unwrap();
    load.serve(PATIENCE).unwrap();
    assert_eq!(load.behind(), 1);
    peers[1].write_all(&frame("1", b"another")).unwrap();
    assert!(load.serve(PATIENCE).is_err());
    peers[0].write_all(&frame("1", b"secret")).unwrap();
    assert!(load.serve(PATIENCE).is_err());
    drop(peers);
    assert!(load.serve(PATIENCE).is_err());
}
