//! What is to be issued, renewed and dropped, and when. Plain: no clock, no I/O, no randomness of its own.

mod schedule;
mod spread;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    authority::SignerId,
    registration::{EntryId, EntryIndex, RegistrationEntry},
    spiffe::SpiffeId,
};
pub use schedule::Schedule;
use schedule::retry_after;
use spread::Spread;

/// A clock that falls back by more than this makes waiting times meaningless.
const STEP_BACK: Duration = Duration::from_secs(5);
/// Due whatever the clock says.
const AT_ONCE: SystemTime = UNIX_EPOCH;

/// The entries somebody needs SVIDs for, and how each stands.
#[derive(Debug)]
pub(super) struct Rotation {
    schedule: Schedule,
    signers: Vec<SignerId>,
    records: HashMap<EntryId, Record>,
    /// One queue for each [`Urgency`], each by time.
    queues: [BTreeSet<(SystemTime, EntryId)>; 3],
    /// How many of those scheduled are due when.
    spread: Spread,
    /// When held SVIDs expire.
    ends: BTreeSet<(SystemTime, EntryId)>,
    latest: SystemTime,
    tally: Tally,
}

/// Who goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Urgency {
    /// Callers stand there with nothing.
    Waiting = 0,
    /// An operator or a replaced signer asks for a fresh one.
    Asked = 1,
    Scheduled = 2,
}

#[derive(Debug)]
struct Record {
    entry: Arc<RegistrationEntry>,
    users: usize,
    /// Whether anybody used it since it was last issued.
    used: bool,
    /// In which queue it stands.
    due: Option<(Urgency, SystemTime)>,
    /// Taken by [`Rotation::take_due`] and not yet answered.
    in_flight: bool,
    held: Option<Held>,
    failures: u32,
}

/// The facts of an SVID that is being served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) not_after: SystemTime,
    pub(super) signer: SignerId,
}

/// What is to be done at once.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// In this order.
    pub(super) issue: Vec<Arc<RegistrationEntry>>,
    /// Nobody used these since they were issued.
    pub(super) drop: Vec<EntryId>,
}

/// What an edit of the entries means for SVIDs that are held.
#[derive(Debug, Default)]
pub(super) struct Edited {
    /// No longer to be served.
    pub(super) drop: Vec<EntryId>,
    /// Still good, under the entry as it is now.
    pub(super) rewrap: Vec<Arc<RegistrationEntry>>,
}

/// How it all stands, in numbers.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) in_use: usize,
    pub(super) pending: usize,
    pub(super) failing: usize,
}

impl Rotation {
    pub(super) fn new(schedule: Schedule, signers: Vec<SignerId>) -> Self {
        Self {
            schedule,
            signers,
            records: HashMap::new(),
            queues: Default::default(),
            spread: Spread::default(),
            ends: BTreeSet::new(),
            latest: UNIX_EPOCH,
            tally: Tally::default(),
        }
    }

    /// `users` sets of selectors use `entry` now, or used it a moment ago. Returns whether its SVID is to go: what a
    /// template makes is let go with its last user, so that no stranger fills the memory with names.
    pub(super) fn want(&mut self, entry: &Arc<RegistrationEntry>, users: usize) -> bool {
        if users == 0 && !self.records.contains_key(&entry.id) {
            return false;
        }
        self.records.entry(entry.id.clone()).or_insert_with(|| Record::new(entry.clone()));
        let idle = self.change(&entry.id, |record| {
            record.users = users;
            record.used = true;
            record.held.is_none() && record.due.is_none() && !record.in_flight
        });
        let holds = self.records.get(&entry.id).is_some_and(|record| record.held.is_some());
        if users == 0 && (!holds || entry.derived_from.is_some()) {
            self.forget(&entry.id);
            return holds;
        }
        if idle == Some(true) {
            self.place(&entry.id, Urgency::Waiting, AT_ONCE);
        }
        false
    }

    /// The entries are those of `index` now.
    pub(super) fn set_entries(&mut self, index: &EntryIndex, now: SystemTime) -> Edited {
        let mut edited = Edited::default();
        for id in self.records.keys().cloned().collect::<Vec<_>>() {
            match index.get(&id).filter(|entry| entry.expires_at.is_none_or(|end| now < end)) {
                None => {
                    self.forget(&id);
                    edited.drop.push(id);
                }
                Some(entry) => self.set_entry(&entry, &mut edited),
            }
        }
        edited
    }

    fn set_entry(&mut self, entry: &Arc<RegistrationEntry>, edited: &mut Edited) {
        let Some(record) = self.records.get_mut(&entry.id) else { return };
        let old = std::mem::replace(&mut record.entry, entry.clone());
        if old == *entry {
            return;
        }
        if same_names(&old, entry) {
            edited.rewrap.push(entry.clone());
            if old.x509_svid_ttl != entry.x509_svid_ttl {
                self.ask(&entry.id);
            }
        } else {
            // It says something that the entry no longer grants.
            edited.drop.push(entry.id.clone());
            self.release(&entry.id);
            self.place(&entry.id, Urgency::Waiting, AT_ONCE);
        }
    }

    /// SVIDs of other signers are replaced at once; they are served until then.
    pub(super) fn set_signers(&mut self, signers: &[SignerId]) {
        if self.signers == signers {
            return;
        }
        self.signers = signers.to_vec();
        let stale = |record: &&Record| record.held.is_some_and(|held| !signers.contains(&held.signer));
        let stale: Vec<_> =
            self.records.values().filter(stale).map(|record| record.entry.id.clone()).collect();
        stale.iter().for_each(|id| self.ask(id));
    }

    /// Asks for fresh SVIDs in place of those held for `target`, or for all. Returns their entries.
    pub(super) fn rotate(&mut self, target: Option<&SpiffeId>) -> Vec<EntryId> {
        let meant = |record: &&Record| {
            record.held.is_some() && target.is_none_or(|target| record.entry.spiffe_id == *target)
        };
        let ids: Vec<_> = self.records.values().filter(meant).map(|record| record.entry.id.clone()).collect();
        for id in &ids {
            if let Some(record) = self.records.get_mut(id) {
                record.used = true;
            }
            self.ask(id);
        }
        ids
    }

    /// Takes up to `most` of what is due at `now`, the most urgent first. Each one taken is to be answered by
    /// [`Self::issued`] or [`Self::failed`].
    pub(super) fn take_due(&mut self, now: SystemTime, most: usize) -> Work {
        self.notice_step_back(now);
        let mut work = Work::default();
        for queue in 0..self.queues.len() {
            while work.issue.len() < most {
                let Some((_, id)) = self.queues[queue].first().filter(|(at, _)| *at <= now).cloned() else {
                    break;
                };
                self.unplace(&id);
                let Some(record) = self.records.get_mut(&id) else { continue };
                if record.users == 0 && !record.used {
                    self.forget(&id);
                    work.drop.push(id);
                } else {
                    record.in_flight = true;
                    work.issue.push(record.entry.clone());
                }
            }
        }
        work
    }

    /// `entry` got an SVID at `now`. Returns whether it is to be served: not when the entry has gone or has
    /// changed its names since. `random` (0..1) becomes the jitter of its rotation.
    pub(super) fn issued(
        &mut self,
        entry: &RegistrationEntry,
        held: Held,
        now: SystemTime,
        random: f64,
    ) -> bool {
        let now_named = self.change(&entry.id, |record| {
            record.in_flight = false;
            (same_names(&record.entry, entry), record.due)
        });
        let Some((named, due)) = now_named else { return false };
        if !named || held.not_after <= now {
            if due.is_none() {
                self.failed(&entry.id, now, random);
            }
            return false;
        }
        self.hold(&entry.id, held);
        self.change(&entry.id, |record| {
            record.failures = 0;
            record.used = record.users > 0;
        });
        // What was asked for meanwhile still stands.
        if !matches!(due, Some((Urgency::Asked, _))) {
            let is_stale = !self.signers.contains(&held.signer);
            let (urgency, at) = if is_stale {
                (Urgency::Asked, AT_ONCE)
            } else {
                (Urgency::Scheduled, self.spread.find(&self.schedule.window(now, held.not_after, random)))
            };
            self.place(&entry.id, urgency, at);
        }
        true
    }

    /// `id` got none. It is tried again after a pause that grows with each failure.
    pub(super) fn failed(&mut self, id: &EntryId, now: SystemTime, random: f64) {
        let state = self.change(id, |record| {
            record.in_flight = false;
            record.failures = record.failures.saturating_add(1);
            (record.failures, record.held.is_some(), record.due)
        });
        let Some((failures, holds, due)) = state else { return };
        // What was asked for meanwhile still stands.
        if !matches!(due, Some((Urgency::Asked, _))) {
            let urgency = if holds { Urgency::Scheduled } else { Urgency::Waiting };
            self.place(id, urgency, now + retry_after(failures, random));
            self.latest = self.latest.max(now);
        }
    }

    /// Lets go of what has expired at `now`, which is no longer to be served.
    pub(super) fn expire(&mut self, now: SystemTime) -> Vec<EntryId> {
        self.notice_step_back(now);
        let mut expired = Vec::new();
        while let Some((_, id)) = self.ends.first().filter(|(end, _)| *end <= now).cloned() {
            self.release(&id);
            let record = self.records.get(&id);
            match record.map(|record| (record.users, record.failures, record.due)) {
                Some((0, ..)) => self.forget(&id),
                // Callers stand there with nothing now. A retry keeps its time.
                Some((_, failures, Some((_, at)))) => {
                    self.place(&id, Urgency::Waiting, if failures > 0 { at } else { AT_ONCE });
                }
                _ => {}
            }
            expired.push(id);
        }
        expired
    }

    /// When there is something to do next; in the past when it is due already.
    pub(super) fn wake_at(&self) -> Option<SystemTime> {
        self.queues.iter().chain([&self.ends]).filter_map(|queue| queue.first()).map(|(at, _)| *at).min()
    }

    /// When the first held SVID expires.
    pub(super) fn first_end(&self) -> Option<SystemTime> {
        self.ends.first().map(|(end, _)| *end)
    }

    /// Whether an SVID of `id` is held, or to be made.
    pub(super) fn knows(&self, id: &SpiffeId) -> bool {
        self.records.values().any(|record| record.entry.spiffe_id == *id)
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    /// The only way to change what [`Tally`] counts.
    fn change<R>(&mut self, id: &EntryId, change: impl FnOnce(&mut Record) -> R) -> Option<R> {
        let record = self.records.get_mut(id)?;
        self.tally.subtract(record);
        let result = change(record);
        self.tally.add(record);
        Some(result)
    }

    fn ask(&mut self, id: &EntryId) {
        let waits = self.records.get(id).is_some_and(|record| record.held.is_none());
        self.place(id, if waits { Urgency::Waiting } else { Urgency::Asked }, AT_ONCE);
    }

    /// Puts a record into a queue, out of any other.
    fn place(&mut self, id: &EntryId, urgency: Urgency, at: SystemTime) {
        self.unplace(id);
        if let Some(record) = self.records.get_mut(id) {
            record.due = Some((urgency, at));
            self.queues[urgency as usize].insert((at, id.clone()));
            if urgency == Urgency::Scheduled {
                self.spread.add(at);
            }
        }
    }

    fn unplace(&mut self, id: &EntryId) {
        if let Some((urgency, at)) = self.records.get_mut(id).and_then(|record| record.due.take()) {
            self.queues[urgency as usize].remove(&(at, id.clone()));
            if urgency == Urgency::Scheduled {
                self.spread.remove(at);
            }
        }
    }

    fn hold(&mut self, id: &EntryId, held: Held) {
        self.release(id);
        if self.change(id, |record| record.held = Some(held)).is_some() {
            self.ends.insert((held.not_after, id.clone()));
        }
    }

    fn release(&mut self, id: &EntryId) {
        if let Some(held) = self.change(id, |record| record.held.take()).flatten() {
            self.ends.remove(&(held.not_after, id.clone()));
        }
    }

    fn forget(&mut self, id: &EntryId) {
        self.release(id);
        self.unplace(id);
        if let Some(record) = self.records.remove(id) {
            self.tally.subtract(&record);
        }
    }

    /// Pauses were counted on a clock that has been set back: what failed is tried again now.
    fn notice_step_back(&mut self, now: SystemTime) {
        if now + STEP_BACK < self.latest {
            let failing = |record: &&Record| record.failures > 0 && record.due.is_some();
            let ids: Vec<_> =
                self.records.values().filter(failing).map(|record| record.entry.id.clone()).collect();
            ids.iter().for_each(|id| self.ask(id));
        }
        self.latest = now;
    }
}

impl Record {
    fn new(entry: Arc<RegistrationEntry>) -> Self {
        Self { entry, users: 0, used: false, due: None, in_flight: false, held: None, failures: 0 }
    }
}

impl Tally {
    fn of(record: &Record) -> [usize; 3] {
        let in_use = record.users > 0;
        [in_use, in_use && record.held.is_none(), record.failures > 0].map(usize::from)
    }

    fn add(&mut self, record: &Record) {
        let [in_use, pending, failing] = Self::of(record);
        self.in_use += in_use;
        self.pending += pending;
        self.failing += failing;
    }

    fn subtract(&mut self, record: &Record) {
        let [in_use, pending, failing] = Self::of(record);
        self.in_use -= in_use;
        self.pending -= pending;
        self.failing -= failing;
    }
}

/// Whether what an SVID says is the same under both.
fn same_names(a: &RegistrationEntry, b: &RegistrationEntry) -> bool {
    a.spiffe_id == b.spiffe_id && a.dns_names == b.dns_names
}

#[cfg(test)]
mod tests;
