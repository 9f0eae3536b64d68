//! What this machine is, and how many descriptors it lets us have.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use vouch_bench::results;

use crate::cpus::Places;

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

/// The same for the results of a run that may have so many `descriptors`.
pub(crate) fn look(places: &Places, descriptors: u64) -> Result<results::Machine> {
    let Machine { kernel, cpu_model } = Machine::look()?;
    let memory = memory_mib(&fs::read_to_string("/proc/meminfo")?).context("meminfo without MemTotal")?;
    Ok(results::Machine {
        cpu: cpu_model,
        cpus: places.all.len(),
        kernel,
        memory_mib: memory,
        descriptors,
        server_cpus: vec![places.server],
        load_cpus: vec![places.load],
    })
}

/// Of the repository that the calling directory is in, with `-dirty` when something in it is not committed; empty when
/// there is no git.
pub(crate) fn commit() -> String {
    let said =
        Command::new("git").args(["describe", "--always", "--abbrev=12", "--dirty", "--exclude=*"]).output();
    match said {
        Ok(said) if said.status.success() => String::from_utf8_lossy(&said.stdout).trim().to_owned(),
        _ => String::new(),
    }
}

/// Raises the soft limit to the hard one, which is returned.
pub(crate) fn raise_descriptors() -> Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// In each process: its sockets, in a load or in a server.
pub(crate) fn check_descriptors(connections: u32, limit: u64) -> Result<()> {
    let needed = u64::from(connections) + SPARE_DESCRIPTORS;
    ensure!(
        needed <= limit,
        "{connections} connections take {needed} descriptors, and the hard limit is {limit}"
    );
    Ok(())
}

fn memory_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib / 1024)
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
    fn memory_is_told_in_mebibytes() {
        assert_eq!(memory_mib("MemTotal:       24632976 kB\nMemFree: 1 kB\n"), Some(24_055));
        assert_eq!(memory_mib(""), None);
    }

    #[test]
    fn too_many_streams_are_refused_before_they_are_opened() {
        assert!(check_descriptors(936, 1_000).is_ok());
        assert!(check_descriptors(937, 1_000).is_err());
    }
}
