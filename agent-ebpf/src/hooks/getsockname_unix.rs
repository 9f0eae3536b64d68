//! Hands the record of a `connect()` to the accepted socket, where the agent reads it by descriptor.
//!
//! - Attaches: `BPF_CGROUP_UNIX_GETSOCKNAME` at the root of cgroup2: an accepted socket belongs to its
//!   client's cgroup.
//! - Oldest kernel: 6.7.
//! - When absent: as for the connect hook; one is of no use without the other.
//!
//! It runs when the agent calls `getsockname()`. (`getpeername()` would not do: the kernel skips that hook when
//! the client has no name, which is nearly always.) Streams only: the peer of a datagram socket may change
//! while it is being looked at.

use core::ptr::{null_mut, read_volatile};

use aya_ebpf::{
    bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock, bpf_sock_addr},
    helpers::generated::{bpf_sk_storage_get, bpf_skc_to_unix_sock},
};
use vouch_abi::names::counter;

use crate::{
    kernel::{field, offset},
    maps::{CONNECTORS, PEERS, count, storage},
};

const SOCK_STREAM: u32 = 1;
/// Lets the call go on.
const ALLOW: i32 = 1;

/// The section is one that aya's object reader knows; the agent gives the true attach type when it loads.
#[unsafe(no_mangle)]
#[unsafe(link_section = "cgroup/getsockname4")]
extern "C" fn getsockname_unix(context: *mut bpf_sock_addr) -> i32 {
    // SAFETY: the kernel passes a valid context. Volatile, because two fields read at once are refused.
    let (socket, kind) = unsafe {
        (read_volatile(&raw const (*context).__bindgen_anon_1.sk), read_volatile(&raw const (*context).type_))
    };
    if !socket.is_null() && kind == SOCK_STREAM {
        hand_over(socket);
    }
    ALLOW
}

#[inline(always)]
fn hand_over(socket: *mut bpf_sock) {
    // SAFETY: the socket is the context's, and not null.
    let unix = unsafe { bpf_skc_to_unix_sock(socket.cast()) } as u64;
    if unix == 0 {
        return;
    }
    // A listener and an unconnected socket have no peer.
    let peer: u64 = field(unix, offset!(unix_sock_peer));
    if peer == 0 {
        return;
    }
    // SAFETY: without the flag the helper only looks; a dead peer stays in memory as long as this socket.
    let record = unsafe { bpf_sk_storage_get(storage(&CONNECTORS), peer as *mut _, null_mut(), 0) };
    if record.is_null() {
        count(counter::HANDOVERS_WITHOUT_RECORD);
        return;
    }
    // Made whole from the client's record when there is none yet; what was handed over stays.
    // SAFETY: both maps have values of one type.
    let stored = unsafe {
        bpf_sk_storage_get(storage(&PEERS), socket.cast(), record, u64::from(BPF_SK_STORAGE_GET_F_CREATE))
    };
    count(if stored.is_null() { counter::HANDOVERS_WITHOUT_STORAGE } else { counter::HANDOVERS });
}
