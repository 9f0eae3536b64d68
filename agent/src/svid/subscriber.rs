//! One reader of what a set of selectors earns.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    cache::Shared,
    snapshot::{Holder, Identities, Snapshot},
};
use crate::{
    attestation::{SelectorSet, Standing},
    decision::Account,
    registration::{EntryIndex, RegistrationEntry},
};

/// Reads what its selectors earn, and says so to the owner by existing: what it matches is issued and renewed.
///
/// While the same entries match, it takes no lock that a writer holds for long.
#[derive(Debug)]
pub struct Subscriber {
    shared: Arc<Shared>,
    published: watch::Receiver<u64>,
    standing: watch::Receiver<Arc<Standing>>,
    /// Told when the connection no longer speaks for its process.
    over: CancellationToken,
    /// A look found something new of the process.
    has_learned: bool,
    /// Takes down what is read.
    account: Option<Account>,
    matched: Option<Matched>,
    /// What was last returned.
    returned: Option<Returned>,
}

/// Equal only when nobody could tell the difference.
#[derive(Debug)]
struct Returned {
    /// The bundle's last.
    generations: Vec<u64>,
    pending: usize,
    holder: Holder,
}

/// What the selectors match in one index, and from when to when.
#[derive(Debug)]
struct Matched {
    index: Arc<EntryIndex>,
    selectors: Arc<SelectorSet>,
    entries: Arc<[Arc<RegistrationEntry>]>,
    from: SystemTime,
    until: Option<SystemTime>,
}

impl Subscriber {
    pub(super) fn new(
        shared: Arc<Shared>,
        standing: watch::Receiver<Arc<Standing>>,
        over: CancellationToken,
    ) -> Self {
        let published = shared.published.subscribe();
        Self {
            shared,
            published,
            standing,
            over,
            has_learned: false,
            account: None,
            matched: None,
            returned: None,
        }
    }

    /// Has `account` take down what is read from now on.
    #[must_use]
    pub fn accounted_in(mut self, account: Account) -> Self {
        self.account = Some(account);
        self
    }

    /// `message` for a call that ends because it may not have what it asked for, `asked` by name, with the decision
    /// at its end.
    pub fn denial(&mut self, message: &str, asked: &[String]) -> String {
        match &mut self.account {
            Some(account) => account.denied(asked, SystemTime::now()).behind(message),
            None => message.to_owned(),
        }
    }

    /// What the selectors earn now. SVIDs that are missing are asked for and counted as pending.
    pub fn current(&mut self) -> Identities {
        let identities = self.read(SystemTime::now());
        self.note(&identities);
        identities
    }

    /// What the selectors earn now, if that differs from what was last returned.
    pub fn look(&mut self) -> Option<Identities> {
        // Marked as seen, then read: an update in between is seen twice, never missed.
        self.published.borrow_and_update();
        let identities = self.read(SystemTime::now());
        self.note(&identities).then_some(identities)
    }

    /// The entries that matched at the last look, by id: the same slice until others match. `None` before the first look.
    pub fn entries(&self) -> Option<&Arc<[Arc<RegistrationEntry>]>> {
        self.matched.as_ref().map(|matched| &matched.entries)
    }

    /// Whether something was published, or learned of the process, since the last look.
    pub fn has_news(&self) -> bool {
        // Without its sender nothing more will be learned of the process.
        self.published.has_changed().unwrap_or(false) || self.standing.has_changed().unwrap_or(false)
    }

    /// Whether something new of the process was found by a look since this was asked last.
    pub fn take_learned(&mut self) -> bool {
        std::mem::take(&mut self.has_learned)
    }

    /// Waits until something is learned of the process, counted from the last look.
    pub fn learned(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut standing = self.standing.clone();
        async move {
            if standing.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until what the selectors earn differs from what was last returned; returns at once the first time.
    /// Intermediate states may be missed, the last never is. Cancel-safe.
    pub async fn next(&mut self) -> Identities {
        loop {
            if let Some(identities) = self.look() {
                return identities;
            }
            self.change().await;
        }
    }

    /// Waits until nothing is pending, `timeout` at most.
    pub async fn settled(&mut self, timeout: Duration) -> Identities {
        let deadline = Instant::now() + timeout;
        loop {
            self.published.borrow_and_update();
            let identities = self.current();
            if identities.pending == 0 || timeout_at(deadline, self.change()).await.is_err() {
                return identities;
            }
        }
    }

    async fn change(&mut self) {
        tokio::select! {
            // The sender lives in `shared`, so it outlasts this receiver.
            Ok(()) = self.published.changed() => {}
            // Without its sender nothing more will be learned of the process.
            Ok(()) = self.standing.changed() => {}
            else => std::future::pending().await,
        }
    }

    /// Says whether `identities` are not what was returned before.
    fn note(&mut self, identities: &Identities) -> bool {
        let svids = identities.svids.iter().map(|issued| issued.generation);
        let generations = svids.chain([identities.bundle.generation]);
        let (pending, holder) = (identities.pending, identities.holder);
        let before = self.returned.get_or_insert_with(|| Returned { generations: vec![], pending, holder });
        if before.pending == pending
            && before.holder == holder
            && before.generations.iter().copied().eq(generations.clone())
        {
            return false;
        }
        (before.pending, before.holder) = (pending, holder);
        before.generations.clear();
        before.generations.extend(generations);
        true
    }

    fn read(&mut self, now: SystemTime) -> Identities {
        let snapshot = self.shared.snapshot.load_full();
        // Marked as seen, then used, like `published`.
        let standing = {
            let standing = self.standing.borrow_and_update();
            self.has_learned |= standing.has_changed();
            Arc::clone(&standing)
        };
        let entries = self.match_entries(&snapshot, &standing.selectors, now);
        let holder = holder(&standing, &snapshot, entries, now);
        let svids: Vec<_> = entries
            .iter()
            .filter_map(|entry| snapshot.svids.get(&entry.id))
            .filter(|issued| now < issued.svid.not_after)
            .cloned()
            .collect();
        let pending = entries.len() - svids.len();
        if holder != Holder::Current {
            self.over.cancel();
        }
        // What is pending is neither had nor lost.
        if let Some(account) = self.account.as_mut().filter(|_| pending == 0) {
            account.told(svids.iter().map(|issued| &issued.entry), &standing, now);
        }
        Identities { pending, svids, bundle: snapshot.bundle.clone(), holder }
    }

    fn match_entries(
        &mut self,
        snapshot: &Snapshot,
        selectors: &Arc<SelectorSet>,
        now: SystemTime,
    ) -> &[Arc<RegistrationEntry>] {
        if !self.matched.as_ref().is_some_and(|matched| matched.holds(&snapshot.index, selectors, now)) {
            let new = Matched {
                entries: snapshot.index.matching(selectors, now).into(),
                index: snapshot.index.clone(),
                selectors: Arc::clone(selectors),
                from: now,
                until: snapshot.index.next_expiry(now),
            };
            let old = self.matched.replace(new);
            let ids = |matched: &Option<Matched>| -> Vec<_> {
                matched.iter().flat_map(|matched| &*matched.entries).map(|entry| entry.id.clone()).collect()
            };
            let (old, new) = (ids(&old), ids(&self.matched));
            if old != new {
                self.shared.wants.replace(old.iter(), new.iter());
            }
        }
        self.entries().map_or(&[], |entries| entries)
    }
}

impl Matched {
    fn holds(&self, index: &Arc<EntryIndex>, selectors: &Arc<SelectorSet>, now: SystemTime) -> bool {
        Arc::ptr_eq(&self.index, index)
            && Arc::ptr_eq(&self.selectors, selectors)
            && self.from <= now
            && self.until.is_none_or(|until| now < until)
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        if let Some(matched) = &self.matched {
            self.shared.wants.replace(matched.entries.iter().map(|entry| &entry.id), std::iter::empty());
        }
    }
}

/// A process that has changed and would earn what its connection does not is better off with a new one.
fn holder(
    standing: &Standing,
    snapshot: &Snapshot,
    entries: &[Arc<RegistrationEntry>],
    now: SystemTime,
) -> Holder {
    let gains = |changed: &Arc<SelectorSet>| {
        let earns = snapshot.index.matching(changed, now);
        earns.iter().any(|entry| entries.iter().all(|other| other.id != entry.id))
    };
    match &standing.now {
        _ if standing.gone => Holder::Gone,
        Some(changed) if gains(changed) => Holder::Outdated,
        _ => Holder::Current,
    }
}
