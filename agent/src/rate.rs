//! How often somebody may do something: so many a second, and so many at once after a rest.

use std::time::{Duration, Instant};

/// So many units a second. Cheap to copy; who has used what stands with whoever keeps it, as one instant.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// let twice_a_second = vouch::rate::Rate::new(2, 1);
/// let now = Instant::now();
/// let mut paid_until = now;
/// assert_eq!(twice_a_second.reserve(&mut paid_until, 1, now, Duration::ZERO), Ok(Duration::ZERO));
/// assert!(twice_a_second.reserve(&mut paid_until, 1, now, Duration::ZERO).is_err());
/// assert!(twice_a_second.reserve(&mut paid_until, 1, now, Duration::from_secs(1)).is_ok());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    nanos_per_unit: u64,
    /// How far ahead of the clock somebody may be.
    lead: Duration,
}

/// It would have to be waited for longer than was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it would be {0:?} until the next")]
pub struct TooSoon(pub Duration);

const NANOS: u64 = 1_000_000_000;

impl Rate {
    /// `per_second` units, at most `burst` of them at once. Neither is less than one.
    pub fn new(per_second: usize, burst: usize) -> Self {
        let whole = |count: usize| u64::try_from(count).unwrap_or(u64::MAX).clamp(1, NANOS);
        let nanos_per_unit = NANOS / whole(per_second);
        Self { nanos_per_unit, lead: Duration::from_nanos(nanos_per_unit.saturating_mul(whole(burst))) }
    }

    /// Takes `units` and returns how long to wait before they are used.
    ///
    /// `paid_until` is when all that was taken before is made good; in the past, or `now`, for somebody new.
    ///
    /// # Errors
    /// When that would be longer than `patience`: nothing is taken then.
    pub fn reserve(
        &self,
        paid_until: &mut Instant,
        units: u32,
        now: Instant,
        patience: Duration,
    ) -> Result<Duration, TooSoon> {
        let cost = Duration::from_nanos(self.nanos_per_unit.saturating_mul(u64::from(units)));
        let after = (*paid_until).max(now) + cost;
        // More at once than the burst has to be possible too, or it would never be.
        let wait = (after - now).saturating_sub(self.lead.max(cost));
        if wait > patience {
            return Err(TooSoon(wait));
        }
        *paid_until = after;
        Ok(wait)
    }

    /// How long until somebody who has used more than was given may use anything.
    pub fn owed(&self, paid_until: Instant, now: Instant) -> Duration {
        paid_until.saturating_duration_since(now).saturating_sub(self.lead)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_is_free_and_what_follows_comes_at_the_rate() {
        let rate = Rate::new(50, 100);
        let start = Instant::now();
        let mut paid_until = start;
        let mut take = |now, patience| rate.reserve(&mut paid_until, 1, now, patience);
        for _ in 0..100 {
            assert_eq!(take(start, Duration::ZERO), Ok(Duration::ZERO));
        }
        assert_eq!(take(start, Duration::ZERO), Err(TooSoon(SECOND / 50)));
        assert_eq!(take(start, SECOND), Ok(SECOND / 50));
        assert_eq!(take(start, SECOND), Ok(SECOND * 2 / 50));
        assert_eq!(take(start + SECOND, Duration::ZERO), Ok(Duration::ZERO), "a second gives fifty back");
    }

    #[test]
    fn more_at_once_than_the_burst_waits_and_is_not_refused_for_ever() {
        let rate = Rate::new(1, 1);
        let start = Instant::now();
        let mut paid_until = start;
        assert_eq!(rate.reserve(&mut paid_until, 10, start, Duration::ZERO), Ok(Duration::ZERO));
        assert_eq!(rate.reserve(&mut paid_until, 10, start, Duration::ZERO), Err(TooSoon(10 * SECOND)));
        assert!(rate.reserve(&mut paid_until, 10, start + 10 * SECOND, Duration::ZERO).is_ok());
    }

    proptest! {
        #[test]
        fn nobody_gets_more_than_the_burst_and_what_time_has_brought(
            per_second in 1usize..10_000,
            burst in 1usize..1_000,
            pauses in prop::collection::vec(0u64..50_000, 1..300),
        ) {
            let rate = Rate::new(per_second, burst);
            let start = Instant::now();
            let (mut now, mut paid_until, mut taken) = (start, start, 0u32);
            for pause in pauses {
                now += Duration::from_micros(pause);
                taken += u32::from(rate.reserve(&mut paid_until, 1, now, Duration::ZERO).is_ok());
            }
            let brought = (now - start).as_secs_f64() * per_second as f64;
            prop_assert!(f64::from(taken) <= burst as f64 + brought * 1.0001 + 1.0);
        }
    }
}
