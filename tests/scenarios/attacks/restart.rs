//! The agent is killed, and another one takes its place: what was seen before counts after it, for and against.

use std::{fs, time::Duration};

use vouch_tests::{Bpffs, Need, require, user};

use super::{
    actor::{Actor, Heard, ask, steps},
    programs::{EVIL, GOOD_FILE, GOOD_HASH, GOOD_PATH},
    stage::Stage,
};

/// An executable is believed in a user namespace of one's own only when it was seen to be executed.
#[test]
fn what_was_seen_before_a_crash_is_believed_after_it_if_hooks_are_pinned() {
    require!(Need::Agent, Need::Root, Need::ConnectHook, Need::Bpffs, Need::UserNamespaces);
    let bpffs = Bpffs::mount();
    let (all, nothing) = (Heard::only(&[EVIL, GOOD_FILE, GOOD_HASH, GOOD_PATH]), Heard::only(&[EVIL]));
    for (pins, honest) in [("off", &nothing), (bpffs.path().to_str().unwrap(), &all)] {
        let mut stage = Stage::with(
            &["good", "evil"],
            |programs| programs.good_and_user(user::STRANGER),
            |settings| settings.set("kernel.hooks", "require").set("kernel.pins", pins),
        );
        let (good, evil) = (stage.program("good"), stage.program("evil"));
        let (ready, go) = (stage.mark(), stage.mark());
        let wait = steps(["touch", &ready, "await", &go, "connect", &stage.socket()]);
        let waiting = |stage: &Stage, first: Vec<String>| -> Actor {
            let mut actor = stage.start(user::STRANGER, &[first, wait.clone(), ask()].concat());
            actor.wait("touch");
            actor
        };
        let mut before = [
            waiting(&stage, steps([&good, "own-users"])),
            waiting(&stage, steps([&evil, "own-users", "disguise", &good])),
        ];
        stage.agent.kill();
        // Between two agents.
        let mut between = [
            waiting(&stage, steps([&good, "own-users"])),
            waiting(&stage, steps([&evil, "own-users", "disguise", &good])),
        ];
        stage.agent.launch();
        std::thread::sleep(Duration::from_millis(100));
        fs::write(&go, "").unwrap();
        for [good, evil] in [&mut before, &mut between] {
            assert_eq!(good.hear(), *honest, "pins {pins}");
            assert_eq!(evil.hear(), nothing, "pins {pins}");
        }
    }
}
