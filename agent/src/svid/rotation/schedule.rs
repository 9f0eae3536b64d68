//! When: the rotation of an SVID, and the next try after a failure.

use std::time::{Duration, SystemTime};

/// Whatever the configuration says, an SVID keeps a quarter of its life before it is replaced unasked...
const EARLIEST_SHARE: f64 = 0.25;
/// ...and is not left for its last moments.
const LATEST_SHARE: f64 = 0.95;
/// An SVID that its signer's end has made short-lived does not make a storm.
pub(super) const SHORTEST_ROTATION: Duration = Duration::from_secs(1);
const FIRST_RETRY: Duration = Duration::from_secs(1);
pub(super) const LAST_RETRY: Duration = Duration::from_secs(30);

/// When an SVID is replaced: once `at` of its life has passed, give or take the share `jitter` of that.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    pub at: f64,
    pub jitter: f64,
}

/// When an SVID is best replaced, and how far that may be moved if others are due then.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Window {
    pub(super) life: Duration,
    pub(super) earliest: SystemTime,
    pub(super) drawn: SystemTime,
    /// As late as the jitter could have made it.
    pub(super) latest: SystemTime,
}

impl Schedule {
    /// When an SVID issued at `now` is replaced; `random` (0..1) is drawn once, here.
    pub(super) fn window(&self, now: SystemTime, not_after: SystemTime, random: f64) -> Window {
        let life = not_after.duration_since(now).unwrap_or_default();
        let after = |share: f64| {
            #[expect(
                clippy::manual_clamp,
                reason = "clamp would keep what is not a number, and that would panic"
            )]
            let share = share.max(EARLIEST_SHARE).min(LATEST_SHARE);
            now + life.mul_f64(share).max(SHORTEST_ROTATION)
        };
        Window {
            life,
            earliest: after(EARLIEST_SHARE),
            drawn: after(self.at * (1.0 + self.jitter * (2.0 * random - 1.0))),
            latest: after(self.at * (1.0 + self.jitter)),
        }
    }
}

/// 1 s, 2 s, 4 s and so on up to 30 s, the last quarter of it by chance.
pub(super) fn retry_after(failures: u32, random: f64) -> Duration {
    let full = FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LAST_RETRY);
    full.mul_f64(0.75 + 0.25 * random).max(FIRST_RETRY)
}
