//! The line before the work, as plain code.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{Bounds, Turn};
use crate::attestation::{attestor::Error, caller_key::CallerKey};

/// When so many callers are known for what they have taken, those are forgotten who owe nothing.
const TIDIED_FROM: usize = 64;

/// Who works, who waits, and who has had much lately.
#[derive(Debug)]
pub(super) struct Line {
    bounds: Bounds,
    working: Tally,
    waiting: Tally,
    /// In the order in which they came.
    places: VecDeque<Place>,
    paid_until: HashMap<CallerKey, Instant>,
    tidied_at: usize,
    next_number: u64,
}

#[derive(Debug)]
struct Place {
    number: u64,
    caller: CallerKey,
    /// Its rate lets it have a turn now.
    due: bool,
    tell: oneshot::Sender<Turn>,
}

/// How many of each caller.
#[derive(Debug, Default)]
struct Tally {
    all: usize,
    by_caller: HashMap<CallerKey, usize>,
}

impl Line {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            working: Tally::default(),
            waiting: Tally::default(),
            places: VecDeque::new(),
            paid_until: HashMap::new(),
            tidied_at: TIDIED_FROM,
            next_number: 0,
        }
    }

    /// A place at the end, and how long its caller has to wait until it [is due](Self::is_due).
    pub(super) fn join(
        &mut self,
        caller: &CallerKey,
        tell: oneshot::Sender<Turn>,
        now: Instant,
    ) -> Result<(u64, Duration), Error> {
        let Tally { all, by_caller } = &self.waiting;
        self.bounds.queued.admits(*all, by_caller.len(), self.waiting.of(caller)).map_err(Error::Busy)?;
        let pause = self.reserve(caller, now)?;
        let number = self.next_number;
        self.next_number += 1;
        self.waiting.add(caller);
        self.places.push_back(Place { number, caller: caller.clone(), due: false, tell });
        Ok((number, pause))
    }

    pub(super) fn is_due(&mut self, number: u64) {
        if let Some(place) = self.places.iter_mut().rev().find(|place| place.number == number) {
            place.due = true;
        }
    }

    /// Takes the first who may work out of the line: it works now.
    pub(super) fn next(&mut self) -> Option<(CallerKey, oneshot::Sender<Turn>)> {
        let Self { bounds, working, places, .. } = self;
        let may = |place: &Place| {
            let held = working.of(&place.caller);
            place.due
                && held < bounds.of_a_caller
                && bounds.at_once.admits(working.all, working.by_caller.len(), held).is_ok()
        };
        let at = places.iter().position(may)?;
        let Place { caller, tell, .. } = places.remove(at)?;
        self.waiting.remove(&caller);
        self.working.add(&caller);
        Some((caller, tell))
    }

    /// Gives up a place, if it is still there.
    pub(super) fn leave(&mut self, number: u64) {
        if let Some(at) = self.places.iter().position(|place| place.number == number)
            && let Some(place) = self.places.remove(at)
        {
            self.waiting.remove(&place.caller);
        }
    }

    pub(super) fn give_back(&mut self, caller: &CallerKey) {
        self.working.remove(caller);
    }

    pub(super) fn counts(&self) -> (usize, usize) {
        (self.working.all, self.waiting.all)
    }

    fn reserve(&mut self, caller: &CallerKey, now: Instant) -> Result<Duration, Error> {
        let Some(rate) = self.bounds.rate else { return Ok(Duration::ZERO) };
        if self.paid_until.len() >= self.tidied_at {
            self.paid_until.retain(|_, paid_until| *paid_until > now);
            self.tidied_at = TIDIED_FROM.max(2 * self.paid_until.len());
        }
        let paid_until = self.paid_until.entry(caller.clone()).or_insert(now);
        rate.reserve(paid_until, 1, now, self.bounds.patience).map_err(Error::TooOften)
    }
}

impl Tally {
    fn of(&self, caller: &CallerKey) -> usize {
        self.by_caller.get(caller).copied().unwrap_or(0)
    }

    fn add(&mut self, caller: &CallerKey) {
        self.all += 1;
        *self.by_caller.entry(caller.clone()).or_default() += 1;
    }

    fn remove(&mut self, caller: &CallerKey) {
        if let Some(count) = self.by_caller.get_mut(caller) {
            self.all -= 1;
            *count -= 1;
            if *count == 0 {
                self.by_caller.remove(caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        rate::Rate,
        share::{Full, Share},
    };

    fn line(at_once: usize, of_a_caller: usize, queued: usize) -> Line {
        Line::new(Bounds {
            at_once: Share::new(at_once, 0.25),
            of_a_caller,
            queued: Share::new(queued, 0.25),
            rate: Some(Rate::new(1, 1_000)),
            patience: Duration::from_secs(5),
        })
    }

    impl Line {
        /// Joins, and is due at once.
        fn come(&mut self, uid: u32, now: Instant) -> Result<u64, Error> {
            let (number, pause) = self.join(&CallerKey::Uid(uid), oneshot::channel().0, now)?;
            assert!(pause.is_zero());
            self.is_due(number);
            Ok(number)
        }

        fn next_uid(&mut self) -> Option<u32> {
            let (CallerKey::Uid(uid), _) = self.next()? else { panic!("a uid") };
            Some(uid)
        }
    }

    #[test]
    fn turns_come_in_order_save_for_a_caller_that_has_all_of_its_own() {
        let (mut line, now) = (line(8, 2, 100), Instant::now());
        for uid in [1, 1, 1, 1, 2, 3] {
            line.come(uid, now).unwrap();
        }
        let order: Vec<_> = std::iter::from_fn(|| line.next_uid()).collect();
        assert_eq!(order, [1, 1, 2, 3]);
        line.give_back(&CallerKey::Uid(1));
        assert_eq!((line.next_uid(), line.next_uid()), (Some(1), None));
    }

    #[test]
    fn the_last_turns_are_for_callers_who_work_less_than_their_share() {
        let (mut line, now) = (line(8, 8, 100), Instant::now());
        (0..8).for_each(|_| _ = line.come(1, now).unwrap());
        assert_eq!(std::iter::from_fn(|| line.next_uid()).count(), 6, "a quarter of eight is kept");
        line.come(2, now).unwrap();
        assert_eq!(line.next_uid(), Some(2));
    }

    #[test]
    fn the_last_places_in_the_line_are_for_callers_who_wait_less_than_their_share() {
        let (mut line, now) = (line(1, 1, 8), Instant::now());
        (0..6).for_each(|_| _ = line.come(1, now).unwrap());
        assert!(matches!(line.come(1, now), Err(Error::Busy(Full::Reserve))));
        (2..4).for_each(|uid| _ = line.come(uid, now).unwrap());
        assert!(matches!(line.come(4, now), Err(Error::Busy(Full::Total))));
    }

    #[test]
    fn who_is_turned_away_for_want_of_room_pays_nothing() {
        let (mut line, now) = (line(1, 1, 2), Instant::now());
        (1..3).for_each(|uid| _ = line.come(uid, now).unwrap());
        line.come(3, now).unwrap_err();
        assert!(!line.paid_until.contains_key(&CallerKey::Uid(3)));
    }

    #[test]
    fn nothing_is_kept_of_who_has_left() {
        let (mut line, mut now) = (line(4, 4, 8), Instant::now());
        for uid in 0..10_000 {
            now += Duration::from_secs(2);
            let number = line.come(uid, now).unwrap();
            match uid % 2 {
                0 => line.leave(number),
                _ => {
                    line.next().unwrap();
                    line.give_back(&CallerKey::Uid(uid));
                }
            }
        }
        assert_eq!(line.counts(), (0, 0));
        assert!(line.places.is_empty() && line.working.by_caller.is_empty());
        assert!(line.waiting.by_caller.is_empty() && line.paid_until.len() <= 2 * TIDIED_FROM);
    }
}
