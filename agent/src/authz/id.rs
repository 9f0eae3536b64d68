//! What the answer to one question is called.

use std::{
    fmt,
    str::FromStr,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Milliseconds since 1970, 48 bits of them, and a number among those of that millisecond: `0197b2c4-6e11-0003`. Longer
/// than the id of a decision about a caller, so nobody takes one for the other. No two of one agent are equal while its
/// clock does not go back across a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckId(u64);

/// What is no id of a decision about authorization.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not written as 0197b2c4-6e11-0003")]
pub struct NoCheckId;

/// Gives ids in rising order, to any number of threads.
#[derive(Debug, Default)]
pub(super) struct CheckIds(AtomicU64);

/// Of the number among those of a millisecond; more of them run ahead of the clock.
const NUMBER_BITS: u32 = 16;

impl CheckIds {
    pub(super) fn next(&self, now: SystemTime) -> CheckId {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis();
        let by_clock = u64::try_from(since).unwrap_or(u64::MAX) << NUMBER_BITS;
        let later = |last: u64| Some(by_clock.max(last.wrapping_add(1)));
        let last = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later).unwrap_or_default();
        CheckId(by_clock.max(last.wrapping_add(1)))
    }
}

impl fmt::Display for CheckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{:04x}-{:04x}", self.0 >> 32, self.0 >> 16 & 0xffff, self.0 & 0xffff)
    }
}

impl FromStr for CheckId {
    type Err = NoCheckId;

    /// As it is printed, in either case.
    fn from_str(text: &str) -> Result<Self, NoCheckId> {
        let parts: Vec<&str> = text.split('-').collect();
        let is_hex = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
        let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
        if lengths != [8, 4, 4] || !parts.iter().all(|part| is_hex(part)) {
            return Err(NoCheckId);
        }
        u64::from_str_radix(&parts.concat(), 16).map(Self).map_err(|_| NoCheckId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_time_and_differ_within_a_millisecond() {
        let at = |millis| UNIX_EPOCH + Duration::from_millis(millis);
        let ids = CheckIds::default();
        let first = ids.next(at(0x0197_b2c4_6e11));
        assert_eq!(first.to_string(), "0197b2c4-6e11-0000");
        let others: Vec<_> = (0..0x1_0001).map(|_| ids.next(at(0x0197_b2c4_6e11))).collect();
        assert_eq!(others[2].to_string(), "0197b2c4-6e11-0003");
        assert!(others.is_sorted_by(|a, b| a < b) && first < others[0]);
        assert_eq!(
            ids.next(at(7)).to_string(),
            "0197b2c4-6e12-0002",
            "a clock that goes back does not matter"
        );
        assert_eq!(ids.next(at(0x0197_b2c4_7000)).to_string(), "0197b2c4-7000-0000");
    }

    #[test]
    fn an_id_reads_as_it_is_printed_and_nothing_else_does() {
        let id = CheckIds::default().next(UNIX_EPOCH + Duration::from_millis(0x0197_b2c4_6e11));
        assert_eq!("0197b2c4-6e11-0000".parse(), Ok(id));
        assert_eq!("0197B2C4-6E11-0000".parse(), Ok(id));
        for other in ["", "0197b2c4-6e11", "0197b2c4-6e11-000", "0197b2c4-6e11-000g", "0197b2c4-6e1-10000"] {
            assert_eq!(other.parse::<CheckId>(), Err(NoCheckId), "{other}");
        }
    }
}
