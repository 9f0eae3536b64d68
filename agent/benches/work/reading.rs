//! What a connection reads of the SVIDs that are published.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{runtime::Runtime, sync::watch};
use vouch::{
    attestation::{Selector, SelectorSet},
    registration::{EntryId, EntryIndex, RegistrationEntry},
    svid::{Schedule, Subscriber, SvidCache, SvidOwner},
};

use super::authority;

const PATIENCE: Duration = Duration::from_secs(60);

/// A subscriber to one SVID, and the door to the owner that publishes it on `runtime`.
pub(crate) fn subscriber(runtime: &Runtime) -> (Subscriber, SvidCache) {
    let (authority, state) = authority::embedded();
    let selector = Selector::new("unix", "uid:1000");
    let id = "spiffe://example.org/ns/shop/sa/web".parse().expect("a SPIFFE ID");
    let entry = RegistrationEntry::new(EntryId::new("web"), id, vec![selector.clone()]);
    let (writer, entries) = watch::channel(Arc::new(EntryIndex::new([entry])));
    let schedule = Schedule { at: 0.5, jitter: 0.1 };
    let (cache, owner) = SvidOwner::new(Arc::new(authority), entries, schedule, SystemTime::now());
    runtime.spawn(async move {
        owner.run().await;
        drop((writer, state));
    });
    let mut subscriber = cache.subscribe(Arc::new(SelectorSet::from_iter([selector])));
    let identities = runtime.block_on(subscriber.settled(PATIENCE));
    assert_eq!((identities.svids.len(), identities.pending), (1, 0));
    (subscriber, cache)
}
