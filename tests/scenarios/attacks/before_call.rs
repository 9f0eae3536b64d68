//! Connections that are made before a change and used after it, by a process whose run is known from before.

use std::{thread, time::Duration};

use vouch_tests::{Cgroup, Need, entry, require, settings::entry_of_user, user};

use super::{
    actor::{Heard, ask, steps},
    programs::{ROOT, VICTIM, text},
    stage::Stage,
};

/// Long after the agent has looked at everybody who is connected.
const LONG: Duration = Duration::from_millis(1_700);

/// The process does `before`, is served `first`, connects once more, does `change`, and only then asks on that second
/// connection: what it hears.
fn asks_after(stage: &Stage, before: &[String], first: &[&str], change: &[String]) -> Heard {
    let (ready, change_now, changed, go) = (stage.mark(), stage.mark(), stage.mark(), stage.mark());
    let connect = steps(["connect", &stage.socket()]);
    let words = [
        &[stage.program("evil")],
        before,
        &connect,
        &ask(),
        &steps(["reset"]),
        &connect,
        &steps(["touch", &ready, "await", &change_now]),
        change,
        &steps(["touch", &changed, "await", &go]),
        &ask(),
    ];
    let mut actor = stage.start(0, &words.concat());
    assert_eq!(actor.hear(), Heard::only(first));
    actor.wait("touch");
    thread::sleep(LONG);
    std::fs::write(&change_now, "").unwrap();
    actor.wait("touch");
    thread::sleep(LONG);
    std::fs::write(&go, "").unwrap();
    actor.hear()
}

#[test]
fn a_user_id_that_was_given_up_before_the_first_call_earns_nothing() {
    require!(Need::Agent, Need::Root, Need::ConnectHook);
    let stage = Stage::new(&["evil"], |_| vec![entry_of_user(ROOT, 0)]);
    let change = steps(["become", &user::STRANGER.to_string()]);
    assert_eq!(asks_after(&stage, &[], &[ROOT], &change), Heard::nothing());
}

#[test]
fn a_cgroup_that_was_left_before_the_first_call_earns_nothing() {
    require!(Need::Agent, Need::Root, Need::ConnectHook, Need::Cgroup2);
    let (home, abroad) = (Cgroup::new(), Cgroup::new());
    let selector = format!("kernel:cgroup:{}", home.path());
    let stage = Stage::new(&["evil"], |_| vec![entry(VICTIM, &[&selector])]);
    let (before, change) = (steps(["move", &text(home.dir())]), steps(["move", &text(abroad.dir())]));
    assert_eq!(asks_after(&stage, &before, &[VICTIM], &change), Heard::nothing());
}
