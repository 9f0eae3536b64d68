//! The process that connected is gone, and somebody else has its socket, or even its number.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::unistd::Pid;
use vouch_tests::{Need, Settings, need::NEXT_PID, require, user};

use super::{
    actor::{Actor, Heard, ask, fork, steps},
    programs::Programs,
    stage::{LIMIT, Stage, When},
};

const HOOKS: [&str; 2] = ["require", "off"];

#[test]
fn a_socket_that_outlives_who_connected_it_serves_nothing() {
    require!(Need::Agent, Need::Root, Need::ConnectHook);
    let heir = [steps(["await-end"]), ask()].concat();
    for hooks in HOOKS {
        outlives(hooks, |_| heir.clone(), |_| {});
    }
}

/// The number comes round after so many processes; root shortens the way by telling the kernel where to go on.
#[test]
fn a_process_with_the_number_of_who_connected_is_served_nothing() {
    require!(Need::Agent, Need::Root, Need::ConnectHook, Need::NextPid);
    for hooks in HOOKS {
        // The folder of the programs is known once they are there.
        let heir = |good: &str| [steps(["await-end", "take-pid", "exec", good]), ask()].concat();
        outlives(hooks, heir, reuse);
    }
}

/// `evil` connects, leaves the socket to an heir, and dies; both programs and their user have entries.
fn outlives(hooks: &str, heir: impl Fn(&str) -> Vec<String>, meanwhile: impl Fn(&mut Actor)) {
    let set = |settings: Settings| settings.set("kernel.hooks", hooks);
    let entries = |programs: &Programs<'_>| programs.good_and_user(user::STRANGER);
    let mut stage = Stage::with(&["good", "evil"], entries, set);
    let grade = if hooks == "off" { "pidfd" } else { "kernel" };
    assert_eq!(stage.agent.status()["grade"], grade);
    let words = steps([&stage.program("evil"), "connect", &stage.socket()]);
    let then = fork(&heir(&stage.program("good")));
    for when in [When::BeforeAccept, When::AfterAccept] {
        let gone = stage.ended("connections", "gone");
        let failed = stage.ended("calls", "attestation");
        let mut actor = stage.begin(when, user::STRANGER, &words, &then);
        actor.child.wait().unwrap();
        meanwhile(&mut actor);
        let heard = stage.finish(when, &mut actor);
        if when == When::BeforeAccept {
            assert_eq!(heard, Heard::closed(), "{hooks}");
            stage.wait_for_ended("connections", "gone", gone + 1);
        } else {
            assert_eq!(heard, Heard::nothing(), "{hooks}");
            stage.wait_for_ended("calls", "attestation", failed + 1);
        }
    }
}

/// Waits until a process has the number of the dead one.
fn reuse(actor: &mut Actor) {
    let (pid, taken) = (actor.pid(), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            let start = Instant::now();
            while !taken.load(Ordering::Relaxed) && start.elapsed() < LIMIT {
                send_round(pid);
                thread::sleep(Duration::from_millis(100));
            }
        });
        actor.wait("take-pid");
        taken.store(true, Ordering::Relaxed);
    });
}

/// Others take numbers as well, so a few are left before the one that is wanted.
fn send_round(pid: Pid) {
    const AHEAD: i32 = 40;
    fs::write(NEXT_PID, (pid.as_raw() - AHEAD).max(1).to_string()).unwrap();
}
