//! What the serving side holds: reads, subscriptions, and the operator's wish for fresh SVIDs.

use std::{sync::Arc, time::SystemTime};

use arc_swap::ArcSwap;
use prometheus_client::metrics::{counter::Counter, family::Family};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{matched::Matches, refusals::Refusals, snapshot::Snapshot, subscriber::Subscriber, wants::Wants};
use crate::{
    attestation::{SelectorSet, Standing},
    registration::{EntryId, RegistrationEntry},
    spiffe::SpiffeId,
};

/// Most wishes of operators that wait to be looked at; the next one waits to be written down.
pub(super) const COMMANDS: usize = 16;

/// The serving side's door. Cheap to clone; the owner ends when the last one is gone.
#[derive(Debug, Clone)]
pub struct SvidCache {
    pub(super) shared: Arc<Shared>,
    pub(super) commands: mpsc::Sender<Command>,
}

/// What owner and readers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) snapshot: ArcSwap<Snapshot>,
    /// The generation of the newest snapshot, stored before it shows here.
    pub(super) published: watch::Sender<u64>,
    pub(super) matches: Matches,
    pub(super) wants: Wants,
    pub(super) refusals: Refusals,
    pub(super) stats: ArcSwap<SvidStats>,
}

#[derive(Debug)]
pub(super) struct Command {
    pub(super) target: Target,
    pub(super) answer: oneshot::Sender<Result<usize, RotateError>>,
}

/// Which SVIDs are to be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// All that are held.
    All,
    Id(SpiffeId),
}

/// Why an operator's rotation did not happen, or not wholly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RotateError {
    #[error("no entry has SPIFFE ID {0}")]
    Unknown(SpiffeId),
    #[error("{failed} SVIDs were not replaced and {done} were; entry {entry}: {why}")]
    Failed { done: usize, failed: usize, entry: EntryId, why: String },
    #[error("the agent is stopping")]
    Stopping,
}

/// How the SVIDs of this node stand. Totals count since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SvidStats {
    pub held: usize,
    /// Entries that somebody uses.
    pub in_use: usize,
    /// Entries that somebody uses and that have no SVID.
    pub pending: usize,
    /// Entries whose last attempt failed.
    pub failing: usize,
    pub issued_total: u64,
    pub failed_total: u64,
    /// Let go unrenewed: expired, unused, or their entry went.
    pub dropped_total: u64,
    pub first_expiry: Option<SystemTime>,
    pub last_failure: Option<Failure>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub entry: EntryId,
    pub why: String,
    pub at: SystemTime,
}

impl SvidCache {
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot.load_full()
    }

    /// The generation of the newest snapshot, whenever there is one.
    pub fn published(&self) -> watch::Receiver<u64> {
        self.shared.published.subscribe()
    }

    /// A reader of what `selectors` earn.
    pub fn subscribe(&self, selectors: Arc<SelectorSet>) -> Subscriber {
        self.follow(watch::channel(Arc::new(Standing::new(selectors))).1, CancellationToken::new())
    }

    /// The same for a connection that is judged again and again. `over` is told when it no longer speaks for its
    /// process.
    pub fn follow(&self, standing: watch::Receiver<Arc<Standing>>, over: CancellationToken) -> Subscriber {
        Subscriber::new(self.shared.clone(), standing, over)
    }

    /// Whether an entry would match if attestors of these types had more to say: worth a wait.
    pub fn may_gain(&self, selectors: &SelectorSet, kinds: &[&'static str], now: SystemTime) -> bool {
        self.shared.snapshot.load().index.may_gain(selectors, kinds, now)
    }

    /// Replaces held SVIDs now. Returns how many, once they are published: none when nobody uses any.
    ///
    /// # Errors
    /// See [`RotateError`]; the old SVIDs are served where no new one was made.
    pub async fn rotate(&self, target: Target) -> Result<usize, RotateError> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command { target, answer }).await.map_err(|_| RotateError::Stopping)?;
        answered.await.unwrap_or(Err(RotateError::Stopping))
    }

    /// Whether whoever matches `entry` is given it: not when its template has given all identities that it may.
    pub fn has_room(&self, entry: &RegistrationEntry) -> bool {
        self.shared.wants.has_room(entry)
    }

    /// How often a template gave nothing to a process that has all that it asks for, by why.
    pub fn template_refusals(&self) -> Family<[(&'static str, &'static str); 1], Counter> {
        self.shared.refusals.0.clone()
    }

    pub fn stats(&self) -> Arc<SvidStats> {
        self.shared.stats.load_full()
    }
}
