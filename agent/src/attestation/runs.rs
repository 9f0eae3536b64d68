//! Every run that is known, by process: found again by the next connection, ended by the kernel's events.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use super::{
    look::About,
    peer::{Peer, Proof},
    run::Run,
};
use crate::{
    kernel::{KernelEvent, Sighting, Task},
    process::ProcessId,
};

/// Runs of one process that are kept: one that changes its credentials at each connection has many.
const RUNS_OF_A_PROCESS: usize = 8;
/// How many of the oldest are looked through for one that nobody uses, when room is needed.
const LOOKED_THROUGH: usize = 64;

/// Holds runs while somebody uses them, and shared ones until their process ends or room is needed.
#[derive(Debug)]
pub(super) struct Runs {
    /// Most that are kept though nobody uses them.
    limit: usize,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_process: HashMap<ProcessId, Vec<Arc<Run>>>,
    /// In the order of their making; some are gone.
    oldest_first: VecDeque<(ProcessId, Weak<Run>)>,
    /// When it is so long, those that are gone are taken out of it.
    tidied_at: usize,
    /// Those that only one connection has.
    unshared: Vec<Weak<Run>>,
    evicted: u64,
}

/// What events say of the runs that are known.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) ended: u64,
    pub(super) touched: Vec<Arc<Run>>,
}

impl Runs {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, known: Mutex::default() }
    }

    /// The run of a peer, and whether it was known.
    ///
    /// `None` when the process cannot be seen any more.
    pub(super) fn of(&self, peer: &Arc<Peer>) -> Option<(Arc<Run>, bool)> {
        let record = match &peer.proof {
            Proof::Kernel { connect, .. } if connect.task.supplementary_groups().is_some() => connect,
            _ => {
                let run = Arc::new(Run::new(peer, About::peer(peer)?));
                self.lock().unshared.push(Arc::downgrade(&run));
                return Some((run, false));
            }
        };
        let id = ProcessId::of(&record.task);
        let mut known = self.lock();
        if let Some(run) = known.find(id, record) {
            return Some((run, true));
        }
        let run = Arc::new(Run::new(peer, About::peer(peer)?));
        known.make_room(self.limit);
        known.insert(id, &run);
        Some((run, false))
    }

    /// Ends the runs of processes that have ended, and returns those in use whose process has changed.
    pub(super) fn observe(&self, events: &[KernelEvent]) -> Seen {
        let mut touched = Vec::new();
        let mut ended = Vec::new();
        {
            let mut known = self.lock();
            for event in events {
                match event {
                    KernelEvent::Exit(task) => {
                        ended.extend(known.by_process.remove(&ProcessId::of(task)).into_iter().flatten());
                    }
                    KernelEvent::Exec(task) | KernelEvent::CgroupMove(task) => {
                        touched.extend(known.touched(task));
                    }
                    KernelEvent::Fork(_) | KernelEvent::Lost(_) => {}
                }
            }
        }
        ended.iter().for_each(|run| run.end());
        Seen { ended: ended.len() as u64, touched }
    }

    /// Those that somebody uses.
    pub(super) fn in_use(&self) -> Vec<Arc<Run>> {
        let mut known = self.lock();
        known.unshared.retain(|run| run.strong_count() > 0);
        let shared = known.by_process.values().flatten().filter(|run| is_in_use(run)).cloned();
        let unshared = known.unshared.iter().filter_map(Weak::upgrade);
        shared.chain(unshared).collect()
    }

    /// Those that nobody uses; an exit that was missed would keep them.
    pub(super) fn idle(&self) -> Vec<Arc<Run>> {
        let known = self.lock();
        known.by_process.values().flatten().filter(|run| !is_in_use(run)).cloned().collect()
    }

    /// Lets go of a run whose process has ended.
    pub(super) fn forget(&self, run: &Arc<Run>) {
        if let Some(id) = run.process() {
            self.lock().remove(id, run);
        }
    }

    /// How many are known, and how many were let go to make room.
    pub(super) fn counts(&self) -> (usize, u64) {
        let known = self.lock();
        let shared: usize = known.by_process.values().map(Vec::len).sum();
        (shared + known.unshared.len(), known.evicted)
    }

    // Nothing inside panics half-way.
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// By somebody beside the table.
fn is_in_use(run: &Arc<Run>) -> bool {
    Arc::strong_count(run) > 1
}

impl Known {
    fn find(&self, id: ProcessId, record: &Sighting) -> Option<Arc<Run>> {
        self.by_process.get(&id)?.iter().find(|run| run.is_of(record)).cloned()
    }

    fn insert(&mut self, id: ProcessId, run: &Arc<Run>) {
        let runs = self.by_process.entry(id).or_default();
        if runs.len() >= RUNS_OF_A_PROCESS
            && let Some(at) = runs.iter().position(|run| !is_in_use(run))
        {
            runs.remove(at);
            self.evicted += 1;
        }
        runs.push(Arc::clone(run));
        if self.oldest_first.len() >= self.tidied_at {
            self.oldest_first.retain(|(_, run)| run.strong_count() > 0);
            self.tidied_at = LOOKED_THROUGH.max(2 * self.oldest_first.len());
        }
        self.oldest_first.push_back((id, Arc::downgrade(run)));
    }

    fn remove(&mut self, id: ProcessId, run: &Arc<Run>) {
        if let Some(runs) = self.by_process.get_mut(&id) {
            runs.retain(|other| !Arc::ptr_eq(other, run));
            if runs.is_empty() {
                self.by_process.remove(&id);
            }
        }
    }

    /// Those in use have a place whatever the limit, which connections bound.
    fn make_room(&mut self, limit: usize) {
        if self.by_process.len() < limit {
            return;
        }
        for _ in 0..LOOKED_THROUGH.min(self.oldest_first.len()) {
            let Some((id, run)) = self.oldest_first.pop_front() else { return };
            let Some(strong) = run.upgrade() else { continue };
            // The table and this hand hold it.
            if Arc::strong_count(&strong) > 2 {
                self.oldest_first.push_back((id, run));
                continue;
            }
            self.remove(id, &strong);
            self.evicted += 1;
            return;
        }
    }

    /// The runs in use of a process that has changed. An idle one of another program is never asked for again.
    fn touched(&mut self, now: &Task) -> Vec<Arc<Run>> {
        let id = ProcessId::of(now);
        let Some(runs) = self.by_process.get_mut(&id) else { return Vec::new() };
        runs.retain(|run| is_in_use(run) || run.exec_count() == Some(now.exec_count));
        let touched = runs.iter().filter(|run| is_in_use(run)).cloned().collect();
        if runs.is_empty() {
            self.by_process.remove(&id);
        }
        touched
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::attestation::Grade;

    #[test]
    fn runs_that_have_ended_leave_nothing_behind() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let peer = Arc::new(Peer::of(&ours, None, Grade::Peercred).unwrap());
        let about = About::peer(&peer).unwrap();
        let mut known = Known::default();
        for number in 0..10_000 {
            let id = ProcessId::of(&task(number));
            known.insert(id, &Arc::new(Run::new(&peer, about.clone())));
            known.by_process.remove(&id);
        }
        assert!(known.oldest_first.len() <= LOOKED_THROUGH, "{}", known.oldest_first.len());
    }

    #[test]
    fn events_name_the_runs_in_use_that_they_touch_and_end_those_of_a_process_that_leaves() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let peer = Arc::new(Peer::of(&ours, None, Grade::Peercred).unwrap());
        let run = Arc::new(Run::new(&peer, About::peer(&peer).unwrap()));
        let runs = Runs::new(8);
        runs.lock().insert(ProcessId::of(&task(1)), &run);
        let touched = |event| runs.observe(&[event]).touched.len();
        assert_eq!(touched(KernelEvent::Fork(task(1))), 0);
        assert_eq!(touched(KernelEvent::Exec(task(2))), 0, "another process");
        assert_eq!(touched(KernelEvent::Exec(task(1))), 1);
        assert_eq!(touched(KernelEvent::CgroupMove(task(1))), 1);
        assert!(!run.is_gone());
        assert_eq!(runs.observe(&[KernelEvent::Exit(task(1))]).ended, 1);
        assert!(run.is_gone());
        assert_eq!(touched(KernelEvent::Exec(task(1))), 0, "it is forgotten");
    }

    #[test]
    fn a_run_that_nobody_uses_is_let_go_to_make_room_and_one_in_use_is_not() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let peer = Arc::new(Peer::of(&ours, None, Grade::Peercred).unwrap());
        let about = About::peer(&peer).unwrap();
        let used = Arc::new(Run::new(&peer, about.clone()));
        let mut known = Known::default();
        known.insert(ProcessId::of(&task(0)), &used);
        for number in 1..4 {
            known.make_room(2);
            known.insert(ProcessId::of(&task(number)), &Arc::new(Run::new(&peer, about.clone())));
        }
        assert_eq!((known.by_process.len(), known.evicted), (2, 2));
        assert!(known.by_process.contains_key(&ProcessId::of(&task(0))));
    }

    fn task(number: u64) -> Task {
        Task::from(&vouch_abi::Identity { pid_inode: 1 + number, ..vouch_abi::Identity::default() })
    }
}
