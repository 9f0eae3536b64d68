use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a task's name, the closing NUL included.
pub const COMM_LEN: usize = 16;

/// One task as the kernel sees it at one instant. Zero means "none" in every field but the uids and gids.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Identity {
    /// When this was read, since boot (suspended time included).
    pub recorded_ns: u64,
    /// Start of the thread group since boot; with `tgid` it names one run of a process.
    pub start_time_ns: u64,
    pub parent_start_time_ns: u64,
    /// Inode of the thread group's `struct pid` in pidfs, which `fstat` of a pidfd also gives. Never used
    /// again before the next boot. Zero below Linux 6.9.
    pub pid_inode: u64,
    /// Grows by one with each exec (`self_exec_id`).
    pub exec_count: u64,
    /// Inode of the task's cgroup2 directory.
    pub cgroup_id: u64,
    pub exe_inode: u64,
    pub exe_ctime_sec: i64,
    /// From Linux 6.13 on bit 31 is a flag of the kernel's own; user space masks it.
    pub exe_ctime_nsec: u32,
    pub exe_generation: u32,
    /// The kernel's form: `major << 20 | minor`.
    pub exe_device: u32,
    /// As the initial pid namespace counts.
    pub tgid: u32,
    /// As the initial pid namespace counts.
    pub tid: u32,
    /// Thread group of the parent, as the initial pid namespace counts.
    pub parent_tgid: u32,
    /// The thread group as its own pid namespace counts.
    pub namespace_tgid: u32,
    pub uid: u32,
    pub gid: u32,
    pub euid: u32,
    pub egid: u32,
    /// Inodes of the namespaces, as `stat` of `/proc/PID/ns/*` gives them.
    pub pid_namespace: u32,
    pub mnt_namespace: u32,
    pub net_namespace: u32,
    pub user_namespace: u32,
    pub cgroup_namespace: u32,
    /// NUL-padded. Chosen by the process itself, so never a selector.
    pub comm: [u8; COMM_LEN],
}
const _: () = assert!(size_of::<Identity>() == 144);

/// What the connect hook leaves in the client's socket storage, and the getsockname hook copies into the
/// storage of the accepted socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ConnectRecord {
    /// The task that called `connect()`.
    pub connector: Identity,
    /// What it was last seen to execute.
    pub origin: Origin,
}
const _: () = assert!(size_of::<ConnectRecord>() == 168);

/// What a process was last seen to execute, or that it was there before anybody looked. A process may replace what
/// the kernel calls its executable; what the exec hook saw, it cannot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Origin {
    pub exe_inode: u64,
    pub exe_device: u32,
    pub exe_generation: u32,
    /// One of [`origin`].
    pub kind: u32,
    pub padding: u32,
}
const _: () = assert!(size_of::<Origin>() == 24);

/// Values of [`Origin::kind`].
pub mod origin {
    /// Nothing is known: there was no room, or the kernel gives pids no inode.
    pub const UNKNOWN: u32 = 0;
    /// The file is the one of the last exec, of the process or of the one that it was forked from.
    pub const EXECUTED: u32 = 1;
    /// Neither the process nor those it was forked from have executed anything since the hooks were attached.
    pub const BEFORE: u32 = 2;
}
