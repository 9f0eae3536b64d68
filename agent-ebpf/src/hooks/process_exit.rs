//! Tells of the end of each process.
//!
//! - Attaches: BTF tracepoint `sched_process_exit`.
//! - Oldest kernel: 5.8.
//! - When absent: the agent runs without kernel events and holds pidfds instead.
//!
//! The leader of a thread group may leave before its threads, so it is the count of live threads that tells the
//! end. Two threads that leave together may both see it reach zero: the event can come twice.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use vouch_abi::kind;

use crate::{
    event::send,
    kernel::{field, offset},
    origin,
};

/// `(struct task_struct *task)`
#[btf_tracepoint(function = "sched_process_exit")]
fn process_exit(context: BtfTracePointContext) -> i32 {
    let task: u64 = context.arg(0);
    let signal: u64 = field(task, offset!(task_signal));
    if signal == 0 || field::<u32>(signal, offset!(signal_live)) == 0 {
        origin::forget(task);
        send(kind::EXIT, task);
    }
    0
}
