//! Every process of this machine, kept true by kernel events.
//!
//! `ProcessTable` is plain: events and snapshots in, processes out. `Processes` is the shell that feeds it.

mod shell;
mod table;

pub use shell::{Follow, Kernel, Processes};
pub use table::{MAX_EXITED, MAX_PROCESSES, ProcessTable, TableCounters};

use std::{fmt, num::NonZeroU64, time::Duration};

use crate::kernel::Task;

/// One run of one process. A reused pid is another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProcessId {
    /// The inode of its pidfd, which is not used again before the next boot (Linux 6.9).
    Inode(NonZeroU64),
    /// Where pids have no inode of their own.
    Start { pid: u32, since_boot: Duration },
}

impl ProcessId {
    pub fn of(task: &Task) -> Self {
        match task.pid_ino {
            Some(inode) => Self::Inode(inode),
            None => Self::Start { pid: task.pid, since_boot: task.start_time },
        }
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inode(inode) => write!(f, "#{inode}"),
            Self::Start { pid, since_boot } => write!(f, "{pid}@{}", since_boot.as_nanos()),
        }
    }
}
