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
    matched::Matched,
    snapshot::{Holder, Identities, Seen, Snapshot},
};
use crate::{
    attestation::{SelectorSet, Standing},
    decision::Account,
    registration::{Entries, RegistrationEntry},
};

/// Reads what its selectors earn, and says so to the owner by existing: what it matches is issued and renewed.
///
/// What it reads is worked out once for all who have the same selectors. It takes no lock that a writer holds for long.
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
    matched: Option<Arc<Matched>>,
    /// What was last returned.
    returned: Option<(Seen, Holder)>,
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

    /// What the selectors earn now, unless it is what was last returned. It may yet say the same: see [`Seen`].
    pub fn look(&mut self) -> Option<Identities> {
        // Marked as seen, then read: an update in between is seen twice, never missed.
        self.published.borrow_and_update();
        let identities = self.read(SystemTime::now());
        self.note(&identities).then_some(identities)
    }

    /// The entries that matched at the last look, by id: the same slice until others match. `None` before the first look.
    pub fn entries(&self) -> Option<&Entries> {
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
        let returned = Some((identities.seen(), identities.holder));
        std::mem::replace(&mut self.returned, returned) != returned
    }

    fn read(&mut self, now: SystemTime) -> Identities {
        let snapshot = self.shared.snapshot.load_full();
        // Marked as seen, then used, like `published`.
        let standing = {
            let standing = self.standing.borrow_and_update();
            self.has_learned |= standing.has_changed();
            Arc::clone(&standing)
        };
        let before = self.matched.as_ref();
        let matched = Matched::find(&self.shared, &snapshot, &standing.selectors, now, before);
        let entries = &matched.entries;
        let holder = holder(&standing, &snapshot, entries, now);
        let svids = matched.earned(&snapshot, now);
        let pending = entries.len() - svids.len();
        if holder != Holder::Current {
            self.over.cancel();
        }
        // What is pending is neither had nor lost.
        if let Some(account) = self.account.as_mut().filter(|_| pending == 0) {
            account.told(entries, &standing, now);
        }
        self.matched = Some(matched);
        Identities { pending, svids, bundle: snapshot.bundle.clone(), holder }
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
