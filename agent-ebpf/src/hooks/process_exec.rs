//! Tells of each exec, after the new executable is in place, and notes which file it was.
//!
//! - Attaches: BTF tracepoint `sched_process_exec`.
//! - Oldest kernel: 5.8 (the tracepoint 5.5, the boot clock helper 5.8).
//! - When absent: the agent runs without kernel events and reads `/proc` for each connection.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use vouch_abi::kind;

use crate::{event::send, origin};

/// `(struct task_struct *task, pid_t old_pid, struct linux_binprm *bprm)`
#[btf_tracepoint(function = "sched_process_exec")]
fn process_exec(context: BtfTracePointContext) -> i32 {
    origin::note(context.arg(0));
    send(kind::EXEC, context.arg(0));
    0
}
