//! Whether the table of processes is what the kernel's own list is.

use std::{
    collections::HashSet,
    io,
    time::{Duration, Instant},
};

use tokio::time::sleep;
use vouch::{
    kernel::Capture,
    process::{ProcessId, Processes},
};

/// Longer than an event takes from the kernel to the table.
const LAG: Duration = Duration::from_millis(100);
/// How long snapshots may go on in between.
const LIMIT: Duration = Duration::from_secs(30);

/// What the table has wrong. Others start and end processes on this machine meanwhile, so only those count who were
/// there before and after the look, and those who are gone without the table ever hearing of it.
#[derive(Debug)]
pub struct Difference {
    pub looked_at: Instant,
    pub missing: Vec<ProcessId>,
    pub ghosts: Vec<ProcessId>,
}

impl Difference {
    /// # Errors
    /// When processes cannot be listed, and when the table is never left alone.
    pub async fn look(capture: &Capture, processes: &Processes) -> io::Result<Self> {
        let living = || -> io::Result<HashSet<ProcessId>> {
            Ok(capture.snapshot()?.tasks.iter().map(ProcessId::of).collect())
        };
        let start = Instant::now();
        while start.elapsed() < LIMIT {
            let before = living()?;
            sleep(LAG).await;
            let (snapshots, looked_at) = (processes.counters().snapshots, Instant::now());
            let known: HashSet<ProcessId> = processes.tasks().iter().map(ProcessId::of).collect();
            let after = living()?;
            let missing = before.intersection(&after).filter(|id| !known.contains(id)).copied().collect();
            sleep(LAG).await;
            let ghosts = known.difference(&after).filter(|id| processes.get(**id).is_some()).copied();
            let ghosts = ghosts.collect();
            // Another snapshot would have taken a ghost away.
            if processes.counters().snapshots == snapshots {
                return Ok(Self { looked_at, missing, ghosts });
            }
        }
        Err(io::Error::other(format!("the table is never left alone: {:?}", processes.counters())))
    }
}
