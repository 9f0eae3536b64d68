use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use crate::kernel::{KernelEvent, Snapshot, Task};

use super::ProcessId;

/// Processes held at most. What does not fit is counted, and asked for again with the next snapshot.
pub const MAX_PROCESSES: usize = 1 << 20;

/// Processes that left are remembered until so many others have left.
pub const MAX_EXITED: usize = 1 << 14;

/// Which processes live, as far as events and snapshots tell.
///
/// It starts out empty and in need of a snapshot. Once it has one, and as long as no event is lost, it is what
/// the kernel's own list was when the last event was applied.
#[derive(Debug, Default)]
pub struct ProcessTable {
    by_id: HashMap<ProcessId, Task>,
    /// The newest process of each pid.
    by_pid: HashMap<u32, ProcessId>,
    exited: Exited,
    newest_snapshot: Option<Duration>,
    lost_since_snapshot: bool,
    counters: TableCounters,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TableCounters {
    /// Processes in the table.
    pub size: usize,
    /// Events applied or passed over, losses not counted.
    pub events: u64,
    /// Events that the kernel could not hand over.
    pub lost: u64,
    /// Snapshots applied, the first included.
    pub snapshots: u64,
    /// Processes for which there was no room.
    pub refused: u64,
}

impl ProcessTable {
    /// Takes events in the order of the ring.
    ///
    /// What an event older than the newest snapshot says is in the snapshot already, or is past: only exits are
    /// applied then. A process that forks and dies while the hooks are being attached would else come back as a
    /// ghost.
    pub fn apply(&mut self, event: &KernelEvent) {
        match event {
            KernelEvent::Exit(task) => {
                let id = ProcessId::of(task);
                self.remove(id);
                self.exited.remember(id);
            }
            KernelEvent::Fork(task) | KernelEvent::Exec(task) | KernelEvent::CgroupMove(task) => {
                if !self.is_past(task) {
                    self.insert(*task);
                }
            }
            KernelEvent::Lost(events) => {
                self.counters.lost = self.counters.lost.saturating_add(*events);
                self.lost_since_snapshot = true;
                return;
            }
        }
        self.counters.events += 1;
    }

    /// Replaces all by what the kernel lists. Every event that was applied before is older than the snapshot,
    /// and those applied later follow it in the ring.
    pub fn apply_snapshot(&mut self, snapshot: &Snapshot) {
        let before = std::mem::take(&mut self.by_id);
        self.by_pid.clear();
        self.newest_snapshot = Some(snapshot.taken_at);
        self.lost_since_snapshot = false;
        for task in &snapshot.tasks {
            self.insert(*task);
        }
        for id in before.into_keys().filter(|id| !self.by_id.contains_key(id)) {
            self.exited.remember(id);
        }
        self.counters.snapshots += 1;
    }

    /// Whether it may differ from the truth until the next snapshot.
    pub fn needs_resync(&self) -> bool {
        self.newest_snapshot.is_none() || self.lost_since_snapshot
    }

    pub fn get(&self, id: ProcessId) -> Option<&Task> {
        self.by_id.get(&id)
    }

    /// The process that has this pid now.
    pub fn get_by_pid(&self, pid: u32) -> Option<&Task> {
        self.get(*self.by_pid.get(&pid)?)
    }

    /// How many execs lie behind it; `None` when it has left.
    pub fn exec_count(&self, id: ProcessId) -> Option<u64> {
        self.get(id).map(|task| task.exec_count)
    }

    /// Whether it was seen to leave, lately. (That a process is absent says less: the event of its birth may
    /// still be in the ring.)
    pub fn has_exited(&self, id: ProcessId) -> bool {
        self.exited.ids.contains(&id)
    }

    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.by_id.values()
    }

    pub fn counters(&self) -> TableCounters {
        TableCounters { size: self.by_id.len(), ..self.counters }
    }

    fn is_past(&self, task: &Task) -> bool {
        let is_older_than_the_snapshot =
            self.newest_snapshot.is_some_and(|taken_at| task.recorded_at < taken_at);
        // Two CPUs may describe one process in another order than they got their places in the ring.
        let is_known_better = self
            .get(ProcessId::of(task))
            .is_some_and(|known| (task.exec_count, task.recorded_at) < (known.exec_count, known.recorded_at));
        is_older_than_the_snapshot || is_known_better
    }

    fn insert(&mut self, task: Task) {
        let id = ProcessId::of(&task);
        // A pid that is in use again: the exit of its last owner was lost.
        if let Some(previous) = self.by_pid.insert(task.pid, id)
            && previous != id
        {
            self.by_id.remove(&previous);
            self.exited.remember(previous);
        }
        if self.by_id.len() >= MAX_PROCESSES && !self.by_id.contains_key(&id) {
            self.by_pid.remove(&task.pid);
            self.counters.refused += 1;
            return;
        }
        self.by_id.insert(id, task);
    }

    fn remove(&mut self, id: ProcessId) {
        if let Some(task) = self.by_id.remove(&id)
            && self.by_pid.get(&task.pid) == Some(&id)
        {
            self.by_pid.remove(&task.pid);
        }
    }
}

/// Who left last, at most [`MAX_EXITED`].
#[derive(Debug, Default)]
struct Exited {
    ids: HashSet<ProcessId>,
    oldest_first: VecDeque<ProcessId>,
}

impl Exited {
    fn remember(&mut self, id: ProcessId) {
        if !self.ids.insert(id) {
            return;
        }
        self.oldest_first.push_back(id);
        if self.oldest_first.len() > MAX_EXITED
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests;
