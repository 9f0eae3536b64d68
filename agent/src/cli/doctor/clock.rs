//! What the kernel says of its clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::check::Check;

/// No machine that runs this was built before: November 2023.
const PAST: Duration = Duration::from_secs(1_700_000_000);

pub(super) fn look() -> Vec<Check> {
    let now = SystemTime::now();
    let set = now.duration_since(UNIX_EPOCH).is_ok_and(|since| since > PAST);
    let shown = humantime::format_rfc3339_seconds(now);
    if !set {
        return vec![Check::fail("clock", "E0208", format!("it says {shown}"), "set the clock")];
    }
    let said = format!("it says {shown}");
    vec![match discipline::is_synchronized() {
        Some(true) => Check::ok("clock", format!("{said}, and the kernel calls it synchronized")),
        Some(false) => Check::warn(
            "clock",
            "W0433",
            format!("{said}, and nobody tells the kernel that it is synchronized"),
            "run an NTP client; where the hypervisor keeps the clock, this is to be expected",
        ),
        None => Check::fact("clock", format!("{said}; whether it is synchronized the kernel does not say")),
    }]
}

mod discipline {
    #![expect(unsafe_code, reason = "adjtimex(2) has no safe form")]

    /// Whether something like NTP disciplines the clock; `None` when the kernel does not say.
    pub(super) fn is_synchronized() -> Option<bool> {
        // SAFETY: a timex of zeroes asks to change nothing, and zero is a value of each of its fields.
        let mut clock: libc::timex = unsafe { std::mem::zeroed() };
        // SAFETY: it points to a live timex, which the kernel fills.
        let state = unsafe { libc::adjtimex(&raw mut clock) };
        (state >= 0).then_some(clock.status & libc::STA_UNSYNC == 0)
    }
}
