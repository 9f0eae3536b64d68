//! How much of its cores this machine gives: a loop on every CPU that does nothing but read the clock.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use nix::time::{ClockId, clock_gettime};

use crate::cpus;

const LENGTH: Duration = Duration::from_secs(1);
/// A pause of the loop that is longer was somebody else's doing.
const GAP: Duration = Duration::from_micros(500);

/// What one CPU gave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    pub(crate) cpu: usize,
    /// CPU time by wall time; 1 when nobody else wanted it.
    pub(crate) share: f64,
    pub(crate) gaps: u32,
}

/// Spins on all `cpus` at once.
pub(crate) fn spin(cpus: &[usize]) -> Result<Vec<Share>> {
    let threads: Vec<_> = cpus.iter().map(|&cpu| thread::spawn(move || spin_on(cpu))).collect();
    threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("the spin probe broke"))?).collect()
}

fn spin_on(cpu: usize) -> Result<Share> {
    cpus::pin(cpu)?;
    let used = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from);
    let (start, used_before) = (Instant::now(), used()?);
    let (mut last, mut gaps) = (start, 0);
    while last - start < LENGTH {
        let now = Instant::now();
        gaps += u32::from(now - last > GAP);
        last = now;
    }
    let used = used()? - used_before;
    Ok(Share { cpu, share: used.as_secs_f64() / (last - start).as_secs_f64(), gaps })
}
