//! Who is at the other end of an accepted socket, and how good the evidence is.

use std::{
    fmt,
    io::{self, Read as _},
    num::NonZeroU64,
    os::fd::{AsFd, OwnedFd},
    str::FromStr,
};

use nix::sys::socket::{getsockopt, sockopt};

use super::{caller_key::CallerKey, container::Containment};
use crate::kernel::{self, Capture, Sighting, Task};

/// How good the evidence for a process is; a later grade is a better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grade {
    /// SO_PEERCRED and procfs, with the start time checked again: PID reuse is caught, exec after connect is not.
    Peercred,
    /// SO_PEERPIDFD and procfs (Linux ≥ 6.5): the pidfd pins the process, exec after connect is not caught.
    Pidfd,
    /// The kernel's record of the `connect()` itself (Linux ≥ 6.7).
    Kernel,
}

/// One end of a connection, as the kernel knows it at `accept`.
#[derive(Debug)]
pub struct Peer {
    pub pid: u32,
    /// Effective, in the initial user namespace.
    pub uid: u32,
    /// Effective, in the initial user namespace.
    pub gid: u32,
    pub grade: Grade,
    pub(super) proof: Proof,
    /// Path from the cgroup2 root, when it is known.
    pub cgroup: Option<String>,
    /// What that path says, `Unsure` without one.
    pub containment: Containment,
}

/// What the kernel says of an accepted connection before anything else is asked.
#[derive(Debug)]
pub enum Evidence {
    /// The connect itself was recorded.
    Record(Box<Sighting>),
    /// Connects are not captured: the socket and procfs will have to tell.
    Socket,
}

/// What holds a peer to one process.
#[derive(Debug)]
pub(super) enum Proof {
    Kernel { connect: Box<Sighting>, pidfd: Option<OwnedFd> },
    Pidfd { pidfd: OwnedFd },
    StartTime { ticks: u64 },
}

/// Why a connection is closed before a byte is read from it.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The hooks are attached, and yet the connection has no record: its maker may have suppressed it.
    #[error("kernel made no record of this connection")]
    NoRecord,
    /// The record names another process than the socket does.
    #[error("record of this connection is of another process")]
    ForeignRecord,
    #[error("peer is in another PID namespace than the agent")]
    ForeignPidNamespace,
    #[error("process {pid} is gone")]
    Gone { pid: u32 },
    #[error("evidence of grade {grade} is below the minimum of {minimum}")]
    BelowMinimum { grade: Grade, minimum: Grade },
    #[error("peer of the socket cannot be read")]
    Socket(#[from] io::Error),
}

impl Grade {
    /// The best that this kernel can give without hooks.
    pub fn best_without_hooks() -> Self {
        let pair = std::os::unix::net::UnixStream::pair();
        match pair.map(|(ours, _theirs)| peer_pidfd(&ours)) {
            Ok(Ok(Some(_))) => Self::Pidfd,
            _ => Self::Peercred,
        }
    }
}

impl Evidence {
    /// # Errors
    /// With a capture of connects, whatever lacks a record is refused; it is never attested another way.
    pub fn of(socket: &impl AsFd, capture: Option<&Capture>) -> Result<Self, Refusal> {
        match capture.filter(|capture| capture.captures_connects()) {
            Some(capture) => {
                let record = capture.connect_record(socket.as_fd())?.ok_or(Refusal::NoRecord)?;
                Ok(Self::Record(Box::new(record)))
            }
            None => Ok(Self::Socket),
        }
    }

    pub fn record(&self) -> Option<&Sighting> {
        match self {
            Self::Record(connect) => Some(connect),
            Self::Socket => None,
        }
    }
}

impl Peer {
    /// Asks the kernel about the peer of `socket`, with the best evidence that `capture` allows.
    ///
    /// # Errors
    /// When there is no evidence, or it does not fit.
    pub fn of(socket: &impl AsFd, capture: Option<&Capture>, minimum: Grade) -> Result<Self, Refusal> {
        Self::shown_by(Evidence::of(socket, capture)?, socket, capture, minimum)
    }

    /// The peer of `socket`, which `evidence` of the same socket shows.
    ///
    /// # Errors
    /// When the evidence is of another process than the socket's peer, which may be gone.
    pub fn shown_by(
        evidence: Evidence,
        socket: &impl AsFd,
        capture: Option<&Capture>,
        minimum: Grade,
    ) -> Result<Self, Refusal> {
        let credentials = getsockopt(socket, sockopt::PeerCredentials).map_err(io::Error::from)?;
        let pid = u32::try_from(credentials.pid())
            .ok()
            .filter(|pid| *pid > 0)
            .ok_or(Refusal::ForeignPidNamespace)?;
        let peer = match evidence {
            Evidence::Record(connect) => Self::from_record(connect, peer_pidfd(socket)?, capture)?,
            Evidence::Socket => {
                let proof = match peer_pidfd(socket)? {
                    Some(pidfd) => Proof::Pidfd { pidfd },
                    None => Proof::StartTime { ticks: start_ticks(pid)? },
                };
                let grade = if matches!(proof, Proof::Pidfd { .. }) { Grade::Pidfd } else { Grade::Peercred };
                let cgroup = procfs_cgroup(pid);
                let containment = containment(cgroup.as_deref());
                let (uid, gid) = (credentials.uid(), credentials.gid());
                let peer = Self { pid, uid, gid, grade, proof, cgroup, containment };
                peer.check_alive()?;
                peer
            }
        };
        if peer.grade < minimum {
            return Err(Refusal::BelowMinimum { grade: peer.grade, minimum });
        }
        Ok(peer)
    }

    /// Who connected an accepted TCP socket, at grade kernel; `None` where nobody knows, which is a sign of nothing: see
    /// [`Capture::tcp_peer`].
    ///
    /// The kernel gives no descriptor of such a peer: the process is found by its number, and told from others that had
    /// the number by the inode of the recorded pid, or by when it started.
    ///
    /// # Errors
    /// When the process that connected is gone: whoever holds the socket now is another one.
    pub fn of_tcp(socket: &impl AsFd, capture: Option<&Capture>) -> Result<Option<Self>, Refusal> {
        let Some(capture) = capture else { return Ok(None) };
        let Some(connect) = capture.tcp_peer(socket.as_fd())? else { return Ok(None) };
        Self::from_tcp_record(connect, Some(capture)).map(Some)
    }

    fn from_tcp_record(connect: Sighting, capture: Option<&Capture>) -> Result<Self, Refusal> {
        let record = &connect.task;
        let pidfd = match record.pid_ino {
            Some(inode) => Some(pidfd_of(record.pid, inode).ok_or(Refusal::Gone { pid: record.pid })?),
            None => None,
        };
        Self::from_record(Box::new(connect), pidfd, capture)
    }

    fn from_record(
        connect: Box<Sighting>,
        pidfd: Option<OwnedFd>,
        capture: Option<&Capture>,
    ) -> Result<Self, Refusal> {
        let record = &connect.task;
        // A second connect() on a shared socket may have left the record of a process that is not the peer.
        match (record.pid_ino, &pidfd) {
            (Some(recorded), Some(pidfd)) => {
                if pidfd_inode(pidfd)? != recorded.get() {
                    return Err(Refusal::ForeignRecord);
                }
            }
            // Below Linux 6.9 a pid has no inode of its own.
            _ => {
                let ticks = start_ticks(record.pid)?;
                if ticks != recorded_ticks(record) {
                    return Err(Refusal::ForeignRecord);
                }
            }
        }
        let cgroup = capture.and_then(|capture| capture.cgroup_path(record.cgroup_id).ok());
        let (pid, uid, gid) = (record.pid, record.euid, record.egid);
        let proof = Proof::Kernel { connect, pidfd };
        let containment = containment(cgroup.as_deref());
        let peer = Self { pid, uid, gid, grade: Grade::Kernel, proof, cgroup, containment };
        peer.check_alive()?;
        Ok(peer)
    }

    /// The process that connected still runs: not a later one with its number.
    pub fn check_alive(&self) -> Result<(), Refusal> {
        let alive = match &self.proof {
            Proof::Pidfd { pidfd } | Proof::Kernel { pidfd: Some(pidfd), .. } => !has_exited(pidfd)?,
            Proof::Kernel { connect, pidfd: None } => self.started_at(recorded_ticks(&connect.task)),
            Proof::StartTime { ticks } => self.started_at(*ticks),
        };
        if alive { Ok(()) } else { Err(Refusal::Gone { pid: self.pid }) }
    }

    /// What holds the connection to its process, in words for an operator.
    pub fn held_by(&self) -> &'static str {
        match &self.proof {
            Proof::Kernel { pidfd: Some(_), .. } => {
                "kernel record of the connect, its pid's inode compared by pidfd"
            }
            Proof::Kernel { pidfd: None, .. } => "kernel record of the connect, its start time compared",
            Proof::Pidfd { .. } => "peer pidfd, the rest from procfs",
            Proof::StartTime { .. } => "peer credentials, start time checked again, the rest from procfs",
        }
    }

    /// The process as the kernel saw it connect, at grade kernel.
    pub fn record(&self) -> Option<&Task> {
        match &self.proof {
            Proof::Kernel { connect, .. } => Some(&connect.task),
            Proof::Pidfd { .. } | Proof::StartTime { .. } => None,
        }
    }

    /// What tells the process from others of its pid: the inode of the pid, or when it started.
    pub fn birth(&self) -> u64 {
        match &self.proof {
            Proof::Kernel { connect, .. } => {
                connect.task.pid_ino.map_or(recorded_ticks(&connect.task), NonZeroU64::get)
            }
            Proof::Pidfd { pidfd } => pidfd_inode(pidfd).unwrap_or(0),
            Proof::StartTime { ticks } => *ticks,
        }
    }

    /// The descriptor that holds it to its process, once more.
    pub(super) fn pidfd(&self) -> Option<OwnedFd> {
        match &self.proof {
            Proof::Pidfd { pidfd } | Proof::Kernel { pidfd: Some(pidfd), .. } => pidfd.try_clone().ok(),
            Proof::Kernel { pidfd: None, .. } | Proof::StartTime { .. } => None,
        }
    }

    fn started_at(&self, ticks: u64) -> bool {
        start_ticks(self.pid).is_ok_and(|now| now == ticks)
    }

    /// Whom limits count for it.
    pub fn caller_key(&self) -> CallerKey {
        CallerKey::of(&self.containment, self.record(), self.uid)
    }
}

pub(super) fn containment(cgroup: Option<&str>) -> Containment {
    cgroup.map_or(Containment::Unsure, |path| Containment::of_cgroup(path, kernel::only_root_adds_to))
}

/// Since 2.6 `/proc/PID/stat` counts in hundredths of a second, whatever the kernel's own tick is.
const NANOS_PER_TICK: u64 = 10_000_000;

fn recorded_ticks(record: &Task) -> u64 {
    record.start_time.as_nanos() as u64 / NANOS_PER_TICK
}

/// SO_PEERPIDFD (Linux ≥ 6.5); `None` where the kernel does not know it.
fn peer_pidfd(socket: &impl AsFd) -> Result<Option<OwnedFd>, Refusal> {
    match pidfd::of_peer(socket.as_fd()) {
        Ok(pidfd) => Ok(Some(pidfd)),
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(None),
        // Reaped before the kernel kept pidfds of reaped peers (Linux < 6.16).
        Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::EINVAL | libc::ENODATA)) => {
            Err(Refusal::Gone { pid: 0 })
        }
        Err(error) => Err(error.into()),
    }
}

fn pidfd_inode(pidfd: &OwnedFd) -> io::Result<u64> {
    let stat = nix::sys::stat::fstat(pidfd)?;
    Ok(stat.st_ino)
}

/// A descriptor of process `pid`, if that is still the one whose pidfd has this inode.
pub(super) fn pidfd_of(pid: u32, inode: NonZeroU64) -> Option<OwnedFd> {
    let pidfd = pidfd::open(pid).ok()?;
    (pidfd_inode(&pidfd).ok()? == inode.get()).then_some(pidfd)
}

/// A pidfd becomes readable when its process has exited.
fn has_exited(pidfd: &OwnedFd) -> io::Result<bool> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    Ok(poll(&mut fds, PollTimeout::ZERO)? > 0)
}

/// Field 22 of `/proc/PID/stat`: when the process started, in ticks since boot.
fn start_ticks(pid: u32) -> Result<u64, Refusal> {
    let mut text = String::new();
    let file = std::fs::File::open(format!("/proc/{pid}/stat"));
    let read = file.and_then(|file| file.take(4096).read_to_string(&mut text));
    let fields = read.ok().and_then(|_| parse_start_ticks(&text));
    fields.ok_or(Refusal::Gone { pid })
}

/// The name in field 2 may hold anything, `) S 1 (` and line feeds included: the last parenthesis ends it.
fn parse_start_ticks(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

pub(super) fn procfs_cgroup(pid: u32) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Peercred => "peercred",
            Self::Pidfd => "pidfd",
            Self::Kernel => "kernel",
        })
    }
}

impl FromStr for Grade {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Peercred, Self::Pidfd, Self::Kernel]
            .into_iter()
            .find(|grade| grade.to_string() == text)
            .ok_or(())
    }
}

impl Refusal {
    /// The one label under which refusals are counted.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoRecord => "no_record",
            Self::ForeignRecord => "foreign_record",
            Self::ForeignPidNamespace => "foreign_pid_namespace",
            Self::Gone { .. } => "gone",
            Self::BelowMinimum { .. } => "below_minimum",
            Self::Socket(_) => "socket",
        }
    }

    /// The number under which an operator finds it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoRecord => "E0401",
            Self::ForeignRecord => "E0402",
            Self::ForeignPidNamespace => "E0403",
            Self::Gone { .. } => "E0404",
            Self::BelowMinimum { .. } => "E0405",
            Self::Socket(_) => "E0406",
        }
    }
}

/// Calls for which there is no safe wrapper.
mod pidfd {
    #![expect(unsafe_code, reason = "nix knows neither SO_PEERPIDFD nor pidfd_open")]

    use std::{
        io,
        os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    };

    const SO_PEERPIDFD: libc::c_int = 77;

    pub(super) fn open(pid: u32) -> io::Result<OwnedFd> {
        let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
        // SAFETY: no pointers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let fd = i32::try_from(fd).map_err(io::Error::other)?;
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just installed `fd` for us; nobody else holds it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    pub(super) fn of_peer(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        let mut fd: libc::c_int = -1;
        let mut length = libc::socklen_t::try_from(size_of_val(&fd)).expect("a size of 4 fits");
        // SAFETY: both pointers are to live locals of the sizes given, and the kernel writes no further.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_PEERPIDFD,
                (&raw mut fd).cast(),
                &raw mut length,
            )
        };
        if result != 0 || fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just installed `fd` for us; nobody else holds it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

#[cfg(test)]
mod tests {
    use vouch_abi::{ConnectRecord, Identity};

    use super::*;

    #[test]
    fn a_name_cannot_shift_the_fields_of_stat() {
        let fields: Vec<String> = (3..=52).map(|n| n.to_string()).collect();
        for name in ["sh", "a) S 1 (b\nUid: 0", ")", "((("] {
            let stat = format!("12 ({name}) {}", fields.join(" "));
            assert_eq!(parse_start_ticks(&stat), Some(22), "{name:?}");
        }
        assert_eq!(parse_start_ticks(""), None);
        assert_eq!(parse_start_ticks("1 (x) S 1"), None);
    }

    #[test]
    fn a_peer_without_hooks_is_found_at_the_best_grade_of_this_kernel() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let peer = Peer::of(&ours, None, Grade::Peercred).unwrap();
        assert_eq!(peer.pid, std::process::id());
        assert_eq!(peer.grade, Grade::best_without_hooks());
        // What is asked for is what this kernel can do, not what another one could.
        let pinned = matches!(peer.proof, Proof::Pidfd { .. });
        assert_eq!(pinned, pidfd::of_peer(ours.as_fd()).is_ok());
        let refused = Peer::of(&ours, None, Grade::Kernel).unwrap_err();
        assert!(matches!(refused, Refusal::BelowMinimum { .. }));
    }

    /// A record of this process, or of another one that had its number.
    fn tcp_record(pid_inode: u64, start_ticks: u64) -> Sighting {
        let connector = Identity {
            tgid: std::process::id(),
            pid_inode,
            start_time_ns: start_ticks * NANOS_PER_TICK,
            ..Identity::default()
        };
        Sighting::from(&ConnectRecord { connector, ..ConnectRecord::default() })
    }

    #[test]
    fn a_peer_over_tcp_is_the_process_of_the_record_and_no_other_of_its_number() {
        let inode = pidfd_inode(&pidfd::open(std::process::id()).unwrap()).unwrap();
        let started = start_ticks(std::process::id()).unwrap();
        for (inode, started) in [(inode, 0), (0, started)] {
            let peer = Peer::from_tcp_record(tcp_record(inode, started), None).unwrap();
            assert_eq!((peer.pid, peer.grade), (std::process::id(), Grade::Kernel));
            assert_eq!(peer.pidfd().is_some(), inode != 0);
        }
        let other = Peer::from_tcp_record(tcp_record(inode + 1, started), None).unwrap_err();
        assert!(matches!(other, Refusal::Gone { pid } if pid == std::process::id()), "{other}");
        let other = Peer::from_tcp_record(tcp_record(0, started + 1), None).unwrap_err();
        assert!(matches!(other, Refusal::ForeignRecord), "{other}");
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(Peer::of_tcp(&ours, None).unwrap().is_none(), "without hooks nobody is known");
    }
}
