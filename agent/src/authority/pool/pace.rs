//! When keys are made, and how many: never so that whoever is served would notice.

use std::time::{Duration, Instant};

use super::KeyType;

/// While keys are being taken, SVIDs are being signed; the processor is theirs until nobody has taken one for so long.
const QUIET: Duration = Duration::from_millis(50);

/// What one kind of key costs decides how many are made between two pauses.
#[derive(Debug)]
pub(super) struct Pace {
    batch: Batch,
    pause: Duration,
    /// How many are kept however few are in use.
    least: usize,
    /// How many threads make keys while there are none to be had; `None` where nobody waits for a key.
    in_need: Option<usize>,
    last_taken: Option<Instant>,
    last_made: Option<Instant>,
}

/// How many threads make how many keys each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) threads: usize,
    pub(super) each: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Make(Batch),
    Rest(Duration),
    Enough,
}

impl Pace {
    /// `makers` threads at most, and never more than eight.
    pub(super) fn new(key_type: KeyType, makers: usize) -> Self {
        // A sixteenth of one processor for EC keys on P-256 and half of one for RSA, until the pool is full.
        let (each, pause, least) = match key_type {
            KeyType::EcP256 => (32, Duration::from_millis(4), 64),
            KeyType::EcP384 => (4, Duration::from_millis(8), 64),
            KeyType::Rsa2048 => (1, Duration::from_millis(50), 4),
        };
        let in_need = (!key_type.is_elliptic()).then_some(makers.clamp(1, 8));
        let batch = Batch { threads: 1, each };
        Self { batch, pause, least, in_need, last_taken: None, last_made: None }
    }

    pub(super) fn least(&self) -> usize {
        self.least
    }

    pub(super) fn taken(&mut self, now: Instant) {
        self.last_taken = Some(now);
    }

    pub(super) fn made(&mut self, now: Instant) {
        self.last_made = Some(now);
    }

    pub(super) fn next(&self, ready: usize, target: usize, now: Instant) -> Step {
        if ready >= target {
            return Step::Enough;
        }
        if let (0, Some(threads)) = (ready, self.in_need) {
            return Step::Make(Batch { threads, each: 1 });
        }
        let quiet = self.last_taken.map(|taken| taken + QUIET);
        let rested = self.last_made.map(|made| made + self.pause);
        match quiet.max(rested).map(|at| at.saturating_duration_since(now)) {
            Some(pause) if !pause.is_zero() => Step::Rest(pause),
            _ => Step::Make(Batch { each: self.batch.each.min(target - ready), ..self.batch }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_full_pool_gets_no_more_and_the_last_batch_is_no_larger_than_what_is_missing() {
        let pace = Pace::new(KeyType::EcP256, 4);
        assert_eq!(pace.next(64, 64, Instant::now()), Step::Enough);
        assert_eq!(pace.next(61, 64, Instant::now()), Step::Make(Batch { threads: 1, each: 3 }));
    }

    #[test]
    fn between_two_batches_is_a_pause_and_while_keys_are_taken_there_is_no_batch() {
        let mut pace = Pace::new(KeyType::EcP256, 4);
        let start = Instant::now();
        assert!(matches!(pace.next(0, 64, start), Step::Make(_)));
        pace.made(start);
        assert_eq!(pace.next(32, 64, start), Step::Rest(4 * MS));
        assert!(matches!(pace.next(32, 64, start + 4 * MS), Step::Make(_)));
        pace.taken(start);
        pace.taken(start + 30 * MS);
        assert_eq!(pace.next(0, 64, start + 40 * MS), Step::Rest(40 * MS));
        assert!(matches!(pace.next(0, 64, start + 80 * MS), Step::Make(_)));
    }

    #[test]
    fn rsa_keys_that_somebody_may_wait_for_are_made_at_once_on_several_threads() {
        let mut pace = Pace::new(KeyType::Rsa2048, 100);
        let start = Instant::now();
        pace.taken(start);
        pace.made(start);
        assert_eq!(pace.next(0, 4, start), Step::Make(Batch { threads: 8, each: 1 }));
        assert_eq!(pace.next(1, 4, start), Step::Rest(50 * MS));
        assert_eq!(pace.next(1, 4, start + 50 * MS), Step::Make(Batch { threads: 1, each: 1 }));
    }
}
