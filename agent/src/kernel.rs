//! What the kernel programs saw: the record of each `connect()` on a Unix socket, and on TCP where that is asked for,
//! events of processes, and processes as they are now.
//!
//! aya, `bpf(2)` and the layout of the running kernel stay inside; what leaves is plain data. What a process
//! means is for others to say.

mod btf;
mod capture;
mod cgroup;
mod error;
mod events;
mod delay;
mod load;
mod object;
mod offsets;
mod origin;
mod pins;
mod system;
mod task;
mod tcp;

use std::path::PathBuf;

pub use capture::{Capture, Counters, Hook, HookState, Snapshot};
pub use cgroup::only_root_adds_to;
pub use error::Error;
pub use events::{EventSource, KernelEvent};
pub use origin::{Provenance, Sighting};
pub use pins::{PinFault, instance_directory, is_bpffs, unpin};
pub use system::since_boot;
pub use task::{FileId, Namespaces, Parent, Seccomp, Task, UserNamespace};
pub use vouch_abi::ConnectorKey;

/// How the kernel programs are attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Size of the event ring: a power of two, and a multiple of the page size.
    pub ring_bytes: u32,
    /// The cgroup2 directory whose sockets are watched. `None` is the root of the cgroup2 mount, where every
    /// process has a place.
    pub cgroup_root: Option<PathBuf>,
    /// Whether TCP connections are recorded as well, for [`Capture::tcp_peer`]. It costs every `connect()` of the machine
    /// some microseconds, so only who asks for peers asks for this.
    pub tcp: bool,
    /// The directory on a bpffs that keeps hooks and maps when the agent ends: see [`instance_directory`]. `None`
    /// detaches them.
    pub pins: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self { ring_bytes: 1 << 20, cgroup_root: None, tcp: false, pins: None }
    }
}
