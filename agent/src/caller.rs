//! One connection's peer: attested once, then told what it has earned.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{OnceCell, watch},
    task::JoinSet,
    time::sleep,
};

use crate::{
    attestation::{Attested, Attestor, Error, Grade, Peer, Selector, SelectorSet},
    quiet::Quiet,
    svid::{Subscriber, SvidCache},
};

/// Strangers may fail as often as they like.
static FAILED: Quiet = Quiet::new();

/// How long a hash that was asked for later is waited for, when there was no room to make it.
const AGAIN: Duration = Duration::from_secs(1);

/// The peer of one connection. All its calls share one attestation.
#[derive(Debug)]
pub struct Caller {
    peer: Arc<Peer>,
    attestor: Arc<Attestor>,
    svids: SvidCache,
    known: OnceCell<Known>,
}

/// What was learned, for all who follow it.
#[derive(Debug)]
struct Known {
    selectors: Arc<watch::Sender<Arc<SelectorSet>>>,
    /// Waits until somebody asks for the hash that is not known yet. Ends with the caller.
    _later: JoinSet<()>,
}

impl Caller {
    pub fn new(peer: Peer, attestor: Arc<Attestor>, svids: SvidCache) -> Self {
        Self { peer: Arc::new(peer), attestor, svids, known: OnceCell::new() }
    }

    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What this caller has earned, now and from now on. The first call attests; a failure is not remembered, so
    /// the next call tries again.
    pub async fn subscribe(&self) -> Result<Subscriber, Error> {
        let known = self.known.get_or_try_init(|| self.learn()).await?;
        Ok(self.svids.follow(known.selectors.subscribe()))
    }

    async fn learn(&self) -> Result<Known, Error> {
        // Asked before: what is wanted in between is noticed later.
        let hashed = self.attestor.wants_hashes();
        let selectors = Arc::new(watch::Sender::new(self.attest().await?.selectors));
        let mut later = JoinSet::new();
        if !hashed {
            let (peer, attestor) = (Arc::clone(&self.peer), Arc::clone(&self.attestor));
            later.spawn(add_hash(peer, attestor, Arc::clone(&selectors)));
        }
        Ok(Known { selectors, _later: later })
    }

    async fn attest(&self) -> Result<Attested, Error> {
        let attested = self.attestor.attest(Arc::clone(&self.peer)).await;
        match &attested {
            Ok(attested) => {
                let (grade, selectors) = (attested.grade, attested.selectors.len());
                tracing::debug!(pid = self.peer.pid, uid = self.peer.uid, %grade, selectors, "workload attested");
            }
            Err(error) => {
                if let Some(suppressed) = FAILED.line(Instant::now()) {
                    let (pid, uid, code) = (self.peer.pid, self.peer.uid, error.code());
                    tracing::info!(pid, uid, %error, code, suppressed, "workload attestation failed");
                }
            }
        }
        attested
    }
}

/// Waits until an entry asks for hashes, and adds the one of the peer's executable if it still can be had.
async fn add_hash(peer: Arc<Peer>, attestor: Arc<Attestor>, selectors: Arc<watch::Sender<Arc<SelectorSet>>>) {
    loop {
        attestor.hashes_wanted().await;
        match attestor.attest(Arc::clone(&peer)).await {
            Ok(again) => {
                selectors.send_if_modified(|selectors| {
                    let more = with_hash(selectors, &again);
                    more.map(|more| *selectors = Arc::new(more)).is_some()
                });
                return;
            }
            Err(error) if error.is_transient() => sleep(AGAIN).await,
            Err(error) => {
                tracing::debug!(pid = peer.pid, %error, code = error.code(), "executable is not hashed later");
                return;
            }
        }
    }
}

/// What was known, and the hash that was learned later. Nothing else is taken from there: what a process was when it
/// connected stays said. Where nobody watches for an exec, the path must still be the one that it was.
fn with_hash(known: &SelectorSet, again: &Attested) -> Option<SelectorSet> {
    let find = |set: &SelectorSet, field: &str| -> Option<Selector> {
        let named = |selector: &&Selector| {
            selector.kind() == "unix"
                && selector.value().strip_prefix(field).is_some_and(|rest| rest.starts_with(':'))
        };
        set.iter().find(named).cloned()
    };
    let same_program = again.grade == Grade::Kernel || find(known, "path") == find(&again.selectors, "path");
    let hash = find(&again.selectors, "sha256").filter(|_| same_program)?;
    let mut more = known.clone();
    more.learn(hash);
    Some(more)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(values: &[&str]) -> SelectorSet {
        let mut set: SelectorSet = values.iter().map(|value| Selector::new("unix", *value)).collect();
        set.mark_gap(Selector::new("unix", "sha256"));
        set
    }

    fn later(grade: Grade, values: &[&str]) -> Attested {
        Attested { pid: 1, grade, selectors: Arc::new(set(values)) }
    }

    #[test]
    fn a_hash_is_added_and_everything_else_stays() {
        let known = set(&["uid:7", "path:/bin/a"]);
        let more = with_hash(&known, &later(Grade::Kernel, &["uid:7", "supplementary_gid:5", "sha256:aa"]));
        let more = more.unwrap();
        let values: Vec<&str> = more.iter().map(Selector::value).collect();
        assert_eq!(values, ["path:/bin/a", "sha256:aa", "uid:7"]);
        assert!(more.surely_lacks(&Selector::new("unix", "sha256:bb")), "the hash is no gap any more");
    }

    #[test]
    fn without_a_record_the_hash_of_another_program_is_not_added() {
        let known = set(&["path:/bin/a"]);
        let of = |path: &str| later(Grade::Pidfd, &[path, "sha256:aa"]);
        assert!(with_hash(&known, &of("path:/bin/a")).is_some());
        assert!(with_hash(&known, &of("path:/bin/b")).is_none());
        assert!(with_hash(&known, &later(Grade::Pidfd, &["path:/bin/a"])).is_none());
    }
}
