//! Maps and globals. Their names are part of the contract: `vouch_abi::names`.

use core::ffi::c_void;

use crate::flow::Flow;
use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::SkStorage,
    macros::{btf_map, map},
    maps::{HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use vouch_abi::{ConnectRecord, ConnectorKey, Features, Offsets, Origin, names::counter};

#[unsafe(no_mangle)]
pub static OFFSETS: Offsets = Offsets::ZERO;
#[unsafe(no_mangle)]
pub static FEATURES: Features = Features::NONE;

/// Two storages and not one, so that a record on an accepted socket was handed over for certain, and so that a
/// hand-over never touches what a client's own `connect()` left.
#[btf_map]
pub static CONNECTORS: SkStorage<ConnectRecord> = SkStorage::new();
#[btf_map]
pub static PEERS: SkStorage<ConnectRecord> = SkStorage::new();

/// Most processes of which the origin is kept.
const MAX_ORIGINS: u32 = 1 << 18;
/// By inode of the pid, which is never used again. Memory is taken as it is needed.
#[map]
pub static ORIGINS: HashMap<u64, Origin> = HashMap::with_max_entries(MAX_ORIGINS, BPF_F_NO_PREALLOC);

/// Connections whose client's end is established, until the server's end takes the record. Those to other machines stay
/// until they are in the way of others; a burst that pushes out one under way leaves it without a record.
///
/// The agent makes it small when nobody asks for TCP.
#[map]
pub static FLOWS: LruHashMap<Flow, ConnectRecord> = LruHashMap::with_max_entries(1 << 14, 0);

/// Whose connects are slowed down, until when since boot. The agent alone writes.
#[map]
pub static DELAYED: LruHashMap<ConnectorKey, u64> = LruHashMap::with_max_entries(1 << 10, 0);

/// The agent chooses the size when it loads the object.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);
#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(counter::COUNT, 0);

/// A storage map as the socket storage helpers take it.
#[inline(always)]
pub fn storage(map: &'static SkStorage<ConnectRecord>) -> *mut c_void {
    (&raw const *map).cast_mut().cast()
}

/// Adds one to a counter of this CPU. A cgroup program that is preempted right here in favour of another one
/// may lose that other one's count; tracepoints, whose counts tell of lost events, are never preempted.
#[inline(always)]
pub fn count(index: u32) {
    if let Some(value) = COUNTERS.get_ptr_mut(index) {
        // SAFETY: the map holds aligned u64 values, and no other CPU writes this one.
        unsafe { *value += 1 };
    }
}

/// The next sequence number of this CPU. Only for tracepoints, which run with preemption off.
#[inline(always)]
pub fn next_sequence() -> Option<u64> {
    let value = COUNTERS.get_ptr_mut(counter::EVENTS)?;
    // SAFETY: nothing else runs on this CPU until the tracepoint returns.
    unsafe {
        *value += 1;
        Some(*value)
    }
}
