//! Whatever a client does within HTTP/2, and however it cuts its frames, it sees of the front what it sees of a tonic
//! server over the same identities.

use std::collections::{HashMap, HashSet};

use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use proptest::prelude::*;
use tokio::runtime::{Builder, Runtime};
use tonic::Code;
use vouch_tests::{
    sds::{chain, secrets},
    wire::{End, Shape},
    x509,
};

use crate::{
    script::{Line, Name, Script, Speaker, Step, script},
    stage::{Call, Stage},
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, max_shrink_time: 60_000, ..ProptestConfig::default() })]

    #[test]
    fn the_front_says_what_a_tonic_server_says(script in script()) {
        virtual_time().block_on(check(&script));
    }
}

/// Far more than any window holds: what is read is given back.
#[test]
fn a_client_that_says_much_on_one_stream_is_heard_to_the_end() {
    let line = Line { shape: Shape::default(), room: 64 << 10, cuts: vec![], window: 65_535 };
    let long = Step::Open { on: 0, names: vec![Name::Default], speaker: Speaker::Long };
    let mut steps = vec![long];
    steps.extend(vec![Step::Again { stream: 0 }; 100]);
    steps.extend([Step::Rotate, Step::Ask { stream: 0, names: vec![Name::Roots] }]);
    let script = Script { calm: true, lines: [line.clone(), line], steps };
    virtual_time().block_on(check(&script));
}

fn virtual_time() -> Runtime {
    Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime")
}

async fn check(script: &Script) {
    let stage = Stage::play(script).await;
    let mut contents = HashMap::new();
    for (number, call) in stage.calls.iter().enumerate() {
        let what = format!("call {number}");
        let (front, oracle) = (call.front.responses(), call.oracle.responses());
        for response in front.iter().chain(&oracle) {
            has_the_content_of_its_version(response, &mut contents);
        }
        nonces_are_new(call, &front, &what);
        never_goes_back(&stage, &front, &what);
        let status = ends_alike(call, &what);
        if script.calm && script.steps.iter().all(Step::is_one_change) {
            assert_eq!(seen(&front), seen(&oracle), "{what}");
        } else if call.fetches || !matches!(status, Some(Code::Ok)) {
            // Which of two states at one moment it was is nobody's business.
            assert_eq!(front.is_empty(), oracle.is_empty(), "{what}");
        } else {
            assert_eq!(front.last().map(version), oracle.last().map(version), "{what}");
        }
    }
    stage.close().await;
}

fn version(response: &DiscoveryResponse) -> &str {
    &response.version_info
}

/// Versions, which stand for their content, nonces and names.
fn seen(responses: &[DiscoveryResponse]) -> Vec<(&str, &str, Vec<String>)> {
    let names = |response| secrets(response).into_iter().map(|secret| secret.name).collect();
    responses.iter().map(|one| (version(one), one.nonce.as_str(), names(one))).collect()
}

fn has_the_content_of_its_version(
    response: &DiscoveryResponse,
    contents: &mut HashMap<String, Vec<Vec<u8>>>,
) {
    let content: Vec<_> = response.resources.iter().map(|any| any.value.clone()).collect();
    let first = contents.entry(response.version_info.clone()).or_insert_with(|| content.clone());
    assert!(*first == content, "version {} has two contents", response.version_info);
}

fn nonces_are_new(call: &Call, responses: &[DiscoveryResponse], what: &str) {
    let nonces: HashSet<_> = responses.iter().map(|response| &response.nonce).collect();
    assert_eq!(nonces.len(), responses.len(), "{what}: a nonce came twice");
    assert!(responses.iter().all(|response| response.nonce.is_empty() == call.fetches), "{what}");
}

/// No certificate comes after one that was made later.
fn never_goes_back(stage: &Stage, responses: &[DiscoveryResponse], what: &str) {
    let mut newest = HashMap::new();
    for secret in responses.iter().flat_map(secrets) {
        let Some(pem) = chain(&secret) else { continue };
        let leaf = x509::certificates(&pem).remove(0);
        let generation = stage.node.certificate_number(&leaf).expect("a certificate of this node");
        let before = newest.insert(secret.name.clone(), generation).unwrap_or(0);
        // `default` is another one's when an entry comes or goes.
        assert!(before <= generation || secret.name == "default", "{what}: {} went back", secret.name);
    }
}

/// The code with which both ended.
fn ends_alike(call: &Call, what: &str) -> Option<Code> {
    let end = |stream: &vouch_tests::wire::Stream| stream.end.clone();
    let (front, oracle) = (call.front.stream(end), call.oracle.stream(end));
    match (&front, &oracle) {
        (Some(End::Status(code, _)), Some(End::Status(other, _))) if call.sent_garbage && *other != 0 => {
            // tonic has other codes for what is no message.
            let ours = [Code::InvalidArgument, Code::ResourceExhausted].map(|code| code as i32);
            assert!(ours.contains(code), "{what}: {front:?}");
        }
        (Some(End::Status(code, text)), Some(End::Status(other, other_text))) => {
            assert_eq!((code, said(text)), (other, said(other_text)), "{what}");
        }
        _ => assert_eq!(front, oracle, "{what}"),
    }
    match front {
        Some(End::Status(code, _)) => Some(Code::from(code)),
        _ => None,
    }
}

/// Without the decision behind a denial, which is another one for each.
fn said(text: &str) -> &str {
    text.split_once(" (decision ").map_or(text, |(said, _)| said)
}
