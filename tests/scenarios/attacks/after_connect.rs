//! A process changes after it has connected. What is no longer true is taken from it, and what has become true is
//! given to a new connection only.

use std::{fs, os::unix::fs::PermissionsExt};

use vouch_tests::{Cgroup, Need, Settings, entry, require, settings::entry_of_user, user};

use super::{
    actor::{Heard, ask, call, fork, hear, steps},
    programs::{EVIL, ROOT, VICTIM},
    stage::{Stage, When},
};

const TRIES: u32 = 100;

#[test]
fn a_program_that_takes_over_by_exec_is_served_nothing() {
    require!(Need::Agent, Need::Root, Need::ConnectHook);
    let mut stage = Stage::good_and_evil();
    let connect = steps(["connect", &stage.socket()]);
    let then = [steps(["exec", &stage.program("good")]), ask()].concat();
    for when in [When::BeforeAccept, When::AfterAccept] {
        let heard = stage.attack(when, user::STRANGER, &connect, &then);
        assert_eq!(heard, Heard::nothing(), "{when:?}");
    }
}

#[test]
fn a_child_that_asks_while_its_parent_looks_good_is_served_nothing() {
    require!(Need::Agent, Need::Root, Need::ConnectHook);
    let mut stage = Stage::good_and_evil();
    let connect = steps(["connect", &stage.socket()]);
    let good = stage.program("good");
    let child = [steps(["await-exe", &good]), ask()].concat();
    let then = [fork(&child), steps(["exec", &good, "hold"])].concat();
    for when in [When::BeforeAccept, When::AfterAccept] {
        let heard = stage.attack(when, user::STRANGER, &connect, &then);
        assert_eq!(heard, Heard::nothing(), "{when:?}");
    }
}

/// Between the arrival of the new program and the end of `execve` lies the closing of descriptors, which a process
/// can make as slow as it likes.
#[test]
fn an_exec_that_is_held_in_its_middle_earns_nothing() {
    require!(Need::Agent, Need::Root, Need::ConnectHook);
    let mut stage = Stage::good_and_evil();
    let connect = steps(["connect", &stage.socket()]);
    let (good, crowded, locked) = (stage.program("good"), stage.mark(), stage.mark());
    let child = [steps(["lock", &crowded, "touch", &locked, "await-exe", &good]), ask()].concat();
    let then = [
        steps(["touch", &crowded]),
        fork(&child),
        steps(["await", &locked, "crowd", &crowded, "exec", &good, "hold"]),
    ];
    let heard = stage.attack(When::AfterAccept, user::STRANGER, &connect, &then.concat());
    assert_eq!(heard, Heard::nothing());
}

#[test]
fn no_try_of_many_hits_a_moment_in_which_the_takeover_works() {
    require!(Need::Agent, Need::Root, Need::ConnectHook);
    let stage = Stage::good_and_evil();
    let (evil, good) = (stage.program("evil"), stage.program("good"));
    let connect = steps([&evil, "connect", &stage.socket()]);
    let child = [steps(["await-exe", &good]), ask()].concat();
    for (asker, rest) in [
        ("who becomes good", [call(), steps(["exec", &good]), hear()].concat()),
        ("a child of who becomes good", [fork(&child), steps(["exec", &good, "hold"])].concat()),
    ] {
        for number in 0..TRIES / 2 {
            let heard = stage.start(user::STRANGER, &[&*connect, &rest].concat()).hear();
            assert!(heard.is_within(&[EVIL]), "{asker}, try {number}: {heard:?}");
        }
    }
}

#[test]
fn a_program_that_runs_as_root_does_not_lend_its_user_to_who_connected() {
    require!(Need::Agent, Need::Root, Need::ConnectHook, Need::SetUid);
    for hooks in ["require", "off"] {
        let entries = vec![entry_of_user(ROOT, 0), entry_of_user(EVIL, user::STRANGER)];
        let set = |settings: Settings| settings.set("kernel.hooks", hooks);
        let mut stage = Stage::with(&["evil", "raised"], |_| entries, set);
        let (raised, connect) = (stage.program("raised"), steps(["connect", &stage.socket()]));
        fs::set_permissions(&raised, fs::Permissions::from_mode(0o4755)).unwrap();
        assert_eq!(stage.honest("raised", user::STRANGER), Heard::only(&[ROOT]), "{hooks}");
        let then = [steps(["exec", &raised]), ask()].concat();
        for when in [When::BeforeAccept, When::AfterAccept] {
            let heard = stage.attack(when, user::STRANGER, &connect, &then);
            assert_eq!(heard, Heard::nothing(), "{when:?} {hooks}");
        }
    }
}

#[test]
fn a_move_to_the_cgroup_of_a_victim_earns_nothing() {
    require!(Need::Agent, Need::Root, Need::ConnectHook, Need::Cgroup2);
    let victim = Cgroup::new();
    let mut stage = Stage::new(&["evil"], |programs| {
        vec![entry(VICTIM, &[&format!("kernel:cgroup:{}", victim.path())]), programs.evil()]
    });
    let (evil, connect) = (stage.program("evil"), ["connect".to_owned(), stage.socket()]);
    let enter = steps(["move", victim.dir().to_str().unwrap()]);
    let inside = stage.start(0, &[&[evil], &*enter, &connect, &ask()].concat()).hear();
    assert_eq!(inside, Heard::only(&[EVIL, VICTIM]));
    for when in [When::BeforeAccept, When::AfterAccept] {
        // By root, who may: an unprivileged process is moved by who manages it.
        let heard = stage.attack(when, 0, &connect, &[&*enter, &ask()].concat());
        assert_eq!(heard, Heard::nothing(), "{when:?}");
    }
}

/// In a user namespace of its own a process may choose what the kernel calls its executable. It need not have been
/// there when it connected.
#[test]
fn a_disguise_that_is_put_on_after_connecting_earns_nothing() {
    require!(Need::Agent, Need::Root, Need::ConnectHook, Need::UserNamespaces);
    let mut stage = Stage::good_and_evil();
    let connect = steps(["connect", &stage.socket()]);
    let then = [steps(["own-users", "disguise", &stage.program("good")]), ask()].concat();
    for when in [When::BeforeAccept, When::AfterAccept] {
        let heard = stage.attack(when, user::STRANGER, &connect, &then);
        assert_eq!(heard, Heard::nothing(), "{when:?}");
    }
}

/// The agent looks at the file and asks the kernel about it, one after the other.
#[test]
fn a_disguise_that_comes_and_goes_earns_nothing() {
    require!(Need::Agent, Need::Root, Need::ConnectHook, Need::UserNamespaces);
    let stage = Stage::good_and_evil();
    let (connect, good) =
        (steps([&stage.program("evil"), "connect", &stage.socket()]), stage.program("good"));
    for disguise in [steps(["own-users", "flicker", &good]), steps(["flicker-by-helper", &good])] {
        for number in 0..TRIES / 2 {
            let heard = stage.start(user::STRANGER, &[&*connect, &disguise, &ask()].concat()).hear();
            assert!(heard.is_within(&[EVIL]), "{disguise:?}, try {number}: {heard:?}");
        }
    }
}
