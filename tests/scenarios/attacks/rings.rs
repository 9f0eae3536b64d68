//! A `connect()` that is no system call of the process: io_uring's, by three kinds of threads.

use vouch_tests::{Need, require, user};

use super::{
    actor::{Heard, ask, steps},
    programs::GOOD,
    stage::{Stage, When},
};

#[test]
fn a_connect_by_io_uring_is_that_of_who_asked_for_it() {
    require!(Need::Agent, Need::Root, Need::ConnectHook, Need::IoUring);
    let mut stage = Stage::new(&["good", "evil"], |programs| programs.good_and_evil());
    let (good, socket) = (stage.program("good"), stage.socket());
    for how in ["inline", "worker", "polled"] {
        let connect = steps(["ring", how, &socket]);
        let honest = [steps([&good]), connect.clone(), ask()].concat();
        assert_eq!(stage.start(user::STRANGER, &honest).hear(), Heard::only(&GOOD), "{how}");
        for when in [When::BeforeAccept, When::AfterAccept] {
            let then = [steps(["exec", &good]), ask()].concat();
            let heard = stage.attack(when, user::STRANGER, &connect, &then);
            assert_eq!(heard, Heard::nothing(), "{how} {when:?}");
        }
    }
}
