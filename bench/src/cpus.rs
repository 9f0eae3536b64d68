//! Which CPU whom: server and load apart, when there are two.

use anyhow::{Context as _, Result};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// Where server and load run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) all: Vec<usize>,
    pub(crate) server: usize,
    /// The same as the server's on a machine with one CPU.
    pub(crate) load: usize,
}

impl Places {
    /// The first two CPUs that this process may use.
    pub(crate) fn choose() -> Result<Self> {
        let allowed = sched_getaffinity(Pid::from_raw(0))?;
        let all: Vec<_> = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false)).collect();
        Self::among(all).context("this process may use no CPU")
    }

    /// Lets `start` start something on the server's CPU.
    pub(crate) fn at_the_server<T>(&self, start: impl FnOnce() -> Result<T>) -> Result<T> {
        inherited(&only(self.server)?, start)
    }

    fn among(all: Vec<usize>) -> Option<Self> {
        let (&server, rest) = all.split_first()?;
        let load = rest.first().copied().unwrap_or(server);
        Some(Self { all, server, load })
    }
}

/// Keeps the calling thread, and what it starts from now on, on one CPU.
pub(crate) fn pin(cpu: usize) -> Result<()> {
    Ok(sched_setaffinity(Pid::from_raw(0), &only(cpu)?)?)
}

/// Lets `start` start something on `cpus`, which it inherits from the calling thread; that goes back to its own.
pub(crate) fn inherited<T>(cpus: &CpuSet, start: impl FnOnce() -> Result<T>) -> Result<T> {
    let ours = sched_getaffinity(Pid::from_raw(0))?;
    sched_setaffinity(Pid::from_raw(0), cpus)?;
    let started = start();
    sched_setaffinity(Pid::from_raw(0), &ours)?;
    started
}

fn only(cpu: usize) -> Result<CpuSet> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_and_load_are_apart_when_they_can_be() {
        let places = |all: &[usize]| Places::among(all.to_vec()).map(|places| (places.server, places.load));
        assert_eq!(places(&[2, 5, 6]), Some((2, 5)));
        assert_eq!(places(&[3]), Some((3, 3)));
        assert_eq!(places(&[]), None);
    }
}
