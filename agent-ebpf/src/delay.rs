//! Whoever connects to the agent faster than it may pays for it itself: each of its connects takes a little longer.
//!
//! To turn a connection away costs the agent about what it costs its maker to make it. So one that connects without
//! pause would keep the queue of the agent's socket full, and everybody else would wait behind it.

use aya_ebpf::helpers::bpf_ktime_get_boot_ns;
use vouch_abi::{ConnectorKey, names::counter};

use crate::maps::{DELAYED, count};

/// How long a connect is kept busy: a few times what turning it away takes the agent.
const DELAY_NS: u64 = 50_000;
/// The clock is looked at so often between two comparisons, since the verifier takes each turn of the loop one by one;
const LOOKS: u32 = 8;
/// and compared so often at most, since the loop has to have an end. A look takes some 20 ns.
const COMPARISONS: u32 = 512;

/// Whether the agent has said that connects of this kind are to take longer.
#[inline(always)]
pub fn is_due(connector: ConnectorKey) -> bool {
    is_noted(&connector) || is_noted(&connector.of_whole_cgroup())
}

#[inline(always)]
fn is_noted(key: &ConnectorKey) -> bool {
    // SAFETY: the value is a number, read once; nobody minds an old one.
    let until = unsafe { DELAYED.get(key) }.copied();
    until.is_some_and(|until| now() < until)
}

/// Keeps the task that connects busy for a moment. A hook cannot sleep; and it never refuses, since it does not know which
/// socket it is that is connected to.
#[inline(always)]
pub fn keep_busy() {
    count(counter::CONNECTS_DELAYED);
    let start = now();
    for _ in 0..COMPARISONS {
        for _ in 1..LOOKS {
            now();
        }
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
