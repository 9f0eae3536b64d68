use tokio::sync::oneshot;

use super::*;
use crate::svid::tests::{Switch, caller, entry};

#[tokio::test]
async fn an_svid_of_a_signer_that_was_just_announced_is_not_made_twice() {
    let (issuer, cache, mut owner) = owner();
    issuer.replace();
    let mut subscriber = cache.subscribe(caller(1));
    subscriber.current();
    owner.apply(Action::Wants, SystemTime::now()).await;
    finish_chunk(&mut owner).await;
    assert!(owner.in_flight.is_none(), "nothing is made again");
    assert_eq!(subscriber.current().svids.len(), 1);
    assert_eq!(subscriber.current().bundle.bundle, *issuer.trust().borrow().bundle);
}

#[tokio::test]
async fn a_rotation_asked_for_while_another_is_under_way_is_one_of_its_own() {
    let (_issuer, cache, mut owner) = owner();
    let mut subscriber = cache.subscribe(caller(1));
    subscriber.current();
    owner.apply(Action::Wants, SystemTime::now()).await;
    finish_chunk(&mut owner).await;

    let mut first = rotate(&mut owner).await;
    let mut second = rotate(&mut owner).await;
    finish_chunk(&mut owner).await;
    assert_eq!(first.try_recv(), Ok(Ok(1)));
    assert!(second.try_recv().is_err(), "that SVID was made before it was asked for");
    finish_chunk(&mut owner).await;
    assert_eq!(second.try_recv(), Ok(Ok(1)));
}

#[tokio::test]
async fn a_rotation_ends_when_its_entry_goes() {
    let (_issuer, cache, mut owner) = owner();
    cache.subscribe(caller(1)).current();
    let mut subscriber = cache.subscribe(caller(1));
    subscriber.current();
    owner.apply(Action::Wants, SystemTime::now()).await;
    finish_chunk(&mut owner).await;

    let mut answer = rotate(&mut owner).await;
    let (_sender, none) = watch::channel(Arc::new(EntryIndex::default()));
    owner.entries = none;
    owner.apply(Action::Entries, SystemTime::now()).await;
    assert_eq!(answer.try_recv(), Ok(Ok(0)));
    finish_chunk(&mut owner).await;
    assert!(subscriber.current().svids.is_empty(), "what was under way is thrown away");
}

#[tokio::test]
async fn an_entry_that_goes_and_comes_back_by_the_clock_concerns_everybody() {
    let now = SystemTime::now();
    let mut mortal = entry("a", 1);
    mortal.expires_at = Some(now + Duration::from_secs(100));
    let (_, entries) = watch::channel(Arc::new(EntryIndex::new([mortal])));
    let (cache, mut owner) = SvidOwner::new(Arc::new(Switch::new()), entries, SCHEDULE, now);
    for at in [now + Duration::from_secs(200), now] {
        owner.apply(Action::Wake, at).await;
        assert!(cache.snapshot().change.svids.is_none());
    }
    let generation = cache.snapshot().generation;
    owner.apply(Action::Wake, now).await;
    assert_eq!(cache.snapshot().generation, generation, "nothing has changed");
}

#[tokio::test]
async fn without_keys_the_rest_is_pending_until_there_are_some() {
    let issuer = Arc::new(Scarce { switch: Switch::new(), keys: watch::Sender::new(2) });
    let (_, entries) = watch::channel(Arc::new(EntryIndex::new(["a", "b", "c"].map(|id| entry(id, 1)))));
    let (cache, mut owner) = SvidOwner::new(issuer.clone(), entries, SCHEDULE, SystemTime::now());
    let mut subscriber = cache.subscribe(caller(1));
    assert_eq!(subscriber.current().pending, 3);
    owner.apply(Action::Wants, SystemTime::now()).await;
    finish_chunk(&mut owner).await;
    let first = subscriber.current();
    assert_eq!((first.svids.len(), first.pending), (2, 1));
    assert!(owner.in_flight.is_none() && owner.stats.failed_total == 0, "it waits, and has not failed");
    assert!(owner.sleep(SystemTime::now()) > Duration::from_secs(9), "a key wakes, not the clock");

    issuer.keys.send_replace(1);
    let woken = async { while !matches!(owner.next_action().await, Some(Action::Ready)) {} };
    timeout(Duration::from_secs(9), woken).await.unwrap();
    owner.apply(Action::Ready, SystemTime::now()).await;
    finish_chunk(&mut owner).await;
    let all = subscriber.current();
    assert_eq!((all.svids.len(), all.pending), (3, 0));
    assert!(all.svids.iter().zip(first.svids.iter()).all(|(now, then)| now.generation == then.generation));
}

#[tokio::test]
async fn a_chunk_that_is_signed_in_parts_is_put_together_in_its_order() {
    let issuer = Arc::new(Switch::new());
    let ids: Vec<_> = (0..60).map(|n| format!("{n:02}")).collect();
    let (_, entries) = watch::channel(Arc::new(EntryIndex::new(ids.iter().map(|id| entry(id, 1)))));
    let (cache, mut owner) = SvidOwner::new(issuer, entries, SCHEDULE, SystemTime::now());
    owner.signers = 8;
    let mut subscriber = cache.subscribe(caller(1));
    subscriber.current();
    owner.apply(Action::Wants, SystemTime::now()).await;
    finish_chunk(&mut owner).await;
    let svids = subscriber.current().svids;
    assert_eq!(svids.len(), 60);
    assert!(svids.iter().all(|issued| issued.svid.id == issued.entry.spiffe_id));
}

/// Has keys for so many.
#[derive(Debug)]
struct Scarce {
    switch: Switch,
    keys: watch::Sender<usize>,
}

impl Issuer for Scarce {
    fn issue(&self, request: &SvidRequest) -> Result<Signed, Error> {
        assert!(*self.keys.borrow() > 0, "there was no key for this one");
        self.keys.send_modify(|keys| *keys -= 1);
        self.switch.issue(request)
    }

    fn trust(&self) -> watch::Receiver<Arc<Trust>> {
        self.switch.trust()
    }

    fn ready(&self) -> watch::Receiver<usize> {
        self.keys.subscribe()
    }
}

const SCHEDULE: Schedule = Schedule { at: 0.5, jitter: 0.1 };

fn owner() -> (Arc<Switch>, SvidCache, SvidOwner) {
    let issuer = Arc::new(Switch::new());
    let (_, entries) = watch::channel(Arc::new(EntryIndex::new([entry("a", 1)])));
    let (cache, owner) = SvidOwner::new(issuer.clone(), entries, SCHEDULE, SystemTime::now());
    (issuer, cache, owner)
}

async fn rotate(owner: &mut SvidOwner) -> oneshot::Receiver<Result<usize, RotateError>> {
    let (answer, answered) = oneshot::channel();
    owner.apply(Action::Command(Command { target: Target::All, answer }), SystemTime::now()).await;
    answered
}

async fn finish_chunk(owner: &mut SvidOwner) {
    let results = results(&mut owner.in_flight).await;
    owner.apply(Action::Issued(results), SystemTime::now()).await;
}
