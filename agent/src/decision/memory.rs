//! The last decisions, within bounds that no caller can use up for the others.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

use super::{DecisionId, Ruling};
use crate::attestation::CallerKey;

/// Memory of all decisions together; the oldest go before it is exceeded.
const MAX_BYTES: usize = 16 << 20;
/// One that is larger is kept without its selectors.
const MAX_DECISION_BYTES: usize = 256 << 10;
/// Where there is no room, a caller that holds this share of it replaces its own decisions.
const SHARE: usize = 4;

/// Remembers what was decided. Recording takes some three microseconds, in part under a lock that nobody holds for longer.
#[derive(Debug)]
pub struct Decisions {
    limit: usize,
    memory: Mutex<Memory>,
    fingerprints: RandomState,
    metrics: Metrics,
}

/// One decision, and how often it was made.
#[derive(Debug, Clone)]
pub struct Decision {
    pub id: DecisionId,
    pub ruling: Arc<Ruling>,
    pub first_at: SystemTime,
    pub last_at: SystemTime,
    pub count: u64,
    /// What was learned was too large to be kept.
    pub cut: bool,
}

#[derive(Debug, Clone, Default)]
pub struct Metrics {
    pub held: Gauge,
    pub recorded: Counter,
    /// Those that said again what the last one of that process said.
    pub repeated: Counter,
    /// Let go to make room.
    pub dropped: Counter,
}

#[derive(Debug, Default)]
struct Memory {
    last: Option<DecisionId>,
    held: HashMap<DecisionId, Held>,
    /// Counts up with each decision, made or repeated.
    clock: u64,
    by_age: BTreeMap<u64, DecisionId>,
    by_caller: HashMap<CallerKey, Own>,
    by_fingerprint: HashMap<u64, DecisionId>,
    bytes: usize,
}

/// What is held of one caller.
#[derive(Debug, Default)]
struct Own {
    ages: BTreeSet<u64>,
    bytes: usize,
}

#[derive(Debug)]
struct Held {
    decision: Decision,
    fingerprint: u64,
    age: u64,
    bytes: usize,
}

impl Decisions {
    /// Keeps `limit` decisions, one at least.
    pub fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            memory: Mutex::default(),
            fingerprints: RandomState::new(),
            metrics: Metrics::default(),
        }
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Takes down what was decided at `now`, and says what to call it. What is known already is only counted.
    pub fn record(&self, ruling: Ruling, now: SystemTime) -> DecisionId {
        let applicant = &ruling.applicant;
        let fingerprint = self.fingerprints.hash_one((
            applicant.pid,
            applicant.birth,
            applicant.exec_count,
            ruling.outcome.word(),
        ));
        let bytes = ruling.bytes();
        let mut memory = self.lock();
        if let Some(id) = memory.repeat(fingerprint, &ruling, now) {
            self.metrics.repeated.inc();
            return id;
        }
        let cut = bytes > MAX_DECISION_BYTES;
        let ruling = if cut { Ruling { evidence: None, ..ruling } } else { ruling };
        let bytes = if cut { ruling.bytes().min(MAX_DECISION_BYTES) } else { bytes };
        let dropped = memory.make_room(self.limit, bytes, &ruling.applicant.caller);
        let id = memory.keep(ruling, fingerprint, bytes, cut, now);
        self.metrics.held.set(i64::try_from(memory.held.len()).unwrap_or(i64::MAX));
        drop(memory);
        self.metrics.recorded.inc();
        self.metrics.dropped.inc_by(dropped);
        id
    }

    pub fn get(&self, id: DecisionId) -> Option<Decision> {
        self.lock().held.get(&id).map(|held| held.decision.clone())
    }

    /// The newest `limit` that `wanted` is true of, the last made or repeated first.
    pub fn find(&self, limit: usize, wanted: impl Fn(&Ruling) -> bool) -> Vec<Decision> {
        let newest_first: Vec<Decision> = {
            let memory = self.lock();
            let held = memory.by_age.values().rev().filter_map(|id| memory.held.get(id));
            held.map(|held| held.decision.clone()).collect()
        };
        newest_first.into_iter().filter(|decision| wanted(&decision.ruling)).take(limit).collect()
    }

    // Nothing inside panics half-way.
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn repeat(&mut self, fingerprint: u64, ruling: &Ruling, now: SystemTime) -> Option<DecisionId> {
        let id = *self.by_fingerprint.get(&fingerprint)?;
        let held = self.held.get_mut(&id)?;
        if !held.decision.ruling.is_repeated_by(ruling) {
            return None;
        }
        held.decision.count += 1;
        held.decision.last_at = now;
        self.clock += 1;
        let before = std::mem::replace(&mut held.age, self.clock);
        self.by_age.remove(&before);
        self.by_age.insert(self.clock, id);
        if let Some(own) = self.by_caller.get_mut(&ruling.applicant.caller) {
            own.ages.remove(&before);
            own.ages.insert(self.clock);
        }
        Some(id)
    }

    /// Lets go of the oldest while there is no room: of this caller where it holds its share, else of all. Returns how
    /// many.
    fn make_room(&mut self, limit: usize, bytes: usize, caller: &CallerKey) -> u64 {
        let share = (limit / SHARE).max(1);
        let mut dropped = 0;
        while self.held.len() >= limit || self.bytes + bytes > MAX_BYTES {
            let has_its_share = |own: &&Own| own.ages.len() >= share || own.bytes >= MAX_BYTES / SHARE;
            let own = self.by_caller.get(caller).filter(has_its_share);
            let oldest = own.and_then(|own| own.ages.first()).or_else(|| self.by_age.keys().next());
            let Some(oldest) = oldest.copied() else { break };
            self.drop_of_age(oldest);
            dropped += 1;
        }
        dropped
    }

    fn drop_of_age(&mut self, age: u64) {
        let Some(held) = self.by_age.remove(&age).and_then(|id| self.held.remove(&id)) else { return };
        self.bytes -= held.bytes;
        if self.by_fingerprint.get(&held.fingerprint) == Some(&held.decision.id) {
            self.by_fingerprint.remove(&held.fingerprint);
        }
        let caller = &held.decision.ruling.applicant.caller;
        if let Some(own) = self.by_caller.get_mut(caller) {
            own.ages.remove(&age);
            own.bytes -= held.bytes;
            if own.ages.is_empty() {
                self.by_caller.remove(caller);
            }
        }
    }

    fn keep(
        &mut self,
        ruling: Ruling,
        fingerprint: u64,
        bytes: usize,
        cut: bool,
        now: SystemTime,
    ) -> DecisionId {
        let id = DecisionId::after(self.last, now);
        self.last = Some(id);
        self.clock += 1;
        let age = self.clock;
        self.by_age.insert(age, id);
        let own = self.by_caller.entry(ruling.applicant.caller.clone()).or_default();
        own.ages.insert(age);
        own.bytes += bytes;
        self.by_fingerprint.insert(fingerprint, id);
        self.bytes += bytes;
        let decision = Decision { id, ruling: Arc::new(ruling), first_at: now, last_at: now, count: 1, cut };
        self.held.insert(id, Held { decision, fingerprint, age, bytes });
        id
    }
}

#[cfg(test)]
mod tests;
