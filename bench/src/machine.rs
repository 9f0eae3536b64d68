//! What this machine is, and how many descriptors it lets us have.

use std::fs;

use anyhow::{Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors that are needed beside the connections.
const SPARE_DESCRIPTORS: u64 = 64;

/// What a reader of the numbers has to know of the machine.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) kernel: String,
    pub(crate) cpu_model: String,
}

impl Machine {
    pub(crate) fn look() -> Result<Self> {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned();
        Ok(Self { kernel, cpu_model: cpu_model(&fs::read_to_string("/proc/cpuinfo")?) })
    }
}

/// Raises the soft limit to the hard one, which is returned.
pub(crate) fn raise_descriptors() -> Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// Two for each stream: the load's sockets to agent and anchor, and in the agent a socket and a pidfd.
pub(crate) fn check_descriptors(streams: u32, limit: u64) -> Result<()> {
    let needed = 2 * u64::from(streams) + SPARE_DESCRIPTORS;
    ensure!(needed <= limit, "{streams} streams take {needed} descriptors, and the hard limit is {limit}");
    Ok(())
}

/// The first model name; not every architecture has one.
fn cpu_model(cpuinfo: &str) -> String {
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or("unknown", |(_, name)| name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_processor_names_the_model() {
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: X 9\nmodel name\t: Y\n"), "X 9");
        assert_eq!(cpu_model("processor : 0\n"), "unknown");
    }

    #[test]
    fn too_many_streams_are_refused_before_they_are_opened() {
        assert!(check_descriptors(468, 1_000).is_ok());
        assert!(check_descriptors(469, 1_000).is_err());
    }
}
