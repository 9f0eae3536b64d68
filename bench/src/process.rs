//! What a process has used: CPU, time spent waiting for one, memory.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use nix::{
    time::{ClockId, clock_getcpuclockid},
    unistd::Pid,
};

/// A process that is watched from outside.
#[derive(Debug)]
pub(crate) struct Process {
    clock: ClockId,
    directory: PathBuf,
}

impl Process {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let clock = clock_getcpuclockid(Pid::from_raw(pid.cast_signed()))?;
        Ok(Self { clock, directory: PathBuf::from(format!("/proc/{pid}")) })
    }

    pub(crate) fn own() -> Result<Self> {
        Self::of(std::process::id())
    }

    /// CPU time of all its threads so far, in user and system mode: the sum of `utime` and `stime` in
    /// `/proc/PID/stat`, but in nanoseconds instead of ticks of 10 ms.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        Ok(self.clock.now()?.into())
    }

    /// CPU time of its threads whose name begins with `prefix`.
    pub(crate) fn cpu_of_threads(&self, prefix: &str) -> Result<Duration> {
        let mut cpu = Duration::ZERO;
        for thread in fs::read_dir(self.directory.join("task"))? {
            let thread = thread?.path();
            // One that has just ended counts no more.
            let (Ok(name), Ok(text)) =
                (fs::read_to_string(thread.join("comm")), fs::read_to_string(thread.join("schedstat")))
            else {
                continue;
            };
            if name.starts_with(prefix) {
                cpu += on_cpu(&text).context("schedstat has no time on a CPU")?;
            }
        }
        Ok(cpu)
    }

    /// How long its threads were ready to run while something else had their CPU.
    pub(crate) fn waited(&self) -> Result<Duration> {
        let mut waited = Duration::ZERO;
        for thread in fs::read_dir(self.directory.join("task"))? {
            // A thread that has just ended waits no more.
            let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
            waited += run_delay(&text).context("schedstat has no run delay")?;
        }
        Ok(waited)
    }

    /// Resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> Result<u64> {
        let status = fs::read_to_string(self.directory.join("status"))?;
        resident_kib(&status).context("a process without VmRSS")
    }
}

/// The first number: nanoseconds on a CPU.
fn on_cpu(schedstat: &str) -> Option<Duration> {
    schedstat.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// The second number: nanoseconds spent waiting on a run queue.
fn run_delay(schedstat: &str) -> Option<Duration> {
    schedstat.split_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
}

fn resident_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn procfs_is_read() {
        assert_eq!(run_delay("101 2500 7\n"), Some(Duration::from_nanos(2_500)));
        assert_eq!(on_cpu("101 2500 7\n"), Some(Duration::from_nanos(101)));
        assert_eq!(resident_kib("Name:\tx\nVmRSS:\t   1234 kB\n"), Some(1_234));
        assert_eq!((run_delay(""), resident_kib("Name:\tx\n")), (None, None));
    }

    #[test]
    fn work_of_this_process_shows_on_its_clock() {
        let process = Process::own().unwrap();
        let before = process.cpu().unwrap();
        while process.cpu().unwrap() < before + Duration::from_millis(1) {}
        assert!(process.resident_kib().unwrap() > 0);
        process.waited().unwrap();
    }
}
