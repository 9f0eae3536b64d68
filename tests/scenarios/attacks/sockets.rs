//! One socket, several connects.

use std::{
    fs,
    os::{fd::AsRawFd, unix::net::UnixStream},
    path::Path,
};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket},
    },
    unistd::Pid,
};
use vouch_tests::{Need, eventually, namespace::alone, require, user};

use super::{
    actor::{Heard, ask, fork, steps},
    programs::{EVIL, GOOD},
    stage::{LIMIT, Stage, When},
};

const TRIES: u32 = 20;

#[test]
fn a_second_connect_by_the_program_that_took_over_changes_nothing() {
    require!(Need::Agent, Need::Root, Need::ConnectHook);
    let mut stage = Stage::good_and_evil();
    let connect = steps(["connect", &stage.socket()]);
    let then = [&*steps(["exec", &stage.program("good")]), &connect, &ask()].concat();
    for when in [When::BeforeAccept, When::AfterAccept] {
        let heard = stage.attack(when, user::STRANGER, &connect, &then);
        assert_eq!(heard, Heard::nothing(), "{when:?}");
    }
}

#[test]
fn a_second_connect_by_another_process_changes_nothing() {
    require!(Need::Agent, Need::Root, Need::ConnectHook);
    let mut stage = Stage::new(&["good", "evil"], |programs| programs.good_and_evil());
    let connect = steps(["connect", &stage.socket()]);
    for when in [When::BeforeAccept, When::AfterAccept] {
        let (good, done) = (stage.program("good"), stage.mark());
        let child = [&*steps(["exec", &good]), &connect, &steps(["touch", &done, "hold"])].concat();
        let then = [fork(&child), steps(["await", &done]), ask()].concat();
        let heard = stage.attack(when, user::STRANGER, &connect, &then);
        assert_eq!(heard, Heard::only(&[EVIL]), "{when:?}");
    }
}

/// Both wait in `connect()` for a place in the queue of the agent, and the kernel has recorded both, the good one
/// last. Mostly the evil one, which came first, gets the place.
#[test]
fn of_two_connects_at_once_on_one_socket_the_wrong_one_is_not_believed() {
    require!(Need::Agent, Need::Root, Need::ConnectHook);
    alone(|| {
        fs::write("/proc/sys/net/core/somaxconn", "2").unwrap();
        let mut stage = Stage::new(&["good", "evil"], |programs| programs.good_and_evil());
        for _ in 0..TRIES {
            match connect_both(&mut stage) {
                (Connected::Evil, heard) => {
                    assert_eq!(heard, Heard::closed());
                    stage.wait_for_ended("connections", "foreign_record", 1);
                    return;
                }
                (Connected::Good, heard) => assert_eq!(heard, Heard::only(&GOOD)),
            }
        }
        panic!("the evil one never got the place");
    });
}

/// Who made the connection that both share.
enum Connected {
    Evil,
    Good,
}

fn connect_both(stage: &mut Stage) -> (Connected, Heard) {
    let (path, good, go, both) = (stage.socket(), stage.program("good"), stage.mark(), stage.mark());
    stage.freeze();
    let queue = fill(&stage.agent.socket());
    let child = steps(["await", &go, "exec", &good, "connect", &path, "hold"]);
    let evil = steps([&stage.program("evil"), "socket"]);
    let then = steps(["connect", &path, "await", &both]);
    let mut actor = stage.start(user::STRANGER, &[evil, fork(&child), then, ask()].concat());
    actor.wait("fork");
    let evil = actor.pid();
    wait_in_connect(evil);
    fs::write(&go, "").unwrap();
    let good = eventually("the good one runs", LIMIT, || stage.runs(&good));
    wait_in_connect(good);
    stage.thaw();
    let failed = [evil, good].map(|pid| format!("failed {pid}"));
    let connected = if actor.wait_for_one_of(&[&failed[0], &failed[1]]) == failed[0] {
        Connected::Good
    } else {
        Connected::Evil
    };
    fs::write(&both, "").unwrap();
    let heard = actor.hear();
    kill(good, Signal::SIGKILL).unwrap();
    drop(queue);
    (connected, heard)
}

/// Connects until there is no place left.
fn fill(path: &Path) -> Vec<UnixStream> {
    let address = UnixAddr::new(path).unwrap();
    let mut queue = Vec::new();
    loop {
        let client = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_NONBLOCK, None).unwrap();
        match connect(client.as_raw_fd(), &address) {
            Ok(()) => queue.push(client.into()),
            Err(Errno::EAGAIN) => return queue,
            Err(error) => panic!("{error}"),
        }
    }
}

fn wait_in_connect(pid: Pid) {
    eventually("connect() waits", LIMIT, || {
        let at = fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap();
        ["unix_wait_for_peer", "unix_stream_connect"].contains(&at.trim_end()).then_some(())
    });
}
