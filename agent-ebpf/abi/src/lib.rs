#![no_std]
//! What the kernel programs and the agent exchange: the layout of every record, the names of programs and
//! maps, and where fields lie in the running kernel's structures.
//!
//! Both sides use these definitions and no other. All integers are native endian and of fixed width; a size
//! that changes is a compile error until the assertion beside it changes too.

/// Names of programs, maps and globals, and what the counters count.
pub mod names;

mod event;
mod identity;
mod layout;
mod offsets;

pub use event::{Event, kind};
pub use identity::{
    COMM_LEN, ConnectRecord, ConnectorKey, ExecutedFile, Identity, MAX_GROUPS, Origin, origin, seccomp,
};
pub use layout::{LAYOUTS, StructLayout};
pub use offsets::{Features, Offset, Offsets};
