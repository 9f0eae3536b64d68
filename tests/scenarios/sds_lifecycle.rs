//! What an open SDS stream learns while it is open: rotations, edits of the entries, the loss of an identity. And
//! what else answers on the same socket.

use std::time::Duration;

use prost::Message;
use tonic::Code;
use vouch_tests::{
    Agent, Need, Settings, grpc, require,
    sds::{Stream, chain, secrets},
    settings::entry_of_user,
    x509,
};

const WEB: &str = "spiffe://example.org/web";
const SECOND: &str = "spiffe://example.org/second";

#[tokio::test]
async fn a_rotation_is_pushed_with_a_new_version_and_a_later_end() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(Settings::new([entry_of_user(WEB, 0)]).svid_ttl("6s"));
    let mut stream = Stream::open(&agent.socket(), &["default"]).await.expect("a stream");
    let mut answers = vec![stream.next().await.expect("an answer")];
    for _ in 0..2 {
        stream.ack().await.expect("the stream is open");
        answers.push(stream.next().await.expect("a rotation is pushed"));
    }
    for pair in answers.windows(2) {
        let [before, after] = [&pair[0], &pair[1]].map(|answer| {
            let [secret] = secrets(answer).try_into().expect("one secret");
            x509::facts(&x509::certificates(&chain(&secret).expect("a chain"))[0])
        });
        assert_ne!(pair[0].version_info, pair[1].version_info);
        assert_ne!(pair[0].nonce, pair[1].nonce);
        assert_ne!(before.serial, after.serial);
        assert!(after.not_after > before.not_after);
    }
}

#[tokio::test]
async fn a_rotation_leaves_a_stream_alone_that_asked_for_the_bundle_only() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(Settings::new([entry_of_user(WEB, 0)]));
    let mut stream = Stream::open(&agent.socket(), &["ROOTCA"]).await.expect("a stream");
    stream.next().await.expect("an answer");
    stream.ack().await.expect("the stream is open");
    let rotated = agent.cli(None, &["svid", "rotate", "--all"]);
    assert!(rotated.status.success(), "{rotated:?}");
    stream.stays_quiet().await;
}

#[tokio::test]
async fn an_operator_can_rotate_now() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(Settings::new([entry_of_user(WEB, 0)]));
    let mut stream = Stream::open(&agent.socket(), &["default"]).await.expect("a stream");
    let before = stream.next().await.expect("an answer");
    stream.ack().await.expect("the stream is open");
    let rotated = agent.cli(None, &["svid", "rotate", WEB]);
    assert!(rotated.status.success(), "{rotated:?}");
    let after = stream.next().await.expect("the fresh SVID is pushed");
    assert_ne!(before.version_info, after.version_info);
}

#[tokio::test]
async fn a_gained_identity_is_pushed_and_a_lost_one_ends_its_stream() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(Settings::new([entry_of_user(WEB, 0)]));
    let mut everything = Stream::open(&agent.socket(), &[]).await.expect("a stream");
    everything.next().await.expect("an answer");
    everything.ack().await.expect("the stream is open");
    let mut web = Stream::open(&agent.socket(), &[WEB]).await.expect("a stream");
    web.next().await.expect("an answer");
    web.ack().await.expect("the stream is open");

    agent.write_entries(&[entry_of_user(WEB, 0), entry_of_user(SECOND, 0)]);
    let gained = secrets(&everything.next().await.expect("the gained identity is pushed"));
    assert!(gained.iter().any(|secret| secret.name == SECOND), "{gained:?}");
    everything.ack().await.expect("the stream is open");
    web.stays_quiet().await;

    agent.write_entries(&[entry_of_user(SECOND, 0)]);
    let status = web.end().await;
    assert_eq!(status.code(), Code::InvalidArgument);
    let text = format!("workload is not authorized for the requested identities [\"{WEB}\"]");
    assert_eq!(grpc::before_the_decision(&status), text);
    let left = secrets(&everything.next().await.expect("what is left is pushed"));
    assert!(left.iter().all(|secret| secret.name != WEB), "{left:?}");
}

#[tokio::test]
async fn a_slow_reader_gets_the_newest_state_after_all() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(Settings::new([entry_of_user(WEB, 0)]));
    let mut slow = Stream::open(&agent.socket(), &["default"]).await.expect("a stream");
    let mut quick = Stream::open(&agent.socket(), &["default"]).await.expect("a stream");
    quick.next().await.expect("an answer");
    let mut newest = String::new();
    for _ in 0..5 {
        quick.ack().await.expect("the stream is open");
        assert!(agent.cli(None, &["svid", "rotate", "--all"]).status.success());
        newest = quick.next().await.expect("a rotation is pushed").version_info;
    }
    let mut seen = slow.next().await.expect("an answer").version_info;
    while seen != newest {
        slow.ack().await.expect("the stream is open");
        seen = slow.next().await.expect("the newest state comes").version_info;
    }
    slow.stays_quiet().await;
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

#[tokio::test]
async fn health_answers_on_the_same_socket() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(Settings::new([entry_of_user(WEB, 0)]));
    let channel = grpc::channel(&agent.socket());
    let answer: HealthCheckResponse =
        grpc::unary(&channel, "/grpc.health.v1.Health/Check", &()).await.expect("health answers");
    assert_eq!(answer.status, 1, "SERVING");
}

/// `grpc.reflection.v1.ServerReflectionRequest`, as far as it is used here.
#[derive(Clone, PartialEq, Message)]
struct ReflectionRequest {
    #[prost(string, optional, tag = "7")]
    list_services: Option<String>,
}

#[tokio::test]
async fn reflection_answers_on_the_same_socket() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(Settings::new([entry_of_user(WEB, 0)]));
    let request = ReflectionRequest { list_services: Some(String::new()) }.encode_to_vec();
    let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let channel = grpc::channel(&agent.socket());
    let (_requests, mut answers) =
        grpc::streaming(&channel, path, request.into()).await.expect("reflection answers");
    let answer = tokio::time::timeout(Duration::from_secs(5), answers.message());
    let answer = answer.await.expect("in time").expect("no error").expect("an answer");
    let text = String::from_utf8_lossy(&answer);
    for service in
        ["SpiffeWorkloadAPI", "envoy.service.secret.v3.SecretDiscoveryService", "grpc.health.v1.Health"]
    {
        assert!(text.contains(service), "{service} is listed in {text:?}");
    }
}
