//! Identities that templates give, from the first who earns one to the last.

use super::*;
use crate::registration::TemplateEntry;

const LIMIT: usize = 2;

fn template(id: &str, path: &str) -> TemplateEntry {
    TemplateEntry::new(EntryId::new(id), format!("spiffe://example.org/{path}").parse().unwrap(), vec![])
}

/// Whoever wears this label.
fn wearer(label: &str) -> Arc<SelectorSet> {
    Arc::new([Selector::new("docker", format!("label:app:{label}"))].into_iter().collect())
}

fn start(templates: Vec<TemplateEntry>) -> Node {
    let issuer = Arc::new(Switch::new());
    let index = EntryIndex::with_templates([entry("k", 1)], templates);
    let (entries, receiver) = watch::channel(Arc::new(index));
    let schedule = Schedule { at: 0.5, jitter: 0.1 };
    let (cache, owner) = SvidOwner::new(issuer.clone(), receiver, schedule, SystemTime::now());
    let owner = owner.deriving_at_most(LIMIT);
    Node { cache, owner: tokio::spawn(owner.run()), entries, issuer }
}

fn refused(node: &Node, why: &'static str) -> u64 {
    node.cache.template_refusals().get_or_create(&[("reason", why)]).get()
}

/// The SPIFFE IDs that a subscriber has once nothing is pending.
async fn paths(subscriber: &mut Subscriber) -> Vec<String> {
    let identities = subscriber.settled(SOON).await;
    identities.svids.iter().map(|issued| issued.svid.id.path().to_owned()).collect()
}

#[tokio::test]
async fn each_value_has_its_identity_and_equals_share_it() {
    let node = start(vec![template("t", "app/{docker:label:app}")]);
    let mut subscribers = ["web", "db", "web"].map(|label| node.cache.subscribe(wearer(label)));
    for (subscriber, path) in subscribers.iter_mut().zip(["/app/web", "/app/db", "/app/web"]) {
        assert_eq!(paths(subscriber).await, [path]);
    }
    assert_eq!(ids(&subscribers[0].current()), ["t/app/web"]);
    assert_eq!((node.issuer.issued.load(Ordering::SeqCst), node.cache.stats().in_use), (2, 2));
    assert_eq!(node.cache.rotate(Target::Id("spiffe://example.org/app/db".parse().unwrap())).await, Ok(1));
    let nobodys: crate::spiffe::SpiffeId = "spiffe://example.org/other/db".parse().unwrap();
    assert_eq!(node.cache.rotate(Target::Id(nobodys.clone())).await, Err(RotateError::Unknown(nobodys)));
}

#[tokio::test]
async fn what_a_template_made_goes_with_its_last_user_and_what_is_written_stays() {
    let node = start(vec![template("t", "app/{docker:label:app}")]);
    let mut first = node.cache.subscribe(wearer("web"));
    let mut second = node.cache.subscribe(wearer("web"));
    let mut plain = node.cache.subscribe(caller(1));
    for subscriber in [&mut first, &mut second, &mut plain] {
        subscriber.settled(SOON).await;
    }
    let before = serials(&first.current());
    drop(first);
    tokio::time::sleep(NEVER).await;
    assert_eq!((node.cache.stats().held, serials(&second.current())), (2, before.clone()));
    drop((second, plain));
    until(|| node.cache.stats().held == 1).await;
    let mut again = node.cache.subscribe(wearer("web"));
    let after = loop {
        let identities = timeout(SOON, again.next()).await.unwrap();
        if identities.pending == 0 && serials(&identities) != before {
            break serials(&identities);
        }
    };
    assert!(after.is_disjoint(&before), "it is made anew");
}

#[tokio::test]
async fn an_identity_ends_with_its_template_and_follows_its_edits() {
    let node = start(vec![template("t", "app/{docker:label:app}")]);
    let set = |templates: Vec<TemplateEntry>| {
        node.entries.send_replace(Arc::new(EntryIndex::with_templates([], templates)));
    };
    let mut subscriber = node.cache.subscribe(wearer("web"));
    let before = serials(&subscriber.settled(SOON).await);
    let hinted = TemplateEntry { hint: "h".into(), ..template("t", "app/{docker:label:app}") };
    set(vec![hinted]);
    let after = timeout(SOON, subscriber.next()).await.unwrap();
    assert_eq!((&*after.svids[0].entry.hint, serials(&after)), ("h", before));
    set(vec![template("t", "label/{docker:label:app}")]);
    timeout(SOON, subscriber.next()).await.unwrap();
    assert_eq!(paths(&mut subscriber).await, ["/label/web"]);
    set(vec![]);
    assert!(timeout(SOON, subscriber.next()).await.unwrap().svids.is_empty());
    until(|| node.cache.stats().held == 0).await;
}

#[tokio::test]
async fn a_full_template_turns_others_away_until_one_leaves() {
    let node =
        start(vec![template("t", "app/{docker:label:app}"), template("u", "user/{docker:label:user}")]);
    let mut taken = [node.cache.subscribe(wearer("a")), node.cache.subscribe(wearer("b"))];
    for subscriber in &mut taken {
        assert_eq!(paths(subscriber).await.len(), 1);
    }
    let mut late = node.cache.subscribe(wearer("c"));
    assert_eq!((late.current().svids.len(), late.current().pending), (0, 0), "it has no such entry");
    assert_eq!(refused(&node, "template_identities"), 1);
    assert_eq!(paths(&mut node.cache.subscribe(wearer("a"))).await, ["/app/a"], "that one is given already");
    let matched = node.cache.snapshot().index.matching(&wearer("d"), SystemTime::now()).remove(0);
    assert!(!node.cache.has_room(&matched));
    drop(taken);
    timeout(SOON, late.next()).await.unwrap();
    assert_eq!(paths(&mut late).await, ["/app/c"]);
    assert!(node.cache.has_room(&matched));
    assert_eq!(node.cache.stats().in_use, 1);
}

#[tokio::test]
async fn a_value_that_no_id_may_hold_gives_nothing_and_is_counted_once_for_each_process() {
    let node = start(vec![template("t", "app/{docker:label:app}")]);
    let bad = wearer("../k");
    let mut subscribers = [0; 5].map(|_| node.cache.subscribe(Arc::clone(&bad)));
    for subscriber in &mut subscribers {
        let identities = subscriber.current();
        assert_eq!((identities.svids.len(), identities.pending), (0, 0));
    }
    assert_eq!((refused(&node, "illegal"), refused(&node, "ambiguous")), (1, 0));
    let mut two = (*wearer("a")).clone();
    two.extend(&wearer("b"));
    assert!(node.cache.subscribe(Arc::new(two)).current().svids.is_empty());
    assert_eq!((refused(&node, "illegal"), refused(&node, "ambiguous")), (1, 1));
}
