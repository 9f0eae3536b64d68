//! Learns the selectors of a peer: once per run of a process, off the async threads, within bounds.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Semaphore, watch},
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};

use super::{
    draft::{Cost, Draft},
    files::{Hashes, PathRule},
    learner::{Learner, Wanted},
    look::About,
    metrics::Metrics,
    names::Names,
    peer::{Grade, Peer, Refusal},
    run::Run,
    runs::Runs,
    selector::{Selector, SelectorSet},
    testimony::{Asked, ask, hear},
    turns::{Bounds, Turn, Turns},
    witness::Witness,
};
use crate::{
    kernel::{Capture, Namespaces, Task, since_boot},
    rate::{Rate, TooSoon},
    share::{Full, Share},
};

#[derive(Debug, Clone, PartialEq)]
pub struct AttestorConfig {
    pub path: PathRule,
    /// Largest executable that is hashed, in bytes.
    pub hash_size_limit: u64,
    /// Wait for a turn, for the local facts, and for one answer of a witness; each takes no longer.
    pub timeout: Duration,
    /// Attestations under way at once.
    pub in_flight: usize,
    /// The same, for one caller.
    pub in_flight_per_caller: usize,
    /// Attestations that wait for their turn; one more is turned away.
    pub queued: usize,
    /// Part of `in_flight` and of `queued` that is kept for callers below their share.
    pub reserve: f64,
    /// How often one caller may have somebody attested.
    pub rate: Rate,
    /// Processes that are remembered though nobody is connected.
    pub remembered: usize,
}

/// As long as somebody who waits for it is there.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);
/// A record that is no older is as good as a look, and so is a look that another connection of the process had.
const FRESH: Duration = Duration::from_millis(1);

/// What was learned of one process.
#[derive(Debug, Clone)]
pub struct Attested {
    pub pid: u32,
    pub grade: Grade,
    pub selectors: Arc<SelectorSet>,
    pub costs: Vec<Cost>,
}

/// Why a peer has no selectors.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Peer(#[from] Refusal),
    #[error("process {pid} changed its credentials since it connected")]
    Changed { pid: u32 },
    #[error("too many attestations are under way: {0}")]
    Busy(Full),
    #[error("caller has more processes attested than its rate: {0}")]
    TooOften(TooSoon),
    #[error("attestation waited longer than {0:?} for its turn")]
    TimedOut(Duration),
}

/// Attests peers. One for the whole agent.
#[derive(Debug)]
pub struct Attestor {
    config: AttestorConfig,
    pub(super) learner: Arc<Learner>,
    pub(super) runs: Runs,
    witnesses: Vec<Asked>,
    pub(super) turns: Turns,
    /// For what is learned later; it never takes the place of somebody who waits for an answer.
    late: Turns,
    pub(super) metrics: Arc<Metrics>,
}

impl Attestor {
    /// `host` are the namespaces that count as the host's own, when the agent can see them.
    pub fn new(
        config: AttestorConfig,
        capture: Option<Arc<Capture>>,
        host: Option<Namespaces>,
        witnesses: Vec<Arc<dyn Witness>>,
    ) -> Self {
        let hashes = Hashes::default();
        let metrics = Arc::new(Metrics::new(hashes.computed.clone()));
        let learner = Learner {
            path: config.path,
            hash_size_limit: config.hash_size_limit,
            capture,
            host,
            names: Names::default(),
            hashes,
            wanted: watch::Sender::default(),
        };
        let asked = |witness| Asked {
            witness,
            turns: Arc::new(Semaphore::new(config.in_flight)),
            deadline: config.timeout,
        };
        Self {
            witnesses: witnesses.into_iter().map(asked).collect(),
            runs: Runs::new(config.remembered),
            turns: Turns::new(Bounds {
                at_once: Share::new(config.in_flight, config.reserve),
                of_a_caller: config.in_flight_per_caller,
                queued: Share::new(config.queued, config.reserve),
                rate: Some(config.rate),
                patience: config.timeout,
            }),
            // As many wait as there are runs.
            late: Turns::new(Bounds {
                at_once: Share::new(config.in_flight, config.reserve),
                of_a_caller: config.in_flight_per_caller,
                queued: Share::new(usize::MAX, 0.0),
                rate: None,
                patience: FOREVER,
            }),
            learner: Arc::new(learner),
            config,
            metrics,
        }
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// How long an answer of a witness is waited for.
    pub fn patience(&self) -> Duration {
        self.config.timeout
    }

    /// Runs that are known, and how many were let go so far to make room.
    pub fn remembered(&self) -> (usize, u64) {
        self.runs.counts()
    }

    /// Attestations under way, and those that wait for their turn.
    pub fn at_work(&self) -> (usize, usize) {
        self.turns.counts()
    }

    /// Which dear facts some entry names. Holds for later attestations, and for the processes that are known.
    pub fn want(&self, wanted: Wanted) {
        self.learner.wanted.send_if_modified(|before| std::mem::replace(before, wanted) != wanted);
    }

    /// The run that `peer` belongs to, attested: what is known of it is true of the peer.
    ///
    /// A gap marks what could not be learned. Witnesses that are still being asked are [`Run::unheard`].
    ///
    /// # Errors
    /// When the process is gone, is no longer what it was, or there is no room for one more attestation.
    pub async fn attest(&self, peer: &Arc<Peer>) -> Result<Arc<Run>, Error> {
        let started = Instant::now();
        let gone = || Error::Peer(Refusal::Gone { pid: peer.pid });
        let (run, known) = self.runs.of(peer).ok_or_else(gone)?;
        let learned = run.attested.get_or_try_init(|| self.learn(peer, &run)).await;
        if let Err(error) = learned {
            match error {
                Error::Busy(full) => self.metrics.shed(match full {
                    Full::Total => "attestations_queued",
                    Full::Reserve => "attestations_reserve",
                }),
                Error::TooOften(_) => self.metrics.shed("attestations_per_second"),
                Error::TimedOut(_) => self.metrics.shed("attestation_timeout"),
                Error::Peer(_) | Error::Changed { .. } => _ = self.metrics.failed.inc(),
            }
            return Err(error);
        }
        // It may have changed between its connect() and now, and nobody looks at one that nobody uses.
        let is_fresh = |at: Duration| since_boot().saturating_sub(at) <= FRESH;
        let was_seen =
            |record: &Task| is_fresh(record.recorded_at) || run.found_unchanged_at().is_some_and(is_fresh);
        if known && !peer.record().is_some_and(was_seen) {
            self.judge(&run).await;
        }
        peer.check_alive()?;
        if run.is_gone() {
            return Err(gone());
        }
        self.metrics.answered(known, started.elapsed());
        Ok(run)
    }

    /// Looks at the process of a run once more, before one more call of it is answered.
    pub async fn confirm(&self, run: &Arc<Run>) {
        self.judge(run).await;
    }

    /// What may be said of process `pid` as it is now, whoever it is connected to. For operators: no connection is
    /// judged by it. `None` when it cannot be seen.
    pub async fn describe(&self, pid: u32) -> Option<Attested> {
        let learner = Arc::clone(&self.learner);
        let about =
            spawn_blocking(move || About::of_process(pid, learner.capture.as_deref())).await.ok()??;
        let draft = Arc::new(Learner::draft());
        let _ = timeout(self.config.timeout, self.learning(None, &about, &draft)).await;
        let (mut selectors, mut costs) = draft.read();
        let subject = about.subject(about.pidfd());
        for asked in self.witnesses.iter().filter(|asked| asked.witness.concerns(&subject)) {
            let (cost, said) = ask(asked, &subject).await;
            match said {
                Some(said) => selectors.extend(&said),
                None => selectors.mark_gap(Selector::new(cost.attestor, "")),
            }
            costs.push(cost);
        }
        Some(Attested { pid, grade: about.grade, selectors: Arc::new(selectors), costs })
    }

    async fn learn(&self, peer: &Arc<Peer>, run: &Arc<Run>) -> Result<(), Error> {
        let about = &run.about;
        if (about.uid, about.gid) != about.ids_of_look() {
            return Err(Error::Changed { pid: about.pid });
        }
        let turn = self.turns.take(peer.caller_key()).await?;
        // Asked before: what is wanted in between is noticed later.
        let wanted = *self.learner.wanted.borrow();
        let draft = Arc::new(Learner::draft());
        let mut work = self.learning(Some(turn), about, &draft);
        let late = timeout(self.config.timeout, &mut work).await.is_err();
        peer.check_alive()?;
        self.metrics.attested.inc();
        let (local, costs) = draft.read();
        self.metrics.gaps.inc_by(self.failures(&local));
        let subject = run.subject();
        let asked: Vec<&Asked> =
            self.witnesses.iter().filter(|asked| asked.witness.concerns(&subject)).collect();
        let kinds: Vec<_> = asked.iter().map(|asked| asked.witness.kind()).collect();
        run.learned(local, costs, &kinds);
        // It may have changed between its connect() and now.
        self.judge(run).await;
        self.summon(run, asked);
        self.stay_with(run, wanted, late.then_some((work, draft)));
        Ok(())
    }

    /// Gaps that somebody would miss: a hash that nobody asked for is none.
    fn failures(&self, set: &SelectorSet) -> u64 {
        let wanted = *self.learner.wanted.borrow();
        set.gaps().filter(|gap| !wanted.excuses(gap)).count() as u64
    }

    /// Learns on a thread of its own. The turn is held to the end of the work, not of the wait for it: a thread that
    /// hangs keeps its place.
    fn learning(&self, turn: Option<Turn>, about: &About, draft: &Arc<Draft>) -> JoinHandle<()> {
        let (learner, about, draft) = (Arc::clone(&self.learner), about.clone(), Arc::clone(draft));
        spawn_blocking(move || {
            let _turn = turn;
            learner.learn(&about, &draft);
        })
    }

    fn summon(&self, run: &Arc<Run>, asked: Vec<&Asked>) {
        for asked in asked {
            let silences = Arc::clone(&self.metrics);
            let silent = move || _ = silences.silences.inc();
            tokio::spawn(hear(asked.clone(), Arc::downgrade(run), Arc::clone(&self.learner), silent));
        }
    }

    /// What comes late is told when it comes: facts that were not there at the deadline, and the hash that an entry asks
    /// for later.
    fn stay_with(&self, run: &Arc<Run>, learned: Wanted, late: Option<(JoinHandle<()>, Arc<Draft>)>) {
        let held = Arc::downgrade(run);
        if let Some((work, draft)) = late {
            tokio::spawn(tell_late(held.clone(), work, draft));
        }
        let (learner, turns, caller) = (Arc::clone(&self.learner), self.late.clone(), run.caller.clone());
        tokio::spawn(async move {
            let mut learned = learned;
            while let Some(more) = learner.more_wanted(learned, || held.strong_count() > 0).await {
                let Ok(turn) = turns.take(caller.clone()).await else { return };
                let Some(about) = held.upgrade().map(|run| run.about.clone()) else { return };
                let (learner, draft) = (Arc::clone(&learner), Arc::new(Learner::draft()));
                let into = Arc::clone(&draft);
                let work = spawn_blocking(move || {
                    let _turn = turn;
                    learner.learn_executable(&about, &into);
                });
                tell_late(held.clone(), work, draft).await;
                learned = more;
            }
        });
    }
}

async fn tell_late(run: Weak<Run>, work: JoinHandle<()>, draft: Arc<Draft>) {
    let _ = work.await;
    if let Some(run) = run.upgrade() {
        let (late, costs) = draft.read();
        run.learned_late(&late, costs);
    }
}

impl Error {
    /// The number under which an operator finds it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Peer(refusal) => refusal.code(),
            Self::Changed { .. } => "E0407",
            Self::Busy(_) => "E0409",
            Self::TooOften(_) => "E0330",
            Self::TimedOut(_) => "E0410",
        }
    }
}

#[cfg(test)]
mod tests;
