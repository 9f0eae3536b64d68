//! Whoever connects to the agent faster than it may pays for it itself: each of its connects takes a little longer.
//!
//! To turn a connection away costs the agent about what it costs its maker to make it. So one that connects without
//! pause would keep the queue of the agent's socket full, and everybody else would wait behind it.

use aya_ebpf::helpers::bpf_ktime_get_boot_ns;
use vouch_abi::{Sign, names::counter};

use crate::maps::{HASTY, count};

/// How long a connect is kept busy: a few times what turning it away takes the agent.
const DELAY_NS: u64 = 50_000;
/// The clock is looked at so often at most: the verifier wants an end. One look takes some 20 ns.
const MOST_LOOKS: u32 = 4_096;

/// Keeps the task that connects busy for a moment if the agent has said so of its kind. A hook cannot sleep, and never
/// refuses: it does not know which socket it is that is connected to.
#[inline(always)]
pub fn slow_down(sign: Sign) {
    // SAFETY: the value is a number, read once; nobody minds an old one.
    let Some(until) = (unsafe { HASTY.get(&sign) }).copied() else { return };
    let start = now();
    if start >= until {
        return;
    }
    count(counter::CONNECTS_DELAYED);
    for _ in 0..MOST_LOOKS {
        if now() - start >= DELAY_NS {
            break;
        }
    }
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_boot_ns() }
}
