//! Readers with the same selectors share what they read.

use super::*;

#[tokio::test]
async fn who_has_the_same_selectors_shares_one_list_until_nobody_is_left() {
    let node = Node::start(vec![entry("a", 1), entry("b", 1), entry("c", 2)]);
    let selectors = caller(1);
    let mut subscribers: Vec<_> = (0..10).map(|_| node.cache.subscribe(Arc::clone(&selectors))).collect();
    let first = subscribers[0].settled(SOON).await.svids;
    for subscriber in &mut subscribers {
        assert!(Arc::ptr_eq(&subscriber.current().svids, &first));
    }
    let mut other = node.cache.subscribe(caller(2));
    other.settled(SOON).await;
    // What concerns others alone makes no new list, and what concerns these makes one.
    node.cache.rotate(Target::Id("spiffe://example.org/c".parse().unwrap())).await.unwrap();
    assert!(subscribers.iter_mut().all(|subscriber| Arc::ptr_eq(&subscriber.current().svids, &first)));
    node.cache.rotate(Target::Id("spiffe://example.org/a".parse().unwrap())).await.unwrap();
    let second = subscribers[0].current().svids;
    assert!(subscribers.iter_mut().all(|subscriber| Arc::ptr_eq(&subscriber.current().svids, &second)));
    assert!(Arc::ptr_eq(&first[1], &second[1]) && !Arc::ptr_eq(&first[0], &second[0]));
    assert_eq!(node.cache.shared.matches.len(), 2);
    drop((subscribers, other));
    assert_eq!(node.cache.shared.matches.len(), 0);
    until(|| node.cache.stats().in_use == 0).await;
}

#[tokio::test]
async fn the_first_of_many_that_bears_an_id_is_found() {
    let mut entries: Vec<_> = (10..30).map(|number| entry(&number.to_string(), 1)).collect();
    entries[7].spiffe_id = entries[3].spiffe_id.clone();
    let node = Node::start(entries);
    let svids = node.cache.subscribe(caller(1)).settled(SOON).await.svids;
    for issued in svids.iter() {
        let found = &svids.of(issued.svid.id.as_str()).unwrap().entry.id;
        let first = if issued.entry.id.as_str() == "17" { "13" } else { issued.entry.id.as_str() };
        assert_eq!(found.as_str(), first);
    }
    assert!(svids.of("spiffe://example.org/none").is_none());
}
