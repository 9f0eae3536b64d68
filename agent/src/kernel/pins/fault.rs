use std::{
    io,
    path::{Path, PathBuf},
};

use crate::problem::Problem;

/// Why pins cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PinFault {
    #[error("kernel hooks cannot be pinned below {path}")]
    Place { path: PathBuf, reason: String },
    #[error("the directory of pins {path} is not this agent's own")]
    NotOurs { path: PathBuf, reason: String },
    #[error("the directory of pins {path} is in use")]
    InUse { path: PathBuf },
    #[error("the pin {path} is something else than this agent made")]
    Foreign { path: PathBuf, found: String },
    #[error("the pin {path} cannot be changed")]
    Change { path: PathBuf, reason: String },
}

impl PinFault {
    pub(super) fn cannot(path: &Path, error: &io::Error) -> Self {
        Self::Change { path: path.to_owned(), reason: error.to_string() }
    }

    /// What an operator reads.
    pub fn problem(&self) -> Problem {
        let problem = |code| Problem::new(code, self.to_string());
        match self {
            Self::Place { reason, .. } => problem("E0770").why(reason).fix(
                "[kernel] pins: name a directory on a bpffs that root alone may write, or \"off\"; to mount one: \
                 mount -t bpf -o mode=0700 bpffs /sys/fs/bpf",
            ),
            Self::NotOurs { path, reason } => problem("E0771").why(reason).fix(format!(
                "find out who made it; then remove it (rm -r {}), or choose another place: [kernel] pins",
                path.display()
            )),
            Self::InUse { .. } => problem("E0772")
                .why("another agent holds its lock")
                .fix("stop that agent, or give this one a state_dir or [kernel] pins of its own"),
            Self::Foreign { path, found } => problem("E0773").why(found).fix(format!(
                "find out who pinned it; then remove it (rm {}), or all of this agent's with `vouch run --unpin`",
                path.display()
            )),
            Self::Change { reason, .. } => problem("E0774")
                .why(reason)
                .fix("see whether a security policy of this machine forbids it, or set [kernel] pins = \"off\""),
        }
    }
}
