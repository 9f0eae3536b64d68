//! One connection's peer: attested once, then told what it has earned.

use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::{
    attestation::{Attested, Attestor, Error, Peer},
    svid::{Subscriber, SvidCache},
};

/// The peer of one connection. All its calls share one attestation.
#[derive(Debug)]
pub struct Caller {
    peer: Arc<Peer>,
    attestor: Arc<Attestor>,
    svids: SvidCache,
    attested: OnceCell<Attested>,
}

impl Caller {
    pub fn new(peer: Peer, attestor: Arc<Attestor>, svids: SvidCache) -> Self {
        Self { peer: Arc::new(peer), attestor, svids, attested: OnceCell::new() }
    }

    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What this caller has earned, now and from now on. The first call attests; a failure is not remembered, so
    /// the next call tries again.
    pub async fn subscribe(&self) -> Result<Subscriber, Error> {
        let attested = self.attested.get_or_try_init(|| self.attest()).await?;
        Ok(self.svids.subscribe(Arc::clone(&attested.selectors)))
    }

    async fn attest(&self) -> Result<Attested, Error> {
        let attested = self.attestor.attest(Arc::clone(&self.peer)).await;
        match &attested {
            Ok(attested) => {
                let (grade, selectors) = (attested.grade, attested.selectors.len());
                tracing::debug!(pid = self.peer.pid, uid = self.peer.uid, %grade, selectors, "workload attested");
            }
            Err(error) => {
                let code = error.code();
                tracing::info!(pid = self.peer.pid, uid = self.peer.uid, %error, code, "workload attestation failed");
            }
        }
        attested
    }
}
