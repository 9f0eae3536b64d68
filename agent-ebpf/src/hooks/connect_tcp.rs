//! Records who calls `connect()` on a TCP socket, of IPv4 and of IPv6. A socket of IPv6 that connects to an address of IPv4
//! comes to the latter.
//!
//! - Attaches: `BPF_CGROUP_INET4_CONNECT` and `BPF_CGROUP_INET6_CONNECT` at the root of cgroup2.
//! - Oldest kernel: not tried below 6.18; it needs nothing that the hooks of Unix sockets, for 6.7, do not.
//! - When absent: nothing is known of the peers of TCP sockets.
//!
//! It runs inside `connect()`, or `sendto()` with MSG_FASTOPEN, with the socket locked and only when it is not connected
//! and not about to be: so the record is of who made the connection, whoever calls `connect()` on it later. It never makes
//! the call fail.

use core::ptr::read_volatile;

use aya_ebpf::{bindings::bpf_sock_addr, helpers::generated::bpf_sk_storage_delete};
use vouch_abi::names::counter;

use crate::{
    maps::{PEERS, count, storage},
    record,
};

const SOCK_STREAM: u32 = 1;
const IPPROTO_TCP: u32 = 6;
/// Lets the call go on.
const ALLOW: i32 = 1;

#[unsafe(no_mangle)]
#[unsafe(link_section = "cgroup/connect4")]
extern "C" fn connect_tcp4(context: *mut bpf_sock_addr) -> i32 {
    connect(context)
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "cgroup/connect6")]
extern "C" fn connect_tcp6(context: *mut bpf_sock_addr) -> i32 {
    connect(context)
}

#[inline(always)]
fn connect(context: *mut bpf_sock_addr) -> i32 {
    // SAFETY: the kernel passes a valid context. Volatile, because two fields read at once are refused.
    let (socket, kind, protocol) = unsafe {
        (
            read_volatile(&raw const (*context).__bindgen_anon_1.sk),
            read_volatile(&raw const (*context).type_),
            read_volatile(&raw const (*context).protocol),
        )
    };
    if !socket.is_null() && kind == SOCK_STREAM && protocol == IPPROTO_TCP {
        // A socket that was accepted once, disconnected and connects now has another peer.
        // SAFETY: the socket is the context's.
        unsafe { bpf_sk_storage_delete(storage(&PEERS), socket.cast()) };
        let (kept, _) = record::keep_current(socket);
        count(if kept { counter::TCP_CONNECTS } else { counter::TCP_CONNECTS_WITHOUT_STORAGE });
    }
    ALLOW
}
