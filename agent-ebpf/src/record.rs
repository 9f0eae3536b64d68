//! A process at one instant and where it comes from.
//!
//! A record is made whole where its maker has the memory for it, on the stack, and never changed: were it filled in place,
//! two tasks that connect one shared socket at once could leave a mixture of both. (A map of each CPU would not do
//! either: one cgroup program may be preempted by another on the same CPU.)

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock},
    helpers::generated::{bpf_get_current_task_btf, bpf_sk_storage_delete, bpf_sk_storage_get},
};
use vouch_abi::{ConnectRecord, ConnectorKey};

use crate::{
    identity::{describe, describe_acting},
    kernel::cleared,
    maps::{CONNECTORS, storage},
    origin,
};

/// Leaves a record of the task that runs this program with a socket that it connects, in the place of an older one.
/// False when the kernel refuses the memory: then there is none. And what tells of such tasks whose they are.
#[inline(always)]
pub fn keep_current(socket: *mut bpf_sock) -> (bool, ConnectorKey) {
    let mut memory = MaybeUninit::uninit();
    let record: &mut ConnectRecord = cleared(&mut memory);
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task_btf() } as u64;
    origin::recall(task, &mut record.origin);
    describe_acting(task, &mut record.connector);
    // SAFETY: the socket is the context's, the record lives on our stack and has the map's value size.
    let stored = unsafe {
        bpf_sk_storage_delete(storage(&CONNECTORS), socket.cast());
        bpf_sk_storage_get(
            storage(&CONNECTORS),
            socket.cast(),
            (&raw mut *record).cast(),
            u64::from(BPF_SK_STORAGE_GET_F_CREATE),
        )
    };
    (!stored.is_null(), ConnectorKey::of(&record.connector))
}

/// Any task: `task` is a trusted `struct task_struct *`.
#[inline(always)]
pub fn of(task: u64, memory: &mut MaybeUninit<ConnectRecord>) -> &mut ConnectRecord {
    let record = cleared(memory);
    origin::recall(task, &mut record.origin);
    describe(task, &mut record.connector);
    record
}
