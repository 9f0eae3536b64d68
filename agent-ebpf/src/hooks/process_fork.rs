//! Tells of each new process. Threads are no processes and are left out.
//!
//! - Attaches: BTF tracepoint `sched_process_fork`.
//! - Oldest kernel: 5.8.
//! - When absent: the agent runs without kernel events and reads `/proc` for each connection.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use vouch_abi::kind;

use crate::{
    event::send,
    kernel::{field, offset},
    origin,
};

/// `(struct task_struct *parent, struct task_struct *child)`
#[btf_tracepoint(function = "sched_process_fork")]
fn process_fork(context: BtfTracePointContext) -> i32 {
    let child: u64 = context.arg(1);
    let (tgid, tid): (u32, u32) = (field(child, offset!(task_tgid)), field(child, offset!(task_tid)));
    if tgid == tid {
        origin::inherit(context.arg(0), child);
        send(kind::FORK, child);
    }
    0
}
