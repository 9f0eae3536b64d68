//! Bytes that no honest Envoy sends, and requests that no honest client makes: each gets an answer that is a no or a clean error,
//! and whoever comes next is served.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    time::Duration,
};

use bytes::Bytes;
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use prost::Message as _;
use tonic::transport::Channel;
use vouch_tests::{
    Agent, Need,
    authz::{self, ask, denied_status, header, http, is_allowed, metadata, question},
    eventually, grpc,
    metrics::value,
    port::free_port,
    require,
};

use super::{SOON, rego, settings};
use crate::limits::memory;

const COUNT: &str = r#"
allow := {"allowed": true, "headers": {"x-count": sprintf("%d", [count(input.attributes.request.http.headers)])}}
"#;
const HEADERS: usize = 10_000;
const DEPTH: usize = 10_000;

struct Stage {
    agent: Agent,
    address: SocketAddr,
    channels: [Channel; 2],
}

impl Stage {
    fn set() -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let agent =
            Agent::start(settings().set("authz.request", "1MiB").policy("socket", &rego(COUNT)).policy_with(
                "tcp",
                &rego(COUNT),
                [("listeners", vec![address.to_string()].into())],
            ));
        let channels = [grpc::channel(&agent.authz_socket()), grpc::channel_at(address)];
        Self { agent, address, channels }
    }

    async fn serves(&self) {
        for channel in &self.channels {
            let answer = ask(channel, &question("/")).await;
            assert!(answer.is_ok(), "{answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_is_too_large_or_none_is_a_no() {
    require!(Need::Agent, Need::Root);
    let stage = Stage::set();
    let mut large = question("/");
    http(&mut large).body = "x".repeat(2 << 20);
    let messages = [
        ("large", large.encode_to_vec()),
        ("garbage", vec![0xff; 4096]),
        ("garbage within", [&[0x0a, 0x10][..], &[0xff; 16]].concat()),
        ("a wrong type", vec![0x0d, 0, 0, 0, 0]),
        ("an unfinished field", vec![0x0a, 0x7f, 1, 2, 3]),
        ("no UTF-8", path_of(&[0xff, 0xfe])),
    ];
    for channel in &stage.channels {
        for (what, message) in &messages {
            let answer = grpc::exchange(channel, authz::CHECK, Bytes::from(message.clone())).await;
            let answer = answer.unwrap_or_else(|status| panic!("{what} is an error of the call: {status}"));
            let answer = CheckResponse::decode(&answer[..]).expect("an answer");
            assert!(!is_allowed(&answer), "{what}: {answer:?}");
            assert_eq!(metadata(&answer, "reason").as_deref(), Some("unreadable"), "{what}: {answer:?}");
            assert!(metadata(&answer, "decision_id").is_some(), "{what}");
        }
        stage.serves().await;
    }
}

/// A question whose path has these bytes.
fn path_of(bytes: &[u8]) -> Vec<u8> {
    let wrap = |tag: u8, inner: &[u8]| [&[tag, inner.len() as u8], inner].concat();
    let (http, request, attributes) = (wrap(0x22, bytes), 0x12, 0x22);
    wrap(0x0a, &wrap(attributes, &wrap(request, &http)))
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_nobody_means_well_are_answered() {
    require!(Need::Agent, Need::Root);
    let stage = Stage::set();
    let [channel, _] = &stage.channels;
    for nothing in [CheckRequest::default(), CheckRequest { attributes: Some(Default::default()) }] {
        let answer = ask(channel, &nothing).await.expect("an answer");
        assert_eq!(metadata(&answer, "reason").as_deref(), Some("undefined"), "{answer:?}");
    }
    let mut many = question("/");
    http(&mut many).headers = (0..HEADERS).map(|at| (format!("x-{at}"), "v".to_owned())).collect();
    let answer = ask(channel, &many).await.expect("an answer");
    assert_eq!(header(&answer, "x-count"), Some("10000"));
    for body in [
        "[".repeat(DEPTH),
        format!("{}{}", "[".repeat(DEPTH), "]".repeat(DEPTH)),
        "{\"a\":".repeat(DEPTH),
        format!("[{}]", "0,".repeat(300_000)),
        "1e999999999".into(),
        "{\"a\": tru}".into(),
    ] {
        let mut deep = question("/");
        http(&mut deep).headers.insert("content-type".into(), "application/json".into());
        let start: String = body.chars().take(20).collect();
        http(&mut deep).body = body;
        let answer = ask(channel, &deep).await.expect("an answer");
        assert_eq!(denied_status(&answer), Some(400), "{start}: {answer:?}");
    }
    for path in ["/%zz", "/?a=%", "/?a;b", &format!("/?{}", "a&".repeat(200_000))] {
        let answer = ask(channel, &question(path)).await.expect("an answer");
        assert_eq!(denied_status(&answer), Some(400), "{}: {answer:?}", &path[..5.min(path.len())]);
    }
    stage.serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_speak_something_else_are_closed_or_ignored() {
    require!(Need::Agent, Need::Root);
    let stage = Stage::set();
    stage.serves().await;
    let noise: Vec<u8> = (0..65_536_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let frame = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &[0xff; 9], &noise].concat();
    for bytes in [b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".as_slice(), &noise, &frame, b"PRI * HTTP"] {
        let mut unix = UnixStream::connect(stage.agent.authz_socket()).expect("it accepts");
        let mut tcp = TcpStream::connect(stage.address).expect("it accepts");
        // Whoever was closed in the middle cannot write on.
        let _ = (unix.write_all(bytes), tcp.write_all(bytes));
        let patience = Some(Duration::from_millis(200));
        unix.set_read_timeout(patience).expect("a socket");
        tcp.set_read_timeout(patience).expect("a socket");
        let (mut said, mut also_said) = (Vec::new(), Vec::new());
        let _ = (unix.read_to_end(&mut said), tcp.read_to_end(&mut also_said));
        for said in [said, also_said] {
            assert!(!said.windows(4).any(|part| part == b"200 "), "no answer of HTTP/1.1");
        }
        stage.serves().await;
    }
    eventually("only the two that ask are left", SOON, || {
        (value(&stage.agent.metrics(), "vouch_authz_connections") == Some(2.0)).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_stops_although_some_connect_and_say_nothing() {
    require!(Need::Agent, Need::Root);
    let mut stage = Stage::set();
    stage.serves().await;
    let silent: Vec<_> =
        (0..8).map(|_| UnixStream::connect(stage.agent.authz_socket()).expect("it accepts")).collect();
    let also_silent: Vec<_> =
        (0..8).map(|_| TcpStream::connect(stage.address).expect("it accepts")).collect();
    stage.agent.stop();
    drop((silent, also_silent));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_as_deep_as_may_be_is_decided_logged_and_explained() {
    require!(Need::Agent, Need::Root);
    const DEEPEST: usize = 1000;
    let rules = "allow := {\"allowed\": true, \"body\": input.parsed_body} if count(input.parsed_body) == 1";
    let agent = Agent::start(
        settings()
            .set("authz.body_depth", 1024)
            .set("authz.decision_log", "decisions.jsonl")
            .policy("deep", &rego(rules)),
    );
    let channel = grpc::channel(&agent.authz_socket());
    let mut deep = question("/");
    http(&mut deep).headers.insert("content-type".into(), "application/json".into());
    http(&mut deep).body = format!("{}{}", "[".repeat(DEEPEST), "]".repeat(DEEPEST));
    let answer = ask(&channel, &deep).await.expect("an answer");
    assert!(is_allowed(&answer), "{answer:?}");
    let id = metadata(&answer, "decision_id").expect("a decision has an id");
    let log = agent.dir().join("decisions.jsonl");
    eventually("it is logged", SOON, || std::fs::read_to_string(&log).ok()?.contains(&id).then_some(()));
    for format in ["text", "json"] {
        let explained = agent.cli(None, &["explain", "-o", format, &id]);
        assert!(explained.status.success(), "{explained:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_questions_are_not_hoarded() {
    require!(Need::Agent, Need::Root);
    /// Beyond what is remembered by default.
    const QUESTIONS: usize = 300;
    const MOST: u64 = 64 << 20;
    let mut stage = Stage::set();
    stage.serves().await;
    let mut large = question("/");
    http(&mut large).headers.insert("x".into(), "y".into());
    http(&mut large).body = "x".repeat(900 << 10);
    let before = memory(&mut stage.agent);
    for _ in 0..QUESTIONS {
        let answer = ask(&stage.channels[0], &large).await.expect("an answer");
        assert!(is_allowed(&answer), "{answer:?}");
    }
    let grown = memory(&mut stage.agent).saturating_sub(before);
    assert!(grown < MOST, "it grew by {} MiB", grown >> 20);
}
