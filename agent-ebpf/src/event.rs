//! Events on their way to the agent.

use aya_ebpf::helpers::generated::bpf_get_smp_processor_id;
use vouch_abi::{Event, names::counter};

use crate::{
    identity::describe,
    kernel::clear,
    maps::{EVENTS, count, next_sequence},
};

/// Sends one event about `task`, or counts that the ring had no room for it.
///
/// The sequence number is taken first, so the agent sees a loss as a gap; the counter shows a loss after which
/// no other event comes.
#[inline(always)]
pub fn send(kind: u32, task: u64) {
    let Some(sequence) = next_sequence() else { return };
    let Some(mut slot) = EVENTS.reserve::<Event>(0) else {
        count(counter::EVENTS_LOST);
        return;
    };
    let event = slot.as_mut_ptr();
    // SAFETY: the slot is ours until it is submitted, has room for an event, and the kernel aligns it to 8 bytes.
    unsafe {
        clear(event);
        (*event).kind = kind;
        (*event).sequence = sequence;
        (*event).cpu = bpf_get_smp_processor_id();
        describe(task, &mut (*event).identity);
    }
    slot.submit(0);
}
