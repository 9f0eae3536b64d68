use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a task's name, the closing NUL included.
pub const COMM_LEN: usize = 16;
/// Supplementary groups that are recorded.
pub const MAX_GROUPS: usize = 16;

/// One task as the kernel sees it at one instant. Zero means "none" in every field but the uids and gids.
///
/// Ids and groups of who calls `connect()` are the ones that it acts with; of any other task, and of the whole group,
/// they are the task's own, since the kernel lends a task foreign ones for moments.
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
    /// Effective capabilities of the thread group's first thread, one bit each, in its own user namespace.
    pub capabilities: u64,
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
    /// 1 when the thread group's first thread, and whatever it executes, can gain no privilege by an exec.
    pub no_new_privs: u32,
    /// One of [`seccomp`], of the thread group's first thread.
    pub seccomp: u32,
    /// Supplementary groups, those included for which there is no room in `groups`.
    pub group_count: u32,
    /// Inode of the outermost user namespace below the initial one that the task is in; 0 in the initial one.
    pub outer_user_namespace: u32,
    /// Effective uid of whoever made that one, as the initial user namespace counts.
    pub outer_user_namespace_owner: u32,
    pub padding: u32,
    /// The first `group_count`, zero behind them.
    pub groups: [u32; MAX_GROUPS],
    /// NUL-padded. Chosen by the process itself, so never a selector.
    pub comm: [u8; COMM_LEN],
}
const _: () = assert!(size_of::<Identity>() == 240);

/// Values of [`Identity::seccomp`]: the kernel's mode and one, so that zero is left for a kernel without it.
pub mod seccomp {
    pub const UNKNOWN: u32 = 0;
    pub const OFF: u32 = 1;
    pub const STRICT: u32 = 2;
    pub const FILTER: u32 = 3;
}

/// What the record of a connect tells at once of whose it is, as the agent's limits count: connections with one key have one
/// caller, which may have many keys.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ConnectorKey {
    pub cgroup_id: u64,
    /// Inode of the outermost user namespace, if root made it.
    pub user_namespace: u32,
    /// Else who made it, or the effective uid of whoever is in none.
    pub uid: u32,
}
const _: () = assert!(size_of::<ConnectorKey>() == 16);

impl ConnectorKey {
    /// Nobody's uid; here it stands for all of a cgroup's.
    const ANY: u32 = u32::MAX;

    #[inline(always)]
    pub fn of(connector: &Identity) -> Self {
        let (namespace, owner) = (connector.outer_user_namespace, connector.outer_user_namespace_owner);
        Self::new(connector.cgroup_id, connector.euid, (namespace != 0).then_some((namespace, owner)))
    }

    /// `outer` is the outermost user namespace below the initial one and who made it.
    #[inline(always)]
    pub fn new(cgroup_id: u64, euid: u32, outer: Option<(u32, u32)>) -> Self {
        let (user_namespace, uid) = match outer {
            None => (0, euid),
            Some((inode, 0)) => (inode, 0),
            Some((_, owner)) => (0, owner),
        };
        Self { cgroup_id, user_namespace, uid }
    }

    /// Of everybody in the cgroup: where it is a container's, its uids are one caller.
    #[inline(always)]
    pub fn of_whole_cgroup(self) -> Self {
        Self { user_namespace: 0, uid: Self::ANY, ..self }
    }
}

/// A process at one instant, and where it comes from. The connect hook leaves it in the client's socket storage, and
/// the getsockname hook copies it into the storage of the accepted socket; the list of tasks is made of them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ConnectRecord {
    /// The task that called `connect()`; in the list of tasks the first thread of each group.
    pub connector: Identity,
    pub origin: Origin,
}
const _: () = assert!(size_of::<ConnectRecord>() == 304);

/// Where a process comes from. A process may replace what the kernel calls its executable, and its parent by leaving it
/// behind; what the exec and fork hooks saw, it cannot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Origin {
    /// What it was last seen to execute, or what the one executed that it was forked from.
    pub executed: ExecutedFile,
    /// What the process that made this one was executing when it did.
    pub launcher: ExecutedFile,
}
const _: () = assert!(size_of::<Origin>() == 64);

/// A file that a process was seen to execute, as it was then, or that the process was there before anybody looked.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ExecutedFile {
    /// Zero when the file is not known.
    pub inode: u64,
    pub ctime_sec: i64,
    /// With the kernel's flag: see [`Identity::exe_ctime_nsec`].
    pub ctime_nsec: u32,
    pub generation: u32,
    /// The kernel's form: `major << 20 | minor`.
    pub device: u32,
    /// One of [`origin`].
    pub kind: u32,
}
const _: () = assert!(size_of::<ExecutedFile>() == 32);

/// Values of [`ExecutedFile::kind`].
pub mod origin {
    /// Nothing is known: there was no room, or the kernel gives pids no inode.
    pub const UNKNOWN: u32 = 0;
    /// The file is the one of the last exec, of the process or of the one that it was forked from.
    pub const EXECUTED: u32 = 1;
    /// Neither the process nor those it was forked from have executed anything since the hooks were attached. The
    /// file, if any, is the one that the agent found then.
    pub const BEFORE: u32 = 2;
}
