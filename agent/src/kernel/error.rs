use std::{io, path::PathBuf};

use super::PinFault;
use crate::problem::Problem;

/// Why no kernel program could be attached.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the kernel does not describe its types in {path}")]
    NoBtf { path: PathBuf, source: io::Error },
    #[error("no right to load kernel programs")]
    NoPermission { source: io::Error },
    #[error("no cgroup2 file system is mounted")]
    NoCgroup2,
    #[error("the cgroup2 directory {path} cannot be opened")]
    Cgroup2 { path: PathBuf, source: io::Error },
    #[error("this kernel lacks {}", missing.join(", "))]
    Layout { missing: Vec<&'static str> },
    #[error("the kernel refuses the program {program}")]
    Load {
        program: &'static str,
        /// The last lines of what the verifier says; empty when it was not asked.
        verifier: String,
        source: io::Error,
    },
    #[error("the program {program} cannot be attached")]
    Attach { program: &'static str, source: io::Error },
    #[error("the kernel object cannot be set up: {reason}")]
    Object { reason: String },
    #[error(transparent)]
    Pins(#[from] PinFault),
}

impl Error {
    /// Whether another start under another user or with more capabilities can go better.
    pub fn is_permission(&self) -> bool {
        matches!(self, Self::NoPermission { .. })
    }

    /// What an operator reads.
    pub fn problem(&self) -> Problem {
        let problem = |code| {
            let problem = Problem::new(code, self.to_string());
            match std::error::Error::source(self) {
                Some(source) => problem.why(source.to_string()),
                None => problem,
            }
        };
        match self {
            Self::NoBtf { .. } => problem("E0701").fix(
                "use a kernel built with CONFIG_DEBUG_INFO_BTF, or set `hooks = \"off\"` in [kernel] to attest \
                 from /proc alone",
            ),
            Self::NoPermission { .. } => problem("E0702").fix(
                "run as root, or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN (and CAP_DAC_READ_SEARCH for the \
                 paths of cgroups)",
            ),
            Self::NoCgroup2 | Self::Cgroup2 { .. } => {
                problem("E0703").fix("mount it: mount -t cgroup2 none /sys/fs/cgroup/unified")
            }
            Self::Layout { .. } => problem("E0704")
                .why("the kernel is older than 5.8, or newer than this agent knows")
                .fix("use another kernel or a newer agent; until then `hooks = \"off\"` in [kernel]"),
            Self::Load { verifier, source, .. } => Problem::new("E0705", self.to_string())
                .why(if verifier.is_empty() { source.to_string() } else { format!("{source}\n{verifier}") })
                .fix("report it with the output of `uname -r`; until then `hooks = \"off\"` in [kernel]"),
            Self::Attach { .. } => {
                problem("E0706").fix("see whether a security policy of this machine forbids it")
            }
            Self::Object { .. } => problem("E0707").fix("report it with the output of `vouch version`"),
            Self::Pins(fault) => fault.problem(),
        }
    }
}
