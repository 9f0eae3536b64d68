//! Log lines that strangers can cause: so many a second, and a count of the rest.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Lines of one kind that are written in one second.
const LINES_PER_SECOND: u32 = 10;
const SECOND: Duration = Duration::from_secs(1);

/// Bounds one kind of line. Meant to be a `static` beside the line.
///
/// ```
/// use std::time::Instant;
///
/// static REFUSALS: vouch::quiet::Quiet = vouch::quiet::Quiet::new();
/// if let Some(suppressed) = REFUSALS.line(Instant::now()) {
///     tracing::info!(suppressed, "connection refused");
/// }
/// ```
#[derive(Debug)]
pub struct Quiet(Mutex<Second>);

#[derive(Debug)]
struct Second {
    began: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

impl Quiet {
    pub const fn new() -> Self {
        Self(Mutex::new(Second { began: None, lines: 0, suppressed: 0 }))
    }

    /// Whether a line may be written at `now`: how many were suppressed since the last one, or `None` when this one
    /// is to be suppressed too.
    pub fn line(&self, now: Instant) -> Option<u64> {
        let mut second = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if second.began.is_none_or(|began| now.saturating_duration_since(began) >= SECOND) {
            (second.began, second.lines) = (Some(now), 0);
        }
        if second.lines == LINES_PER_SECOND {
            second.suppressed += 1;
            return None;
        }
        second.lines += 1;
        Some(std::mem::take(&mut second.suppressed))
    }
}

impl Default for Quiet {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_leaves_ten_lines_a_second_and_a_count_of_the_rest() {
        let (quiet, start) = (Quiet::new(), Instant::now());
        let written = (0..1000).filter(|_| quiet.line(start).is_some()).count();
        assert_eq!(written, 10);
        assert_eq!(quiet.line(start + SECOND - Duration::from_millis(1)), None);
        assert_eq!(quiet.line(start + SECOND), Some(991));
        assert_eq!(quiet.line(start + SECOND), Some(0));
    }

    #[test]
    fn what_comes_now_and_then_is_always_written() {
        let (quiet, start) = (Quiet::new(), Instant::now());
        let written = (0..100).filter(|n| quiet.line(start + SECOND / 10 * *n) == Some(0)).count();
        assert_eq!(written, 100);
    }
}
