//! One connection's peer: attested once with all connections of its process, then told what it has earned.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use tokio::{sync::OnceCell, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    attestation::{Attestor, CallerKey, Containment, Error, Peer, Refusal, Run},
    decision::{Account, Applicant, DecisionId, Decisions, Outcome, Ruling},
    quiet::Quiet,
    svid::{Subscriber, SvidCache},
};

/// Strangers may fail as often as they like.
static FAILED: Quiet = Quiet::new();

/// What the callers of an agent have in common. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Callers {
    pub attestor: Arc<Attestor>,
    pub svids: SvidCache,
    pub decisions: Arc<Decisions>,
}

/// The peer of one connection.
#[derive(Debug)]
pub struct Caller {
    peer: Arc<Peer>,
    applicant: Arc<Applicant>,
    common: Callers,
    run: OnceCell<Arc<Run>>,
    over: CancellationToken,
}

/// Why a caller is told nothing now.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.behind("workload attestation failed"))]
pub struct Failure(DecisionId);

impl Callers {
    /// The caller behind a connection that was accepted.
    pub fn caller(&self, peer: Peer) -> Caller {
        let applicant = Arc::new(applicant(&peer));
        let (run, over) = (OnceCell::new(), CancellationToken::new());
        Caller { peer: Arc::new(peer), applicant, common: self.clone(), run, over }
    }

    /// Takes down that a connection was closed at once. Of its maker only what the socket says is known: pid, uid
    /// and gid.
    pub fn refuse(&self, refusal: &Refusal, (pid, uid, gid): (u32, u32, u32)) -> DecisionId {
        let applicant = Applicant {
            pid,
            uid,
            gid,
            caller: CallerKey::Unknown,
            grade: None,
            proof: "none: what the socket says of its maker",
            cgroup: None,
            container: None,
            executable: None,
            exec_count: None,
            birth: 0,
        };
        let outcome = Outcome::Refused { code: refusal.code(), reason: refusal.to_string() };
        let ruling = Ruling { applicant: Arc::new(applicant), evidence: None, outcome };
        self.decisions.record(ruling, SystemTime::now())
    }
}

impl Caller {
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What this caller has earned, now and from now on: [`Self::admit`], then [`Self::follow`].
    pub async fn subscribe(&self) -> Result<Subscriber, Failure> {
        let run = self.admit().await?;
        Ok(self.follow(&run))
    }

    /// Finds out whom a call is for, before each call. The first attests; a failure is not remembered, so the next call
    /// tries again.
    pub async fn admit(&self) -> Result<Arc<Run>, Failure> {
        let run = self.run().await.map_err(|error| self.fail(&error))?;
        self.hear_witnesses(run).await;
        Ok(Arc::clone(run))
    }

    /// A reader of what `run` has earned, on this connection.
    pub fn follow(&self, run: &Arc<Run>) -> Subscriber {
        let Callers { svids, decisions, .. } = &self.common;
        let account = Account::new(Arc::clone(decisions), Arc::clone(&self.applicant), Arc::clone(run));
        svids.follow(run.standing(), self.over.clone()).accounted_in(account)
    }

    async fn run(&self) -> Result<&Arc<Run>, Error> {
        if let Some(run) = self.run.get() {
            // A change that has no event is found by a look alone.
            self.common.attestor.confirm(run).await;
        }
        let run = self.run.get_or_try_init(|| self.attest()).await?;
        // Between the kernel's word and its event somebody else may ask.
        self.peer.check_alive()?;
        if run.is_gone() {
            return Err(Refusal::Gone { pid: self.peer.pid }.into());
        }
        Ok(run)
    }

    /// Whether some reader on this connection found that it no longer speaks for its process, which has ended or would
    /// earn something else if it connected anew.
    pub fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    async fn attest(&self) -> Result<Arc<Run>, Error> {
        let run = self.common.attestor.attest(&self.peer).await?;
        let (grade, selectors) = (run.grade(), run.standing().borrow().selectors.len());
        tracing::debug!(pid = self.peer.pid, uid = self.peer.uid, %grade, selectors, "workload attested");
        Ok(run)
    }

    fn fail(&self, error: &Error) -> Failure {
        let code = error.code();
        let outcome = Outcome::Refused { code, reason: error.to_string() };
        let ruling = Ruling { applicant: Arc::clone(&self.applicant), evidence: None, outcome };
        let decision = self.common.decisions.record(ruling, SystemTime::now());
        if let Some(suppressed) = FAILED.line(Instant::now()) {
            let (pid, uid) = (self.peer.pid, self.peer.uid);
            tracing::info!(pid, uid, %error, code, %decision, suppressed, "workload attestation failed");
        }
        Failure(decision)
    }

    /// A witness that an entry needs is waited for, but not for ever: then that entry does not match yet.
    async fn hear_witnesses(&self, run: &Run) {
        let mut unheard = run.unheard();
        if unheard.borrow().is_empty() {
            return;
        }
        let is_enough = |kinds: &Vec<&'static str>| {
            let selectors = Arc::clone(&run.standing().borrow().selectors);
            kinds.is_empty() || !self.common.svids.may_gain(&selectors, kinds, SystemTime::now())
        };
        let _ = timeout(self.common.attestor.patience(), unheard.wait_for(is_enough)).await;
    }
}

/// What is taken down of a peer.
fn applicant(peer: &Peer) -> Applicant {
    let record = peer.record();
    Applicant {
        pid: peer.pid,
        uid: peer.uid,
        gid: peer.gid,
        caller: peer.caller_key(),
        grade: Some(peer.grade),
        proof: peer.held_by(),
        cgroup: peer.cgroup.clone(),
        container: match &peer.containment {
            Containment::Contained(container) => Some(format!("{} {}", container.runtime, container.id)),
            Containment::Unsure | Containment::Unnamed => None,
        },
        executable: record.and_then(|record| record.exe),
        exec_count: record.map(|record| record.exec_count),
        birth: peer.birth(),
    }
}
