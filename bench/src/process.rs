//! What a process has used: CPU, time spent waiting for one, memory.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use nix::{
    time::{ClockId, clock_getcpuclockid},
    unistd::{Pid, SysconfVar, sysconf},
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

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> Result<usize> {
        Ok(fs::read_dir(self.directory.join("fd"))?.count())
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

    /// How often its threads left a CPU, of their own accord or not.
    pub(crate) fn switches(&self) -> Result<u64> {
        let mut switches = 0;
        for thread in fs::read_dir(self.directory.join("task"))? {
            // One that has just ended counts no more.
            let Ok(text) = fs::read_to_string(thread?.path().join("status")) else { continue };
            let counts = ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"];
            switches += counts.iter().filter_map(|name| number_of(&text, name)).sum::<u64>();
        }
        Ok(switches)
    }

    /// The part of its CPU time that was in user mode, to the tick of the kernel's accounting, and that tick.
    pub(crate) fn user_cpu(&self) -> Result<(Duration, Duration)> {
        let text = fs::read_to_string(self.directory.join("stat"))?;
        let ticks = user_ticks(&text).context("stat has no utime")?;
        let rate = sysconf(SysconfVar::CLK_TCK)?.and_then(|rate| u32::try_from(rate).ok());
        let tick = Duration::from_secs(1) / rate.context("no tick rate")?.max(1);
        Ok((tick.mul_f64(ticks as f64), tick))
    }

    /// Resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> Result<u64> {
        self.status_kib("VmRSS:")
    }

    /// Of that, what no file stands behind.
    pub(crate) fn anonymous_kib(&self) -> Result<u64> {
        self.status_kib("RssAnon:")
    }

    /// The most that it ever had.
    pub(crate) fn peak_kib(&self) -> Result<u64> {
        self.status_kib("VmHWM:")
    }

    fn status_kib(&self, name: &str) -> Result<u64> {
        let status = fs::read_to_string(self.directory.join("status"))?;
        number_of(&status, name).with_context(|| format!("a process without {name}"))
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

/// Counts are alone on their line, sizes have their unit behind them.
fn number_of(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Field 14. The name, which may hold spaces, ends with the last parenthesis.
fn user_ticks(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(11)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn procfs_is_read() {
        assert_eq!(run_delay("101 2500 7\n"), Some(Duration::from_nanos(2_500)));
        assert_eq!(on_cpu("101 2500 7\n"), Some(Duration::from_nanos(101)));
        assert_eq!(number_of("Name:\tx\nVmRSS:\t   1234 kB\n", "VmRSS:"), Some(1_234));
        assert_eq!(number_of("voluntary_ctxt_switches:\t7\n", "voluntary_ctxt_switches:"), Some(7));
        assert_eq!((run_delay(""), number_of("Name:\tx\n", "VmRSS:")), (None, None));
        assert_eq!(user_ticks("7 (a) b) S 1 2 3 4 5 6 7 8 9 10 77 78"), Some(77));
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
