use std::{
    collections::HashSet,
    fs,
    os::unix::fs::PermissionsExt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use tempfile::TempDir;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::*;

mod sharing;
mod standing;
mod templates;
use crate::{
    attestation::{Selector, SelectorSet, Standing},
    authority::{self, Authority, AuthorityConfig, AuthoritySource, KeyType, Signed, SvidRequest, Trust},
    registration::{EntryId, EntryIndex, RegistrationEntry},
};

const SOON: Duration = Duration::from_secs(10);
const NEVER: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_subscriber_gets_what_its_selectors_earn_in_the_order_of_entry_ids() {
    let node = Node::start(vec![entry("b", 1), entry("a", 1), entry("other", 2)]);
    let mut subscriber = node.cache.subscribe(caller(1));
    let first = subscriber.current();
    assert_eq!((first.svids.len(), first.pending), (0, 2));
    let settled = subscriber.settled(SOON).await;
    assert_eq!(ids(&settled), ["a", "b"]);
    assert_eq!(settled.svids[0].svid.id.as_str(), "spiffe://example.org/a");
    assert_eq!(settled.bundle.bundle.x509_authorities.len(), 1);
    assert_eq!(node.cache.snapshot().svids.len(), 2, "nobody uses the other");
    let stats = node.cache.stats();
    assert_eq!((stats.held, stats.in_use, stats.pending, stats.issued_total), (2, 2, 0, 2));
}

#[tokio::test]
async fn a_caller_without_identity_gets_the_bundle_and_waits_for_nothing() {
    let node = Node::start(vec![entry("a", 1)]);
    let settled = timeout(NEVER, node.cache.subscribe(caller(9)).settled(SOON)).await.unwrap();
    assert_eq!((settled.svids.len(), settled.pending), (0, 0));
    assert_eq!(settled.bundle.bundle.x509_authorities.len(), 1);
}

#[tokio::test]
async fn next_returns_at_once_and_then_only_when_something_changed_for_its_selectors() {
    let node = Node::start(vec![entry("a", 1), entry("b", 2)]);
    let mut one = node.cache.subscribe(caller(1));
    let mut two = node.cache.subscribe(caller(2));
    one.settled(SOON).await;
    two.settled(SOON).await;
    assert!(timeout(NEVER, one.next()).await.is_err(), "settled has returned this already");

    node.cache.rotate(Target::Id("spiffe://example.org/b".parse().unwrap())).await.unwrap();
    timeout(SOON, two.next()).await.unwrap();
    assert!(timeout(NEVER, one.next()).await.is_err(), "another's SVID was rotated");
}

#[tokio::test]
async fn a_cancelled_next_loses_nothing() {
    let node = Node::start(vec![entry("a", 1)]);
    let mut subscriber = node.cache.subscribe(caller(1));
    let before = subscriber.settled(SOON).await.svids[0].generation;
    for _ in 0..20 {
        let _ = timeout(Duration::from_micros(50), subscriber.next()).await;
    }
    node.cache.rotate(Target::All).await.unwrap();
    let after = timeout(SOON, subscriber.next()).await.unwrap().svids[0].generation;
    assert!(after > before);
}

#[tokio::test]
async fn a_rotation_on_demand_is_answered_when_the_new_svids_are_there() {
    let node = Node::start((0..300).map(|n| entry(&format!("{n:03}"), 1)).collect());
    let mut subscriber = node.cache.subscribe(caller(1));
    let old = serials(&subscriber.settled(SOON).await);
    assert_eq!(old.len(), 300);
    assert_eq!(node.cache.rotate(Target::All).await, Ok(300));
    let new = serials(&subscriber.current());
    assert_eq!(new.len(), 300);
    assert!(old.is_disjoint(&new));

    let one = "spiffe://example.org/007".parse().unwrap();
    assert_eq!(node.cache.rotate(Target::Id(one)).await, Ok(1));
    assert_eq!(serials(&subscriber.current()).difference(&new).count(), 1);
    let nobody: crate::spiffe::SpiffeId = "spiffe://example.org/nobody".parse().unwrap();
    assert_eq!(node.cache.rotate(Target::Id(nobody.clone())).await, Err(RotateError::Unknown(nobody)));
}

#[tokio::test]
async fn an_edit_that_an_svid_does_not_say_keeps_it_under_a_new_generation() {
    let node = Node::start(vec![entry("a", 1)]);
    let mut subscriber = node.cache.subscribe(caller(1));
    let before = subscriber.settled(SOON).await;
    node.set_entries(vec![RegistrationEntry { hint: "h".into(), ..entry("a", 1) }]);
    let after = timeout(SOON, subscriber.next()).await.unwrap();
    assert_eq!(serials(&before), serials(&after));
    assert_eq!(after.svids[0].entry.hint, "h");
    assert!(after.svids[0].generation > before.svids[0].generation);
}

#[tokio::test]
async fn a_renamed_entry_takes_its_old_svid_away_at_once() {
    let node = Node::start(vec![entry("a", 1)]);
    let mut subscriber = node.cache.subscribe(caller(1));
    subscriber.settled(SOON).await;
    node.issuer.fails.store(true, Ordering::SeqCst);
    let renamed =
        RegistrationEntry { spiffe_id: "spiffe://example.org/new".parse().unwrap(), ..entry("a", 1) };
    node.set_entries(vec![renamed]);
    let without = timeout(SOON, subscriber.next()).await.unwrap();
    assert_eq!((without.svids.len(), without.pending), (0, 1));
    node.issuer.fails.store(false, Ordering::SeqCst);
    let with = timeout(SOON, subscriber.next()).await.unwrap();
    assert_eq!(with.svids[0].svid.id.as_str(), "spiffe://example.org/new");
}

#[tokio::test]
async fn a_removed_entry_is_gone_and_one_that_comes_back_is_new() {
    let node = Node::start(vec![entry("a", 1)]);
    let mut subscriber = node.cache.subscribe(caller(1));
    let before = subscriber.settled(SOON).await;
    node.set_entries(vec![]);
    assert!(timeout(SOON, subscriber.next()).await.unwrap().svids.is_empty());
    assert!(node.cache.snapshot().svids.is_empty());
    node.set_entries(vec![entry("a", 1)]);
    let after = loop {
        let identities = timeout(SOON, subscriber.next()).await.unwrap();
        if identities.pending == 0 {
            break identities;
        }
    };
    assert!(after.svids[0].generation > before.svids[0].generation);
    assert!(serials(&before).is_disjoint(&serials(&after)));
}

#[tokio::test]
async fn an_entry_that_went_and_came_back_unseen_is_served_again() {
    let node = Node::start(vec![entry("a", 1)]);
    let mut subscriber = node.cache.subscribe(caller(1));
    subscriber.settled(SOON).await;
    // The subscriber sleeps through this.
    node.set_entries(vec![]);
    until(|| node.cache.snapshot().svids.is_empty()).await;
    node.set_entries(vec![entry("a", 1)]);
    until(|| node.cache.snapshot().svids.len() == 1).await;
    assert_eq!(timeout(SOON, subscriber.next()).await.unwrap().svids.len(), 1);
}

#[tokio::test]
async fn an_entry_that_expires_leaves_without_anybody_saying_so() {
    let end = SystemTime::now() + Duration::from_secs(3);
    let node = Node::start(vec![RegistrationEntry { expires_at: Some(end), ..entry("a", 1) }]);
    let mut subscriber = node.cache.subscribe(caller(1));
    assert_eq!(subscriber.settled(Duration::from_secs(2)).await.svids.len(), 1);
    assert!(timeout(SOON, subscriber.next()).await.unwrap().svids.is_empty());
    assert!(SystemTime::now() >= end);
    until(|| node.cache.snapshot().svids.is_empty()).await;
}

#[tokio::test]
async fn svids_rotate_by_themselves_and_are_served_without_a_gap() {
    // Long enough that a machine busy with other tests does not let one expire.
    let node =
        Node::start(vec![RegistrationEntry { x509_svid_ttl: Some(Duration::from_secs(6)), ..entry("a", 1) }]);
    let mut subscriber = node.cache.subscribe(caller(1));
    let mut seen = serials(&subscriber.settled(SOON).await);
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        let identities = subscriber.current();
        assert_eq!(identities.svids.len(), 1, "there is always one");
        assert!(SystemTime::now() < identities.svids[0].svid.not_after + Duration::from_millis(100));
        seen.extend(serials(&identities));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!((3..=6).contains(&seen.len()), "{} in ten seconds, one in three", seen.len());
}

#[tokio::test]
async fn the_last_svid_is_served_while_issuing_fails_but_never_past_its_end() {
    let node =
        Node::start(vec![RegistrationEntry { x509_svid_ttl: Some(Duration::from_secs(3)), ..entry("a", 1) }]);
    let mut subscriber = node.cache.subscribe(caller(1));
    let svid = subscriber.settled(SOON).await.svids[0].clone();
    node.issuer.fails.store(true, Ordering::SeqCst);
    let without = timeout(SOON, subscriber.next()).await.unwrap();
    assert!(SystemTime::now() >= svid.svid.not_after);
    assert_eq!((without.svids.len(), without.pending), (0, 1));
    assert!(node.cache.stats().failing == 1 && node.cache.stats().last_failure.is_some());
    node.issuer.fails.store(false, Ordering::SeqCst);
    assert_eq!(timeout(SOON, subscriber.next()).await.unwrap().svids.len(), 1);
}

#[tokio::test]
async fn what_has_expired_is_not_read_even_if_the_owner_is_late() {
    let short = RegistrationEntry { x509_svid_ttl: Some(Duration::from_secs(2)), ..entry("a", 1) };
    let node = Node::start(vec![short]);
    let mut subscriber = node.cache.subscribe(caller(1));
    let svid = subscriber.settled(SOON).await.svids[0].clone();
    node.owner.abort();
    tokio::time::sleep(svid.svid.not_after.duration_since(SystemTime::now()).unwrap()).await;
    assert_eq!(node.cache.snapshot().svids.len(), 1);
    assert!(subscriber.current().svids.is_empty());
}

#[tokio::test]
async fn a_failed_rotation_on_demand_says_why_and_keeps_what_is_served() {
    let node = Node::start(vec![entry("a", 1)]);
    let mut subscriber = node.cache.subscribe(caller(1));
    let before = serials(&subscriber.settled(SOON).await);
    node.issuer.fails.store(true, Ordering::SeqCst);
    let error = node.cache.rotate(Target::All).await.unwrap_err();
    assert!(matches!(error, RotateError::Failed { done: 0, failed: 1, .. }), "{error}");
    assert_eq!(serials(&subscriber.current()), before);
}

#[tokio::test]
async fn a_new_signer_replaces_what_the_old_one_signed_and_the_bundle_comes_first() {
    let node = Node::start((0..200).map(|n| entry(&format!("{n:03}"), 1)).collect());
    let mut subscriber = node.cache.subscribe(caller(1));
    let old = subscriber.settled(SOON).await;
    node.issuer.replace();
    let roots = node.issuer.trust().borrow().bundle.x509_authorities.clone();
    let end = Instant::now() + SOON;
    loop {
        let now = timeout(SOON, subscriber.next()).await.unwrap();
        assert_eq!(now.svids.len(), 200, "the old ones are served until the new ones are there");
        let replaced = serials(&now).difference(&serials(&old)).count();
        if replaced > 0 {
            assert_eq!(now.bundle.bundle.x509_authorities, roots);
        }
        if replaced == 200 {
            break;
        }
        assert!(Instant::now() < end);
    }
    tokio::time::sleep(NEVER).await;
    assert_eq!(node.issuer.issued.load(Ordering::SeqCst), 400, "each was replaced once");
}

#[tokio::test]
async fn the_same_bundle_again_has_another_generation() {
    let node = Node::start(vec![entry("a", 1)]);
    let mut subscriber = node.cache.subscribe(caller(1));
    let first = subscriber.settled(SOON).await.bundle;
    let (a, mut generations) = (node.issuer.trust().borrow().clone(), vec![first.generation]);
    let mut b = (*a).clone();
    b.bundle = Arc::new(crate::spiffe::Bundle { x509_authorities: vec![], ..(*a.bundle).clone() });
    for trust in [Arc::new(b), a] {
        node.issuer.trust.send_replace(trust);
        generations.push(timeout(SOON, subscriber.next()).await.unwrap().bundle.generation);
    }
    assert!(generations.is_sorted_by(|a, b| a < b), "{generations:?}");
}

#[tokio::test]
async fn generations_never_go_back_for_any_reader() {
    let node = Node::start((0..100).map(|n| entry(&format!("{n:02}"), 1)).collect());
    let mut subscriber = node.cache.subscribe(caller(1));
    subscriber.settled(SOON).await;
    let reading = tokio::spawn(async move {
        let (mut snapshot, mut seen) = (0, HashSet::new());
        let mut newest = std::collections::HashMap::<EntryId, u64>::new();
        for _ in 0..30 {
            let Ok(identities) = timeout(Duration::from_secs(2), subscriber.next()).await else { break };
            for issued in identities.svids.iter() {
                let last = newest.insert(issued.entry.id.clone(), issued.generation).unwrap_or(0);
                assert!(last <= issued.generation);
                seen.insert(issued.generation);
            }
            let generation = identities.svids.iter().map(|issued| issued.generation).max().unwrap();
            assert!(snapshot <= generation);
            snapshot = generation;
        }
        seen.len()
    });
    for _ in 0..5 {
        node.cache.rotate(Target::All).await.unwrap();
    }
    assert!(reading.await.unwrap() > 100);
}

#[tokio::test]
async fn subscribers_that_leave_are_forgotten() {
    let node = Node::start(vec![entry("a", 1)]);
    let mut first = node.cache.subscribe(caller(1));
    first.settled(SOON).await;
    let (standing, learned) = watch::channel(standing_of(1));
    let mut second = node.cache.follow(learned, CancellationToken::new());
    second.current();
    drop(first);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(node.cache.stats().in_use, 1);
    standing.send_replace(standing_of(2));
    second.current();
    until(|| node.cache.stats().in_use == 0).await;
    standing.send_replace(standing_of(1));
    assert_eq!(second.settled(SOON).await.svids.len(), 1);
    until(|| node.cache.stats().in_use == 1).await;
    drop(second);
    until(|| node.cache.stats().in_use == 0).await;
}

#[tokio::test]
async fn what_is_learned_later_wakes_a_subscriber_that_waits() {
    let node = Node::start(vec![entry("a", 1), entry("b", 2)]);
    let (standing, learned) = watch::channel(standing_of(1));
    let mut subscriber = node.cache.follow(learned, CancellationToken::new());
    let ids = |identities: &Identities| -> Vec<String> {
        identities.svids.iter().map(|issued| issued.entry.id.to_string()).collect()
    };
    assert_eq!(ids(&subscriber.settled(SOON).await), ["a"]);
    let waiting = tokio::spawn(async move {
        loop {
            let identities = subscriber.next().await;
            if ids(&identities) == ["b"] {
                return;
            }
        }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    standing.send_replace(standing_of(2));
    timeout(SOON, waiting).await.unwrap().unwrap();
}

fn standing_of(uid: u32) -> Arc<Standing> {
    Arc::new(Standing::new(caller(uid)))
}

#[tokio::test]
async fn a_thousand_subscribers_share_one_svid() {
    let node = Node::start(vec![entry("a", 1)]);
    let mut subscribers: Vec<_> = (0..1000).map(|_| node.cache.subscribe(caller(1))).collect();
    let mut all = Vec::new();
    for subscriber in &mut subscribers {
        all.push(subscriber.settled(SOON).await.svids[0].clone());
    }
    assert!(all.iter().all(|issued| Arc::ptr_eq(issued, &all[0])));
    assert_eq!(node.issuer.issued.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_owner_ends_with_the_last_cache() {
    let Node { cache, owner, .. } = Node::start(vec![]);
    drop(cache);
    timeout(SOON, owner).await.unwrap().unwrap();
}

/// A running owner with a real authority behind a switch.
struct Node {
    cache: SvidCache,
    owner: JoinHandle<()>,
    entries: watch::Sender<Arc<EntryIndex>>,
    issuer: Arc<Switch>,
}

impl Node {
    fn start(entries: Vec<RegistrationEntry>) -> Self {
        let issuer = Arc::new(Switch::new());
        let (entries, receiver) = watch::channel(Arc::new(EntryIndex::new(entries)));
        let schedule = Schedule { at: 0.5, jitter: 0.1 };
        let (cache, owner) = SvidOwner::new(issuer.clone(), receiver, schedule, SystemTime::now());
        Self { cache, owner: tokio::spawn(owner.run()), entries, issuer }
    }

    fn set_entries(&self, entries: Vec<RegistrationEntry>) {
        self.entries.send_replace(Arc::new(EntryIndex::new(entries)));
    }
}

/// Fails when told to, and can become another authority.
#[derive(Debug)]
pub(crate) struct Switch {
    authority: std::sync::Mutex<(Authority, TempDir)>,
    trust: watch::Sender<Arc<Trust>>,
    fails: AtomicBool,
    issued: AtomicUsize,
}

impl Switch {
    pub(crate) fn new() -> Self {
        let authority = new_authority();
        let trust = watch::Sender::new(authority.0.trust().borrow().clone());
        Self {
            authority: authority.into(),
            trust,
            fails: AtomicBool::new(false),
            issued: AtomicUsize::new(0),
        }
    }

    pub(super) fn replace(&self) {
        let new = new_authority();
        self.trust.send_replace(new.0.trust().borrow().clone());
        *self.authority.lock().unwrap() = new;
    }
}

impl Issuer for Switch {
    fn issue(&self, request: &SvidRequest) -> Result<Signed, authority::Error> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(authority::Error::Random);
        }
        self.issued.fetch_add(1, Ordering::SeqCst);
        Issuer::issue(&self.authority.lock().unwrap().0, request)
    }

    fn trust(&self) -> watch::Receiver<Arc<Trust>> {
        self.trust.subscribe()
    }
}

fn new_authority() -> (Authority, TempDir) {
    let dir = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o700)).tempdir().unwrap();
    let config = AuthorityConfig {
        trust_domain: "example.org".parse().unwrap(),
        svid_ttl: Duration::from_secs(3600),
        key_type: KeyType::EcP256,
        source: AuthoritySource::Embedded {
            state_dir: dir.path().to_owned(),
            ca_ttl: Duration::from_secs(365 * 24 * 3600),
        },
    };
    (Authority::open(config, SystemTime::now()).unwrap(), dir)
}

async fn until(condition: impl Fn() -> bool) {
    let all = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, all).await.unwrap();
}

fn serials(identities: &Identities) -> HashSet<Vec<u8>> {
    identities
        .svids
        .iter()
        .map(|issued| {
            let (_, leaf) = x509_parser::parse_x509_certificate(&issued.svid.chain[0]).unwrap();
            leaf.raw_serial().to_vec()
        })
        .collect()
}

fn ids(identities: &Identities) -> Vec<&str> {
    identities.svids.iter().map(|issued| issued.entry.id.as_str()).collect()
}

pub(crate) fn caller(uid: u32) -> Arc<SelectorSet> {
    Arc::new([Selector::new("unix", format!("uid:{uid}"))].into_iter().collect())
}

pub(crate) fn entry(id: &str, uid: u32) -> RegistrationEntry {
    RegistrationEntry::new(
        EntryId::new(id),
        format!("spiffe://example.org/{id}").parse().unwrap(),
        vec![Selector::new("unix", format!("uid:{uid}"))],
    )
}
