//! What a stranger may do to a server's Unix socket without any right but to connect, each at full speed: everything here
//! is plain HTTP/2 or less, and none of it is ever useful. Beside it, what an honest caller does.

mod bytes;
pub mod honest;

use std::{
    io::{self, ErrorKind, Read, Write},
    os::{fd::AsFd as _, unix::net::UnixStream},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, ScopedJoinHandle},
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long nothing is tried when no connection takes a byte.
const BLOCKED: u16 = 20;
/// How often an attack that other threads carry out is asked whether it goes on.
const LOOKED_EVERY: Duration = Duration::from_millis(10);
/// After a connection was refused or closed.
const PAUSE: Duration = Duration::from_micros(200);

/// One way of being a nuisance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attack {
    /// Connects and leaves.
    Connect,
    /// Connects and says nothing.
    Silence,
    Ping,
    Settings,
    WindowUpdate,
    Priority,
    /// Frames of a kind that nobody knows.
    Unknown,
    /// DATA without a byte of data, in a call that is open.
    EmptyData,
    /// Opens calls and resets them.
    RapidReset,
    /// A head that never ends.
    Continuation,
    /// Calls with a hundred header fields.
    HeaderFields,
    /// Calls whose head is larger than any may be.
    HeaderList,
    /// Calls without a request, as many as a connection may have.
    OpenCalls,
    /// The same without an end.
    TooManyCalls,
    /// Calls that stop in the middle of their request.
    HalfRequest,
    /// Calls for a bundle, one after the other.
    Calls,
    /// Requests of 60 KB in one call, without an end.
    LargeRequests,
    /// Calls whose answers may be sent a byte at a time.
    TinyWindow,
    /// Calls whose answers are never read.
    NeverReads,
}

impl Attack {
    pub const ALL: [Self; 19] = [
        Self::Connect,
        Self::Silence,
        Self::Ping,
        Self::Settings,
        Self::WindowUpdate,
        Self::Priority,
        Self::Unknown,
        Self::EmptyData,
        Self::RapidReset,
        Self::Continuation,
        Self::HeaderFields,
        Self::HeaderList,
        Self::OpenCalls,
        Self::TooManyCalls,
        Self::HalfRequest,
        Self::Calls,
        Self::LargeRequests,
        Self::TinyWindow,
        Self::NeverReads,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Silence => "silence",
            Self::Ping => "ping",
            Self::Settings => "settings",
            Self::WindowUpdate => "window-update",
            Self::Priority => "priority",
            Self::Unknown => "unknown-frames",
            Self::EmptyData => "empty-data",
            Self::RapidReset => "rapid-reset",
            Self::Continuation => "continuation",
            Self::HeaderFields => "header-fields",
            Self::HeaderList => "header-list",
            Self::OpenCalls => "open-calls",
            Self::TooManyCalls => "too-many-calls",
            Self::HalfRequest => "half-request",
            Self::Calls => "calls",
            Self::LargeRequests => "large-requests",
            Self::TinyWindow => "tiny-window",
            Self::NeverReads => "never-reads",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|attack| attack.name() == name)
    }
}

/// What an attack got done.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    pub connections: u64,
    /// Connections that the server ended.
    pub ended: u64,
    pub bytes: u64,
}

/// Attacks the socket at `path` on so many connections at once, until told to stop. A connection that is ended is made
/// again.
///
/// # Errors
/// When connections are impossible for another reason than that the server takes no more.
pub fn run(
    attack: Attack,
    path: &Path,
    connections: usize,
    mut go_on: impl FnMut() -> bool,
) -> io::Result<Done> {
    if attack == Attack::Connect {
        return connect_and_leave(path, connections, &mut go_on);
    }
    let mut done = Done::default();
    let mut open: Vec<Open> = Vec::new();
    while go_on() {
        if open.len() < connections
            && let Some(socket) = connect(path, &mut done)?
        {
            open.push(Open::new(attack, socket)?);
        }
        let before = (done.bytes, open.len());
        open.retain_mut(|one| match one.push(&mut done) {
            Ok(()) => true,
            Err(_) => {
                done.ended += 1;
                false
            }
        });
        if open.len() < before.1 {
            thread::sleep(PAUSE);
        } else if done.bytes == before.0 && open.len() == connections {
            wait(&open)?;
        }
    }
    Ok(done)
}

/// On a thread for each connection: whoever waits for room in the queue has a place in that line, too.
fn connect_and_leave(path: &Path, threads: usize, go_on: &mut impl FnMut() -> bool) -> io::Result<Done> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let one = || {
            let mut done = Done::default();
            while !over.load(Ordering::Relaxed) {
                connect(path, &mut done)?;
            }
            Ok(done)
        };
        let attackers: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        while go_on() && !attackers.iter().any(ScopedJoinHandle::is_finished) {
            thread::sleep(LOOKED_EVERY);
        }
        over.store(true, Ordering::Relaxed);
        attackers.into_iter().try_fold(Done::default(), |all, attacker| {
            let one: io::Result<Done> = attacker.join().unwrap_or_else(|_| Err(ErrorKind::Other.into()));
            Ok(Done { connections: all.connections + one?.connections, ..all })
        })
    })
}

fn connect(path: &Path, done: &mut Done) -> io::Result<Option<UnixStream>> {
    match UnixStream::connect(path) {
        Ok(socket) => {
            done.connections += 1;
            Ok(Some(socket))
        }
        Err(error) if [ErrorKind::WouldBlock, ErrorKind::ConnectionRefused].contains(&error.kind()) => {
            thread::sleep(PAUSE);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Until some connection takes a byte, has one, or is closed; a moment at most.
fn wait(open: &[Open]) -> io::Result<()> {
    let interest = |one: &Open| match one.has_more() {
        true => PollFlags::POLLIN | PollFlags::POLLOUT,
        false => PollFlags::POLLIN,
    };
    let mut fds: Vec<_> = open
        .iter()
        .filter(|one| one.reads())
        .map(|one| PollFd::new(one.socket.as_fd(), interest(one)))
        .collect();
    poll(&mut fds, PollTimeout::from(BLOCKED))?;
    Ok(())
}

/// One connection of an attacker.
#[derive(Debug)]
struct Open {
    attack: Attack,
    socket: UnixStream,
    next_stream: u32,
    /// What is to be sent, and how much of it is.
    bytes: Vec<u8>,
    sent: usize,
}

impl Open {
    fn new(attack: Attack, socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let mut next_stream = 1;
        let bytes = bytes::opening(attack, &mut next_stream);
        Ok(Self { attack, socket, next_stream, bytes, sent: 0 })
    }

    fn reads(&self) -> bool {
        self.attack != Attack::NeverReads
    }

    fn has_more(&self) -> bool {
        self.sent < self.bytes.len()
    }

    /// Sends what the server takes, and drops what it says.
    ///
    /// # Errors
    /// When the server has closed the connection.
    fn push(&mut self, done: &mut Done) -> io::Result<()> {
        if self.reads() {
            let mut heard = [0; 16 << 10];
            while would_block(self.socket.read(&mut heard))?.is_some_and(|count| count > 0) {}
        }
        if !self.has_more() {
            self.bytes.clear();
            self.sent = 0;
            bytes::more(self.attack, &mut self.next_stream, &mut self.bytes);
        }
        while self.has_more() {
            let Some(count) = would_block(self.socket.write(&self.bytes[self.sent..]))? else { break };
            self.sent += count;
            done.bytes += count as u64;
        }
        Ok(())
    }
}

/// `None` when it would block; an end of the stream is an error.
fn would_block(moved: io::Result<usize>) -> io::Result<Option<usize>> {
    match moved {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
