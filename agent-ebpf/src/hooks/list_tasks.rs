//! Lists processes, one `ConnectRecord` each, to whoever reads the iterator.
//!
//! - Attaches: `iter/task`, for all tasks or for one (Linux 6.1).
//! - Oldest kernel: 5.8.
//! - When absent: there is no table of processes, since there is no way to repair it after a loss.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::{bindings::seq_file, helpers::generated::bpf_seq_write};
use vouch_abi::ConnectRecord;

use crate::{
    kernel::{field, offset},
    record,
};

/// `struct bpf_iter__task`
#[repr(C)]
struct Context {
    meta: *const Meta,
    task: u64,
}

/// `struct bpf_iter_meta`
#[repr(C)]
struct Meta {
    output: *mut seq_file,
    session: u64,
    sequence: u64,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
extern "C" fn list_tasks(context: *mut Context) -> i32 {
    // SAFETY: the kernel passes a valid context.
    let (task, output) = unsafe { ((*context).task, (*(*context).meta).output) };
    if task != 0 && is_live_process(task) {
        let mut memory = MaybeUninit::uninit();
        let record: &ConnectRecord = record::of(task, &mut memory);
        let bytes = (&raw const *record).cast::<c_void>();
        // SAFETY: the length is that of the record. When the buffer is full the kernel asks for this task again.
        unsafe { bpf_seq_write(output, bytes, size_of::<ConnectRecord>() as u32) };
    }
    0
}

/// Whether this is the leader of a thread group that has a live thread.
///
/// The same count decides when the exit hook speaks: a process listed here has its exit event still to come,
/// and one whose exit event is out is not listed again. (The leader's own `PF_EXITING` would hide a process
/// whose main thread has left before the others.)
#[inline(always)]
fn is_live_process(task: u64) -> bool {
    let (tgid, tid): (u32, u32) = (field(task, offset!(task_tgid)), field(task, offset!(task_tid)));
    let signal: u64 = field(task, offset!(task_signal));
    tgid == tid && signal != 0 && field::<u32>(signal, offset!(signal_live)) != 0
}
