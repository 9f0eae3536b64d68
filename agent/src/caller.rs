//! One connection's peer: attested once with all connections of its process, then told what it has earned.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use tokio::{sync::OnceCell, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    attestation::{Attestor, Error, Peer, Refusal, Run},
    quiet::Quiet,
    svid::{Subscriber, SvidCache},
};

/// Strangers may fail as often as they like.
static FAILED: Quiet = Quiet::new();

/// The peer of one connection.
#[derive(Debug)]
pub struct Caller {
    peer: Arc<Peer>,
    attestor: Arc<Attestor>,
    svids: SvidCache,
    run: OnceCell<Arc<Run>>,
    over: CancellationToken,
}

impl Caller {
    pub fn new(peer: Peer, attestor: Arc<Attestor>, svids: SvidCache) -> Self {
        let peer = Arc::new(peer);
        Self { peer, attestor, svids, run: OnceCell::new(), over: CancellationToken::new() }
    }

    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What this caller has earned, now and from now on. The first call attests; a failure is not remembered, so
    /// the next call tries again.
    pub async fn subscribe(&self) -> Result<Subscriber, Error> {
        let run = self.run.get_or_try_init(|| self.attest()).await?;
        // Between the kernel's word and its event somebody else may ask.
        self.peer.check_alive()?;
        if run.is_gone() {
            return Err(Refusal::Gone { pid: self.peer.pid }.into());
        }
        self.hear_witnesses(run).await;
        Ok(self.svids.follow(run.standing(), self.over.clone()))
    }

    /// Waits until the connection no longer speaks for its process: it has ended, or would earn something else if it
    /// connected anew.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }

    async fn attest(&self) -> Result<Arc<Run>, Error> {
        let attested = self.attestor.attest(&self.peer).await;
        match &attested {
            Ok(run) => {
                let (grade, selectors) = (run.grade(), run.standing().borrow().selectors.len());
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

    /// A witness that an entry needs is waited for, but not for ever: then that entry does not match yet.
    async fn hear_witnesses(&self, run: &Run) {
        let mut unheard = run.unheard();
        if unheard.borrow().is_empty() {
            return;
        }
        let is_enough = |kinds: &Vec<&'static str>| {
            let selectors = Arc::clone(&run.standing().borrow().selectors);
            kinds.is_empty() || !self.svids.may_gain(&selectors, kinds, SystemTime::now())
        };
        let _ = timeout(self.attestor.patience(), unheard.wait_for(is_enough)).await;
    }
}
