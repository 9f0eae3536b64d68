//! The state machine against a client that keeps to xDS, and against one that does not.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use proptest::prelude::*;
use prost::Message as _;
use vouch_proto::envoy::{
    extensions::transport_sockets::tls::v3::Secret, service::discovery::v3::DiscoveryResponse,
};

use super::*;
use crate::{
    attestation::Selector,
    registration::{EntryId, RegistrationEntry},
    sds::names::NamesConfig,
    spiffe::{Bundle, PrivateKey, X509Svid},
    svid::{Holder, IssuedBundle, IssuedSvid},
};

fn names() -> Names {
    Names::new(NamesConfig::default(), &"example.org".parse().unwrap())
}

fn svid(entry: &str, path: &str, serial: u8, generation: u64) -> Arc<IssuedSvid> {
    let id: crate::spiffe::SpiffeId = format!("spiffe://example.org/{path}").parse().unwrap();
    let entry = RegistrationEntry::new(EntryId::new(entry), id.clone(), vec![Selector::new("unix", "uid:1")]);
    let key = PrivateKey::from_pkcs8(vec![serial; 100]);
    let now = SystemTime::now();
    let not_after = now + Duration::from_secs(60);
    let svid = X509Svid { id, chain: vec![vec![serial; 300]], key, not_before: now, not_after };
    Arc::new(IssuedSvid { entry: Arc::new(entry), svid, generation, encodings: Default::default() })
}

fn bundle(roots: &[u8], generation: u64) -> Arc<IssuedBundle> {
    let x509_authorities = roots.iter().map(|root| vec![*root; 200]).collect();
    let bundle = Bundle { trust_domain: "example.org".parse().unwrap(), x509_authorities };
    Arc::new(IssuedBundle { bundle, generation, encodings: Default::default() })
}

fn identities(svids: Vec<Arc<IssuedSvid>>) -> Identities {
    let svids = Arc::new(svids.into_iter().collect());
    Identities { svids, pending: 0, bundle: bundle(&[1], 1), holder: Holder::Current }
}

fn ask(names: &[&str], nonce: &str) -> Request {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Request { names, nonce: nonce.to_owned(), ..Default::default() }
}

fn decode(message: &Message) -> (DiscoveryResponse, Vec<Secret>) {
    assert_eq!(message.bytes[0], 0);
    let response = DiscoveryResponse::decode(&message.bytes[5..]).unwrap();
    assert_eq!(u32::from_be_bytes(message.bytes[1..5].try_into().unwrap()) as usize, message.bytes.len() - 5);
    let secrets = response.resources.iter().map(|any| Secret::decode(&*any.value).unwrap()).collect();
    (response, secrets)
}

#[test]
fn each_name_gets_what_it_stands_for() {
    let have = identities(vec![svid("a", "web", 1, 2), svid("b", "db", 2, 3)]);
    for (asked, secret_names) in [
        (vec!["default"], vec!["default"]),
        (vec!["spiffe://example.org/db"], vec!["spiffe://example.org/db"]),
        (vec!["ROOTCA", "ALL", "spiffe://example.org"], vec!["ALL", "ROOTCA", "spiffe://example.org"]),
        (vec![], vec!["spiffe://example.org", "spiffe://example.org/web", "spiffe://example.org/db"]),
        (vec!["default", "default"], vec!["default"]),
    ] {
        let message = Subscription::default().on_request(ask(&asked, ""), &have, &names()).unwrap().unwrap();
        let (response, secrets) = decode(&message);
        assert_eq!(secrets.iter().map(|secret| &*secret.name).collect::<Vec<_>>(), secret_names);
        assert_eq!((&*response.version_info, &*response.nonce), (&*message.version, &*message.nonce));
    }
}

#[test]
fn a_name_that_may_not_be_had_is_refused_with_the_words_that_scripts_know() {
    let have = identities(vec![svid("a", "web", 1, 2)]);
    let error =
        Subscription::default().on_request(ask(&["y", "default", "x"], ""), &have, &names()).unwrap_err();
    assert_eq!(error.to_string(), r#"workload is not authorized for the requested identities ["x" "y"]"#);
    let mut partial = names();
    partial.config.partial = true;
    let message =
        Subscription::default().on_request(ask(&["y", "default"], ""), &have, &partial).unwrap().unwrap();
    assert_eq!(decode(&message).1.len(), 1);
}

#[test]
fn bundles_are_served_without_identity() {
    let message = Subscription::default().on_request(ask(&["ROOTCA"], ""), &identities(vec![]), &names());
    assert!(message.unwrap().is_some());
    let error =
        Subscription::default().on_request(ask(&["default"], ""), &identities(vec![]), &names()).unwrap_err();
    assert_eq!(error, Denied::NotAuthorized(vec!["default".into()]));
}

#[test]
fn an_identity_being_issued_is_not_denied() {
    let mut have = identities(vec![]);
    have.pending = 1;
    let mut stream = Subscription::default();
    assert_eq!(stream.on_request(ask(&["default"], ""), &have, &names()).unwrap_err(), Denied::Pending);
    let have = identities(vec![svid("a", "web", 1, 2)]);
    assert!(stream.on_update(&have, &names()).unwrap().is_some());
}

#[test]
fn a_shared_message_is_the_same_bytes_on_every_stream() {
    let have = identities(vec![svid("a", "web", 1, 2)]);
    let first = Subscription::default().on_request(ask(&["default"], ""), &have, &names()).unwrap().unwrap();
    let second =
        Subscription::default().on_request(ask(&["default"], "old"), &have, &names()).unwrap().unwrap();
    assert_eq!(first.bytes.as_ptr(), second.bytes.as_ptr());
}

#[test]
fn the_nonce_of_an_older_object_is_not_used_again() {
    let (old, new) = (svid("b", "web", 1, 2), svid("a", "web", 2, 9));
    let mut stream = Subscription::default();
    let name = ["spiffe://example.org/web"];
    let first = stream.on_request(ask(&name, ""), &identities(vec![old.clone()]), &names()).unwrap().unwrap();
    stream.on_update(&identities(vec![new, old.clone()]), &names()).unwrap().unwrap();
    let third = stream.on_update(&identities(vec![old]), &names()).unwrap().unwrap();
    assert_eq!(first.version, third.version);
    assert_ne!(first.nonce, third.nonce);
}

#[test]
fn a_node_that_says_something_else_of_itself_is_answered_anew() {
    let have = identities(vec![]);
    let mut stream = Subscription::default();
    let first = stream.on_request(ask(&["ROOTCA"], ""), &have, &names()).unwrap().unwrap();
    let mut old_envoy = NodeFacts::default();
    let version =
        vouch_proto::envoy::config::core::v3::SemanticVersion { minor_number: 9, ..Default::default() };
    let build = vouch_proto::envoy::config::core::v3::BuildVersion { version: Some(version) };
    old_envoy.take_build_version(&build.encode_to_vec());
    let request = Request { node: Some(old_envoy), ..ask(&["ROOTCA"], &first.nonce) };
    assert!(stream.on_request(request.clone(), &have, &names()).unwrap().is_none());
    let second = stream.on_update(&have, &names()).unwrap().expect("plain roots instead of the validator");
    assert_ne!(first.version, second.version);
    let request = Request { nonce: second.nonce.to_string(), ..request };
    assert!(stream.on_request(request, &have, &names()).unwrap().is_none());
    assert!(stream.on_update(&have, &names()).unwrap().is_none());
}

#[test]
fn an_identity_that_is_lost_before_it_was_issued_is_denied() {
    let mut have = identities(vec![]);
    have.pending = 1;
    let mut stream = Subscription::default();
    assert_eq!(stream.on_request(ask(&["default"], ""), &have, &names()).unwrap_err(), Denied::Pending);
    have.pending = 0;
    assert!(matches!(stream.on_update(&have, &names()), Err(Denied::NotAuthorized(_))));
}

/// What may happen on a stream.
#[derive(Debug, Clone)]
enum Step {
    Ack,
    Nack,
    /// A request that answers a response of long ago, or none that ever was.
    Stale,
    Names(Vec<usize>),
    /// The SVIDs held from now on: entry number and serial.
    Svids(Vec<(u8, u8)>),
    Roots(Vec<u8>),
}

const NAMES: [&str; 5] = ["default", "ROOTCA", "spiffe://example.org/w0", "spiffe://example.org/w1", "ALL"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        Just(Step::Ack),
        Just(Step::Nack),
        Just(Step::Stale),
        proptest::collection::vec(0..NAMES.len(), 0..3).prop_map(Step::Names),
        proptest::collection::vec((0u8..2, 0u8..3), 0..3).prop_map(Step::Svids),
        proptest::collection::vec(0u8..3, 1..3).prop_map(Step::Roots),
    ];
    proptest::collection::vec(step, 1..40)
}

#[test]
fn a_denial_names_what_was_asked_for_as_far_as_anybody_reads() {
    assert_eq!(quoted(&["a".into(), "b\n".into()]), r#""a" "b\n""#);
    let longest = "x".repeat(crate::spiffe::MAX_ID_LEN);
    assert_eq!(quoted(std::slice::from_ref(&longest)), format!("{longest:?}"));
    let many = vec!["\u{1}".repeat(2048); 128];
    assert_eq!(quoted(&many), "and 128 more");
    let text = quoted(&[&["a".to_owned()][..], &many].concat());
    assert_eq!(text, r#""a" and 128 more"#);
}

proptest! {
    /// Invariant 5 of the design: the newest state is reached, nothing unchanged is sent, generations never go
    /// back, and no nonce names two responses of one stream.
    #[test]
    fn any_history_keeps_the_invariants(steps in steps()) {
        let names = Names::new(NamesConfig { partial: true, ..Default::default() }, &"example.org".parse().unwrap());
        let mut stream = Subscription::default();
        let mut have = identities(vec![]);
        let (mut generation, mut nonces, mut sent) = (1, vec![], None::<Message>);
        let mut asked: Vec<String> = vec!["default".into()];
        let mut began = false;
        for step in steps {
            let current = sent.as_ref().map(|sent| sent.nonce.to_string()).unwrap_or_default();
            let answer = match step {
                Step::Svids(wanted) => {
                    let mut svids: Vec<_> = wanted.iter().map(|(entry, serial)| {
                        generation += 1;
                        svid(&format!("e{entry}"), &format!("w{entry}"), *serial, generation)
                    }).collect();
                    svids.sort_by(|a, b| a.entry.id.cmp(&b.entry.id));
                    have.svids = Arc::new(svids.into_iter().collect());
                    stream.on_update(&have, &names).unwrap()
                }
                Step::Roots(roots) => {
                    generation += 1;
                    have.bundle = bundle(&roots, generation);
                    stream.on_update(&have, &names).unwrap()
                }
                Step::Stale => {
                    let before = format!("{current}x");
                    let answer = stream.on_request(ask(&["ROOTCA"], &before), &have, &names).unwrap();
                    if began {
                        prop_assert!(answer.is_none(), "a stale request was answered");
                    } else {
                        asked = vec!["ROOTCA".into()];
                    }
                    began = true;
                    answer
                }
                Step::Names(list) => {
                    asked = normal(list.iter().map(|at| NAMES[*at].to_owned()).collect());
                    began = true;
                    stream.on_request(Request { names: asked.clone(), nonce: current, ..Default::default() }, &have, &names).unwrap()
                }
                Step::Ack | Step::Nack => {
                    let error = matches!(step, Step::Nack).then(|| "bad".to_owned());
                    let request = Request { names: asked.clone(), nonce: current, error, ..Default::default() };
                    let answer = stream.on_request(request, &have, &names).unwrap();
                    prop_assert!(!began || answer.is_none(), "an ACK or NACK was answered");
                    began = true;
                    answer
                }
            };
            if let Some(message) = answer {
                prop_assert!(!nonces.contains(&message.nonce), "nonce {} used twice", message.nonce);
                nonces.push(message.nonce.clone());
                sent = Some(message);
            }
            // Whatever happened, the client has been told exactly what holds now.
            if began {
                let now = resolve(&asked, &have, &names, true).unwrap();
                let now = compose(&now.iter().map(|resource| resource.encoded(&names)).collect::<Vec<_>>(), "");
                prop_assert_eq!(&now.version, &sent.as_ref().unwrap().version);
            }
        }
    }
}
