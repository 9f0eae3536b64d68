use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use vouch_abi::Identity;

use super::*;

fn task(pid: u32, inode: u64, exec_count: u64, at: u64) -> Task {
    let identity = Identity {
        recorded_ns: at,
        start_time_ns: inode,
        pid_inode: inode,
        exec_count,
        tgid: pid,
        tid: pid,
        ..Identity::default()
    };
    Task::from(&identity)
}

fn snapshot(taken_at: u64, tasks: Vec<Task>) -> Snapshot {
    Snapshot { taken_at: Duration::from_nanos(taken_at), tasks }
}

fn synced() -> ProcessTable {
    let mut table = ProcessTable::default();
    table.apply_snapshot(&snapshot(10, vec![task(1, 101, 0, 11)]));
    table
}

#[test]
fn a_fork_older_than_the_first_snapshot_brings_nobody_back() {
    let mut table = synced();
    table.apply(&KernelEvent::Fork(task(2, 102, 0, 9)));
    table.apply(&KernelEvent::Exec(task(2, 102, 1, 9)));
    assert_eq!(table.get_by_pid(2), None);
}

#[test]
fn an_exit_is_applied_however_old() {
    let mut table = synced();
    table.apply(&KernelEvent::Exit(task(1, 101, 0, 5)));
    assert!(table.has_exited(ProcessId::of(&task(1, 101, 0, 0))));
}

#[test]
fn the_exit_of_an_earlier_owner_of_the_pid_leaves_the_present_one() {
    let mut table = synced();
    table.apply(&KernelEvent::Exit(task(1, 99, 0, 20)));
    assert_eq!(table.get_by_pid(1), Some(&task(1, 101, 0, 11)));
}

#[test]
fn a_pid_in_use_again_is_another_process() {
    let mut table = synced();
    let old = ProcessId::of(&task(1, 101, 0, 0));
    table.apply(&KernelEvent::Fork(task(1, 102, 0, 20)));
    assert_eq!(table.get(old), None);
    assert_eq!(table.get_by_pid(1), Some(&task(1, 102, 0, 20)));
}

#[test]
fn an_exec_that_was_described_late_does_not_turn_the_counter_back() {
    let mut table = synced();
    table.apply(&KernelEvent::Exec(task(1, 101, 2, 30)));
    table.apply(&KernelEvent::CgroupMove(task(1, 101, 1, 29)));
    assert_eq!(table.exec_count(ProcessId::of(&task(1, 101, 0, 0))), Some(2));
}

#[test]
fn a_process_that_nobody_has_heard_of_has_not_exited() {
    let table = synced();
    assert!(!table.has_exited(ProcessId::of(&task(7, 107, 0, 0))));
}

#[test]
fn a_process_that_a_snapshot_lacks_has_exited() {
    let mut table = synced();
    table.apply(&KernelEvent::Lost(3));
    assert!(table.needs_resync());
    table.apply_snapshot(&snapshot(20, Vec::new()));
    assert!(!table.needs_resync());
    assert!(table.has_exited(ProcessId::of(&task(1, 101, 0, 0))));
}

#[test]
fn those_who_left_are_forgotten_in_the_end() {
    let mut table = synced();
    for inode in 0..=MAX_EXITED as u64 {
        table.apply(&KernelEvent::Exit(task(5, 1000 + inode, 0, 20)));
    }
    assert!(!table.has_exited(ProcessId::of(&task(5, 1000, 0, 0))));
    assert!(table.has_exited(ProcessId::of(&task(5, 1001, 0, 0))));
    assert_eq!(table.exited.ids.len(), MAX_EXITED);
}

#[test]
fn without_inodes_pid_and_start_name_a_process() {
    let mut table = ProcessTable::default();
    table.apply_snapshot(&snapshot(1, Vec::new()));
    let start = |start_time_ns| {
        Task::from(&Identity { recorded_ns: 5, start_time_ns, tgid: 4, tid: 4, ..Identity::default() })
    };
    table.apply(&KernelEvent::Fork(start(2)));
    table.apply(&KernelEvent::Exit(start(1)));
    assert_eq!(table.get_by_pid(4), Some(&start(2)));
}

/// One thing that happens in the model of a kernel.
#[derive(Debug, Clone)]
enum Step {
    Fork {
        pid: u32,
    },
    Exec {
        pid: u32,
    },
    Exit {
        pid: u32,
    },
    /// The ring is full for so many events.
    Fill {
        events: usize,
    },
    /// The agent reads so many events.
    Read {
        events: usize,
    },
    Resync,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pid = 1_u32..6;
    let step = prop_oneof![
        4 => pid.clone().prop_map(|pid| Step::Fork { pid }),
        3 => pid.clone().prop_map(|pid| Step::Exec { pid }),
        4 => pid.prop_map(|pid| Step::Exit { pid }),
        1 => (1_usize..4).prop_map(|events| Step::Fill { events }),
        3 => (1_usize..6).prop_map(|events| Step::Read { events }),
        1 => Just(Step::Resync),
    ];
    proptest::collection::vec(step, 0..80)
}

/// A kernel with five pids: what is true, and a ring that is read late and may be full.
#[derive(Default)]
struct Model {
    now: u64,
    alive: BTreeMap<u32, Task>,
    ring: VecDeque<KernelEvent>,
    full_for: usize,
    lost: u64,
}

impl Model {
    fn happen(&mut self, step: &Step) {
        self.now += 1;
        let now = self.now;
        match *step {
            Step::Fork { pid } if !self.alive.contains_key(&pid) => {
                let child = task(pid, 1000 + now, 0, now);
                self.alive.insert(pid, child);
                self.send(KernelEvent::Fork(child));
            }
            Step::Exec { pid } => {
                if let Some(known) = self.alive.get_mut(&pid) {
                    *known = task(pid, known.pid_ino.unwrap().get(), known.exec_count + 1, now);
                    let event = KernelEvent::Exec(*known);
                    self.send(event);
                }
            }
            Step::Exit { pid } => {
                if let Some(gone) = self.alive.remove(&pid) {
                    let inode = gone.pid_ino.unwrap().get();
                    self.send(KernelEvent::Exit(task(pid, inode, gone.exec_count, now)));
                }
            }
            Step::Fill { events } => self.full_for = events,
            _ => {}
        }
    }

    fn send(&mut self, event: KernelEvent) {
        if self.full_for > 0 {
            self.full_for -= 1;
            self.lost += 1;
        } else {
            self.ring.push_back(event);
        }
    }

    /// The agent, as the shell does it: read, tell of losses, resync at some later time.
    fn serve(&mut self, table: &mut ProcessTable, step: &Step) {
        match *step {
            Step::Read { events } => {
                for event in self.ring.drain(..events.min(self.ring.len())) {
                    table.apply(&event);
                }
                let lost = std::mem::take(&mut self.lost);
                if lost > 0 {
                    table.apply(&KernelEvent::Lost(lost));
                }
            }
            Step::Resync => {
                self.now += 1;
                let taken_at = self.now;
                self.now += 1;
                let read =
                    |known: &Task| task(known.pid, known.pid_ino.unwrap().get(), known.exec_count, self.now);
                let tasks = self.alive.values().map(read).collect();
                table.apply_snapshot(&snapshot(taken_at, tasks));
                self.lost = 0;
            }
            _ => {}
        }
    }
}

fn identities<'a>(tasks: impl Iterator<Item = &'a Task>) -> BTreeMap<u32, (ProcessId, u64)> {
    tasks.map(|task| (task.pid, (ProcessId::of(task), task.exec_count))).collect()
}

proptest! {
    /// Whatever happens and gets lost, once the ring is read to its end the table is true or says that it may
    /// not be; after a resync it is true.
    #[test]
    fn the_table_is_true_or_says_that_it_may_not_be(steps in steps()) {
        let (mut model, mut table) = (Model::default(), ProcessTable::default());
        for step in &steps {
            model.happen(step);
            model.serve(&mut table, step);
        }
        model.serve(&mut table, &Step::Read { events: usize::MAX });
        if !table.needs_resync() {
            prop_assert_eq!(identities(table.tasks()), identities(model.alive.values()));
        }
        model.serve(&mut table, &Step::Resync);
        model.serve(&mut table, &Step::Read { events: usize::MAX });
        prop_assert!(!table.needs_resync());
        prop_assert_eq!(identities(table.tasks()), identities(model.alive.values()));
        prop_assert_eq!(table.counters().size, model.alive.len());
        prop_assert!(!model.alive.values().any(|task| table.has_exited(ProcessId::of(task))));
    }
}
