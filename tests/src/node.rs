//! The agent's serving side in this process: authority, owner, callers and front, without a socket of its own.

use std::{
    collections::HashMap,
    os::{fd::OwnedFd, unix::fs::PermissionsExt as _, unix::net::UnixStream},
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use tempfile::TempDir;
use tokio::{
    io::DuplexStream,
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tonic::service::Routes;
use vouch::{
    attestation::{Attestor, AttestorConfig, Grade, PathRule, Peer, Selector, Witness},
    authority::{self, Authority, AuthorityConfig, AuthoritySource, KeyType, Signed, SvidRequest, Trust},
    caller::{Caller, Callers},
    decision::Decisions,
    front::{Front, Limits, Outcome, Shard},
    rate::Rate,
    registration::{EntryId, EntryIndex, RegistrationEntry, TemplateEntry},
    sds::{self, Names, NamesConfig, Sds},
    svid::{Issuer, RotateError, Schedule, SvidCache, SvidOwner, Target},
};

pub const TRUST_DOMAIN: &str = "example.org";
const MANY: usize = 1_000_000;
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// How long a response may wait to be read; shorter than pings take to find out that nobody is there.
pub const STALLED: Duration = Duration::from_secs(30);
/// Names in one request.
pub const MAX_NAMES: usize = 128;
pub const MAX_REQUEST: usize = 1 << 20;
/// How long a first answer waits for a witness; longer than for an SVID.
pub const PATIENCE: Duration = Duration::from_secs(8);
/// How long a first answer waits for an SVID that is being issued.
pub const ISSUE_WAIT: Duration = Duration::from_secs(5);

/// Everything that serves, and everyone it serves: this process, as one caller.
#[derive(Debug)]
pub struct Node {
    pub front: Arc<Front>,
    shard: Arc<Shard>,
    pub svids: SvidCache,
    /// This process, behind connections that all have the same evidence.
    pub caller: Arc<Caller>,
    entries: watch::Sender<Arc<EntryIndex>>,
    issuer: Arc<Signers>,
    tasks: [JoinHandle<()>; 2],
    connections: JoinSet<Outcome>,
    outcomes: Vec<Outcome>,
}

impl Node {
    /// Starts with the entries of `paths`, all of which this process earns.
    ///
    /// # Panics
    /// When this process cannot be its own peer.
    pub fn start(paths: &[&str]) -> Self {
        Self::beside(paths, vec![])
    }

    /// The same with `witnesses`, each of which has a say in one more entry.
    ///
    /// # Panics
    /// When this process cannot be its own peer.
    pub fn beside(paths: &[&str], witnesses: Vec<Arc<dyn Witness>>) -> Self {
        let issuer = Arc::new(Signers::new());
        let kinds: Vec<_> = witnesses.iter().map(|witness| witness.kind()).collect();
        let (entries, receiver) = watch::channel(index(paths, &kinds));
        let schedule = Schedule { at: 0.5, jitter: 0.1 };
        let (svids, owner) = SvidOwner::new(issuer.clone(), receiver, schedule, SystemTime::now());
        let owner = tokio::spawn(owner.run());
        let decisions = Arc::new(Decisions::new(1024));
        let callers = Callers { attestor: Arc::new(attestor(witnesses)), svids: svids.clone(), decisions };
        let (ours, _theirs) = UnixStream::pair().expect("a pair of sockets");
        let peer = Peer::of(&OwnedFd::from(ours), None, Grade::Peercred).expect("this process is alive");
        let caller = Arc::new(callers.caller(peer));
        let front = Front::new(limits(), Grade::Peercred, None, callers, sds(), Routes::default());
        let front = Arc::new(front);
        let shard = Shard::new(Arc::clone(&front));
        let tasks = [owner, tokio::spawn(Arc::clone(&shard).fan_out())];
        let (connections, outcomes) = (JoinSet::new(), Vec::new());
        Self { front, shard, svids, caller, entries, issuer, tasks, connections, outcomes }
    }

    /// A connection of this process to the front, `room` bytes wide each way.
    ///
    /// # Panics
    /// When one that has ended meanwhile panicked.
    pub fn connect(&mut self, room: usize) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(room);
        let (shard, caller) = (Arc::clone(&self.shard), Arc::clone(&self.caller));
        self.connections.spawn(async move { shard.serve(theirs, caller).await });
        while let Some(ended) = self.connections.try_join_next() {
            self.outcomes.push(ended.expect("a connection ends without a panic"));
        }
        ours
    }

    /// Replaces every SVID that is held.
    ///
    /// # Panics
    /// When that fails.
    pub async fn rotate(&self) -> usize {
        self.svids.rotate(Target::All).await.expect("a rotation")
    }

    /// Replaces the SVID at `path`, if one is held.
    ///
    /// # Panics
    /// When that fails, but for want of an entry.
    pub async fn rotate_one(&self, path: &str) {
        let id = spiffe_id(path).parse().expect("a SPIFFE ID");
        match self.svids.rotate(Target::Id(id)).await {
            Ok(_) | Err(RotateError::Unknown(_)) => {}
            Err(error) => panic!("a rotation: {error}"),
        }
    }

    /// Remembers each certificate that is made from now on.
    ///
    /// # Panics
    /// When making one has panicked.
    pub fn remember_certificates(&self) {
        *self.issuer.made.lock().expect("no panic") = Some(HashMap::new());
    }

    /// Its place among those that were made, from one; `None` when it is none of them.
    ///
    /// # Panics
    /// When making one has panicked.
    pub fn certificate_number(&self, certificate: &[u8]) -> Option<usize> {
        self.issuer.made.lock().expect("no panic").as_ref()?.get(certificate).copied()
    }

    /// The entries are those of `paths` from now on.
    pub fn set_entries(&self, paths: &[&str]) {
        self.entries.send_replace(index(paths, &[]));
    }

    /// The entries are these alone from now on.
    pub fn set_templates(&self, templates: impl IntoIterator<Item = TemplateEntry>) {
        self.entries.send_replace(Arc::new(EntryIndex::with_templates([], templates)));
    }

    /// The other authority signs from now on, and its bundle is the one to trust.
    pub fn change_authority(&self) {
        self.issuer.change();
    }

    /// Waits until every connection has ended, with its client's end, and says how all so far did.
    ///
    /// # Panics
    /// When one panicked.
    pub async fn connections_end(&mut self) -> Vec<Outcome> {
        while let Some(ended) = self.connections.join_next().await {
            self.outcomes.push(ended.expect("a connection ends without a panic"));
        }
        std::mem::take(&mut self.outcomes)
    }

    /// Nobody is connected, every call has ended in exactly one way, and nobody uses an SVID.
    ///
    /// # Panics
    /// When something is left.
    pub fn assert_nothing_is_left(&self) {
        let (front, sds) = (&self.front.metrics, &self.front.sds.metrics);
        assert_eq!(front.connections.get(), 0, "connections");
        assert_eq!(sds.streams.get(), 0, "streams");
        assert_eq!(self.svids.stats().in_use, 0, "entries in use");
        assert_eq!(front.calls.get(), ended(&front.calls_ended), "calls that ended");
    }

    /// Ends all that was started.
    ///
    /// # Panics
    /// When a part of it panicked.
    pub async fn stop(mut self) {
        self.shard.stop().await;
        self.connections_end().await;
        for task in self.tasks {
            task.abort();
            let ended = task.await;
            assert!(ended.is_ok() || ended.is_err_and(|error| error.is_cancelled()), "a part has panicked");
        }
    }
}

/// How many ended, in whatever way.
fn ended(outcomes: &Family<Outcome, Counter>) -> u64 {
    let mut registry = Registry::default();
    registry.register("ended", "ended", outcomes.clone());
    let mut text = String::new();
    encode(&mut text, &registry).expect("text takes all");
    let samples = text.lines().filter(|line| line.starts_with("ended_total"));
    samples
        .map(|line| line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok()).expect("a count"))
        .sum()
}

/// The SPIFFE ID that the entry of `path` gives.
pub fn spiffe_id(path: &str) -> String {
    format!("spiffe://{TRUST_DOMAIN}/{path}")
}

pub fn names() -> Names {
    Names::new(NamesConfig::default(), &TRUST_DOMAIN.parse().expect("a trust domain"))
}

/// An entry of this uid for each of `paths`, and one that asks for a word of each of `kinds` besides.
fn index(paths: &[&str], kinds: &[&str]) -> Arc<EntryIndex> {
    let uid = Selector::new("unix", format!("uid:{}", nix::unistd::geteuid()));
    let entry = |path: &str, selectors| {
        let id = spiffe_id(path).parse().expect("a SPIFFE ID");
        RegistrationEntry::new(EntryId::new(path), id, selectors)
    };
    let plain = paths.iter().map(|path| entry(path, vec![uid.clone()]));
    let asking = kinds.iter().map(|kind| entry(kind, vec![Selector::new(*kind, "its-word"), uid.clone()]));
    Arc::new(EntryIndex::new(plain.chain(asking)))
}

fn sds() -> Sds {
    Sds {
        names: names(),
        limits: sds::Limits { request_bytes: MAX_REQUEST, names: MAX_NAMES },
        stalled: STALLED,
        first_request: FIRST_REQUEST,
        issue_wait: ISSUE_WAIT,
        metrics: Default::default(),
    }
}

/// Nobody here runs into one, and clients that are silent are found out later than those who do not read.
fn limits() -> Limits {
    Limits {
        connections: MANY,
        connections_per_caller: MANY,
        connects_per_second: MANY,
        flooded_queue: 64,
        streams: MANY,
        streams_per_connection: 128,
        streams_per_caller: MANY,
        reserve: 0.0,
        // The clock of frames is the real one, in which a test is over at once.
        frames_per_second: 1_000 * MANY,
        header_list: 8 << 10,
        header_fields: 64,
        pending_resets: 20,
        local_resets: 64,
        preface_timeout: Duration::from_secs(10),
        first_request_timeout: FIRST_REQUEST,
        idle_timeout: Duration::from_secs(600),
        stalled_timeout: STALLED,
        keepalive_interval: STALLED,
        keepalive_timeout: Duration::from_secs(20),
    }
}

fn attestor(witnesses: Vec<Arc<dyn Witness>>) -> Attestor {
    let config = AttestorConfig {
        path: PathRule::Verified,
        hash_size_limit: 0,
        timeout: PATIENCE,
        in_flight: 8,
        in_flight_per_caller: 8,
        queued: MANY,
        reserve: 0.0,
        rate: Rate::new(MANY, MANY),
        remembered: 16,
    };
    Attestor::new(config, None, None, witnesses)
}

/// Two authorities, made once for the whole run: to make one costs more than a test of them.
static AUTHORITIES: LazyLock<[(Authority, TempDir); 2]> = LazyLock::new(|| [authority(), authority()]);

/// One of them at a time.
#[derive(Debug)]
struct Signers {
    trust: watch::Sender<Arc<Trust>>,
    current: std::sync::Mutex<usize>,
    /// The place of each certificate among those that were made, where that is asked for.
    made: std::sync::Mutex<Option<HashMap<Vec<u8>, usize>>>,
}

impl Signers {
    fn new() -> Self {
        let trust = watch::Sender::new(AUTHORITIES[0].0.trust().borrow().clone());
        Self { trust, current: 0.into(), made: None.into() }
    }

    fn change(&self) {
        let mut current = self.current.lock().expect("no panic");
        *current = 1 - *current;
        self.trust.send_replace(AUTHORITIES[*current].0.trust().borrow().clone());
    }
}

impl Issuer for Signers {
    fn issue(&self, request: &SvidRequest) -> Result<Signed, authority::Error> {
        let current = *self.current.lock().expect("no panic");
        let signed = Issuer::issue(&AUTHORITIES[current].0, request)?;
        if let Some(made) = &mut *self.made.lock().expect("no panic") {
            made.insert(signed.svid.chain[0].clone(), made.len() + 1);
        }
        Ok(signed)
    }

    fn trust(&self) -> watch::Receiver<Arc<Trust>> {
        self.trust.subscribe()
    }
}

fn authority() -> (Authority, TempDir) {
    let private = std::fs::Permissions::from_mode(0o700);
    let dir = tempfile::Builder::new().permissions(private).tempdir().expect("a temporary folder");
    let config = AuthorityConfig {
        trust_domain: TRUST_DOMAIN.parse().expect("a trust domain"),
        svid_ttl: Duration::from_secs(24 * 3600),
        key_type: KeyType::EcP256,
        source: AuthoritySource::Embedded {
            state_dir: dir.path().to_owned(),
            ca_ttl: Duration::from_secs(365 * 24 * 3600),
        },
    };
    (Authority::open(config, SystemTime::now()).expect("an authority"), dir)
}
