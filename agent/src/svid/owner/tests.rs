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

fn owner() -> (Arc<Switch>, SvidCache, SvidOwner) {
    let issuer = Arc::new(Switch::new());
    let (_, entries) = watch::channel(Arc::new(EntryIndex::new([entry("a", 1)])));
    let schedule = Schedule { at: 0.5, jitter: 0.1 };
    let (cache, owner) = SvidOwner::new(issuer.clone(), entries, schedule, SystemTime::now());
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
