//! Tells when a process is moved to another cgroup, of version 1 or 2. A child that is born in a cgroup is told
//! by the fork hook.
//!
//! - Attaches: BTF tracepoint `cgroup_attach_task`.
//! - Oldest kernel: 5.8.
//! - When absent: a move is seen at the next connection of the process.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use vouch_abi::kind;

use crate::{
    event::send,
    kernel::{field, offset},
};

/// `(struct cgroup *destination, const char *path, struct task_struct *task, bool threadgroup)`
#[btf_tracepoint(function = "cgroup_attach_task")]
fn cgroup_move(context: BtfTracePointContext) -> i32 {
    let task: u64 = context.arg(2);
    // A single thread may be moved inside a threaded cgroup; a process is where its leader is.
    let (tgid, tid): (u32, u32) = (field(task, offset!(task_tgid)), field(task, offset!(task_tid)));
    if tgid == tid {
        send(kind::CGROUP_MOVE, task);
    }
    0
}
