use crate::{ConnectRecord, ConnectorKey, Event, ExecutedFile, Features, Identity, Origin};

/// A shared struct as this crate lays it out, to be compared with what the object's BTF says.
#[derive(Clone, Copy, Debug)]
pub struct StructLayout {
    pub name: &'static str,
    pub size: usize,
    /// Name and byte offset of each member.
    pub members: &'static [(&'static str, usize)],
}

macro_rules! layout {
    ($name:ident { $($member:ident),* $(,)? }) => {
        StructLayout {
            name: stringify!($name),
            size: size_of::<$name>(),
            members: &[$((stringify!($member), core::mem::offset_of!($name, $member))),*],
        }
    };
}

/// The structs that cross the border, but for `Offsets`, whose members are all `u32`.
pub const LAYOUTS: &[StructLayout] = &[
    layout!(Identity {
        recorded_ns,
        start_time_ns,
        parent_start_time_ns,
        pid_inode,
        exec_count,
        cgroup_id,
        capabilities,
        exe_inode,
        exe_ctime_sec,
        exe_ctime_nsec,
        exe_generation,
        exe_device,
        tgid,
        tid,
        parent_tgid,
        namespace_tgid,
        uid,
        gid,
        euid,
        egid,
        pid_namespace,
        mnt_namespace,
        net_namespace,
        user_namespace,
        cgroup_namespace,
        no_new_privs,
        seccomp,
        group_count,
        outer_user_namespace,
        outer_user_namespace_owner,
        padding,
        groups,
        comm,
    }),
    layout!(ConnectRecord { connector, origin }),
    layout!(ConnectorKey { cgroup_id, user_namespace, uid }),
    layout!(Origin { executed, launcher }),
    layout!(ExecutedFile { inode, ctime_sec, ctime_nsec, generation, device, kind }),
    layout!(Event { identity, sequence, cpu, kind }),
    layout!(Features { pid_inode, seccomp, upid_size, padding }),
];
