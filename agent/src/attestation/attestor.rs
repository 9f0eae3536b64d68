//! Learns the selectors of a peer: once per connection, off the async threads, within bounds.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use prometheus_client::metrics::{
    counter::Counter,
    histogram::{Histogram, exponential_buckets},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::{
    files::{Executable, Hashes, PathRule},
    kernel_facts::{believes_executable, kernel_facts},
    names::Names,
    peer::{CallerKey, Grade, Peer, Proof, Refusal},
    proc_status::Status,
    selector::{Selector, SelectorSet},
    user_namespace,
};
use crate::kernel::{Capture, Namespaces, Sighting};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestorConfig {
    pub path: PathRule,
    /// Largest executable that is hashed, in bytes.
    pub hash_size_limit: u64,
    /// One attestation takes no longer.
    pub timeout: Duration,
    /// Attestations under way at once.
    pub in_flight: usize,
    /// The same, for one caller.
    pub in_flight_per_caller: usize,
    /// Attestations that wait for their turn; one more is turned away.
    pub queued: usize,
}

/// What was learned of one peer.
#[derive(Debug, Clone)]
pub struct Attested {
    pub pid: u32,
    pub grade: Grade,
    pub selectors: Arc<SelectorSet>,
}

/// Why a peer has no selectors.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Peer(#[from] Refusal),
    #[error("process {pid} changed its credentials since it connected")]
    Changed { pid: u32 },
    #[error("credentials of process {pid} cannot be read")]
    Credentials { pid: u32, source: io::Error },
    #[error("too many attestations are under way")]
    Busy,
    #[error("attestation took longer than {0:?}")]
    TimedOut(Duration),
}

#[derive(Debug)]
pub struct Metrics {
    pub attested: Counter,
    pub failed: Counter,
    pub turned_away: Counter,
    /// Facts that could not be learned of a peer that was attested all the same.
    pub gaps: Counter,
    /// Executables that were read to be hashed.
    pub hashed: Counter,
    pub seconds: Histogram,
}

/// Attests peers. One for the whole agent.
#[derive(Debug)]
pub struct Attestor {
    config: AttestorConfig,
    learner: Arc<Learner>,
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
    by_caller: Mutex<HashMap<CallerKey, Arc<Semaphore>>>,
    metrics: Metrics,
}

/// What one attestation needs on its thread.
#[derive(Debug)]
struct Learner {
    path: PathRule,
    hash_size_limit: u64,
    capture: Option<Arc<Capture>>,
    host: Option<Namespaces>,
    names: Names,
    hashes: Hashes,
    /// Some entry names `unix:sha256`.
    hash_wanted: watch::Sender<bool>,
}

impl Attestor {
    /// `host` are the namespaces that count as the host's own, when the agent can see them.
    pub fn new(config: AttestorConfig, capture: Option<Arc<Capture>>, host: Option<Namespaces>) -> Self {
        let hashes = Hashes::default();
        let metrics = Metrics {
            attested: Counter::default(),
            failed: Counter::default(),
            turned_away: Counter::default(),
            gaps: Counter::default(),
            hashed: hashes.computed.clone(),
            seconds: Histogram::new(exponential_buckets(0.000_05, 2.0, 18)),
        };
        let learner = Learner {
            path: config.path,
            hash_size_limit: config.hash_size_limit,
            capture,
            host,
            names: Names::default(),
            hashes,
            hash_wanted: watch::Sender::new(false),
        };
        Self {
            turns: Arc::new(Semaphore::new(config.in_flight)),
            waiting: AtomicUsize::new(0),
            by_caller: Mutex::default(),
            learner: Arc::new(learner),
            config,
            metrics,
        }
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Whether executables are worth hashing: some entry names `unix:sha256`. Holds for later attestations.
    pub fn want_hashes(&self, wanted: bool) {
        self.learner.hash_wanted.send_if_modified(|before| std::mem::replace(before, wanted) != wanted);
    }

    pub fn wants_hashes(&self) -> bool {
        *self.learner.hash_wanted.borrow()
    }

    /// Waits until executables are worth hashing.
    pub async fn hashes_wanted(&self) {
        // The sender is ours, so it outlasts this receiver.
        let _ = self.learner.hash_wanted.subscribe().wait_for(|wanted| *wanted).await;
    }

    /// Everything that may be said of `peer`, with a gap for what could not be learned.
    ///
    /// # Errors
    /// When the process is gone, is no longer what it was, or there is no room for one more attestation.
    pub async fn attest(&self, peer: Arc<Peer>) -> Result<Attested, Error> {
        let started = Instant::now();
        let learned = match tokio::time::timeout(self.config.timeout, self.learn(peer)).await {
            Ok(learned) => learned,
            Err(_) => Err(Error::TimedOut(self.config.timeout)),
        };
        self.metrics.seconds.observe(started.elapsed().as_secs_f64());
        match &learned {
            Ok(attested) => {
                self.metrics.attested.inc();
                // A hash that nobody asked for is no failure.
                let hashes = self.wants_hashes();
                let failed = attested.selectors.gaps().filter(|gap| hashes || gap.value() != "sha256");
                self.metrics.gaps.inc_by(failed.count() as u64);
            }
            Err(Error::Busy) => _ = self.metrics.turned_away.inc(),
            Err(_) => _ = self.metrics.failed.inc(),
        }
        learned
    }

    async fn learn(&self, peer: Arc<Peer>) -> Result<Attested, Error> {
        let turn = self.turn(peer.caller_key()).await?;
        let learner = Arc::clone(&self.learner);
        let work = tokio::task::spawn_blocking(move || {
            // Held to the end of the work, not of the wait for it: a thread that hangs keeps its place.
            let _turn = turn;
            let selectors = Arc::new(learner.selectors(&peer)?);
            Ok(Attested { pid: peer.pid, grade: peer.grade, selectors })
        });
        work.await.unwrap_or(Err(Error::Busy))
    }

    async fn turn(&self, caller: CallerKey) -> Result<[OwnedSemaphorePermit; 2], Error> {
        let _waiting = Waiting::join(&self.waiting, self.config.queued)?;
        let own = {
            let mut callers = self.by_caller.lock().unwrap_or_else(PoisonError::into_inner);
            callers.retain(|_, turns| Arc::strong_count(turns) > 1);
            let turns = callers.entry(caller);
            Arc::clone(turns.or_insert_with(|| Arc::new(Semaphore::new(self.config.in_flight_per_caller))))
        };
        let own = own.acquire_owned().await.map_err(|_| Error::Busy)?;
        let common = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| Error::Busy)?;
        Ok([own, common])
    }
}

impl Learner {
    fn selectors(&self, peer: &Peer) -> Result<SelectorSet, Error> {
        let mut set = SelectorSet::default();
        match &peer.proof {
            Proof::Kernel { connect, .. } => self.judge_record(peer, connect, &mut set),
            Proof::Pidfd { .. } | Proof::StartTime { .. } => self.judge_procfs(peer, &mut set)?,
        }
        peer.check_alive()?;
        Ok(set)
    }

    /// Credentials, cgroup, namespaces and executable as they were at `connect()`. The rest comes from procfs, and
    /// counts only if the kernel says afterwards that this is still the same run with the same credentials.
    fn judge_record(&self, peer: &Peer, connect: &Sighting, set: &mut SelectorSet) {
        let (record, host) = (&connect.task, self.host.as_ref());
        self.say_ids(peer.uid, peer.gid, set);
        kernel_facts(connect, peer.cgroup.as_deref(), &peer.containment, host, set);
        let status = Status::read(peer.pid);
        let executable = Executable::of(peer.pid);
        let now = self.capture.as_ref().and_then(|capture| capture.inspect(peer.pid).ok().flatten());
        let now = now.map(|now| now.task);
        let same_run = now.as_ref().is_some_and(|now| {
            now.pid_ino == record.pid_ino
                && now.start_time == record.start_time
                && now.exec_count == record.exec_count
        });
        let same_credentials = now.is_some_and(|now| (now.euid, now.egid) == (record.euid, record.egid));
        // Groups are those of now: whoever may change them without an exec might have had them when it connected.
        let groups = status.ok().filter(|_| same_run && same_credentials).map(|status| status.groups);
        // The exec counter does not tell of a file that was put in the place of the executable.
        let same_file = |opened: &Executable| record.exe.is_some_and(|recorded| opened.is(&recorded));
        let believed = same_run && believes_executable(connect, host);
        let executable = executable.ok().filter(|opened| believed && same_file(opened));
        self.say_groups(groups.as_deref(), set);
        self.say_executable(executable.as_ref(), set);
    }

    /// What procfs says now. The caller checks afterwards that the process is still the one that connected; that
    /// it has not run another program since, nobody can say at this grade.
    fn judge_procfs(&self, peer: &Peer, set: &mut SelectorSet) -> Result<(), Error> {
        let pid = peer.pid;
        let status = Status::read(pid).map_err(|source| Error::Credentials { pid, source })?;
        if (status.euid, status.egid) != (peer.uid, peer.gid) {
            return Err(Error::Changed { pid });
        }
        self.say_ids(status.euid, status.egid, set);
        self.say_groups(Some(&status.groups), set);
        let executable = Executable::of(pid).ok();
        // Afterwards: who has left by now may have chosen the file.
        let executable = executable.filter(|_| user_namespace::is_ours(pid));
        self.say_executable(executable.as_ref(), set);
        set.mark_gap(Selector::new("kernel", ""));
        Ok(())
    }

    fn say_ids(&self, uid: u32, gid: u32, set: &mut SelectorSet) {
        let now = Instant::now();
        let mut say = |value: String| set.insert(Selector::new("unix", value));
        say(format!("uid:{uid}"));
        say(format!("gid:{gid}"));
        if let Some(user) = self.names.user(uid, now) {
            say(format!("user:{user}"));
        }
        if let Some(group) = self.names.group(gid, now) {
            say(format!("group:{group}"));
        }
    }

    fn say_groups(&self, groups: Option<&[u32]>, set: &mut SelectorSet) {
        let Some(groups) = groups else {
            set.mark_gap(Selector::new("unix", "supplementary_gid"));
            set.mark_gap(Selector::new("unix", "supplementary_group"));
            return;
        };
        for gid in groups {
            set.insert(Selector::new("unix", format!("supplementary_gid:{gid}")));
            if let Some(group) = self.names.group(*gid, Instant::now()) {
                set.insert(Selector::new("unix", format!("supplementary_group:{group}")));
            }
        }
    }

    fn say_executable(&self, executable: Option<&Executable>, set: &mut SelectorSet) {
        match executable.and_then(|executable| executable.path(self.path)) {
            Some(path) => set.insert(Selector::new("unix", format!("path:{path}"))),
            None => set.mark_gap(Selector::new("unix", "path")),
        }
        let hash = executable.filter(|_| *self.hash_wanted.borrow());
        match hash.map(|executable| self.hashes.sha256(executable, self.hash_size_limit)) {
            Some(Ok(hash)) => set.insert(Selector::new("unix", format!("sha256:{hash}"))),
            Some(Err(error)) => {
                tracing::warn!(%error, "executable has no unix:sha256 (W0411)");
                set.mark_gap(Selector::new("unix", "sha256"));
            }
            None => set.mark_gap(Selector::new("unix", "sha256")),
        }
    }
}

/// Counts who waits for a turn.
#[derive(Debug)]
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn join(waiting: &'a AtomicUsize, limit: usize) -> Result<Self, Error> {
        let before = waiting.fetch_add(1, Ordering::Relaxed);
        let place = Self(waiting);
        if before < limit { Ok(place) } else { Err(Error::Busy) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Error {
    /// Whether asking again can give another answer.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Busy | Self::TimedOut(_))
    }

    /// The number under which an operator finds it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Peer(refusal) => refusal.code(),
            Self::Changed { .. } => "E0407",
            Self::Credentials { .. } => "E0408",
            Self::Busy => "E0409",
            Self::TimedOut(_) => "E0410",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn config() -> AttestorConfig {
        AttestorConfig {
            path: PathRule::Verified,
            hash_size_limit: u64::MAX,
            timeout: Duration::from_secs(5),
            in_flight: 2,
            in_flight_per_caller: 1,
            queued: 1,
        }
    }

    fn ourselves() -> (UnixStream, Arc<Peer>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let peer = Peer::of(&ours, None, Grade::Peercred).unwrap();
        (theirs, Arc::new(peer))
    }

    #[tokio::test]
    async fn without_hooks_a_peer_gets_unix_selectors_and_a_gap_for_the_kernels() {
        let attestor = Attestor::new(config(), None, None);
        attestor.want_hashes(true);
        let (_open, peer) = ourselves();
        let attested = attestor.attest(peer).await.unwrap();
        let uid = nix::unistd::geteuid();
        assert!(attested.selectors.contains(&Selector::new("unix", format!("uid:{uid}"))));
        assert!(attested.selectors.iter().any(|selector| selector.value().starts_with("sha256:")));
        assert!(!attested.selectors.surely_lacks(&Selector::new("kernel", "container:none")));
        assert_eq!(attestor.metrics().attested.get(), 1);
    }

    #[tokio::test]
    async fn nothing_is_hashed_unless_an_entry_names_a_hash() {
        let attestor = Attestor::new(config(), None, None);
        let (_open, peer) = ourselves();
        let attested = attestor.attest(peer).await.unwrap();
        assert_eq!(attestor.metrics().hashed.get(), 0);
        assert!(!attested.selectors.surely_lacks(&Selector::new("unix", "sha256:00")));
    }

    #[tokio::test]
    async fn one_more_than_may_wait_is_turned_away() {
        let attestor = Attestor::new(config(), None, None);
        let caller = CallerKey::Uid(1);
        let held = attestor.turn(caller.clone()).await.unwrap();
        let second = attestor.turn(caller.clone());
        tokio::pin!(second);
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut second).await.is_err());
        assert!(matches!(attestor.turn(caller).await, Err(Error::Busy)));
        drop(held);
        assert!(second.await.is_ok());
    }
}
