//! Records who calls `connect()` on a Unix stream socket.
//!
//! - Attaches: `BPF_CGROUP_UNIX_CONNECT` at the root of cgroup2, where every process has a place.
//! - Oldest kernel: 6.7.
//! - When absent: the agent asks the socket for its peer (`SO_PEERPIDFD`, `SO_PEERCRED`) and grades what it
//!   learns that way lower.
//!
//! It runs inside `connect()`, io_uring's included, before the kernel decides whether the call succeeds, and
//! never makes it fail. For whoever connects to the agent too fast it makes it take longer: see [`crate::delay`].

use core::ptr::read_volatile;

use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use vouch_abi::names::counter;

use crate::{delay, maps::count, record};

const SOCK_STREAM: u32 = 1;
const TCP_ESTABLISHED: u32 = 1;
/// Lets the call go on.
const ALLOW: i32 = 1;

/// The section is one that aya's object reader knows; the agent gives the true attach type when it loads.
#[unsafe(no_mangle)]
#[unsafe(link_section = "cgroup/connect4")]
extern "C" fn connect_unix(context: *mut bpf_sock_addr) -> i32 {
    // SAFETY: the kernel passes a valid context. Volatile, because two fields read at once are refused.
    let (socket, kind) = unsafe {
        (read_volatile(&raw const (*context).__bindgen_anon_1.sk), read_volatile(&raw const (*context).type_))
    };
    if !socket.is_null() && kind == SOCK_STREAM {
        keep_record(socket);
    }
    ALLOW
}

#[inline(always)]
fn keep_record(socket: *mut bpf_sock) {
    // `connect()` on a connected socket comes here before it fails. The record names who made the connection,
    // not who holds it later, so the first one stays.
    // SAFETY: not null; the verifier checks the field.
    if unsafe { read_volatile(&raw const (*socket).state) } == TCP_ESTABLISHED {
        count(counter::CONNECTS_REPEATED);
        return;
    }
    // Storage is charged to the caller's network namespace, which the caller may have starved on purpose.
    let (kept, connector) = record::keep_current(socket);
    count(if kept { counter::CONNECTS } else { counter::CONNECTS_WITHOUT_STORAGE });
    // Without a record the agent knows nobody whom it could name.
    if !kept || delay::is_due(connector) {
        delay::keep_busy();
    }
}
