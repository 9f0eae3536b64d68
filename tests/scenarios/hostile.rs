//! A hostile caller costs only itself: while it tries, a caller of another uid is served as usual, the agent counts
//! what it refused, and goes on.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use envoy_types::pb::envoy::{config::core::v3::Node, service::discovery::v3::DiscoveryRequest};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use prost::Message;
use tonic::{Code, Status};
use vouch_tests::{
    Agent, Need, Settings,
    connection::is_open,
    eventually, grpc,
    metrics::sum,
    require,
    sds::{Stream, request},
    settings::entry_of_user,
    user,
    wire::framed,
};

use crate::limits::{self, settings};

const STREAM_SECRETS: &str = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets";
const CLOSED_LIMIT: Duration = Duration::from_secs(20);
/// Within the share of one connection.
const STREAMS: usize = 100;

#[track_caller]
fn honest_caller_is_served(agent: &Agent) {
    (0..3).for_each(|_| limits::honest_caller_is_served(agent));
}

#[tokio::test]
async fn a_stream_whose_window_stays_shut_is_ended() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(settings().set("limits.stalled_timeout", "2s"));
    let refused = agent.turned_away();
    // A window of zero: whatever the agent has to say stays with the agent.
    let (client, connection) = connect(&agent, h2::client::Builder::new().initial_window_size(0)).await;
    let connection = tokio::spawn(connection);
    let streams = open_streams(&client, STREAMS, "ROOTCA").await;

    honest_caller_is_served(&agent);

    for (answer, _requests) in streams {
        let ended = tokio::time::timeout(CLOSED_LIMIT, async {
            let Ok(response) = answer.await else { return };
            let mut body = response.into_body();
            while let Some(Ok(_)) = body.data().await {}
        });
        ended.await.expect("a stream whose answer is not read is ended");
    }
    assert!(agent.turned_away() > refused, "{}", agent.metrics());
    connection.abort();
    honest_caller_is_served(&agent);
}

#[tokio::test]
async fn a_caller_that_stops_reading_its_socket_is_closed() {
    require!(Need::Agent, Need::Root);
    let entries = [
        entry_of_user("spiffe://example.org/honest", user::FRONTEND),
        entry_of_user("spiffe://example.org/hostile", 0),
    ];
    let agent = Agent::start(Settings::new(entries).set("limits.stalled_timeout", "2s"));
    let refused = agent.turned_away();
    // Windows so wide that only the socket itself can fill up.
    let mut windows = h2::client::Builder::new();
    windows.initial_window_size(8 << 20).initial_connection_window_size(64 << 20);
    let (client, mut connection) = connect(&agent, &windows).await;
    // Reads until every stream has its first answer, and then never again: the socket fills up.
    let mut streams = tokio::select! {
        streams = open_streams(&client, STREAMS, "default") => streams,
        ended = &mut connection => panic!("the connection ended: {ended:?}"),
    };
    for (answer, _requests) in &mut streams {
        tokio::select! {
            response = answer => { response.expect("an answer"); }
            ended = &mut connection => panic!("the connection ended: {ended:?}"),
        }
    }
    // 100 streams of some kilobytes each: far more than a socket holds.
    for _ in 0..10 {
        let rotated = agent.cli(None, &["svid", "rotate", "--all"]);
        assert!(rotated.status.success(), "{rotated:?}");
    }
    honest_caller_is_served(&agent);
    eventually("it is counted as refused", CLOSED_LIMIT, || (agent.turned_away() > refused).then_some(()));
    // What lies in the socket is still there to be read; behind it is the end.
    let end = tokio::time::timeout(CLOSED_LIMIT, connection);
    drop(streams);
    end.await.expect("the agent has closed the connection").ok();
    honest_caller_is_served(&agent);
}

type Requests = h2::client::SendRequest<Bytes>;
type OpenStream = (h2::client::ResponseFuture, h2::SendStream<Bytes>);

async fn connect(
    agent: &Agent,
    builder: &h2::client::Builder,
) -> (Requests, h2::client::Connection<tokio::net::UnixStream, Bytes>) {
    let socket = tokio::net::UnixStream::connect(agent.socket()).await.expect("it accepts");
    builder.handshake(socket).await.expect("it speaks HTTP/2")
}

/// Opens SDS streams that ask for `name`.
async fn open_streams(client: &Requests, count: usize, name: &str) -> Vec<OpenStream> {
    let mut streams = Vec::new();
    for _ in 0..count {
        let mut client = client.clone().ready().await.expect("it takes streams");
        let head = http::Request::post(format!("http://localhost{STREAM_SECRETS}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        let (answer, mut requests) =
            client.send_request(head.body(()).expect("a request"), false).expect("it can be sent");
        requests.send_data(framed(&request(&[name]).encode_to_vec()).into(), false).expect("it can be sent");
        streams.push((answer, requests));
    }
    streams
}

#[test]
fn two_thousand_connections_of_one_caller_are_not_all_kept() {
    require!(Need::Agent, Need::Root);
    raise_descriptor_limit();
    let agent = Agent::start(settings());
    let refused = agent.turned_away();

    let connections: Vec<_> =
        (0..2_000).map(|_| UnixStream::connect(agent.socket()).expect("it accepts or has a queue")).collect();
    honest_caller_is_served(&agent);

    eventually("all but the caller's share are closed", CLOSED_LIMIT, || {
        let open = connections.iter().filter(is_open).count();
        (open <= 128).then_some(())
    });
    assert!(agent.turned_away() - refused >= 1_800.0, "{}", agent.metrics());
    drop(connections);
    honest_caller_is_served(&agent);
}

#[test]
fn no_more_connections_are_taken_than_there_are_descriptors() {
    require!(Need::Agent, Need::Root);
    let (_, descriptors) = getrlimit(Resource::RLIMIT_NOFILE).expect("it can be asked");
    let agent = Agent::start(settings().set("limits.connections", 1_000_000));
    let limit = sum(&agent.metrics(), "vouch_limit{limit=\"connections\"}");
    // Each takes two, and the agent itself needs some.
    assert!(limit >= 1.0 && 2.0 * limit + 256.0 <= descriptors as f64, "{limit} of {descriptors}");
}

#[test]
fn a_crowd_at_the_metrics_port_is_sent_away() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(settings());
    let mut crowd: Vec<_> =
        (0..200).map(|_| TcpStream::connect(agent.metrics_address()).expect("it accepts")).collect();
    // They are taken in turn, so the last one hears when all have been.
    let last = crowd.last_mut().expect("a crowd");
    last.set_read_timeout(Some(CLOSED_LIMIT)).expect("a socket");
    let read =
        last.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").and_then(|()| last.read(&mut [0; 64]));
    assert!(read.as_ref().is_ok_and(|count| *count == 0) || closed(&read), "{read:?}");
    honest_caller_is_served(&agent);
    drop(crowd);
    let shed = eventually("metrics are served again", CLOSED_LIMIT, || {
        let answer = vouch_tests::http::get(agent.metrics_address(), "/metrics").ok()?;
        Some(sum(&answer.body, "vouch_metrics_connections_shed_total"))
    });
    assert!(shed >= 136.0, "{shed}");
}

fn closed<T>(result: &std::io::Result<T>) -> bool {
    let kinds = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
    result.as_ref().is_err_and(|error| kinds.contains(&error.kind()))
}

#[test]
fn a_connection_without_a_preface_is_closed() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(settings().set("limits.preface_timeout", "1s"));
    let refused = agent.turned_away();
    let mut slow = UnixStream::connect(agent.socket()).expect("it accepts");
    let silent = UnixStream::connect(agent.socket()).expect("it accepts");
    let start = Instant::now();
    for byte in b"PRI * HTTP/2.0\r\n" {
        if slow.write_all(&[*byte]).is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(200));
    }
    for connection in [&slow, &silent] {
        eventually("it is closed", Duration::from_secs(5), || (!is_open(connection)).then_some(()));
    }
    assert!(start.elapsed() < Duration::from_secs(8));
    assert!(agent.turned_away() - refused >= 2.0, "{}", agent.metrics());
    honest_caller_is_served(&agent);
}

#[test]
fn bytes_that_are_not_http2_are_refused() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(settings());
    for garbage in [
        &b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..],
        &[0xff; 4096],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x05\x01\x04\x00\x00\x00\x01garba",
    ] {
        let mut connection = UnixStream::connect(agent.socket()).expect("it accepts");
        connection.write_all(garbage).expect("it can be sent");
        eventually("it is closed", Duration::from_secs(10), || (!is_open(&connection)).then_some(()));
    }
    honest_caller_is_served(&agent);
}

#[tokio::test]
async fn an_sds_request_of_four_mebibytes_is_refused() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(settings());
    let huge = Node { id: "x".repeat(4 << 20), ..Node::default() };
    let status =
        first_answer(&agent, DiscoveryRequest { node: Some(huge), ..request(&["ROOTCA"]) }.encode_to_vec());
    let status = status.await.expect_err("it is refused");
    assert!([Code::ResourceExhausted, Code::InvalidArgument].contains(&status.code()), "{status}");
    honest_caller_is_served(&agent);
}

#[tokio::test]
async fn an_sds_request_just_below_the_limit_is_served() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(settings());
    let large = Node { id: "x".repeat((1 << 20) - 1024), ..Node::default() };
    let request = DiscoveryRequest { node: Some(large), ..request(&["ROOTCA"]) };
    first_answer(&agent, request.encode_to_vec()).await.expect("it is served");
}

#[tokio::test]
async fn more_names_than_the_limit_are_refused() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(settings());
    let names: Vec<_> = (0..129).map(|number| format!("spiffe://example.org/{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let status = first_answer(&agent, request(&names).encode_to_vec()).await.expect_err("it is refused");
    assert!([Code::ResourceExhausted, Code::InvalidArgument].contains(&status.code()), "{status}");
    honest_caller_is_served(&agent);
}

#[tokio::test]
async fn a_node_nested_ten_thousand_deep_harms_nobody() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(settings());
    // `Value { list_value { values: [ Value … ] } }` inside `Node { metadata { fields: { "k": Value } } }`.
    let mut value = Vec::new();
    for _ in 0..10_000 {
        value = field(6, &field(1, &value));
    }
    let entry = [field(1, b"k"), field(2, &value)].concat();
    let node = field(3, &field(1, &entry));
    let message = [field(2, &node), request(&["ROOTCA"]).encode_to_vec()].concat();
    match first_answer(&agent, message).await {
        Ok(()) => {}
        Err(status) => assert_eq!(status.code(), Code::InvalidArgument, "{status}"),
    }
    honest_caller_is_served(&agent);
}

#[tokio::test]
async fn a_message_that_is_not_protobuf_is_refused() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(settings());
    for garbage in [
        &[0xff; 64][..],
        &[0x12, 0xff, 0xff, 0xff, 0xff, 0x7f],
        &[0x1a, 0x05, 0x61],
        &[0x1a, 0x02, 0xff, 0xfe],
    ] {
        let status = first_answer(&agent, garbage.to_vec()).await.expect_err("it is refused");
        assert_eq!(status.code(), Code::InvalidArgument, "{garbage:?}: {status}");
    }
    honest_caller_is_served(&agent);
}

#[tokio::test]
async fn streams_without_end_are_refused_beyond_the_share_of_a_caller() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(settings().set("limits.streams_per_caller", 20));
    let mut kept = Vec::new();
    let mut refused = 0;
    for _ in 0..30 {
        match Stream::open(&agent.socket(), &["ROOTCA"]).await {
            Ok(mut stream) => match stream.next().await {
                Ok(_) => kept.push(stream),
                Err(_) => refused += 1,
            },
            Err(_) => refused += 1,
        }
    }
    assert_eq!((kept.len(), refused), (20, 10));
    honest_caller_is_served(&agent);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_connection_and_every_call_is_accounted_for() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(settings());
    // Served: a stream whose client leaves. Refused: two calls without identity, one of a name that is another's.
    let mut stream = Stream::open(&agent.socket(), &["ROOTCA"]).await.expect("a stream");
    stream.next().await.expect("an answer");
    drop(stream);
    for path in ["/SpiffeWorkloadAPI/FetchX509SVID", "/SpiffeWorkloadAPI/FetchX509Bundles"] {
        let channel = grpc::channel(&agent.socket());
        let mut answers = grpc::server_streaming(&channel, path, &[("workload.spiffe.io", "true")])
            .await
            .expect("a stream");
        assert_eq!(answers.message().await.expect_err("no identity").code(), Code::PermissionDenied);
    }
    first_answer(&agent, request(&["default"]).encode_to_vec()).await.expect_err("no identity");
    // A connection that breaks HTTP/2 takes its open streams with it.
    let (client, connection) = connect(&agent, &h2::client::Builder::new()).await;
    let connection = tokio::spawn(connection);
    open_streams(&client, 3, "ROOTCA").await;
    broken_connection(&agent);
    drop(client);
    connection.abort();

    let metric = |name: &str| sum(&agent.metrics(), name);
    eventually("every connection has ended", CLOSED_LIMIT, || {
        let over = metric("vouch_connections_accepted_total") == metric("vouch_connections_ended_total");
        over.then_some(())
    });
    assert_eq!(metric("vouch_calls_total"), 8.0, "{}", agent.metrics());
    assert_eq!(metric("vouch_calls_ended_total"), 8.0, "{}", agent.metrics());
    assert_eq!(metric("vouch_calls_ended_total{outcome=\"refused\",reason=\"denied\"}"), 3.0);
    assert_eq!(metric("vouch_calls_ended_total{outcome=\"refused\",reason=\"protocol_error\"}"), 1.0);
    assert_eq!(metric("vouch_connections_ended_total{outcome=\"refused\",reason=\"protocol_error\"}"), 1.0);
}

/// Opens an SDS stream and then sends a frame that no peer may send, on one connection.
fn broken_connection(agent: &Agent) {
    let mut connection = UnixStream::connect(agent.socket()).expect("it accepts");
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    // HPACK: `:method: POST` and `:scheme: http` of the static table, `:path` and `:authority` in full.
    let path = STREAM_SECRETS.as_bytes();
    let length = u8::try_from(path.len()).expect("a short path");
    let head = [&[0x83, 0x86, 0x04, length][..], path, &[0x01, 1], b"x"].concat();
    bytes.extend(frame(4, 0, 0, &[]));
    bytes.extend(frame(1, 4, 1, &head));
    connection.write_all(&bytes).expect("it can be sent");
    let calls = || sum(&agent.metrics(), "vouch_calls_total");
    eventually("the call has begun", CLOSED_LIMIT, || (calls() == 8.0).then_some(()));
    // DATA belongs to a stream.
    connection.write_all(&frame(0, 0, 0, b"x")).expect("it can be sent");
    eventually("it is closed", CLOSED_LIMIT, || (!is_open(&connection)).then_some(()));
}

/// Sends `message` as the first of an SDS stream: an answer, or the status that came instead.
async fn first_answer(agent: &Agent, message: Vec<u8>) -> Result<(), Status> {
    let channel = grpc::channel(&agent.socket());
    let (_requests, mut answers) = grpc::streaming(&channel, STREAM_SECRETS, message.into()).await?;
    let answer = tokio::time::timeout(CLOSED_LIMIT, answers.message()).await.expect("an answer in time")?;
    answer.map(|_| ()).ok_or_else(|| Status::new(Code::Ok, "the stream ended"))
}

/// A length-delimited field of protobuf.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    prost::encoding::encode_varint(content.len() as u64, &mut bytes);
    bytes.extend_from_slice(content);
    bytes
}

fn raise_descriptor_limit() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("it can be asked");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("the soft limit may rise to the hard one");
}
