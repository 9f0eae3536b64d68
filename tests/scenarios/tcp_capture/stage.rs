use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    time::Duration,
};

use nix::sys::{
    socket::{setsockopt, sockopt},
    time::TimeVal,
};
use vouch::kernel::{Capture, Options, Sighting};
use vouch_tests::eventually;

use crate::kernel_capture::stage::{Actor, LIMIT, Programs};

/// A capture of TCP, a listener and programs.
pub(crate) struct TcpStage {
    pub(crate) capture: Capture,
    pub(crate) listener: TcpListener,
    pub(crate) programs: Programs,
}

impl TcpStage {
    pub(crate) fn listening(at: &str) -> Self {
        let listener = TcpListener::bind(format!("{at}:0")).unwrap();
        // Also how long accept() waits.
        setsockopt(&listener, sockopt::ReceiveTimeout, &TimeVal::new(LIMIT.as_secs().cast_signed(), 0))
            .unwrap();
        Self { capture: attach(), listener, programs: Programs::new() }
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// For an actor.
    pub(crate) fn address(&self) -> String {
        format!("tcp:{}", self.local())
    }

    /// The same port elsewhere.
    pub(crate) fn address_as(&self, host: &str) -> String {
        format!("tcp:{host}:{}", self.local().port())
    }

    pub(crate) fn actor(&self, name: &str, steps: &[&str]) -> Actor {
        self.programs.actor(name, steps)
    }

    pub(crate) fn program(&self, name: &str) -> String {
        self.programs.program(name).to_str().unwrap().to_owned()
    }

    /// Who made the next connection.
    pub(crate) fn peer(&self) -> Option<Sighting> {
        let (accepted, _) = self.listener.accept().unwrap();
        self.capture.tcp_peer(accepted.as_fd()).unwrap()
    }

    pub(crate) fn wait_until_runs(&self, pid: u32, name: &str) {
        let program = self.programs.program(name);
        eventually("it runs", LIMIT, || {
            fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|runs| runs == program).then_some(())
        });
    }
}

pub(crate) fn attach() -> Capture {
    let (capture, _events) = Capture::attach(&Options { tcp: true, ..Options::default() }).unwrap();
    assert!(capture.captures_tcp(), "{:?}", capture.hooks());
    capture
}

/// So many connections may wait to be accepted, and one more.
pub(crate) fn shorten_queue(listener: &TcpListener, length: i32) {
    let backlog = nix::sys::socket::Backlog::new(length).unwrap();
    nix::sys::socket::listen(listener, backlog).unwrap();
}

/// In seconds; what has no name of its own among the socket options.
#[expect(unsafe_code, reason = "these options have no safe form")]
pub(crate) fn set_tcp_option(socket: BorrowedFd<'_>, option: i32, value: i32) {
    // SAFETY: the value outlives the call and has the size given.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as u32,
        )
    };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

pub(crate) const A_MOMENT: Duration = Duration::from_millis(300);
