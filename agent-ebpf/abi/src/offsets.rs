use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Where one field of [`Offsets`] comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset {
    /// The field's name in [`Offsets`].
    pub name: &'static str,
    /// `struct.member.member`, tried in this order: kernels differ.
    pub paths: &'static [&'static str],
}

macro_rules! offsets {
    ($($(#[$doc:meta])* $name:ident: $($path:literal)|+,)*) => {
        /// Byte offsets in the running kernel's structures, resolved from its BTF when the agent starts and
        /// frozen before the programs are verified, so that the verifier checks each access by type.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        pub struct Offsets { $($(#[$doc])* pub $name: u32,)* }

        impl Offsets {
            pub const ZERO: Self = Self { $($name: 0,)* };
            /// One row for each field, in the order of the fields.
            pub const TABLE: &'static [Offset] =
                &[$(Offset { name: stringify!($name), paths: &[$($path),+] },)*];
        }
    };
}

offsets! {
    task_tgid: "task_struct.tgid",
    task_tid: "task_struct.pid",
    task_start_boottime: "task_struct.start_boottime",
    task_group_leader: "task_struct.group_leader",
    task_real_parent: "task_struct.real_parent",
    /// What the task acts with.
    task_cred: "task_struct.cred",
    /// What others see of it.
    task_real_cred: "task_struct.real_cred",
    task_mm: "task_struct.mm",
    task_cgroups: "task_struct.cgroups",
    task_nsproxy: "task_struct.nsproxy",
    task_thread_pid: "task_struct.thread_pid",
    task_self_exec_id: "task_struct.self_exec_id",
    task_comm: "task_struct.comm",
    task_signal: "task_struct.signal",
    task_atomic_flags: "task_struct.atomic_flags",
    /// Optional: see [`Features::seccomp`].
    task_seccomp_mode: "task_struct.seccomp.mode",
    signal_live: "signal_struct.live.counter",
    cred_uid: "cred.uid",
    cred_gid: "cred.gid",
    cred_euid: "cred.euid",
    cred_egid: "cred.egid",
    cred_user_ns: "cred.user_ns",
    /// Eight bytes, whatever they are called inside.
    cred_cap_effective: "cred.cap_effective",
    cred_group_info: "cred.group_info",
    group_info_ngroups: "group_info.ngroups",
    group_info_gid: "group_info.gid",
    mm_exe_file: "mm_struct.exe_file",
    file_inode: "file.f_inode",
    inode_ino: "inode.i_ino",
    inode_sb: "inode.i_sb",
    inode_generation: "inode.i_generation",
    inode_ctime_sec: "inode.i_ctime_sec" | "inode.__i_ctime.tv_sec" | "inode.i_ctime.tv_sec",
    inode_ctime_nsec: "inode.i_ctime_nsec" | "inode.__i_ctime.tv_nsec" | "inode.i_ctime.tv_nsec",
    sb_dev: "super_block.s_dev",
    css_set_dfl_cgrp: "css_set.dfl_cgrp",
    cgroup_kn: "cgroup.kn",
    kernfs_node_id: "kernfs_node.id",
    nsproxy_mnt_ns: "nsproxy.mnt_ns",
    nsproxy_net_ns: "nsproxy.net_ns",
    nsproxy_cgroup_ns: "nsproxy.cgroup_ns",
    mnt_ns_inum: "mnt_namespace.ns.inum",
    net_ns_inum: "net.ns.inum",
    cgroup_ns_inum: "cgroup_namespace.ns.inum",
    pid_ns_inum: "pid_namespace.ns.inum",
    user_ns_inum: "user_namespace.ns.inum",
    user_ns_level: "user_namespace.level",
    user_ns_parent: "user_namespace.parent",
    user_ns_owner: "user_namespace.owner",
    pid_level: "pid.level",
    pid_numbers: "pid.numbers",
    /// Optional: see [`Features::pid_inode`].
    pid_ino: "pid.ino",
    upid_nr: "upid.nr",
    upid_ns: "upid.ns",
    /// Needed by the AF_UNIX hooks alone.
    unix_sock_peer: "unix_sock.peer",
}
const _: () = assert!(Offsets::TABLE.len() * size_of::<u32>() == size_of::<Offsets>());

/// What this kernel has. A branch behind a zero is dead to the verifier, so its offsets may be anything.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Features {
    /// 1 when pids have an inode of their own (Linux 6.9).
    pub pid_inode: u32,
    /// 1 when it is built with seccomp.
    pub seccomp: u32,
    /// Size of `struct upid`.
    pub upid_size: u32,
    pub padding: u32,
}
const _: () = assert!(size_of::<Features>() == 16);

impl Features {
    pub const NONE: Self = Self { pid_inode: 0, seccomp: 0, upid_size: 0, padding: 0 };
}
