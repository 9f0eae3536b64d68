//! Ids are those that the kernel decides by, in the initial user namespace.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use vouch::kernel::{Namespaces, Task};
use vouch_tests::{Need, require, user};

use super::stage::{Programs, Stage};

/// A command of a user without privilege.
pub(super) fn of_stranger(command: &[&str]) -> Command {
    let id = user::STRANGER.to_string();
    let mut setpriv = Command::new("setpriv");
    setpriv.args(["--reuid", &id, "--regid", &id, "--groups", "12004", "--"]).args(command);
    setpriv
}

/// The socket is for everybody.
pub(super) fn open_stage() -> Stage {
    let stage = Stage::new();
    fs::set_permissions(&stage.path, fs::Permissions::from_mode(0o777)).unwrap();
    stage
}

fn assert_is_stranger(task: &Task) {
    assert_eq!([task.uid, task.euid, task.gid, task.egid], [user::STRANGER; 4]);
    assert_eq!(task.supplementary_groups(), Some(&[12_004][..]));
}

#[test]
fn a_program_that_runs_as_root_has_the_user_who_started_it_and_root() {
    require!(Need::ConnectHook, Need::SetUid);
    let stage = open_stage();
    let (plain, raised) = (stage.program("plain"), stage.program("raised"));
    fs::set_permissions(&raised, fs::Permissions::from_mode(0o4755)).unwrap();
    let (plain, raised, path) = (plain.to_str().unwrap(), raised.to_str().unwrap(), &*stage.path);
    let _raised = Programs::start(&mut of_stranger(&[raised, "connect", path, "hold"]));
    let record = stage.record().unwrap();
    assert_eq!((record.uid, record.euid), (user::STRANGER, 0));
    assert_ne!(record.capabilities, 0);

    // Who becomes root later was not when it connected.
    let mut later = Programs::start(&mut of_stranger(&[plain, "connect", path, "exec", raised, "hold"]));
    later.wait("inherit");
    let (record, now) = (stage.record().unwrap(), stage.capture.inspect(later.pid()).unwrap().unwrap().task);
    assert_is_stranger(&record);
    assert_eq!(record.capabilities, 0);
    assert_eq!((now.uid, now.euid), (user::STRANGER, 0));
    assert!(!now.unchanged_since(&record));
}

/// Inside it is root, or nobody at all: 65534 stands for a user that has no number there.
#[test]
fn in_a_user_namespace_of_its_own_a_process_is_who_it_is_outside() {
    require!(Need::ConnectHook, Need::UserNamespaces);
    let stage = open_stage();
    let (program, host) = (stage.program("inside"), Namespaces::of_host().unwrap());
    let program = program.to_str().unwrap();
    for namespace in [&["unshare", "--user", "--map-root-user"][..], &["unshare", "--user"]] {
        let words = [namespace, &[program, "connect", &stage.path, "hold"]].concat();
        let actor = Programs::start(&mut of_stranger(&words));
        let record = stage.record().unwrap();
        assert_is_stranger(&record);
        assert_ne!(record.namespaces.user, host.user, "{namespace:?}");
        let now = stage.capture.inspect(actor.pid()).unwrap().unwrap().task;
        assert!(now.unchanged_since(&record), "{namespace:?}");
    }
}

#[test]
fn a_name_that_looks_like_facts_is_a_name() {
    require!(Need::ConnectHook);
    let stage = open_stage();
    const NAME: &str = "a) S 1 (b\nUid: 0";
    let program = stage.program("named");
    let words = [program.to_str().unwrap(), "name", NAME, "connect", &stage.path, "hold"];
    let actor = Programs::start(&mut of_stranger(&words));
    let record = stage.record().unwrap();
    assert_is_stranger(&record);
    assert_eq!(record.pid, actor.pid());
    assert_eq!(record.comm(), NAME[..15]);
}
