//! Connections whose process changes.

use super::*;

#[tokio::test]
async fn a_process_that_has_changed_is_told_to_come_again_only_if_that_earns_it_something() {
    let node = Node::start(vec![entry("a", 1), entry("b", 2)]);
    let (sender, learned) = watch::channel(standing_of(1));
    let over = CancellationToken::new();
    let mut subscriber = node.cache.follow(learned, over.clone());
    assert_eq!(subscriber.settled(SOON).await.holder, Holder::Current);
    // It lost nothing that counts, and nothing is there for what it is now.
    sender.send_replace(Arc::new(Standing { now: Some(caller(3)), ..Standing::new(caller(1)) }));
    assert_eq!(subscriber.current().holder, Holder::Current);
    assert!(!over.is_cancelled());
    sender.send_replace(Arc::new(Standing { now: Some(caller(2)), ..Standing::new(caller(1)) }));
    let identities = timeout(SOON, subscriber.next()).await.unwrap();
    assert_eq!(identities.holder, Holder::Outdated);
    assert!(over.is_cancelled());
    sender.send_replace(Arc::new(Standing { gone: true, ..Standing::default() }));
    let identities = timeout(SOON, subscriber.next()).await.unwrap();
    assert_eq!((identities.holder, identities.svids.len()), (Holder::Gone, 0));
}

#[tokio::test]
async fn nothing_is_published_before_the_check() {
    let (_entries, receiver) = watch::channel(Arc::new(EntryIndex::new(vec![entry("a", 1)])));
    let schedule = Schedule { at: 0.5, jitter: 0.1 };
    let (cache, owner) = SvidOwner::new(Arc::new(Switch::new()), receiver, schedule, SystemTime::now());
    let checks = Arc::new(AtomicUsize::new(0));
    let (counted, seen) = (checks.clone(), cache.clone());
    let owner = owner.checked_by(Box::new(move || {
        let (counted, before) = (counted.clone(), seen.snapshot().svids.len());
        Box::pin(async move {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert_eq!(before, 0);
        })
    }));
    tokio::spawn(owner.run());
    assert_eq!(cache.subscribe(caller(1)).settled(SOON).await.svids.len(), 1);
    assert!(checks.load(Ordering::Relaxed) > 0);
}
