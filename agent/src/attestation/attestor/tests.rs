use std::{
    os::unix::net::UnixStream,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
};

use futures_util::future::BoxFuture;

use super::*;
use crate::attestation::{Selector, Silence, Subject};

fn config() -> AttestorConfig {
    AttestorConfig {
        path: PathRule::Verified,
        hash_size_limit: u64::MAX,
        timeout: Duration::from_secs(5),
        in_flight: 2,
        in_flight_per_caller: 1,
        queued: 1,
        reserve: 0.25,
        rate: Rate::new(1_000, 1_000),
        remembered: 16,
    }
}

fn attestor(witnesses: Vec<Arc<dyn Witness>>) -> Attestor {
    Attestor::new(config(), None, None, witnesses)
}

fn ourselves() -> (UnixStream, Arc<Peer>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let peer = Peer::of(&ours, None, Grade::Peercred).unwrap();
    (theirs, Arc::new(peer))
}

async fn selectors(attestor: &Attestor, peer: &Arc<Peer>) -> Arc<SelectorSet> {
    let run = attestor.attest(peer).await.unwrap();
    let standing = Arc::clone(&run.standing().borrow());
    Arc::clone(&standing.selectors)
}

#[tokio::test]
async fn without_hooks_a_peer_gets_unix_selectors_and_a_gap_for_the_kernels() {
    let attestor = attestor(vec![]);
    attestor.want(Wanted { hash: true, parent: false });
    let (_open, peer) = ourselves();
    let selectors = selectors(&attestor, &peer).await;
    let uid = nix::unistd::geteuid();
    assert!(selectors.contains(&Selector::new("unix", format!("uid:{uid}"))));
    assert!(selectors.iter().any(|selector| selector.value().starts_with("sha256:")));
    assert!(!selectors.surely_lacks(&Selector::new("kernel", "container:none")));
    assert_eq!(attestor.metrics().attested.get(), 1);
}

#[tokio::test]
async fn nothing_is_hashed_unless_an_entry_names_a_hash() {
    let attestor = attestor(vec![]);
    let (_open, peer) = ourselves();
    let selectors = selectors(&attestor, &peer).await;
    assert_eq!(attestor.metrics().hashed.get(), 0);
    assert!(!selectors.surely_lacks(&Selector::new("unix", "sha256:00")));
}

#[tokio::test]
async fn a_hash_that_is_asked_for_later_is_added_to_who_is_known() {
    let attestor = attestor(vec![]);
    let (_open, peer) = ourselves();
    let run = attestor.attest(&peer).await.unwrap();
    let mut standing = run.standing();
    attestor.want(Wanted { hash: true, parent: false });
    let has_hash = |standing: &Arc<crate::attestation::Standing>| {
        standing.selectors.iter().any(|selector| selector.field() == "sha256")
    };
    timeout(Duration::from_secs(20), standing.wait_for(has_hash)).await.unwrap().unwrap();
    assert_eq!(attestor.metrics().attested.get(), 1, "nothing else is learned again");
}

#[tokio::test]
async fn nothing_is_judged_again_while_nothing_changes() {
    let attestor = Arc::new(attestor(vec![]));
    let (_open, peer) = ourselves();
    let run = attestor.attest(&peer).await.unwrap();
    let before = Arc::clone(&run.standing().borrow());
    for _ in 0..5 {
        attestor.sweep().await;
    }
    assert!(Arc::ptr_eq(&before, &run.standing().borrow()), "what is held is the very same");
    assert_eq!(attestor.metrics().attested.get(), 1);
}

#[tokio::test]
async fn a_look_serves_other_connections_unless_there_is_reason_for_another() {
    let attestor = Arc::new(attestor(vec![]));
    let (_open, peer) = ourselves();
    let run = attestor.attest(&peer).await.unwrap();
    let started = since_boot();
    attestor.judge(&run).await;
    assert!(run.found_unchanged_at().is_some_and(|at| started <= at && at <= since_boot()));
    assert!(run.summon(), "an event has come");
    assert_eq!(run.found_unchanged_at(), None);
    attestor.judge(&run).await;
    assert!(run.found_unchanged_at().is_some());
    let judging = run.judging.lock().await;
    assert_eq!(run.found_unchanged_at(), None);
    drop(judging);
    run.end();
    attestor.judge(&run).await;
    assert_eq!(run.found_unchanged_at(), None);
}

/// Says nothing until it is told to, and counts how often it was asked.
#[derive(Debug, Default)]
struct Shy {
    speaks: AtomicBool,
    asked: AtomicU32,
}

impl Witness for Shy {
    fn kind(&self) -> &'static str {
        "docker"
    }

    fn concerns(&self, _subject: &Subject) -> bool {
        true
    }

    fn testify<'a>(&'a self, _subject: &'a Subject) -> BoxFuture<'a, Result<Vec<Selector>, Silence>> {
        Box::pin(async {
            self.asked.fetch_add(1, Ordering::Relaxed);
            if !self.speaks.load(Ordering::Relaxed) {
                return Err(Silence::new("the engine does not know the container yet"));
            }
            // It may say what is not its own; nobody listens.
            Ok(vec![Selector::new("docker", "label:tier:web"), Selector::new("unix", "uid:4711")])
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_witness_that_is_silent_leaves_a_gap_is_asked_again_and_its_word_is_pushed() {
    let shy = Arc::new(Shy::default());
    let attestor = attestor(vec![shy.clone()]);
    let (_open, peer) = ourselves();
    let run = attestor.attest(&peer).await.unwrap();
    let label = Selector::new("docker", "label:tier:web");
    let mut unheard = run.unheard();
    unheard.wait_for(Vec::is_empty).await.unwrap();
    let first = Arc::clone(&run.standing().borrow().selectors);
    assert!(!first.contains(&label) && !first.surely_lacks(&label));
    assert!(run.costs().iter().any(|cost| cost.attestor == "docker" && cost.gap.is_some()));

    shy.speaks.store(true, Ordering::Relaxed);
    let mut standing = run.standing();
    let heard = standing.wait_for(|standing| standing.selectors.contains(&label));
    let healed = Arc::clone(&timeout(Duration::from_secs(60), heard).await.unwrap().unwrap().selectors);
    assert!(healed.surely_lacks_kind("docker") != healed.contains(&label));
    assert!(!healed.contains(&Selector::new("unix", "uid:4711")));
    let asked = shy.asked.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(shy.asked.load(Ordering::Relaxed), asked, "who has spoken is not asked again");
    assert_eq!(attestor.metrics().silences.get(), u64::from(asked) - 1);
}

#[tokio::test(start_paused = true)]
async fn a_witness_is_not_asked_about_a_process_that_nobody_connects_from_any_more() {
    let shy = Arc::new(Shy::default());
    let attestor = attestor(vec![shy.clone()]);
    let (open, peer) = ourselves();
    drop(attestor.attest(&peer).await.unwrap());
    drop((open, peer));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = shy.asked.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(shy.asked.load(Ordering::Relaxed) <= asked + 1);
}

#[tokio::test]
async fn a_process_that_ends_loses_everything() {
    let attestor = Arc::new(attestor(vec![]));
    let (_open, peer) = ourselves();
    let run = attestor.attest(&peer).await.unwrap();
    run.end();
    let standing = Arc::clone(&run.standing().borrow());
    assert!(standing.gone && standing.selectors.is_empty());
    assert!(attestor.attest(&peer).await.is_ok(), "another connection of a live process is another run");
}

#[tokio::test]
async fn a_process_is_described_with_what_witnesses_say_and_with_a_gap_for_who_is_silent() {
    let shy = Arc::new(Shy::default());
    let attestor = attestor(vec![shy.clone()]);
    let label = Selector::new("docker", "label:tier:web");
    let silent = attestor.describe(std::process::id()).await.unwrap();
    assert!(!silent.selectors.contains(&label) && !silent.selectors.surely_lacks(&label));
    assert!(silent.costs.iter().any(|cost| cost.attestor == "docker" && cost.gap.is_some()));
    shy.speaks.store(true, Ordering::Relaxed);
    assert!(attestor.describe(std::process::id()).await.unwrap().selectors.contains(&label));
}
