//! Hands the record of a `connect()` to the accepted socket of TCP.
//!
//! - Attaches: `BPF_CGROUP_SOCK_OPS` at the root of cgroup2.
//! - Oldest kernel: as for the connect hook.
//! - When absent: as for the connect hook; one is of no use without the other.
//!
//! The client's end is established before its last packet of the handshake leaves, so before the server's end is. So the
//! former puts the record into a map, and the latter takes it out. Ends that both called `connect()` (a simultaneous open, or
//! a socket that connects to itself) and connections by TCP Fast Open, where the server's end comes first, find none.

use core::ptr::{null_mut, read_volatile};

use aya_ebpf::{
    bindings::{
        BPF_ANY, BPF_SK_STORAGE_GET_F_CREATE, BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB,
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, bpf_sock, bpf_sock_ops,
    },
    helpers::{
        bpf_ktime_get_boot_ns,
        generated::{bpf_sk_storage_delete, bpf_sk_storage_get},
    },
};
use vouch_abi::{ConnectRecord, names::counter};

use crate::{
    flow::{Flow, Seen},
    maps::{CONNECTORS, FLOWS, PEERS, count, storage},
};

/// Of a connect older than this no record is handed over. No handshake takes so long, and initial sequence numbers,
/// which a flow is known by, begin to come again after 274 s.
const MAX_AGE_NS: u64 = 200_000_000_000;
/// What such a program returns when it has nothing to say.
const DONE: i32 = 1;

#[unsafe(no_mangle)]
#[unsafe(link_section = "sockops")]
extern "C" fn establish_tcp(context: *mut bpf_sock_ops) -> i32 {
    // SAFETY: the kernel passes a valid context. Volatile, because two fields read at once are refused.
    let (operation, socket) = unsafe {
        (read_volatile(&raw const (*context).op), read_volatile(&raw const (*context).__bindgen_anon_2.sk))
    };
    // It is called for much else.
    let by_client = operation == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB;
    if socket.is_null() || !by_client && operation != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB {
        return DONE;
    }
    if let Some(seen) = Seen::in_context(context) {
        if by_client {
            announce(&seen.by_client(), socket);
        } else {
            hand_over(&seen.by_server(), socket);
        }
    }
    DONE
}

/// The client's end.
#[inline(always)]
fn announce(flow: &Flow, socket: *mut bpf_sock) {
    // SAFETY: without the flag the helper only looks.
    let record = unsafe { bpf_sk_storage_get(storage(&CONNECTORS), socket.cast(), null_mut(), 0) };
    if !record.is_null() {
        // SAFETY: a value of the map, which nobody changes; it is freed no earlier than this program ends.
        let record = unsafe { &*record.cast::<ConnectRecord>() };
        let _ = FLOWS.insert(flow, record, u64::from(BPF_ANY));
    }
}

/// The server's end.
#[inline(always)]
fn hand_over(flow: &Flow, socket: *mut bpf_sock) {
    let Some(record) = FLOWS.get_ptr(flow) else {
        count(counter::TCP_HANDOVERS_WITHOUT_RECORD);
        return;
    };
    // SAFETY: both maps have values of one type.
    let stored = unsafe {
        bpf_sk_storage_get(
            storage(&PEERS),
            socket.cast(),
            record.cast_mut().cast(),
            u64::from(BPF_SK_STORAGE_GET_F_CREATE),
        )
    };
    if stored.is_null() {
        count(counter::TCP_HANDOVERS_WITHOUT_STORAGE);
        return;
    }
    // A flow is announced once. If it is still in the same place, that place was not given to another flow while the
    // record was copied from it.
    let whole = FLOWS.get_ptr(flow) == Some(record);
    // SAFETY: our own copy.
    let recorded_ns =
        unsafe { read_volatile(&raw const (*stored.cast::<ConnectRecord>()).connector.recorded_ns) };
    // SAFETY: a helper without arguments.
    let age_ns = unsafe { bpf_ktime_get_boot_ns() }.wrapping_sub(recorded_ns);
    let _ = FLOWS.remove(flow);
    if whole && age_ns < MAX_AGE_NS {
        count(counter::TCP_HANDOVERS);
    } else {
        // SAFETY: the socket is the context's.
        unsafe { bpf_sk_storage_delete(storage(&PEERS), socket.cast()) };
        count(counter::TCP_HANDOVERS_STALE);
    }
}
