use std::{collections::HashSet, fs, os::unix::fs::MetadataExt, process::id};

use vouch::{
    kernel::{Capture, KernelEvent, Options},
    process::ProcessId,
};
use vouch_tests::{Cgroup, Need, eventually, require};

use super::stage::{LIMIT, Stage, runs};

#[test]
fn the_list_of_processes_is_that_of_proc() {
    require!(Need::Root);
    let (capture, _events) = Capture::attach(&Options::default()).unwrap();
    let before = proc_pids();
    let snapshot = capture.snapshot().unwrap();
    let after = proc_pids();
    let listed: HashSet<u32> = snapshot.tasks.iter().map(|task| task.pid).collect();
    assert_eq!(listed.len(), snapshot.tasks.len(), "a process is listed once");
    // What a machine keeps from root's view in /proc it may keep from programs as well.
    let visible = |pid: &u32| !is_zombie(*pid) && fs::read_link(format!("/proc/{pid}/cwd")).is_ok();
    let throughout: HashSet<u32> = before.intersection(&after).copied().filter(visible).collect();
    assert!(throughout.contains(&id()));
    assert!(throughout.is_subset(&listed), "missing: {:?}", throughout.difference(&listed));
    assert!(snapshot.tasks.iter().all(|task| task.recorded_at >= snapshot.taken_at));
}

#[test]
fn a_process_whose_first_thread_has_left_is_listed_until_the_last_has() {
    require!(Need::Root);
    let stage = Stage::new();
    let mut actor = stage.actor("retired", &["retire", "hold"]);
    actor.wait("retire");
    eventually("the first thread is gone", LIMIT, || is_zombie(actor.pid()).then_some(()));
    let listed = |pid| stage.capture.snapshot().unwrap().tasks.iter().any(|task| task.pid == pid);
    assert!(listed(actor.pid()));
    assert!(stage.capture.inspect(actor.pid()).unwrap().is_some());
    actor.child.kill().unwrap();
    actor.child.wait().unwrap();
    assert!(!listed(actor.pid()));
    assert_eq!(stage.capture.inspect(actor.pid()).unwrap(), None);
}

#[test]
fn fork_exec_move_and_exit_are_told_in_their_order() {
    require!(Need::Root, Need::Cgroup2);
    let mut stage = Stage::new();
    let cgroup = Cgroup::new();
    let mut actor = stage.actor("moved", &["move", cgroup.dir().to_str().unwrap()]);
    actor.child.wait().unwrap();
    let id = fs::metadata(cgroup.dir()).unwrap().ino();
    let mut seen = stage.events_of(actor.pid());
    // Whether its first thread is the last to leave is the kernel's business; the event may come twice.
    seen.dedup_by(|one, other| matches!((one, other), (KernelEvent::Exit(_), KernelEvent::Exit(_))));
    let [
        KernelEvent::Fork(born),
        KernelEvent::Exec(running),
        KernelEvent::CgroupMove(moved),
        KernelEvent::Exit(gone),
    ] = seen[..]
    else {
        panic!("{seen:#?}")
    };
    assert_eq!(running.exec_count, born.exec_count + 1);
    assert!([running, moved].iter().all(|task| runs(task, &stage.program("moved"))));
    assert_ne!(running.cgroup_id, id);
    assert_eq!(moved.cgroup_id, id);
    assert_eq!(stage.capture.cgroup_path(id).unwrap(), cgroup.path());
    for task in [running, moved, gone] {
        assert_eq!(ProcessId::of(&task), ProcessId::of(&born));
        assert_eq!(task.start_time, born.start_time);
    }
}

#[test]
fn a_cgroup_has_a_path_as_long_as_it_is_there() {
    require!(Need::Root, Need::Cgroup2);
    let (capture, _events) = Capture::attach(&Options::default()).unwrap();
    let cgroup = Cgroup::new();
    // What a link to a removed directory looks like is also a lawful name.
    let child = cgroup.dir().join("x (deleted)");
    fs::create_dir(&child).unwrap();
    let id = fs::metadata(&child).unwrap().ino();
    assert_eq!(capture.cgroup_path(id).unwrap(), format!("{}/x (deleted)", cgroup.path()));
    fs::remove_dir(&child).unwrap();
    assert_eq!(capture.cgroup_path(id).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    assert_eq!(capture.cgroup_path(1).unwrap(), "/");
}

fn proc_pids() -> HashSet<u32> {
    let entries = fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok()).collect()
}

/// Whether the first thread has ended.
fn is_zombie(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X'])) || stat.is_empty()
}
