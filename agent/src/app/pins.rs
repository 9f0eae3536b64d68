//! Where hooks and maps are kept while no agent runs.

use std::path::{Path, PathBuf};

use crate::{
    config::{Config, Pins},
    kernel::{self, Error, PinFault},
    problem::Problem,
};

/// Where distributions mount a bpffs.
const BPFFS: &str = "/sys/fs/bpf";

/// The directory of this agent's pins, or why there is none although one was asked for.
pub(super) fn directory(config: &Config) -> Result<Option<PathBuf>, Problem> {
    match &config.kernel.pins {
        Pins::Off => Ok(None),
        Pins::Below(bpffs) => Ok(Some(kernel::instance_directory(bpffs, &config.state_dir))),
        Pins::Auto if kernel::is_bpffs(Path::new(BPFFS)) => {
            Ok(Some(kernel::instance_directory(Path::new(BPFFS), &config.state_dir)))
        }
        Pins::Auto => Err(unpinned(format!("no bpffs is mounted at {BPFFS}"))),
    }
}

/// Why an agent that may choose runs without pins; `None` when that error is not one to run with.
pub(super) fn excuse(config: &Config, error: &Error) -> Option<Problem> {
    match error {
        Error::Pins(PinFault::Place { reason, .. }) if config.kernel.pins == Pins::Auto => {
            Some(unpinned(reason.clone()))
        }
        _ => None,
    }
}

/// Removes what an agent of this configuration has pinned, and gives the paths.
///
/// # Errors
/// E0772 while it runs; E0771 and E0774 when the directory is not its own or cannot be changed.
pub fn unpin(config: &Config) -> Result<Vec<PathBuf>, Problem> {
    let bpffs = match &config.kernel.pins {
        Pins::Below(bpffs) => bpffs,
        // They may have been on before.
        Pins::Auto | Pins::Off => Path::new(BPFFS),
    };
    let directory = kernel::instance_directory(bpffs, &config.state_dir);
    kernel::unpin(&directory).map_err(|fault| fault.problem())
}

fn unpinned(why: String) -> Problem {
    Problem::new("W0770", "kernel hooks are not pinned: they end with the agent")
        .why(why)
        .fix("mount -t bpf -o mode=0700 bpffs /sys/fs/bpf, or say that it is meant: [kernel] pins = \"off\"")
}
