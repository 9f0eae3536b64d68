//! Moments that two processes of this machine understand alike, and durations as the results have them.

use std::{
    ops::{Add, Sub},
    thread::sleep,
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Nanoseconds of the monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Moment(u64);

impl Moment {
    pub(crate) fn now() -> Self {
        let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has a monotonic clock");
        Self(nanoseconds(time.into()))
    }

    /// Nothing when `self` is the earlier of both.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// How long it is still to come.
    pub(crate) fn ahead(self) -> Duration {
        self.since(Self::now())
    }

    pub(crate) fn wait(self) {
        sleep(self.ahead());
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(nanoseconds(by)))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;

    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(nanoseconds(by)))
    }
}

/// In microseconds.
pub(crate) fn micros(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e3
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_in_order_and_never_apart_by_less_than_nothing() {
        let now = Moment::now();
        let later = now + Duration::from_millis(3);
        assert_eq!((later.since(now), now.since(later)), (Duration::from_millis(3), Duration::ZERO));
        assert_eq!(later - Duration::from_millis(3), now);
        later.wait();
        assert!(Moment::now() >= later && later.ahead().is_zero());
    }
}
