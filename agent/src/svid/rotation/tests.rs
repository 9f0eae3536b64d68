use proptest::prelude::*;

use super::{
    schedule::{LAST_RETRY, SHORTEST_ROTATION},
    *,
};
use crate::attestation::Selector;

const HOUR: Duration = Duration::from_secs(3600);
const SCHEDULE: Schedule = Schedule { at: 0.5, jitter: 0.1 };

#[test]
fn an_svid_is_replaced_at_the_time_drawn_when_it_was_issued() {
    for (random, minutes) in [(0.0, 27), (0.5, 30), (1.0, 33)] {
        let mut rotation = rotation();
        let entry = entry("a", "/a");
        rotation.want(&entry, 1);
        assert_eq!(rotation.take_due(start(), 9).issue, std::slice::from_ref(&entry));
        assert!(rotation.issued(&entry, held(start() + HOUR), start(), random));
        let due = start() + Duration::from_secs(60 * minutes);
        assert_eq!(rotation.wake_at(), Some(due));
        assert!(rotation.take_due(due - Duration::from_secs(1), 9).issue.is_empty());
        assert_eq!(rotation.take_due(due, 9).issue, [entry]);
    }
}

#[test]
fn waiting_callers_go_before_an_operator_and_he_before_the_schedule() {
    let mut rotation = rotation();
    let [scheduled, asked, waiting] = ["a", "b", "c"].map(|id| entry(id, &format!("/{id}")));
    for entry in [&scheduled, &asked] {
        rotation.want(entry, 1);
        rotation.take_due(start(), 9);
        rotation.issued(entry, held(start() + HOUR), start(), 0.5);
    }
    let now = start() + HOUR / 2;
    assert_eq!(rotation.rotate(Some(&asked.spiffe_id)), std::slice::from_ref(&asked.id));
    rotation.want(&waiting, 1);
    assert_eq!(rotation.take_due(now, 9).issue, [waiting, asked, scheduled]);
}

#[test]
fn a_chunk_takes_no_more_than_it_may() {
    let mut rotation = rotation();
    let entries: Vec<_> = (0..10).map(|n| entry(&n.to_string(), "/x")).collect();
    for entry in &entries {
        rotation.want(entry, 1);
    }
    assert_eq!(rotation.take_due(start(), 4).issue, entries[..4]);
    assert_eq!(rotation.take_due(start(), 4).issue, entries[4..8]);
    assert_eq!(rotation.take_due(start(), 4).issue, entries[8..]);
    assert!(rotation.take_due(start(), 4).issue.is_empty());
}

#[test]
fn a_failure_is_retried_ever_later_while_the_last_svid_is_kept_until_its_end() {
    let mut rotation = rotation();
    let entry = entry("a", "/a");
    rotation.want(&entry, 1);
    rotation.take_due(start(), 9);
    rotation.issued(&entry, held(start() + HOUR), start(), 0.5);
    let mut now = start() + HOUR / 2;
    let mut pauses = Vec::new();
    while now < start() + HOUR {
        assert!(rotation.expire(now).is_empty());
        assert_eq!(rotation.take_due(now, 9).issue.len(), 1);
        rotation.failed(&entry.id, now, 1.0);
        let next = rotation.wake_at().unwrap();
        pauses.push(next.duration_since(now).unwrap().as_secs());
        now = next;
    }
    assert_eq!(pauses[..7], [1, 2, 4, 8, 16, 30, 30]);
    assert_eq!(rotation.expire(start() + HOUR), std::slice::from_ref(&entry.id));
    assert_eq!(rotation.tally(), Tally { in_use: 1, pending: 1, failing: 1 });
    rotation.take_due(now, 9);
    rotation.issued(&entry, held(now + HOUR), now, 0.5);
    assert_eq!(rotation.tally(), Tally { in_use: 1, pending: 0, failing: 0 });
}

#[test]
fn what_nobody_used_since_it_was_issued_is_dropped_and_not_renewed() {
    let mut rotation = rotation();
    let entry = entry("a", "/a");
    rotation.want(&entry, 1);
    rotation.take_due(start(), 9);
    rotation.issued(&entry, held(start() + HOUR), start(), 0.5);
    rotation.want(&entry, 0);
    // It was used in this period, so it is renewed once.
    let half = start() + HOUR / 2;
    assert_eq!(rotation.take_due(half, 9).issue.len(), 1);
    rotation.issued(&entry, held(half + HOUR), half, 0.5);
    let work = rotation.take_due(half + HOUR / 2, 9);
    assert!(work.issue.is_empty());
    assert_eq!(work.drop, std::slice::from_ref(&entry.id));
    assert_eq!(rotation.wake_at(), None);
}

#[test]
fn an_edit_of_names_drops_of_the_lifetime_renews_and_of_anything_else_keeps() {
    let old = entry("a", "/a");
    type Change = fn(&mut RegistrationEntry);
    let cases: [(Change, usize, usize, usize); 6] = [
        (|entry| entry.hint = "h".into(), 0, 1, 0),
        (|entry| entry.selectors = vec![Selector::new("unix", "uid:7")], 0, 1, 0),
        (|entry| entry.x509_svid_ttl = Some(HOUR), 0, 1, 1),
        (|entry| entry.spiffe_id = "spiffe://example.org/other".parse().unwrap(), 1, 0, 1),
        (|entry| entry.dns_names = vec!["x".into()], 1, 0, 1),
        (|entry| entry.expires_at = Some(start()), 1, 0, 0),
    ];
    for (number, (change, dropped, rewrapped, issued)) in cases.into_iter().enumerate() {
        let mut rotation = rotation();
        rotation.want(&old, 1);
        rotation.take_due(start(), 9);
        rotation.issued(&old, held(start() + HOUR), start(), 0.5);
        let mut new = (*old).clone();
        change(&mut new);
        let edited = rotation.set_entries(&EntryIndex::new([new]), start());
        assert_eq!((edited.drop.len(), edited.rewrap.len()), (dropped, rewrapped), "case {number}");
        assert_eq!(rotation.take_due(start(), 9).issue.len(), issued, "case {number}");
    }
}

#[test]
fn an_svid_made_for_names_that_were_edited_meanwhile_is_not_served() {
    let mut rotation = rotation();
    let old = entry("a", "/old");
    rotation.want(&old, 1);
    rotation.take_due(start(), 9);
    let new = entry("a", "/new");
    rotation.set_entries(&EntryIndex::new([(*new).clone()]), start());
    assert!(!rotation.issued(&old, held(start() + HOUR), start(), 0.5));
    assert_eq!(rotation.take_due(start(), 9).issue, [new]);
}

#[test]
fn only_svids_of_a_replaced_signer_are_replaced() {
    let mut rotation = rotation();
    let [a, b] = ["a", "b"].map(|id| entry(id, "/x"));
    for (entry, signer) in [(&a, 1), (&b, 2)] {
        rotation.want(entry, 1);
        rotation.take_due(start(), 9);
        rotation.set_signers(&[signer_of(1), signer_of(2)]);
        rotation.issued(entry, Held { signer: signer_of(signer), not_after: start() + HOUR }, start(), 0.5);
    }
    rotation.set_signers(&[signer_of(2), signer_of(3)]);
    assert_eq!(rotation.take_due(start(), 9).issue, [a]);
}

#[test]
fn a_retry_does_not_wait_for_a_clock_that_was_set_back() {
    let mut rotation = rotation();
    let entry = entry("a", "/a");
    rotation.want(&entry, 1);
    rotation.take_due(start(), 9);
    rotation.failed(&entry.id, start(), 1.0);
    assert!(rotation.take_due(start(), 9).issue.is_empty());
    assert_eq!(rotation.take_due(start() - HOUR, 9).issue.len(), 1);
}

#[test]
fn a_mass_issued_at_one_moment_is_replaced_over_a_minute_and_none_of_it_late() {
    let mut rotation = Rotation::new(Schedule { at: 0.5, jitter: 0.0 }, vec![signer_of(0)]);
    let entries: Vec<_> = (0..10_000).map(|n| entry(&format!("{n:05}"), "/x")).collect();
    for entry in &entries {
        rotation.want(entry, 1);
    }
    assert_eq!(rotation.take_due(start(), 10_000).issue.len(), 10_000);
    for entry in &entries {
        assert!(rotation.issued(entry, held(start() + HOUR), start(), 0.5));
    }
    let (mut replaced, mut seconds, mut most) = (0, 0, 0);
    while let Some(at) = rotation.wake_at().filter(|at| *at <= start() + HOUR / 2) {
        let due = rotation.take_due(at, 10_000).issue.len();
        (replaced, seconds, most) = (replaced + due, seconds + 1, most.max(due));
    }
    assert_eq!(replaced, 10_000, "none later than half of its life");
    assert!(most <= 167, "{most} at one moment");
    assert!((60..400).contains(&seconds), "{seconds} chunks");
}

#[test]
fn no_setting_makes_a_storm() {
    let schedule = Schedule { at: 0.1, jitter: 0.5 };
    assert_eq!(schedule.window(start(), start() + HOUR, 0.0).drawn, start() + HOUR / 4);
    assert_eq!(schedule.window(start(), start(), 0.0).latest, start() + SHORTEST_ROTATION);
    let nonsense = Schedule { at: f64::NAN, jitter: f64::INFINITY };
    assert_eq!(nonsense.window(start(), start() + HOUR, 0.5).latest, start() + HOUR / 4);
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Want { id: u8, users: usize },
    Edit { id: u8, version: u8 },
    Remove { id: u8 },
    Rotate,
    Signers { first: u8 },
    Take { most: usize },
    Issued { random: f64, life: u64 },
    Failed { random: f64 },
    Later { seconds: u64 },
    SetBack { seconds: u64 },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0..5_u8, 0..3_usize).prop_map(|(id, users)| Event::Want { id, users }),
        1 => (0..5_u8, 0..4_u8).prop_map(|(id, version)| Event::Edit { id, version }),
        1 => (0..5_u8).prop_map(|id| Event::Remove { id }),
        1 => Just(Event::Rotate),
        1 => (0..4_u8).prop_map(|first| Event::Signers { first }),
        4 => (1..4_usize).prop_map(|most| Event::Take { most }),
        4 => (0.0..1.0_f64, 0..5000_u64).prop_map(|(random, life)| Event::Issued { random, life }),
        1 => (0.0..1.0_f64).prop_map(|random| Event::Failed { random }),
        3 => (0..3000_u64).prop_map(|seconds| Event::Later { seconds }),
        1 => (0..9000_u64).prop_map(|seconds| Event::SetBack { seconds }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_history_keeps_the_invariants(events in proptest::collection::vec(event(), 1..80)) {
        let mut world = World::new();
        for event in events {
            world.play(event)?;
            world.check()?;
        }
        world.settle()?;
    }
}

/// A rotation, and what an observer knows of it.
struct World {
    rotation: Rotation,
    now: SystemTime,
    entries: HashMap<EntryId, RegistrationEntry>,
    users: HashMap<EntryId, usize>,
    signers: Vec<SignerId>,
    in_flight: Vec<Arc<RegistrationEntry>>,
    served: HashMap<EntryId, (RegistrationEntry, Held)>,
    /// From when on a renewal needs no other reason.
    renewable: HashMap<EntryId, SystemTime>,
    reasons: std::collections::HashSet<EntryId>,
}

impl World {
    fn new() -> Self {
        let entries =
            (0..5).map(|id| (*entry(&id.to_string(), "/v0")).clone()).map(|e| (e.id.clone(), e)).collect();
        Self {
            rotation: rotation(),
            now: start(),
            entries,
            users: HashMap::new(),
            signers: vec![signer_of(0)],
            in_flight: Vec::new(),
            served: HashMap::new(),
            renewable: HashMap::new(),
            reasons: Default::default(),
        }
    }

    fn play(&mut self, event: Event) -> Result<(), TestCaseError> {
        match event {
            Event::Want { id, users } => {
                let id = EntryId::new(id.to_string());
                self.users.insert(id.clone(), users);
                if let Some(entry) = self.entries.get(&id) {
                    self.rotation.want(&Arc::new(entry.clone()), users);
                }
            }
            Event::Edit { id, version } => {
                let mut new = (*entry(&id.to_string(), &format!("/v{}", version % 2))).clone();
                new.hint = format!("{version}");
                self.entries.insert(new.id.clone(), new);
                self.set_entries();
            }
            Event::Remove { id } => {
                self.entries.remove(&EntryId::new(id.to_string()));
                self.set_entries();
            }
            Event::Rotate => {
                let asked = self.rotation.rotate(None);
                prop_assert_eq!(asked.len(), self.served.len());
                self.reasons.extend(asked);
            }
            Event::Signers { first } => {
                self.signers = vec![signer_of(first), signer_of(first + 1)];
                self.rotation.set_signers(&self.signers);
                let stale = self.served.iter().filter(|(_, (_, held))| !self.signers.contains(&held.signer));
                self.reasons.extend(stale.map(|(id, _)| id.clone()));
            }
            Event::Take { most } => self.take(most)?,
            Event::Issued { random, life } => self.answer(Some(life), random)?,
            Event::Failed { random } => self.answer(None, random)?,
            Event::Later { seconds } => self.now += Duration::from_secs(seconds),
            Event::SetBack { seconds } => self.now -= Duration::from_secs(seconds),
        }
        for id in self.rotation.expire(self.now) {
            prop_assert!(self.served.remove(&id).is_some_and(|(_, held)| held.not_after <= self.now));
        }
        Ok(())
    }

    fn set_entries(&mut self) {
        let index = EntryIndex::new(self.entries.values().cloned());
        let edited = self.rotation.set_entries(&index, self.now);
        for id in edited.drop {
            self.served.remove(&id);
        }
        for entry in edited.rewrap {
            if let Some((served, _)) = self.served.get_mut(&entry.id) {
                *served = (*entry).clone();
            }
        }
        for (id, users) in self.users.clone() {
            if let Some(entry) = index.get(&id).filter(|_| users > 0) {
                self.rotation.want(&entry, users);
            }
        }
    }

    fn take(&mut self, most: usize) -> Result<(), TestCaseError> {
        // The owner has one chunk under way at a time.
        if !self.in_flight.is_empty() {
            return Ok(());
        }
        let work = self.rotation.take_due(self.now, most);
        prop_assert!(work.issue.len() <= most);
        for entry in &work.issue {
            let by_time = !self.served.contains_key(&entry.id)
                || self.renewable.get(&entry.id).is_none_or(|at| *at <= self.now);
            let reason = self.reasons.remove(&entry.id) || self.rotation.records[&entry.id].failures > 0;
            prop_assert!(by_time || reason, "{} is issued again without a reason", entry.id);
        }
        for id in work.drop {
            prop_assert_eq!(self.users.get(&id).copied().unwrap_or(0), 0);
            self.served.remove(&id);
        }
        self.in_flight = work.issue;
        Ok(())
    }

    fn answer(&mut self, life: Option<u64>, random: f64) -> Result<(), TestCaseError> {
        for entry in std::mem::take(&mut self.in_flight) {
            let Some(life) = life else {
                self.rotation.failed(&entry.id, self.now, random);
                continue;
            };
            let held = Held { not_after: self.now + Duration::from_secs(life), signer: self.signers[0] };
            if self.rotation.issued(&entry, held, self.now, random) {
                let current = &self.entries[&entry.id];
                prop_assert!(same_names(current, &entry), "names that the entry does not grant");
                prop_assert!(self.now < held.not_after);
                self.served.insert(entry.id.clone(), (current.clone(), held));
                self.renewable.insert(entry.id.clone(), self.now + Duration::from_secs(life) / 4);
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let rotation = &self.rotation;
        for (id, record) in &rotation.records {
            prop_assert!(self.entries.contains_key(id), "an entry that is gone has a record");
            prop_assert_eq!(record.held.is_some(), self.served.contains_key(id));
            prop_assert!(record.due.is_some() || record.in_flight, "{id} is forgotten in between");
        }
        for (id, (entry, held)) in &self.served {
            prop_assert!(same_names(entry, &self.entries[id]), "served names are those of the entry");
            prop_assert!(self.now < held.not_after, "an expired SVID is served");
            prop_assert!(rotation.records.contains_key(id));
        }
        for (id, users) in &self.users {
            if *users > 0 && self.entries.contains_key(id) {
                prop_assert!(rotation.records.contains_key(id), "a user is overlooked");
            }
        }
        let queued: usize = rotation.queues.iter().map(BTreeSet::len).sum();
        prop_assert_eq!(queued, rotation.records.values().filter(|record| record.due.is_some()).count());
        prop_assert_eq!(rotation.ends.len(), self.served.len());
        let mut tally = Tally::default();
        rotation.records.values().for_each(|record| tally.add(record));
        prop_assert_eq!(tally, rotation.tally());
        Ok(())
    }

    /// Once nothing fails any more, everyone has an SVID of a good signer within the longest pause.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..8 {
            self.now += LAST_RETRY / 4;
            for _ in 0..4 {
                self.take(9)?;
                self.answer(Some(3600), 0.5)?;
            }
            for id in self.rotation.expire(self.now) {
                self.served.remove(&id);
            }
        }
        self.check()?;
        for (id, users) in &self.users {
            if *users > 0 && self.entries.contains_key(id) {
                prop_assert!(self.served.contains_key(id), "a user waits in vain");
            }
        }
        for (_, held) in self.served.values() {
            prop_assert!(self.signers.contains(&held.signer));
        }
        Ok(())
    }
}

fn rotation() -> Rotation {
    Rotation::new(SCHEDULE, vec![signer_of(0)])
}

fn held(not_after: SystemTime) -> Held {
    Held { not_after, signer: signer_of(0) }
}

fn signer_of(number: u8) -> SignerId {
    SignerId::of(&[number])
}

fn entry(id: &str, path: &str) -> Arc<RegistrationEntry> {
    Arc::new(RegistrationEntry::new(
        EntryId::new(id),
        format!("spiffe://example.org{path}").parse().unwrap(),
        vec![Selector::new("unix", "uid:1")],
    ))
}

fn start() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}
