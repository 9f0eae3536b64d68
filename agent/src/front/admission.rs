//! How much one caller, and all together, may hold open, and how fast a caller may come.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{limits::Limits, pace::Pace};
use crate::{
    attestation::CallerKey,
    kernel::ConnectorKey,
    rate::{Rate, TooSoon},
    share::{Full, Share},
};

/// When so many callers are known, those are forgotten who hold nothing and owe nothing.
const TIDIED_FROM: usize = 64;

/// So many keys of callers who connect too fast are kept.
const MOST_KEYS: usize = 1_024;

/// Counts what is open, by caller and in total.
#[derive(Debug)]
pub(super) struct Admission {
    rules: Rules,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Clone, Copy)]
struct Rules {
    connections: Share,
    connections_per_caller: usize,
    connects: Rate,
    streams: Share,
    streams_per_caller: usize,
    frames: Rate,
}

#[derive(Debug, Default)]
struct Counts {
    connections: Taken,
    streams: Taken,
    by_caller: HashMap<CallerKey, Held>,
    tidied_at: usize,
    /// Until when nobody with that key can be let in.
    too_soon: HashMap<ConnectorKey, Instant>,
}

/// How much of a total is taken, and by how many.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Taken {
    all: usize,
    holders: usize,
}

#[derive(Debug)]
struct Held {
    connections: usize,
    streams: usize,
    /// When the connections that it made are made good.
    paid_until: Instant,
    pace: Arc<Pace>,
}

/// What is open now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InUse {
    pub streams: usize,
    /// Containers, and users outside containers, that have a connection.
    pub callers: usize,
}

/// There is no room for one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) reason: &'static str,
}

pub(super) const TOO_SOON: Refused = Refused { reason: "connects_per_second" };

/// One connection's place; given back on drop.
#[derive(Debug)]
pub(super) struct ConnectionPlace {
    caller: CallerKey,
    rules: Rules,
    pace: Arc<Pace>,
    counts: Arc<Mutex<Counts>>,
}

/// One call's place; given back on drop.
#[derive(Debug)]
pub(super) struct StreamPlace {
    caller: CallerKey,
    counts: Arc<Mutex<Counts>>,
}

impl Admission {
    pub(super) fn new(limits: &Limits) -> Self {
        let rules = Rules {
            connections: Share::new(limits.connections, limits.reserve),
            connections_per_caller: limits.connections_per_caller,
            connects: Rate::new(limits.connects_per_second, limits.connects_per_second),
            streams: Share::new(limits.streams, limits.reserve),
            streams_per_caller: limits.streams_per_caller,
            // Every stream of a caller may be opened at once, and more.
            frames: Rate::new(limits.frames_per_second, limits.frames_per_second.saturating_mul(2)),
        };
        Self { rules, counts: Arc::default() }
    }

    /// A place for one more connection of `caller`, which `connector`, if there is one, is known by.
    pub(super) fn connection(
        &self,
        caller: CallerKey,
        connector: Option<ConnectorKey>,
    ) -> Result<ConnectionPlace, Refused> {
        let pace = lock(&self.counts).connect(&self.rules, &caller, connector, Instant::now())?;
        Ok(ConnectionPlace { caller, rules: self.rules, pace, counts: Arc::clone(&self.counts) })
    }

    /// Fails when the caller with that key is known to connect too fast, as [`Self::connection`] has found.
    pub(super) fn not_too_soon(&self, connector: ConnectorKey, now: Instant) -> Result<(), Refused> {
        let too_soon = &lock(&self.counts).too_soon;
        let is_noted = |key| too_soon.get(&key).is_some_and(|until| now < *until);
        match is_noted(connector) || is_noted(connector.of_whole_cgroup()) {
            true => Err(TOO_SOON),
            false => Ok(()),
        }
    }

    pub(super) fn in_use(&self) -> InUse {
        let counts = lock(&self.counts);
        InUse { streams: counts.streams.all, callers: counts.connections.holders }
    }
}

impl ConnectionPlace {
    pub(super) fn stream(&self) -> Result<StreamPlace, Refused> {
        lock(&self.counts).open(&self.rules, &self.caller)?;
        Ok(StreamPlace { caller: self.caller.clone(), counts: Arc::clone(&self.counts) })
    }

    /// How fast this caller may send, over all of its connections.
    pub(super) fn pace(&self) -> Arc<Pace> {
        Arc::clone(&self.pace)
    }
}

impl Counts {
    fn connect(
        &mut self,
        rules: &Rules,
        caller: &CallerKey,
        connector: Option<ConnectorKey>,
        now: Instant,
    ) -> Result<Arc<Pace>, Refused> {
        self.forget_the_gone(now);
        let held = self.by_caller.entry(caller.clone()).or_insert_with(|| Held::new(rules, now));
        let refused = |reason| Err(Refused { reason });
        // Counted also when it is refused: a stranger who is turned away costs something, too.
        if let Err(TooSoon(wait)) = rules.connects.reserve(&mut held.paid_until, 1, now, Duration::ZERO) {
            if let Some(connector) = connector {
                self.note_too_soon(connector, now, wait);
            }
            return Err(TOO_SOON);
        }
        if held.connections >= rules.connections_per_caller {
            return refused("connections_per_caller");
        }
        match rules.connections.admits(self.connections.all, self.connections.holders, held.connections) {
            Ok(()) => {}
            Err(Full::Total) => return refused("connections"),
            Err(Full::Reserve) => return refused("connections_reserve"),
        }
        self.connections.take(&mut held.connections);
        Ok(Arc::clone(&held.pace))
    }

    fn note_too_soon(&mut self, connector: ConnectorKey, now: Instant, wait: Duration) {
        if self.too_soon.len() >= MOST_KEYS {
            self.too_soon.retain(|_, until| now < *until);
        }
        if self.too_soon.len() < MOST_KEYS {
            self.too_soon.insert(connector, now + wait);
        }
    }

    fn open(&mut self, rules: &Rules, caller: &CallerKey) -> Result<(), Refused> {
        let refused = |reason| Err(Refused { reason });
        // A connection that asks has its place.
        let Some(held) = self.by_caller.get_mut(caller) else { return refused("streams") };
        if held.streams >= rules.streams_per_caller {
            return refused("streams_per_caller");
        }
        match rules.streams.admits(self.streams.all, self.streams.holders, held.streams) {
            Ok(()) => {}
            Err(Full::Total) => return refused("streams"),
            Err(Full::Reserve) => return refused("streams_reserve"),
        }
        self.streams.take(&mut held.streams);
        Ok(())
    }

    /// Whoever owes something is remembered, or would owe nothing after a new connection.
    fn forget_the_gone(&mut self, now: Instant) {
        if self.by_caller.len() >= self.tidied_at.max(TIDIED_FROM) {
            self.by_caller.retain(|_, held| !held.is_forgettable(now));
            self.tidied_at = 2 * self.by_caller.len();
        }
    }
}

impl Taken {
    fn take(&mut self, held: &mut usize) {
        self.all += 1;
        self.holders += usize::from(*held == 0);
        *held += 1;
    }

    fn give_back(&mut self, held: &mut usize) {
        self.all -= 1;
        *held -= 1;
        self.holders -= usize::from(*held == 0);
    }
}

impl Held {
    fn new(rules: &Rules, now: Instant) -> Self {
        let pace = Arc::new(Pace::new(rules.frames, now));
        Self { connections: 0, streams: 0, paid_until: now, pace }
    }

    fn is_forgettable(&self, now: Instant) -> bool {
        self.connections == 0 && self.streams == 0 && self.paid_until <= now && self.pace.owes_nothing(now)
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        let counts = &mut *lock(&self.counts);
        if let Some(held) = counts.by_caller.get_mut(&self.caller) {
            counts.connections.give_back(&mut held.connections);
        }
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let counts = &mut *lock(&self.counts);
        if let Some(held) = counts.by_caller.get_mut(&self.caller) {
            counts.streams.give_back(&mut held.streams);
        }
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            connections: 8,
            connections_per_caller: 4,
            connects_per_second: 100,
            streams: 8,
            streams_per_caller: 3,
            ..super::super::limits::tests::limits()
        }
    }

    fn uid(uid: u32) -> CallerKey {
        CallerKey::Uid(uid)
    }

    #[test]
    fn one_caller_cannot_take_what_is_anothers() {
        let admission = Admission::new(&Limits { connections: 5, reserve: 0.0, ..limits() });
        let (a, b) = (uid(1), CallerKey::Container("/docker/x".into()));
        let mut first: Vec<_> = (0..4).map(|_| admission.connection(a.clone(), None).unwrap()).collect();
        assert_eq!(admission.connection(a.clone(), None).unwrap_err().reason, "connections_per_caller");
        let _fifth = admission.connection(b.clone(), None).unwrap();
        assert_eq!(admission.connection(b.clone(), None).unwrap_err().reason, "connections");
        first.pop();
        assert!(admission.connection(b, None).is_ok());
    }

    #[test]
    fn the_last_connections_are_for_callers_who_hold_less_than_their_share() {
        let admission = Admission::new(&limits());
        let mut held: Vec<_> =
            [1, 1, 1, 2, 2, 2].map(|number| admission.connection(uid(number), None).unwrap()).into();
        // Of eight, two are kept.
        assert_eq!(admission.connection(uid(1), None).unwrap_err().reason, "connections_reserve");
        held.push(admission.connection(uid(3), None).unwrap());
        held.push(admission.connection(uid(4), None).unwrap());
        assert_eq!(admission.connection(uid(5), None).unwrap_err().reason, "connections");
    }

    #[test]
    fn streams_are_counted_over_all_connections_of_a_caller_and_in_total_with_a_reserve() {
        let admission = Admission::new(&limits());
        let first = admission.connection(uid(1), None).unwrap();
        let second = admission.connection(uid(1), None).unwrap();
        let (stream, _b, _c) = (first.stream().unwrap(), second.stream().unwrap(), second.stream().unwrap());
        assert_eq!(first.stream().unwrap_err().reason, "streams_per_caller");
        let other = admission.connection(uid(2), None).unwrap();
        let _others: Vec<_> = (0..3).map(|_| other.stream().unwrap()).collect();
        drop(stream);
        // Five of eight are taken by two.
        let third = admission.connection(uid(3), None).unwrap();
        let mut streams = vec![third.stream().unwrap()];
        assert_eq!(third.stream().unwrap_err().reason, "streams_reserve");
        for newcomer in [4, 5] {
            streams.push(admission.connection(uid(newcomer), None).unwrap().stream().unwrap());
        }
        assert_eq!(admission.in_use().streams, 8);
        assert_eq!(third.stream().unwrap_err().reason, "streams");
    }

    #[test]
    fn a_caller_that_connects_without_pause_is_turned_away_and_nobody_else_is() {
        let admission = Admission::new(&Limits { connects_per_second: 3, ..limits() });
        for _ in 0..3 {
            drop(admission.connection(uid(1), None).unwrap());
        }
        assert_eq!(admission.connection(uid(1), None).unwrap_err().reason, "connects_per_second");
        assert!(admission.connection(uid(2), None).is_ok());
    }

    #[test]
    fn a_caller_that_was_turned_away_is_known_by_its_key_until_it_may_connect() {
        let admission = Admission::new(&Limits { connects_per_second: 1, ..limits() });
        let (key, other) = (ConnectorKey::new(7, 1, None), ConnectorKey::new(8, 1, None));
        let connect = || admission.connection(uid(1), Some(key)).map(drop);
        let now = Instant::now();
        assert_eq!((connect(), admission.not_too_soon(key, now)), (Ok(()), Ok(())));
        assert_eq!((connect(), admission.not_too_soon(key, now)), (Err(TOO_SOON), Err(TOO_SOON)));
        assert_eq!(admission.not_too_soon(key, now + Duration::from_secs(2)), Ok(()));
        assert_eq!(admission.not_too_soon(other, now), Ok(()), "it may be another container's");
    }

    #[test]
    fn no_uid_in_a_container_is_another_caller() {
        let admission = Admission::new(&Limits { connects_per_second: 1, ..limits() });
        let (key, now) = (|uid| ConnectorKey::new(7, uid, None), Instant::now());
        let connect = |uid| {
            let container = CallerKey::Container("/docker/x".into());
            let known_by = container.known_by(key(uid));
            admission.connection(container, Some(known_by)).map(drop)
        };
        assert_eq!((connect(1), connect(2)), (Ok(()), Err(TOO_SOON)));
        assert_eq!(admission.not_too_soon(key(3), now), Err(TOO_SOON));
    }

    #[test]
    fn keys_of_callers_who_connect_too_fast_take_bounded_memory() {
        let (mut counts, now) = (Counts::default(), Instant::now());
        let note = |counts: &mut Counts, uid, now| {
            counts.note_too_soon(ConnectorKey::new(1, uid, None), now, Duration::from_secs(1));
        };
        (0..100_000).for_each(|uid| note(&mut counts, uid, now));
        assert_eq!(counts.too_soon.len(), MOST_KEYS);
        note(&mut counts, 1, now + Duration::from_secs(2));
        assert_eq!(counts.too_soon.len(), 1, "those that are over make room");
    }

    #[test]
    fn a_new_connection_does_not_buy_a_new_pace() {
        let admission = Admission::new(&limits());
        let first = admission.connection(uid(1), None).unwrap().pace();
        assert!(Arc::ptr_eq(&first, &admission.connection(uid(1), None).unwrap().pace()));
        assert!(!Arc::ptr_eq(&first, &admission.connection(uid(2), None).unwrap().pace()));
    }

    #[test]
    fn nothing_is_held_when_everything_is_closed() {
        let admission = Admission::new(&limits());
        let place = admission.connection(uid(1), None).unwrap();
        let stream = place.stream().unwrap();
        assert_eq!(admission.in_use(), InUse { streams: 1, callers: 1 });
        // A call may outlive its connection by a moment.
        drop((place, stream));
        assert_eq!(admission.in_use(), InUse { streams: 0, callers: 0 });
    }

    #[test]
    fn callers_who_left_are_forgotten_once_they_owe_nothing() {
        let rules = Admission::new(&limits()).rules;
        let (mut counts, start) = (Counts::default(), Instant::now());
        let mut held = 0;
        for number in 0..10_000 {
            let now = start + Duration::from_millis(10) * number;
            counts.connect(&rules, &uid(number), None, now).unwrap();
            let Counts { connections, by_caller, .. } = &mut counts;
            connections.give_back(&mut by_caller.get_mut(&uid(number)).unwrap().connections);
            held = held.max(counts.by_caller.len());
        }
        assert!(held <= 2 * TIDIED_FROM, "{held}");
    }
}
