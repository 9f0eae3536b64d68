use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Identity;

/// Values of [`Event::kind`].
pub mod kind {
    /// A process runs another executable; the identity is the one after the change.
    pub const EXEC: u32 = 1;
    /// A process was made; the identity is the child's.
    pub const FORK: u32 = 2;
    /// The last thread of a process is leaving.
    pub const EXIT: u32 = 3;
    /// A process was moved to another cgroup; the identity is the one after the change.
    pub const CGROUP_MOVE: u32 = 4;
}

/// One event, as a hook writes it to the ring buffer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Event {
    pub identity: Identity,
    /// Counts the events of this CPU, from 1, those included for which the ring had no room.
    pub sequence: u64,
    pub cpu: u32,
    /// One of [`kind`].
    pub kind: u32,
}
const _: () = assert!(size_of::<Event>() == 256);
