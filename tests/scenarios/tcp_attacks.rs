//! Whoever connected by TCP is who the kernel saw connecting: the attacks on Unix sockets, on TCP.
//!
//! `evil` must never be taken for `good`. What is not known is `None`, and to be refused by who asks.
#![expect(clippy::unwrap_used, reason = "what cannot be arranged fails the scenario")]

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::MetadataExt,
    },
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use nix::{
    sys::{
        signal::{Signal, kill},
        socket::{SockaddrStorage, bind, setsockopt, sockopt},
    },
    unistd::Pid,
};
use vouch::kernel::Provenance;
use vouch_tests::{
    Address, Cgroup, Need, eventually, namespace::alone, need::NEXT_PID, port, require, trick,
};

use super::{
    kernel_capture::stage::{LIMIT, runs},
    tcp_capture::stage::{A_MOMENT, TcpStage, set_tcp_option, shorten_queue},
};

const TRIES: u32 = 100;

/// The next connection is `evil`'s, by every word of its record.
fn assert_peer_is_evil(stage: &TcpStage, case: &str) {
    let seen = stage.peer().unwrap_or_else(|| panic!("{case}: no record"));
    assert!(runs(&seen.task, &stage.programs.program("evil")), "{case}: {seen:?}");
    assert_eq!(seen.executable, Provenance::Executed, "{case}");
}

#[test]
fn an_exec_after_connect_changes_nothing() {
    require!(Need::ConnectHook);
    let stage = TcpStage::listening("127.0.0.1");
    let good = stage.program("good");
    let mut evil = stage.actor("evil", &["connect", &stage.address(), "exec", &good, "hold"]);
    evil.wait("inherit");
    assert_peer_is_evil(&stage, "after the exec");
    let now = stage.capture.inspect(evil.pid()).unwrap().unwrap();
    assert!(runs(&now.task, &stage.programs.program("good")), "the attack took place");
}

#[test]
fn no_try_of_many_hits_a_moment_in_which_an_exec_works() {
    require!(Need::ConnectHook);
    let stage = TcpStage::listening("127.0.0.1");
    let good = stage.program("good");
    for number in 0..TRIES {
        let _evil = stage.actor("evil", &["connect", &stage.address(), "exec", &good, "hold"]);
        assert_peer_is_evil(&stage, &format!("try {number}"));
    }
}

#[test]
fn a_move_to_the_cgroup_of_a_victim_changes_nothing() {
    require!(Need::ConnectHook, Need::Cgroup2);
    let (stage, victim) = (TcpStage::listening("127.0.0.1"), Cgroup::new());
    let enter = victim.dir().to_str().unwrap();
    let mut evil = stage.actor("evil", &["connect", &stage.address(), "move", enter, "hold"]);
    evil.wait("move");
    let (seen, now) = (stage.peer().unwrap(), stage.capture.inspect(evil.pid()).unwrap().unwrap());
    let id = fs::metadata(victim.dir()).unwrap().ino();
    assert_eq!(now.task.cgroup_id, id, "the attack took place");
    assert_ne!(seen.task.cgroup_id, id);
}

#[test]
fn whoever_gets_the_number_of_who_connected_is_told_from_it() {
    require!(Need::ConnectHook, Need::NextPid);
    let stage = TcpStage::listening("127.0.0.1");
    let (good, address) = (stage.program("good"), stage.address());
    let heir = ["await-end", "take-pid", "exec", &good, "hold"];
    let steps = [&["connect", &address, "fork", "5"], &heir[..]].concat();
    let mut evil = stage.actor("evil", &steps);
    let pid = evil.pid();
    evil.child.wait().unwrap();
    let taken = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !taken.load(Ordering::Relaxed) {
                // Others take numbers as well, so a few are left before the one that is wanted.
                fs::write(NEXT_PID, pid.saturating_sub(40).max(1).to_string()).unwrap();
                thread::sleep(A_MOMENT);
            }
        });
        evil.wait("inherit");
        taken.store(true, Ordering::Relaxed);
    });
    let (seen, now) = (stage.peer().unwrap(), stage.capture.inspect(pid).unwrap().unwrap());
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
    assert!(runs(&now.task, &stage.programs.program("good")), "the attack took place");
    assert!(runs(&seen.task, &stage.programs.program("evil")));
    assert_eq!(seen.task.pid, now.task.pid);
    assert_ne!(seen.task.pid_ino, now.task.pid_ino);
    assert!(!now.task.unchanged_since(&seen.task));
}

#[test]
fn a_second_connect_by_who_took_over_changes_nothing() {
    require!(Need::ConnectHook);
    let stage = TcpStage::listening("127.0.0.1");
    let (good, address) = (stage.program("good"), stage.address());
    let mut evil = stage.actor("evil", &["connect", &address, "exec", &good, "connect", &address, "hold"]);
    for step in ["connect", "inherit", "connect"] {
        evil.wait(step);
    }
    assert_peer_is_evil(&stage, "by the same process");

    let other = ["exec", &good, "connect", &address, "hold"];
    let mut evil =
        stage.actor("evil", &[&["connect", &address, "fork", "5"], &other[..], &["hold"]].concat());
    for step in ["connect", "inherit", "connect"] {
        evil.wait(step);
    }
    assert_peer_is_evil(&stage, "by a child");
}

/// The first waits for a place in the queue of the server, and the second calls `connect()` on the same socket.
#[test]
fn of_two_connects_at_once_on_one_socket_the_first_is_recorded() {
    require!(Need::ConnectHook);
    let stage = TcpStage::listening("127.0.0.1");
    shorten_queue(&stage.listener, 0);
    let fillers = fill(stage.local());
    let (good, address) = (stage.program("good"), stage.address());
    let mark = stage.programs.dir.path().join("go");
    let second = ["await", mark.to_str().unwrap(), "exec", &good, "connect", &address, "hold"];
    // The socket is there before the fork, and both have it.
    let bind = ["bind", "tcp:127.0.0.1:0", "fork", "7"];
    let evil = stage.actor("evil", &[&bind, &second[..], &["connect", &address, "hold"]].concat());
    wait_in_connect(evil.pid());
    fs::write(&mark, "").unwrap();
    let child = children(evil.pid()).remove(0);
    stage.wait_until_runs(child, "good");
    wait_in_connect(child);
    for _ in &fillers {
        stage.peer().unwrap();
    }
    assert_peer_is_evil(&stage, "the first");
}

#[test]
fn a_connect_by_io_uring_is_that_of_who_asked_for_it() {
    require!(Need::ConnectHook, Need::IoUring);
    let stage = TcpStage::listening("127.0.0.1");
    let good = stage.program("good");
    for how in ["inline", "worker", "polled"] {
        let mut evil = stage.actor("evil", &["ring", how, &stage.address(), "exec", &good, "hold"]);
        evil.wait("inherit");
        let seen = stage.peer().unwrap();
        assert_eq!(seen.task.pid, evil.pid(), "{how}");
        assert!(runs(&seen.task, &stage.programs.program("evil")), "{how}");
    }
}

#[test]
fn a_caller_that_starves_its_socket_storage_has_no_record_and_is_counted() {
    require!(Need::ConnectHook);
    let stage = TcpStage::listening("127.0.0.1");
    // The room for records is that of a network namespace, this one.
    alone(|| {
        let inside = TcpStage { listener: TcpListener::bind("127.0.0.1:0").unwrap(), ..stage };
        inside.actor("evil", &["connect", &inside.address()]).wait("connect");
        assert_peer_is_evil(&inside, "with room");
        fs::write("/proc/sys/net/core/optmem_max", "1").unwrap();
        inside.actor("evil", &["connect", &inside.address()]).wait("connect");
        assert_eq!(inside.peer(), None);
        assert!(inside.capture.counters().unwrap().tcp_connects_without_storage >= 1);
    });
}

/// The record goes with the connection, not with the socket.
#[test]
fn a_socket_that_connects_anew_has_the_record_of_who_connected_it_last() {
    require!(Need::ConnectHook);
    let stage = TcpStage::listening("127.0.0.1");
    let (evil, address) = (stage.program("evil"), stage.address());
    let steps = ["connect", &address, "disconnect", "exec", &evil, "connect", &address, "hold"];
    let _actor = stage.actor("good", &steps);
    let first = stage.peer().unwrap();
    assert!(runs(&first.task, &stage.programs.program("good")));
    assert_peer_is_evil(&stage, "the second");
}

#[test]
fn an_accepted_socket_that_connects_elsewhere_forgets_its_peer() {
    require!(Need::ConnectHook);
    let stage = TcpStage::listening("127.0.0.1");
    let _good = stage.actor("good", &["connect", &stage.address(), "hold"]);
    let (accepted, _) = stage.listener.accept().unwrap();
    assert!(stage.capture.tcp_peer(accepted.as_fd()).unwrap().is_some());
    trick::disconnect(accepted.as_fd()).unwrap();
    Address::parse(&stage.address()).unwrap().connect(accepted.as_fd()).unwrap();
    assert_eq!(stage.capture.tcp_peer(accepted.as_fd()).unwrap(), None);
}

/// Both ends of such a connection are the same, and none was accepted.
#[test]
fn a_socket_that_is_connected_to_itself_has_no_peer() {
    require!(Need::ConnectHook);
    let stage = TcpStage::listening("127.0.0.1");
    let own = format!("127.0.0.1:{}", port::free_port()).parse::<SocketAddr>().unwrap();
    let address = Address::parse(&format!("tcp:{own}")).unwrap();
    let socket = TcpStream::from(address.socket().unwrap());
    bind(socket.as_raw_fd(), &SockaddrStorage::from(own)).unwrap();
    address.connect(socket.as_fd()).unwrap();
    assert_eq!(socket.peer_addr().unwrap(), own);
    assert_eq!(stage.capture.tcp_peer(socket.as_fd()).unwrap(), None);
}

/// `good` connects, and the server never hears the end of the handshake: its record waits. Then `evil` connects from the
/// same port to the same server, in a way in which the server's end is there before its own record is.
#[test]
fn a_record_that_nobody_took_is_not_given_to_the_next_connection_from_there() {
    require!(Need::ConnectHook);
    alone(|| {
        fs::write("/proc/sys/net/ipv4/tcp_fastopen", "3").unwrap();
        let stage = TcpStage::listening("127.0.0.1");
        set_tcp_option(stage.listener.as_fd(), libc::TCP_FASTOPEN, 8);
        let (address, port) = (stage.address(), "tcp:127.0.0.1:31999");
        // The first gets the cookie, and is a connection like any other.
        stage.actor("evil", &["fast-open", &address, "hello", "hold"]).wait("fast-open");
        assert_peer_is_evil(&stage, "without a cookie");

        // A handshake alone makes no connection now.
        set_tcp_option(stage.listener.as_fd(), libc::TCP_DEFER_ACCEPT, 30);
        // The counters are the machine's: others may have a record taken meanwhile, but not every time.
        let after = (0..TRIES).find_map(|_| {
            let before = stage.capture.counters().unwrap();
            stage.actor("good", &["bind", port, "connect", &address, "reset"]).wait("reset");
            let after = stage.capture.counters().unwrap();
            (after.tcp_handovers == before.tcp_handovers).then_some(after)
        });
        let after = after.expect("nobody took the record");
        let _evil = stage.actor("evil", &["bind", port, "fast-open", &address, "hello", "hold"]);
        assert_eq!(stage.peer(), None);
        assert!(
            stage.capture.counters().unwrap().tcp_handovers_without_record
                > after.tcp_handovers_without_record
        );
    });
}

/// As many as there is room for, and more: of connections to a server that never takes them, or on another machine.
#[test]
fn records_that_nobody_takes_keep_nobody_from_theirs() {
    require!(Need::ConnectHook);
    const MORE_THAN_ROOM: usize = 20_000;
    alone(|| {
        let (stage, idle) = (TcpStage::listening("127.0.0.1"), TcpListener::bind("127.0.0.1:0").unwrap());
        set_tcp_option(idle.as_fd(), libc::TCP_DEFER_ACCEPT, 30);
        let before = stage.capture.counters().unwrap();
        for _ in 0..MORE_THAN_ROOM {
            let client = TcpStream::connect(idle.local_addr().unwrap()).unwrap();
            setsockopt(&client, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
        }
        let after = stage.capture.counters().unwrap();
        assert!(after.tcp_connects - before.tcp_connects >= MORE_THAN_ROOM as u64);
        let taken = after.tcp_handovers - before.tcp_handovers;
        assert!(taken < MORE_THAN_ROOM as u64 / 10, "{taken}: others on this machine connect as well");
        let _evil = stage.actor("evil", &["connect", &stage.address(), "hold"]);
        assert_peer_is_evil(&stage, "after many");

        // A server that waits for the first word knows who says it.
        set_tcp_option(stage.listener.as_fd(), libc::TCP_DEFER_ACCEPT, 30);
        let _evil = stage.actor("evil", &["connect", &stage.address(), "say", "hello", "hold"]);
        assert_peer_is_evil(&stage, "at its first word");
    });
}

/// Connects until a connection has to wait.
fn fill(address: SocketAddr) -> Vec<TcpStream> {
    let mut queue = Vec::new();
    while let Ok(client) = TcpStream::connect_timeout(&address, A_MOMENT) {
        queue.push(client);
    }
    queue
}

fn wait_in_connect(pid: u32) {
    eventually("connect() waits", LIMIT, || {
        let at = fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap();
        ["wait_woken", "inet_wait_for_connect"].contains(&at.trim_end()).then_some(())
    });
}

fn children(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}
