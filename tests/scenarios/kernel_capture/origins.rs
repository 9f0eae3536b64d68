//! Where a process comes from, which nobody can shape afterwards.

use std::{
    fs,
    os::unix::{fs::MetadataExt, net::UnixListener},
    path::Path,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use vouch::kernel::{FileId, Provenance, Sighting};
use vouch_tests::{Need, require};

use super::stage::Stage;

#[test]
fn an_orphan_keeps_the_launcher_that_it_had() {
    require!(Need::ConnectHook);
    let stage = Stage::new();
    let good = stage.program("good");
    let orphan = ["await-end", "exec", good.to_str().unwrap(), "connect", &stage.path, "hold"];
    let mut actor = stage.actor("evil", &[&["fork", "6"], &orphan[..]].concat());
    actor.child.wait().unwrap();
    let seen = assert_was_launched_by_evil(&stage);
    kill(Pid::from_raw(seen.task.pid.cast_signed()), Signal::SIGKILL).unwrap();
}

#[test]
fn an_exec_of_parent_or_child_changes_no_launcher() {
    require!(Need::ConnectHook);
    let stage = Stage::new();
    let (good, mark) = (stage.program("good"), stage.programs.dir.path().join("mark"));
    let (good, mark) = (good.to_str().unwrap(), mark.to_str().unwrap());
    let child = ["await", mark, "exec", good, "connect", &stage.path, "hold"];
    let parent = ["exec", good, "touch", mark, "hold"];
    let _actor = stage.actor("evil", &[&["fork", "7"], &child[..], &parent].concat());
    assert_was_launched_by_evil(&stage);
}

/// By good's file, that is, of a process that `evil` made.
fn assert_was_launched_by_evil(stage: &Stage) -> Sighting {
    let seen = stage.sighting().unwrap();
    assert!(is(seen.launcher, &stage.program("evil")), "{seen:?}");
    assert!(is(seen.task.exe, &stage.program("good")), "{seen:?}");
    assert_eq!(seen.executable, Provenance::Executed);
    let now = stage.capture.inspect(seen.task.pid).unwrap().unwrap();
    assert_eq!((now.launcher, now.executable), (seen.launcher, seen.executable));
    seen
}

#[test]
fn who_was_there_before_the_hooks_has_no_launcher_and_is_one_if_root() {
    require!(Need::ConnectHook);
    let before = Stage::new();
    let (mark, path) =
        (before.programs.dir.path().join("mark"), before.programs.dir.path().join("later.sock"));
    let connect = ["connect", path.to_str().unwrap(), "hold"];
    let steps = [&["await", mark.to_str().unwrap(), "fork", "3"], &connect[..], &connect].concat();
    let actor = before.actor("early", &steps);
    let stage = Stage { listener: UnixListener::bind(&path).unwrap(), ..Stage::new() };
    fs::write(&mark, "").unwrap();
    let mut seen = [stage.sighting().unwrap(), stage.sighting().unwrap()];
    seen.sort_by_key(|seen| seen.task.pid != actor.pid());
    let [early, child] = seen;
    assert_eq!((early.executable, early.launcher), (Provenance::Before, None));
    assert!(is(child.launcher, &before.program("early")), "{child:?}");
    kill(Pid::from_raw(child.task.pid.cast_signed()), Signal::SIGKILL).unwrap();
}

#[test]
fn a_parent_that_forks_in_another_thread_is_named_by_its_first() {
    require!(Need::ConnectHook);
    let stage = Stage::new();
    let parent = stage.actor("parent", &["retire", "fork", "3", "connect", &stage.path, "hold", "hold"]);
    let seen = stage.sighting().unwrap();
    let now = stage.capture.inspect(parent.pid()).unwrap().unwrap().task;
    assert_eq!((seen.task.parent.pid, seen.task.parent.start_time), (now.pid, now.start_time));
    kill(Pid::from_raw(seen.task.pid.cast_signed()), Signal::SIGKILL).unwrap();
}

/// Whether it is that file, in the state in which it is now. (The generation is in no `stat`.)
fn is(file: Option<FileId>, path: &Path) -> bool {
    let stat = fs::metadata(path).unwrap();
    file.is_some_and(|file| {
        (file.major, file.minor, file.inode) == (libc::major(stat.dev()), libc::minor(stat.dev()), stat.ino())
            && (file.ctime_sec, i64::from(file.ctime_nsec)) == (stat.ctime(), stat.ctime_nsec())
    })
}
