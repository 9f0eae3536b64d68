//! A process at one instant and where it comes from.
//!
//! A record is made whole where its maker has the memory for it, on the stack, and never changed. (A map of each CPU would
//! not do: one cgroup program may be preempted by another on the same CPU.)

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::bpf_get_current_task_btf;
use vouch_abi::ConnectRecord;

use crate::{
    identity::{describe, describe_acting},
    kernel::cleared,
    origin,
};

/// The task that runs this program.
#[inline(always)]
pub fn of_current(memory: &mut MaybeUninit<ConnectRecord>) -> &mut ConnectRecord {
    let record = cleared(memory);
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task_btf() } as u64;
    describe_acting(task, &mut record.connector);
    origin::recall(task, &mut record.origin);
    record
}

/// Any task: `task` is a trusted `struct task_struct *`.
#[inline(always)]
pub fn of(task: u64, memory: &mut MaybeUninit<ConnectRecord>) -> &mut ConnectRecord {
    let record = cleared(memory);
    describe(task, &mut record.connector);
    origin::recall(task, &mut record.origin);
    record
}
