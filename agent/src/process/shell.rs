use std::{
    future::Future,
    io,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use tokio::{task, time};

use crate::kernel::{Capture, EventSource, KernelEvent, Snapshot, Task};

use super::{ProcessId, ProcessTable, TableCounters};

/// A storm of losses costs one snapshot in this time, and a single loss is healed within it.
const RESYNC_PAUSE: Duration = Duration::from_millis(200);
/// How long until a snapshot that failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What the shell needs of the kernel.
pub trait Kernel: Send + 'static {
    /// Waits for the next events; dropping the future loses none.
    fn next_batch(&mut self) -> impl Future<Output = io::Result<Vec<KernelEvent>>> + Send;
    fn snapshot(&self) -> impl Future<Output = io::Result<Snapshot>> + Send;
}

impl Kernel for (Arc<Capture>, EventSource) {
    async fn next_batch(&mut self) -> io::Result<Vec<KernelEvent>> {
        self.1.next_batch().await
    }

    async fn snapshot(&self) -> io::Result<Snapshot> {
        let capture = Arc::clone(&self.0);
        task::spawn_blocking(move || capture.snapshot()).await.map_err(io::Error::other)?
    }
}

/// The processes of this machine, for many readers. Clones share one table.
#[derive(Debug, Clone, Default)]
pub struct Processes {
    table: Arc<RwLock<ProcessTable>>,
}

/// The work of keeping [`Processes`] true; somebody has to run it.
#[derive(Debug)]
pub struct Follow<K> {
    kernel: K,
    processes: Processes,
}

impl Processes {
    /// Takes the first snapshot. The hooks are attached already, so nobody is missed in between.
    pub async fn follow<K: Kernel>(kernel: K) -> io::Result<(Self, Follow<K>)> {
        let processes = Self::default();
        let snapshot = kernel.snapshot().await?;
        processes.write().apply_snapshot(&snapshot);
        Ok((processes.clone(), Follow { kernel, processes }))
    }

    pub fn get(&self, id: ProcessId) -> Option<Task> {
        self.read().get(id).copied()
    }

    /// The process that has this pid now.
    pub fn get_by_pid(&self, pid: u32) -> Option<Task> {
        self.read().get_by_pid(pid).copied()
    }

    /// All processes, in no order.
    pub fn tasks(&self) -> Vec<Task> {
        self.read().tasks().copied().collect()
    }

    /// Whether it was seen to leave, lately.
    pub fn has_exited(&self, id: ProcessId) -> bool {
        self.read().has_exited(id)
    }

    /// Whether events were lost and not made up for yet.
    pub fn needs_resync(&self) -> bool {
        self.read().needs_resync()
    }

    pub fn counters(&self) -> TableCounters {
        self.read().counters()
    }

    // The table is whole between two calls whatever happens, so poison means nothing here.
    fn read(&self) -> RwLockReadGuard<'_, ProcessTable> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, ProcessTable> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Kernel> Follow<K> {
    /// Applies events as they come, and a snapshot after each loss.
    ///
    /// # Errors
    /// Ends when the kernel's events cannot be read any more.
    pub async fn run(self) -> io::Result<()> {
        self.run_and_tell(|_| {}).await
    }

    /// The same; `observe` sees each batch of events once the table has it.
    ///
    /// # Errors
    /// As [`Follow::run`].
    pub async fn run_and_tell(mut self, mut observe: impl FnMut(&[KernelEvent])) -> io::Result<()> {
        let mut next_resync = time::Instant::now() + RESYNC_PAUSE;
        loop {
            tokio::select! {
                events = self.kernel.next_batch() => {
                    let events = events?;
                    self.apply(&events);
                    observe(&events);
                }
                () = time::sleep_until(next_resync), if self.processes.needs_resync() => {
                    next_resync = time::Instant::now() + self.resync().await;
                }
            }
        }
    }

    fn apply(&self, events: &[KernelEvent]) {
        let mut table = self.processes.write();
        for event in events {
            table.apply(event);
        }
    }

    /// How long to leave it at that. No event is applied meanwhile, as the table demands.
    async fn resync(&self) -> Duration {
        match self.kernel.snapshot().await {
            Ok(snapshot) => {
                self.processes.write().apply_snapshot(&snapshot);
                RESYNC_PAUSE
            }
            Err(error) => {
                tracing::warn!(%error, "processes cannot be listed after events were lost; trying again");
                RETRY_PAUSE
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::mpsc;
    use vouch_abi::Identity;

    use super::*;

    fn task(pid: u32, at_ms: u64) -> Task {
        let identity =
            Identity { recorded_ns: at_ms * 1_000_000, tgid: pid, tid: pid, ..Identity::default() };
        Task::from(&identity)
    }

    /// A kernel whose events a test sends, and whose list grows by one process with each snapshot.
    struct Recorded {
        events: mpsc::Receiver<Vec<KernelEvent>>,
        snapshots: Arc<AtomicU32>,
        failures: AtomicU32,
    }

    impl Kernel for Recorded {
        async fn next_batch(&mut self) -> io::Result<Vec<KernelEvent>> {
            self.events.recv().await.ok_or_else(|| io::Error::other("the kernel is gone"))
        }

        async fn snapshot(&self) -> io::Result<Snapshot> {
            if self.failures.load(Ordering::Relaxed) > 0 && self.snapshots.load(Ordering::Relaxed) > 0 {
                self.failures.fetch_sub(1, Ordering::Relaxed);
                return Err(io::Error::other("not now"));
            }
            let count = self.snapshots.fetch_add(1, Ordering::Relaxed) + 1;
            Ok(Snapshot { taken_at: Duration::ZERO, tasks: (1..=count).map(|pid| task(pid, 0)).collect() })
        }
    }

    async fn started(
        failures: u32,
    ) -> (Processes, mpsc::Sender<Vec<KernelEvent>>, task::JoinHandle<io::Result<()>>) {
        let (sender, events) = mpsc::channel(8);
        let kernel = Recorded { events, snapshots: Arc::default(), failures: failures.into() };
        let (processes, follow) = Processes::follow(kernel).await.unwrap();
        (processes, sender, tokio::spawn(follow.run()))
    }

    #[tokio::test(start_paused = true)]
    async fn an_exec_is_seen() {
        let (processes, kernel, _run) = started(0).await;
        kernel.send(vec![KernelEvent::Exec(task(9, 5))]).await.unwrap();
        time::sleep(Duration::from_millis(1)).await;
        assert!(processes.get_by_pid(9).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_loss_is_healed_within_a_second() {
        let (processes, kernel, _run) = started(0).await;
        kernel.send(vec![KernelEvent::Lost(7)]).await.unwrap();
        time::sleep(Duration::from_secs(1)).await;
        assert!(processes.get_by_pid(2).is_some());
        let counters = processes.counters();
        assert_eq!((counters.lost, counters.snapshots), (7, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_of_losses_does_not_become_a_storm_of_snapshots() {
        let (processes, kernel, _run) = started(0).await;
        for _ in 0..1000 {
            kernel.send(vec![KernelEvent::Lost(1)]).await.unwrap();
            time::sleep(Duration::from_millis(1)).await;
        }
        let snapshots = processes.counters().snapshots;
        assert!((2..=7).contains(&snapshots), "{snapshots} snapshots in a second");
    }

    #[tokio::test(start_paused = true)]
    async fn a_snapshot_that_fails_is_tried_again() {
        let (processes, kernel, _run) = started(2).await;
        kernel.send(vec![KernelEvent::Lost(1)]).await.unwrap();
        time::sleep(Duration::from_secs(1)).await;
        assert!(processes.needs_resync());
        time::sleep(Duration::from_secs(3)).await;
        assert!(!processes.needs_resync());
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_events_ends_the_work() {
        let (_processes, kernel, run) = started(0).await;
        drop(kernel);
        assert!(run.await.unwrap().is_err());
    }
}
