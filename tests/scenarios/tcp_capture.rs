//! Who is at the other end of a TCP connection from this machine.
#![expect(clippy::unwrap_used, reason = "what cannot be arranged fails the scenario")]

pub(crate) mod stage;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd, AsRawFd},
    process::{Command, id},
    thread,
};

use nix::{
    sys::socket::{Backlog, SockaddrStorage, bind, listen, setsockopt, sockopt},
    unistd::gettid,
};
use vouch::kernel::{Capture, HookState, Options};
use vouch_tests::{Address, Need, namespace::alone, port, require};

use super::kernel_capture::stage::runs;
use stage::{TcpStage, attach};

#[test]
fn a_peer_is_known_by_ipv4_ipv6_and_addresses_of_one_in_the_other() {
    require!(Need::ConnectHook);
    for (listen, connect) in [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "127.9.8.7"),
        ("[::1]", "[::1]"),
        ("127.0.0.1", "[::ffff:127.0.0.1]"),
        ("[::]", "127.0.0.1"),
        ("[::]", "[::ffff:127.0.0.1]"),
        ("[::]", "[::1]"),
    ] {
        // All of 127/8 is this machine.
        let stage = TcpStage::listening(if connect == "127.9.8.7" { "0.0.0.0" } else { listen });
        let address = stage.address_as(connect);
        let mut actor = stage.actor("caller", &["connect", &address, "hold"]);
        actor.wait("connect");
        let seen = stage.peer().unwrap_or_else(|| panic!("{listen} from {connect}: no record"));
        let mut now = stage.capture.inspect(actor.pid()).unwrap().unwrap();
        now.task.recorded_at = seen.task.recorded_at;
        assert_eq!(seen, now, "{listen} from {connect}");
        assert!(runs(&seen.task, &stage.programs.program("caller")));
    }
}

#[test]
fn a_peer_is_known_in_a_network_namespace_of_its_own_and_across_two() {
    require!(Need::ConnectHook);
    alone(|| {
        let stage = TcpStage::listening("127.0.0.1");
        let actor = stage.actor("caller", &["connect", &stage.address(), "hold"]);
        let seen = stage.peer().unwrap();
        assert_eq!(seen.task.pid, actor.pid());
        assert_ne!(
            seen.task.namespaces.net,
            stage.capture.inspect(id()).unwrap().unwrap().task.namespaces.net
        );

        // A pair of interfaces, as between two containers.
        let script = "ip link add name near type veth peer name far netns $0 && ip addr add 10.77.0.1/24 dev near && \
                      ip link set near up && nsenter --target $0 --net sh -c 'ip addr add 10.77.0.2/24 dev far && \
                      ip link set far up'";
        let stage = TcpStage::listening("0.0.0.0");
        let address = stage.address_as("10.77.0.1");
        let mark = stage.programs.dir.path().join("joined");
        let mut command = Command::new("unshare");
        command.arg("--net").arg(stage.programs.program("other"));
        let far = super::kernel_capture::stage::Programs::start(command.args([
            "await",
            mark.to_str().unwrap(),
            "connect",
            &address,
            "hold",
        ]));
        stage.wait_until_runs(far.pid(), "other");
        let joined = Command::new("sh").args(["-c", script, &far.pid().to_string()]).status().unwrap();
        assert!(joined.success());
        std::fs::write(&mark, "").unwrap();
        let other = stage.peer().unwrap();
        assert_eq!(other.task.pid, far.pid());
        assert_ne!(other.task.namespaces.net, seen.task.namespaces.net);
    });
}

#[test]
fn of_many_connections_at_once_each_has_its_own_record() {
    require!(Need::ConnectHook);
    const CLIENTS: usize = 4;
    const EACH: usize = 250;
    let stage = TcpStage::listening("127.0.0.1");
    let address = stage.listener.local_addr().unwrap();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                for _ in 0..EACH {
                    let mut client = TcpStream::connect(address).unwrap();
                    client.write_all(&gettid().as_raw().to_ne_bytes()).unwrap();
                }
            });
        }
        for _ in 0..CLIENTS * EACH {
            assert_knows_who_speaks(&stage, stage.listener.accept().unwrap().0);
        }
    });
}

#[test]
fn listeners_that_share_a_port_each_know_their_peers() {
    require!(Need::ConnectHook);
    const CLIENTS: usize = 40;
    let stage = TcpStage::listening("127.0.0.1");
    let at = format!("127.0.0.1:{}", port::free_port()).parse::<SocketAddr>().unwrap();
    let listeners = [(); 2].map(|()| {
        let socket = Address::Tcp(at.into()).socket().unwrap();
        setsockopt(&socket, sockopt::ReusePort, &true).unwrap();
        bind(socket.as_raw_fd(), &SockaddrStorage::from(at)).unwrap();
        listen(&socket, Backlog::new(64).unwrap()).unwrap();
        TcpListener::from(socket)
    });
    let connect = || {
        let mut client = TcpStream::connect(at).unwrap();
        client.write_all(&gettid().as_raw().to_ne_bytes()).unwrap();
        client
    };
    let clients: Vec<TcpStream> =
        (0..CLIENTS).map(|_| thread::scope(|scope| scope.spawn(connect).join().unwrap())).collect();
    let mut known = [0; 2];
    for (listener, known) in listeners.iter().zip(&mut known) {
        listener.set_nonblocking(true).unwrap();
        while let Ok((accepted, _)) = listener.accept() {
            accepted.set_nonblocking(false).unwrap();
            assert_knows_who_speaks(&stage, accepted);
            *known += 1;
        }
    }
    assert_eq!(known[0] + known[1], clients.len());
    assert!(!known.contains(&0), "both had some: {known:?}");
}

/// Whoever connected has said the number of its thread.
fn assert_knows_who_speaks(stage: &TcpStage, mut accepted: TcpStream) {
    let seen = stage.capture.tcp_peer(accepted.as_fd()).unwrap().expect("a record");
    let mut tid = [0; 4];
    accepted.read_exact(&mut tid).unwrap();
    assert_eq!((seen.task.pid, seen.task.tid.cast_signed()), (id(), i32::from_ne_bytes(tid)));
}

#[test]
fn a_client_that_is_dead_has_its_record_and_its_own_end_has_none() {
    require!(Need::ConnectHook);
    let stage = TcpStage::listening("127.0.0.1");
    let mut actor = stage.actor("caller", &["connect", &stage.address()]);
    let pid = actor.pid();
    actor.child.wait().unwrap();
    let seen = stage.peer().unwrap();
    assert_eq!(seen.task.pid, pid);
    assert!(runs(&seen.task, &stage.programs.program("caller")));
    assert_eq!(stage.capture.inspect(pid).unwrap(), None);
    let client = TcpStream::connect(stage.listener.local_addr().unwrap()).unwrap();
    assert_eq!(stage.peer().unwrap().task.pid, id());
    assert_eq!(stage.capture.tcp_peer(client.as_fd()).unwrap(), None);
}

#[test]
fn a_connection_from_before_the_hooks_has_no_record_and_is_counted() {
    require!(Need::ConnectHook);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let capture = attach();
    let (accepted, _) = listener.accept().unwrap();
    assert_eq!(capture.tcp_peer(accepted.as_fd()).unwrap(), None);
    assert_eq!(capture.tcp_peer(client.as_fd()).unwrap(), None);
    let _later = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let counters = capture.counters().unwrap();
    assert!(counters.tcp_connects >= 1 && counters.tcp_handovers >= 1, "{counters:?}");
}

#[test]
fn hooks_of_tcp_are_there_when_they_are_asked_for_and_two_captures_do_not_disturb_each_other() {
    require!(Need::ConnectHook);
    let (without, _events) = Capture::attach(&Options::default()).unwrap();
    let (one, other) = (TcpStage::listening("127.0.0.1"), attach());
    let named = |capture: &Capture| capture.hooks().iter().filter(|hook| hook.name.contains("tcp")).count();
    assert_eq!([named(&without), named(&one.capture), named(&other)], [0, 3, 3]);
    assert!(other.captures_tcp() && !without.captures_tcp());
    assert!(other.hooks().iter().all(|hook| hook.state == HookState::Attached));
    let _client = TcpStream::connect(one.listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = one.listener.accept().unwrap();
    for capture in [&one.capture, &other] {
        assert_eq!(capture.tcp_peer(accepted.as_fd()).unwrap().unwrap().task.pid, id());
    }
    assert_eq!(without.tcp_peer(accepted.as_fd()).unwrap(), None);
}
