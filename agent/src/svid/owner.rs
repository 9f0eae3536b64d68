//! The one task that issues, renews and drops SVIDs and publishes what came of it.

mod asked;

use std::{
    collections::HashMap,
    fmt,
    sync::Arc,
    thread::available_parallelism,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use futures_util::future::{BoxFuture, TryJoinAll, try_join_all};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinError, JoinHandle, spawn_blocking},
    time::timeout,
};

use super::{
    cache::{COMMANDS, Command, Failure, RotateError, Shared, SvidCache, SvidStats, Target},
    issuer::Issuer,
    rotation::{Held, Rotation, Schedule},
    snapshot::{Change, IssuedBundle, IssuedSvid, Snapshot},
};
use crate::{
    authority::{Error, Signed, SvidRequest, Trust},
    registration::{EntryId, EntryIndex, RegistrationEntry},
};
use asked::Asked;

/// Longest sleep: a clock that was set is noticed within this time.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// SVIDs made between two publications, at least and at most. Of many, a thirty-second part goes at once, so that
/// publishing costs a bounded share.
const CHUNK: std::ops::RangeInclusive<usize> = 64..=1024;
const CHUNKS: usize = 32;
/// Threads that sign a chunk: one processor is left to who serves.
const MOST_SIGNERS: usize = 8;
/// Fewer than so many are not worth another thread.
const LEAST_PART: usize = 32;
/// Those whom a full template turned away are told of room no sooner, since everybody looks again then.
const ROOM_TOLD_AFTER: Duration = Duration::from_secs(1);
/// A publication waits no longer for the check before it.
const CHECKED_WITHIN: Duration = Duration::from_secs(1);

/// Finds who has lost what they are about to be pushed.
pub type Check = Box<dyn Fn() -> BoxFuture<'static, ()> + Send>;

/// Owns the SVIDs of this node. Made with the cache that reads from it.
pub struct SvidOwner {
    issuer: Arc<dyn Issuer>,
    shared: Arc<Shared>,
    rotation: Rotation,
    entries: watch::Receiver<Arc<EntryIndex>>,
    trust: watch::Receiver<Arc<Trust>>,
    /// How many SVIDs can be made now.
    ready: watch::Receiver<usize>,
    commands: mpsc::Receiver<Command>,
    check: Option<Check>,
    in_flight: Option<Chunk>,
    /// Threads that sign at once.
    signers: usize,
    asked: Vec<Asked>,
    /// What the next publication holds.
    next: Snapshot,
    /// Entries whose SVID is another than in the last one.
    changed: Vec<EntryId>,
    /// Other entries are alive than in the last one, or they say something else.
    entries_differ: bool,
    /// The last generation given away: one counter for SVIDs, bundles and snapshots, never reused.
    generation: u64,
    /// When an entry of the index expires next.
    entry_expiry: Option<SystemTime>,
    /// How often a template that was full has found room, as it was seen last, and when the next is told.
    room_seen: u64,
    room_at: Option<SystemTime>,
    latest: SystemTime,
    stats: SvidStats,
}

/// SVIDs being made on other threads.
struct Chunk {
    entries: Vec<Arc<RegistrationEntry>>,
    /// In the order of `entries`; an error for each of them when a thread panicked.
    results: TryJoinAll<JoinHandle<Vec<Result<Signed, Error>>>>,
}

/// What woke the owner.
enum Action {
    Entries,
    Trust,
    Wants,
    Command(Command),
    Issued(Results),
    /// There are keys again.
    Ready,
    Wake,
}

/// What one thread after the other made, or that one panicked.
type Results = Result<Vec<Vec<Result<Signed, Error>>>, JoinError>;

impl SvidOwner {
    /// Makes owner and cache. The first snapshot holds the entries and the bundle of this moment and no SVIDs:
    /// one is issued when somebody subscribes to it.
    pub fn new(
        issuer: Arc<dyn Issuer>,
        mut entries: watch::Receiver<Arc<EntryIndex>>,
        schedule: Schedule,
        now: SystemTime,
    ) -> (SvidCache, Self) {
        let mut trust = issuer.trust();
        let (first_trust, index) = (trust.borrow_and_update().clone(), entries.borrow_and_update().clone());
        let generation = 1;
        let bundle = issued_bundle(&first_trust, generation);
        let entry_expiry = index.next_expiry(now);
        let next = Snapshot { generation, index, svids: HashMap::new(), bundle, change: Change::default() };
        let shared = Arc::new(Shared {
            snapshot: ArcSwap::from_pointee(next.clone()),
            published: watch::Sender::new(generation),
            matches: Default::default(),
            wants: Default::default(),
            refusals: Default::default(),
            stats: Default::default(),
        });
        let (sender, commands) = mpsc::channel(COMMANDS);
        let cache = SvidCache { shared: shared.clone(), commands: sender };
        let ready = issuer.ready();
        let owner = Self {
            rotation: Rotation::new(schedule, first_trust.signers.clone()),
            issuer,
            shared,
            entries,
            trust,
            ready,
            commands,
            check: None,
            in_flight: None,
            signers: available_parallelism().map_or(1, |cores| cores.get() - 1).clamp(1, MOST_SIGNERS),
            asked: Vec::new(),
            changed: Vec::new(),
            entries_differ: false,
            next,
            generation,
            entry_expiry,
            room_seen: 0,
            room_at: None,
            latest: now,
            stats: SvidStats::default(),
        };
        (cache, owner)
    }

    /// Has `check` run before each publication: whoever is not entitled any more is to be found before the push.
    #[must_use]
    pub fn checked_by(mut self, check: Check) -> Self {
        self.check = Some(check);
        self
    }

    /// At most `identities` of one template are in use at once; [`super::TEMPLATE_IDENTITIES`] unless told otherwise.
    #[must_use]
    pub fn deriving_at_most(self, identities: usize) -> Self {
        self.shared.wants.derive_at_most(identities);
        self
    }

    /// Works until the last [`SvidCache`] is gone, or it is dropped.
    pub async fn run(mut self) {
        while let Some(action) = self.next_action().await {
            self.apply(action, SystemTime::now()).await;
        }
    }

    async fn next_action(&mut self) -> Option<Action> {
        let sleep = self.sleep(SystemTime::now());
        tokio::select! {
            () = changed(&mut self.entries) => Some(Action::Entries),
            () = changed(&mut self.trust) => Some(Action::Trust),
            () = self.shared.wants.changed() => Some(Action::Wants),
            command = self.commands.recv() => command.map(Action::Command),
            results = results(&mut self.in_flight) => Some(Action::Issued(results)),
            () = changed(&mut self.ready) => Some(Action::Ready),
            () = tokio::time::sleep(sleep) => Some(Action::Wake),
        }
    }

    async fn apply(&mut self, action: Action, now: SystemTime) {
        let mut dirty = self.entries_by_time(now);
        dirty |= match action {
            Action::Entries => self.set_entries(now),
            Action::Trust => self.set_trust(),
            Action::Wants => self.take_wants(now),
            Action::Command(command) => self.ask(command),
            Action::Issued(results) => self.take_results(results, now),
            Action::Ready | Action::Wake => false,
        };
        dirty |= self.tell_of_room(now);
        let expired = self.rotation.expire(now);
        dirty |= self.drop_svids(&expired);
        dirty |= self.start(now);
        if dirty {
            if let Some(check) = &self.check {
                // A check that hangs must not keep valid SVIDs from anybody; it goes on by itself twice a second.
                let _ = timeout(CHECKED_WITHIN, check()).await;
            }
            self.publish();
        }
        self.tell_stats();
        self.answer();
    }

    fn set_entries(&mut self, now: SystemTime) -> bool {
        self.entries_differ = true;
        self.next.index = self.entries.borrow_and_update().clone();
        self.entry_expiry = self.next.index.next_expiry(now);
        let edited = self.rotation.set_entries(&self.next.index, now);
        self.drop_svids(&edited.drop);
        for entry in edited.rewrap {
            self.rewrap(entry);
        }
        // An entry that went and came back has subscribers who never saw it gone.
        for (id, users) in self.shared.wants.all() {
            self.want(&id, users);
        }
        self.room_at = None;
        true
    }

    /// Entries come and go by time alone as well, also when the clock is set back.
    fn entries_by_time(&mut self, now: SystemTime) -> bool {
        let went_back = now + Duration::from_secs(1) < self.latest;
        self.latest = now;
        (went_back || self.entry_expiry.is_some_and(|at| at <= now)) && self.set_entries(now)
    }

    fn set_trust(&mut self) -> bool {
        let trust = self.trust.borrow_and_update().clone();
        self.rotation.set_signers(&trust.signers);
        if *trust.bundle == self.next.bundle.bundle {
            return false;
        }
        let generation = self.generation();
        self.next.bundle = issued_bundle(&trust, generation);
        true
    }

    fn take_wants(&mut self, now: SystemTime) -> bool {
        for (id, users) in self.shared.wants.take_changes() {
            self.want(&id, users);
        }
        let room = self.shared.wants.room();
        if std::mem::replace(&mut self.room_seen, room) != room {
            self.room_at.get_or_insert(now + ROOM_TOLD_AFTER);
        }
        false
    }

    fn want(&mut self, id: &EntryId, users: usize) {
        let lives = |entry: &Arc<RegistrationEntry>| entry.expires_at.is_none_or(|end| self.latest < end);
        if let Some(entry) = self.next.index.get(id).filter(lives)
            && self.rotation.want(&entry, users)
        {
            // Nobody reads it, so the next publication is early enough.
            self.drop_svids(std::slice::from_ref(id));
        }
    }

    /// Some who were turned away may find room now: everybody looks again.
    fn tell_of_room(&mut self, now: SystemTime) -> bool {
        let told = self.room_at.take_if(|at| *at <= now).is_some();
        self.entries_differ |= told;
        told
    }

    fn ask(&mut self, command: Command) -> bool {
        let id = match &command.target {
            Target::All => None,
            Target::Id(id) if !self.rotation.knows(id) && self.next.index.giving(id).next().is_none() => {
                let _ = command.answer.send(Err(RotateError::Unknown(id.clone())));
                return false;
            }
            Target::Id(id) => Some(id),
        };
        let entries = self.rotation.rotate(id);
        let in_flight = self.in_flight.iter().flat_map(|chunk| &chunk.entries).map(|entry| &entry.id);
        self.asked.push(Asked::new(entries, in_flight, command.answer));
        false
    }

    /// Sends what is due to be made, one chunk at a time. Returns whether something unused was dropped.
    fn start(&mut self, now: SystemTime) -> bool {
        if self.in_flight.is_some() {
            return false;
        }
        let chunk = (self.next.svids.len() / CHUNKS).clamp(*CHUNK.start(), *CHUNK.end());
        // What finds no key stays where it stands: whoever waits for it is told that it is pending.
        let ready = *self.ready.borrow_and_update();
        let work = self.rotation.take_due(now, chunk.min(ready));
        if !work.issue.is_empty() {
            self.in_flight = Some(self.make(work.issue, now));
        }
        self.drop_svids(&work.drop)
    }

    /// Has them signed, in parts on several threads when they are many.
    fn make(&self, entries: Vec<Arc<RegistrationEntry>>, now: SystemTime) -> Chunk {
        let part = entries.len().div_ceil(self.signers).max(LEAST_PART);
        let parts = entries.chunks(part).map(|entries| {
            let requests: Vec<_> = entries.iter().map(|entry| request(entry, now)).collect();
            let issuer = self.issuer.clone();
            spawn_blocking(move || requests.iter().map(|request| issuer.issue(request)).collect())
        });
        Chunk { results: try_join_all(parts), entries }
    }

    fn take_results(&mut self, results: Results, now: SystemTime) -> bool {
        let Some(chunk) = self.in_flight.take() else { return false };
        // A signer is announced before it signs: what is known now knows the signers of these results.
        self.set_trust();
        let failures_before = self.stats.failed_total;
        match results {
            Ok(results) => {
                for (entry, result) in chunk.entries.iter().zip(results.into_iter().flatten()) {
                    match result {
                        Ok(signed) => self.hold(entry, signed, now),
                        Err(error) => self.fail(entry, &error.to_string(), now),
                    }
                }
            }
            Err(error) => chunk.entries.iter().for_each(|entry| self.fail(entry, &error.to_string(), now)),
        }
        let failures = self.stats.failed_total - failures_before;
        if let Some(Failure { entry, why, .. }) = self.stats.last_failure.as_ref().filter(|_| failures > 0) {
            // One line for all of them: a thousand entries fail for one reason.
            tracing::warn!(failures, %entry, why, "SVIDs were not issued; the last failure is shown");
        }
        true
    }

    fn hold(&mut self, entry: &RegistrationEntry, signed: Signed, now: SystemTime) {
        let Signed { svid, signer } = signed;
        self.stats.issued_total += 1;
        let held = Held { not_after: svid.not_after, signer };
        if self.rotation.issued(entry, held, now, random()) {
            // The entry may have been edited since in what an SVID does not say.
            if let Some(entry) = self.next.index.get(&entry.id) {
                let generation = self.generation();
                let id = entry.id.clone();
                let issued = IssuedSvid { entry, svid, generation, encodings: Default::default() };
                self.changed.push(id.clone());
                self.next.svids.insert(id, Arc::new(issued));
            }
        }
        self.asked.iter_mut().for_each(|asked| asked.done(&entry.id));
    }

    fn fail(&mut self, entry: &RegistrationEntry, why: &str, now: SystemTime) {
        self.rotation.failed(&entry.id, now, random());
        self.stats.failed_total += 1;
        self.stats.last_failure = Some(Failure { entry: entry.id.clone(), why: why.to_owned(), at: now });
        self.asked.iter_mut().for_each(|asked| asked.failed(&entry.id, why));
    }

    fn rewrap(&mut self, entry: Arc<RegistrationEntry>) {
        let generation = self.generation();
        if let Some(held) = self.next.svids.get_mut(&entry.id) {
            let svid = held.svid.clone();
            *held = Arc::new(IssuedSvid { entry, svid, generation, encodings: Default::default() });
        }
    }

    fn drop_svids(&mut self, ids: &[EntryId]) -> bool {
        let mut dropped = false;
        for id in ids {
            if self.next.svids.remove(id).is_some() {
                self.changed.push(id.clone());
                self.stats.dropped_total += 1;
                dropped = true;
            }
            self.asked.iter_mut().for_each(|asked| asked.gone(id));
        }
        dropped
    }

    fn publish(&mut self) {
        let before = self.shared.snapshot.load();
        let for_all =
            std::mem::take(&mut self.entries_differ) || !Arc::ptr_eq(&before.bundle, &self.next.bundle);
        let changed = std::mem::take(&mut self.changed);
        self.next.change = Change { since: before.generation, svids: (!for_all).then(|| changed.into()) };
        drop(before);
        self.next.generation = self.generation();
        self.shared.snapshot.store(Arc::new(self.next.clone()));
        self.shared.published.send_replace(self.next.generation);
    }

    fn tell_stats(&mut self) {
        let tally = self.rotation.tally();
        if tally.in_use != self.stats.in_use {
            self.issuer.expect(tally.in_use);
        }
        let stats = SvidStats {
            held: self.next.svids.len(),
            in_use: tally.in_use,
            pending: tally.pending,
            failing: tally.failing,
            first_expiry: self.rotation.first_end(),
            ..self.stats.clone()
        };
        if stats != self.stats {
            self.stats = stats;
            self.shared.stats.store(Arc::new(self.stats.clone()));
        }
    }

    /// After publishing, so that who is answered sees what it asked for.
    fn answer(&mut self) {
        let (open, ended): (Vec<_>, _) =
            std::mem::take(&mut self.asked).into_iter().partition(Asked::is_open);
        self.asked = open;
        ended.into_iter().for_each(Asked::answer);
    }

    fn sleep(&self, now: SystemTime) -> Duration {
        // What is due while a chunk is being made, or without a key, waits for that, which wakes by itself.
        let busy = self.in_flight.is_some() || *self.ready.borrow() == 0;
        let next = if busy { self.rotation.first_end() } else { self.rotation.wake_at() };
        [next, self.entry_expiry, self.room_at]
            .into_iter()
            .flatten()
            .map(|at| at.duration_since(now).unwrap_or_default())
            .fold(LONGEST_SLEEP, Duration::min)
    }

    fn generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }
}

fn request(entry: &RegistrationEntry, now: SystemTime) -> SvidRequest {
    SvidRequest {
        id: entry.spiffe_id.clone(),
        dns_names: entry.dns_names.clone(),
        ttl: entry.x509_svid_ttl,
        now,
    }
}

fn issued_bundle(trust: &Trust, generation: u64) -> Arc<IssuedBundle> {
    Arc::new(IssuedBundle { bundle: (*trust.bundle).clone(), generation, encodings: Default::default() })
}

impl fmt::Debug for SvidOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SvidOwner").field("generation", &self.generation).finish_non_exhaustive()
    }
}

/// A source that ended changes no more.
async fn changed<T>(source: &mut watch::Receiver<T>) {
    if source.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn results(in_flight: &mut Option<Chunk>) -> Results {
    match in_flight {
        Some(chunk) => (&mut chunk.results).await,
        None => std::future::pending().await,
    }
}

/// From 0 to 1. Without a random generator nothing is issued anyway; then the middle will do.
fn random() -> f64 {
    let mut bytes = [0; 4];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_or(0.5, |()| f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests;
