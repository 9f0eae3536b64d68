//! How many SVIDs fall due in which second, so that those issued at one moment are not all replaced at another.
//!
//! Whatever is due in the same second is signed in one chunk and published once.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::schedule::Window;

/// No second takes more than this part of all that is scheduled, so that everything takes a minute at least...
const PARTS: usize = 60;
/// ...unless it is so few that nobody would notice.
const FEW: usize = 32;
/// Shorter lives are left as they were drawn: a whole second is too much of them.
const SHORTEST_LIFE: Duration = Duration::from_secs(60);

/// What is due, counted by the second since the epoch.
#[derive(Debug, Default)]
pub(super) struct Spread {
    due: BTreeMap<u64, usize>,
    total: usize,
}

impl Spread {
    pub(super) fn add(&mut self, at: SystemTime) {
        *self.due.entry(second(at)).or_default() += 1;
        self.total += 1;
    }

    /// Takes back one [`Self::add`] of the same time.
    pub(super) fn remove(&mut self, at: SystemTime) {
        let second = second(at);
        if let Some(count) = self.due.get_mut(&second) {
            *count -= 1;
            self.total -= 1;
            if *count == 0 {
                self.due.remove(&second);
            }
        }
    }

    /// When something with this window is to be due: in the last second with room up to the time drawn, else in the
    /// first one after it; in the emptiest where the window is full. Never outside the window.
    pub(super) fn find(&self, window: &Window) -> SystemTime {
        let (first, last) = (second(window.earliest) + 1, second(window.latest));
        if window.life < SHORTEST_LIFE || last < first {
            return window.drawn;
        }
        let drawn = second(window.drawn).clamp(first, last);
        let has_room = |second: &u64| self.at(*second) < self.room();
        let found = (first..=drawn).rev().find(has_room).or_else(|| (drawn + 1..=last).find(has_room));
        let chosen = found.or_else(|| (first..=last).min_by_key(|second| self.at(*second)));
        UNIX_EPOCH + Duration::from_secs(chosen.unwrap_or(drawn))
    }

    fn at(&self, second: u64) -> usize {
        self.due.get(&second).copied().unwrap_or(0)
    }

    /// How many one second takes, the one that asks included.
    fn room(&self) -> usize {
        (self.total + 1).div_ceil(PARTS).max(FEW)
    }
}

fn second(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::schedule::Schedule, *};

    fn start() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    /// Schedules `lives` (in seconds), all issued at one moment, and checks each against its own window.
    fn scheduled(schedule: Schedule, lives: impl Iterator<Item = u64>, random: f64) -> Spread {
        let mut spread = Spread::default();
        for life in lives {
            let window = schedule.window(start(), start() + Duration::from_secs(life), random);
            let at = spread.find(&window);
            assert!(window.earliest <= at && at <= window.latest, "{life}");
            spread.add(at);
        }
        spread
    }

    #[test]
    fn of_ten_thousand_issued_in_one_second_few_are_due_in_any() {
        for (jitter, random) in [(0.0, 0.5), (0.1, 0.0), (0.1, 1.0), (0.5, 0.5)] {
            let schedule = Schedule { at: 0.5, jitter };
            let spread = scheduled(schedule, std::iter::repeat_n(3600, 10_000), random);
            assert_eq!((spread.total, spread.due.values().sum::<usize>()), (10_000, 10_000));
            assert!(spread.due.values().all(|due| *due <= 10_000_usize.div_ceil(PARTS)));
        }
    }

    #[test]
    fn a_window_of_some_seconds_is_filled_evenly() {
        // Two minutes: 30 s from a quarter to a half of that.
        let spread = scheduled(Schedule { at: 0.5, jitter: 0.0 }, std::iter::repeat_n(120, 9_000), 0.5);
        assert_eq!(spread.due.len(), 30);
        assert!(spread.due.values().all(|due| (290..=310).contains(due)), "{:?}", spread.due);
    }

    #[test]
    fn a_window_without_width_leaves_no_choice() {
        let spread = scheduled(Schedule { at: 0.25, jitter: 0.0 }, std::iter::repeat_n(3600, 100), 0.5);
        assert_eq!(spread.due, BTreeMap::from([(second(start()) + 900, 100)]));
    }

    #[test]
    fn a_few_keep_the_second_that_was_drawn() {
        let spread = scheduled(Schedule { at: 0.5, jitter: 0.0 }, std::iter::repeat_n(3600, FEW), 0.5);
        assert_eq!(spread.due, BTreeMap::from([(second(start()) + 1800, FEW)]));
    }

    proptest! {
        #[test]
        fn no_mixture_of_lives_is_due_outside_its_windows_or_in_one_heap(
            lives in proptest::collection::vec(2_u64..100_000, 1..3000),
            at in 0.25..0.9_f64, jitter in 0.0..0.5_f64, random in 0.0..1.0_f64,
        ) {
            let spread = scheduled(Schedule { at, jitter }, lives.iter().copied(), random);
            let long = lives.iter().all(|life| *life as f64 * (at - 0.25) > 2.0 * PARTS as f64);
            if long {
                prop_assert!(spread.due.values().all(|due| *due <= lives.len().div_ceil(PARTS).max(FEW)));
            }
        }

        #[test]
        fn what_is_taken_back_leaves_nothing(times in proptest::collection::vec(0_u64..50, 0..100)) {
            let mut spread = Spread::default();
            let times = times.into_iter().map(|after| start() + Duration::from_millis(after * 300));
            times.clone().for_each(|at| spread.add(at));
            times.for_each(|at| spread.remove(at));
            prop_assert_eq!((spread.total, spread.due.len()), (0, 0));
        }
    }
}
