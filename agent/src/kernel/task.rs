use std::{fs, io, num::NonZeroU64, os::unix::fs::MetadataExt, time::Duration};

use vouch_abi::{COMM_LEN, ConnectorKey, ExecutedFile, Identity, MAX_GROUPS, seccomp};

/// One process (or the thread of it that acted) as the kernel saw it at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Task {
    /// When this was read, since boot (`CLOCK_BOOTTIME`).
    pub recorded_at: Duration,
    /// Thread group, as the initial pid namespace counts.
    pub pid: u32,
    /// The thread that acted; the process's first thread where no particular one did.
    pub tid: u32,
    /// The thread group as its own pid namespace counts.
    pub pid_in_namespace: u32,
    /// Start of the thread group since boot; with `pid` it names one run of a process.
    pub start_time: Duration,
    /// What `fstat` of a pidfd gives as inode: never used again before the next boot. `None` below Linux 6.9.
    pub pid_ino: Option<NonZeroU64>,
    /// Grows by one with each exec.
    pub exec_count: u64,
    pub parent: Parent,
    pub uid: u32,
    pub gid: u32,
    pub euid: u32,
    pub egid: u32,
    /// Effective, one bit each as in capabilities(7); they are capabilities in the process's own user namespace. Of its
    /// first thread, as are `no_new_privs` and `seccomp`.
    pub capabilities: u64,
    /// Whether neither it nor whatever it executes can gain a privilege by an exec.
    pub no_new_privs: bool,
    pub seccomp: Seccomp,
    /// `None` for kernel threads, and for a process that is leaving.
    pub exe: Option<FileId>,
    /// Inode of the cgroup2 directory: see `Capture::cgroup_path`.
    pub cgroup_id: u64,
    pub namespaces: Namespaces,
    /// Below the host's, of all user namespaces around it; `None` in the host's own.
    pub outer_user_namespace: Option<UserNamespace>,
    groups: [u32; MAX_GROUPS],
    /// Those included for which there is no room.
    group_count: u32,
    comm: [u8; COMM_LEN],
}

/// Whether system calls are filtered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Seccomp {
    Off,
    /// Nothing but read, write and exit.
    Strict,
    Filter,
    /// The kernel is built without it, or has a mode that we do not know.
    Unknown,
}

/// The parent at that instant; pid 0 when there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    pub pid: u32,
    pub start_time: Duration,
}

/// One state of one file. A change of content or metadata changes the ctime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Device, as `stat` prints it.
    pub major: u32,
    pub minor: u32,
    pub inode: u64,
    /// Tells two files apart that had the same inode number one after the other.
    pub generation: u32,
    pub ctime_sec: i64,
    pub ctime_nsec: u32,
}

/// Inodes of namespaces, as `stat` of `/proc/PID/ns/*` gives them. 0 is "unknown": a process that is leaving has
/// given its namespaces back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Namespaces {
    pub pid: u32,
    pub mnt: u32,
    pub net: u32,
    pub user: u32,
    pub cgroup: u32,
}

/// A user namespace, and who answers for what is done in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UserNamespace {
    /// As in [`Namespaces`].
    pub inode: u32,
    /// Effective uid of whoever made it, in the initial user namespace.
    pub owner: u32,
}

impl Task {
    /// The name that the process gave itself, for people to read. Never a selector.
    pub fn comm(&self) -> String {
        let length = self.comm.iter().position(|byte| *byte == 0).unwrap_or(COMM_LEN);
        String::from_utf8_lossy(&self.comm[..length]).into_owned()
    }

    /// What its connects are known by.
    pub fn connector_key(&self) -> ConnectorKey {
        let outer = self.outer_user_namespace.map(|namespace| (namespace.inode, namespace.owner));
        ConnectorKey::new(self.cgroup_id, self.euid, outer)
    }

    /// In the kernel's order. `None` when there are more than the record has room for.
    pub fn supplementary_groups(&self) -> Option<&[u32]> {
        self.groups.get(..self.group_count as usize)
    }

    /// Whether these, in the kernel's order, may be its supplementary groups, as far as the record tells.
    pub fn may_have_groups(&self, groups: &[u32]) -> bool {
        let recorded = self.groups.get(..self.group_count as usize).unwrap_or(&self.groups);
        groups.len() == self.group_count as usize && groups.starts_with(recorded)
    }

    /// Whether this is the run that `before` was, with all that attestation learns from a task as it was. Thread,
    /// time, name and parent may differ.
    pub fn unchanged_since(&self, before: &Self) -> bool {
        // Every field is named, so that a new one is decided on.
        let compared = |task: &Self| {
            let Self {
                recorded_at: _,
                tid: _,
                parent: _,
                comm: _,
                pid,
                pid_in_namespace: _,
                start_time,
                pid_ino,
                exec_count,
                uid,
                gid,
                euid,
                egid,
                capabilities,
                no_new_privs,
                seccomp,
                exe,
                cgroup_id,
                namespaces,
                outer_user_namespace,
                groups,
                group_count,
            } = *task;
            let run = (pid, start_time, pid_ino, exec_count);
            let credentials = (uid, gid, euid, egid, groups, group_count);
            let confinement = (capabilities, no_new_privs, seccomp);
            (run, credentials, confinement, exe, cgroup_id, namespaces, outer_user_namespace)
        };
        compared(self) == compared(before)
    }
}

impl From<u32> for Seccomp {
    fn from(mode: u32) -> Self {
        match mode {
            seccomp::OFF => Self::Off,
            seccomp::STRICT => Self::Strict,
            seccomp::FILTER => Self::Filter,
            _ => Self::Unknown,
        }
    }
}

impl From<&Identity> for Task {
    fn from(identity: &Identity) -> Self {
        Self {
            recorded_at: Duration::from_nanos(identity.recorded_ns),
            pid: identity.tgid,
            tid: identity.tid,
            pid_in_namespace: identity.namespace_tgid,
            start_time: Duration::from_nanos(identity.start_time_ns),
            pid_ino: NonZeroU64::new(identity.pid_inode),
            exec_count: identity.exec_count,
            parent: Parent {
                pid: identity.parent_tgid,
                start_time: Duration::from_nanos(identity.parent_start_time_ns),
            },
            uid: identity.uid,
            gid: identity.gid,
            euid: identity.euid,
            egid: identity.egid,
            capabilities: identity.capabilities,
            no_new_privs: identity.no_new_privs != 0,
            seccomp: Seccomp::from(identity.seccomp),
            exe: FileId::of(identity),
            cgroup_id: identity.cgroup_id,
            namespaces: Namespaces {
                pid: identity.pid_namespace,
                mnt: identity.mnt_namespace,
                net: identity.net_namespace,
                user: identity.user_namespace,
                cgroup: identity.cgroup_namespace,
            },
            outer_user_namespace: UserNamespace::of(identity),
            groups: identity.groups,
            group_count: identity.group_count,
            comm: identity.comm,
        }
    }
}

impl FileId {
    /// The same file, in whatever state.
    pub fn is_same_file(&self, other: &Self) -> bool {
        let file = |id: &Self| (id.major, id.minor, id.inode, id.generation);
        file(self) == file(other)
    }

    fn of(identity: &Identity) -> Option<Self> {
        Self::of_executed(&ExecutedFile {
            inode: identity.exe_inode,
            ctime_sec: identity.exe_ctime_sec,
            ctime_nsec: identity.exe_ctime_nsec,
            generation: identity.exe_generation,
            device: identity.exe_device,
            kind: 0,
        })
    }

    pub(super) fn of_executed(file: &ExecutedFile) -> Option<Self> {
        /// The kernel's `MINORBITS`.
        const MINOR_BITS: u32 = 20;
        /// From Linux 6.13 on the top bit says whether somebody has looked at the time since it changed.
        const NANOSECONDS: u32 = 0x7fff_ffff;
        (file.inode != 0).then_some(Self {
            major: file.device >> MINOR_BITS,
            minor: file.device & ((1 << MINOR_BITS) - 1),
            inode: file.inode,
            generation: file.generation,
            ctime_sec: file.ctime_sec,
            ctime_nsec: file.ctime_nsec & NANOSECONDS,
        })
    }
}

impl UserNamespace {
    fn of(identity: &Identity) -> Option<Self> {
        let (inode, owner) = (identity.outer_user_namespace, identity.outer_user_namespace_owner);
        (inode != 0).then_some(Self { inode, owner })
    }
}

impl Namespaces {
    /// `PROC_USER_INIT_INO`, `PROC_PID_INIT_INO` and `PROC_CGROUP_INIT_INO` of `linux/proc_ns.h`.
    pub(super) const HOST_USER: u32 = 0xefff_fffd;
    const HOST_PID: u32 = 0xefff_fffc;
    const HOST_CGROUP: u32 = 0xefff_fffb;

    /// The host's own namespaces. Those of mounts and network have no number that is fixed on every kernel, so
    /// pid 1 is asked; where it is kept from view, as some machines do, `kthreadd`, which is always pid 2 there.
    ///
    /// # Errors
    /// When the agent sees another pid namespace than the host's, where these pids are somebody else, and when
    /// it may look at neither.
    pub fn of_host() -> io::Result<Self> {
        if inode("/proc/self/ns/pid")? != Self::HOST_PID {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the agent is not in the host's pid namespace, so it cannot tell the host's namespaces",
            ));
        }
        let of_init = |name: &str| {
            inode(&format!("/proc/1/ns/{name}")).or_else(|_| inode(&format!("/proc/2/ns/{name}")))
        };
        Ok(Self {
            pid: Self::HOST_PID,
            mnt: of_init("mnt")?,
            net: of_init("net")?,
            user: Self::HOST_USER,
            cgroup: Self::HOST_CGROUP,
        })
    }
}

fn inode(path: &str) -> io::Result<u32> {
    u32::try_from(fs::metadata(path)?.ino()).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_number_is_split_as_stat_prints_it() {
        let identity = Identity { exe_inode: 7, exe_device: 259 << 20 | 3, ..Identity::default() };
        let file = FileId::of(&identity).unwrap();
        assert_eq!((file.major, file.minor, file.inode), (259, 3, 7));
    }

    #[test]
    fn the_flag_in_the_nanoseconds_is_no_time() {
        let identity = Identity { exe_inode: 7, exe_ctime_nsec: 0x8000_0005, ..Identity::default() };
        assert_eq!(FileId::of(&identity).unwrap().ctime_nsec, 5);
    }

    #[test]
    fn a_kernel_thread_has_no_executable() {
        assert_eq!(Task::from(&Identity::default()).exe, None);
    }

    #[test]
    fn a_name_of_full_length_needs_no_end() {
        let task = Task::from(&Identity { comm: *b"sixteen-letters!", ..Identity::default() });
        assert_eq!(task.comm(), "sixteen-letters!");
    }

    #[test]
    fn more_groups_than_recorded_are_not_known() {
        let groups = std::array::from_fn(|index| index as u32);
        let of = |group_count| Task::from(&Identity { groups, group_count, ..Identity::default() });
        assert_eq!(of(0).supplementary_groups(), Some(&[][..]));
        assert_eq!(of(2).supplementary_groups(), Some(&[0, 1][..]));
        assert_eq!(of(16).supplementary_groups(), Some(&groups[..]));
        for count in [17, u32::MAX] {
            assert_eq!(of(count).supplementary_groups(), None);
        }
        let more: Vec<u32> = (0..17).collect();
        assert!(of(17).may_have_groups(&more) && of(2).may_have_groups(&more[..2]));
        assert!(!of(18).may_have_groups(&more) && !of(16).may_have_groups(&more[1..]));
        assert!(!of(17).may_have_groups(&more.iter().map(|gid| gid + 1).collect::<Vec<_>>()));
    }

    #[test]
    fn what_attestation_learns_changes_a_task_and_the_rest_does_not() {
        type Change = fn(&mut Identity);
        let same: [(&str, Change); 6] = [
            ("recorded_ns", |task| task.recorded_ns += 1),
            ("tid", |task| task.tid += 1),
            ("comm", |task| task.comm[0] += 1),
            ("parent_tgid", |task| task.parent_tgid += 1),
            ("parent_start_time_ns", |task| task.parent_start_time_ns += 1),
            ("flag of the ctime", |task| task.exe_ctime_nsec |= 1 << 31),
        ];
        let other: [(&str, Change); 26] = [
            ("tgid", |task| task.tgid += 1),
            ("start_time_ns", |task| task.start_time_ns += 1),
            ("pid_inode", |task| task.pid_inode += 1),
            ("exec_count", |task| task.exec_count += 1),
            ("uid", |task| task.uid += 1),
            ("gid", |task| task.gid += 1),
            ("euid", |task| task.euid += 1),
            ("egid", |task| task.egid += 1),
            ("groups", |task| task.groups[0] += 1),
            ("group_count", |task| task.group_count += 1),
            ("capabilities", |task| task.capabilities ^= 1 << 40),
            ("no_new_privs", |task| task.no_new_privs = 1),
            ("seccomp", |task| task.seccomp = seccomp::FILTER),
            ("cgroup_id", |task| task.cgroup_id += 1),
            ("pid_namespace", |task| task.pid_namespace += 1),
            ("mnt_namespace", |task| task.mnt_namespace += 1),
            ("net_namespace", |task| task.net_namespace += 1),
            ("user_namespace", |task| task.user_namespace += 1),
            ("cgroup_namespace", |task| task.cgroup_namespace += 1),
            ("outer_user_namespace", |task| task.outer_user_namespace += 1),
            ("outer_user_namespace_owner", |task| task.outer_user_namespace_owner += 1),
            ("exe_inode", |task| task.exe_inode += 1),
            ("exe_device", |task| task.exe_device += 1),
            ("exe_generation", |task| task.exe_generation += 1),
            ("exe_ctime_sec", |task| task.exe_ctime_sec += 1),
            ("exe_ctime_nsec", |task| task.exe_ctime_nsec += 1),
        ];
        let before = Identity {
            tgid: 7,
            pid_inode: 8,
            exe_inode: 9,
            group_count: 1,
            outer_user_namespace: 10,
            seccomp: seccomp::OFF,
            ..Identity::default()
        };
        let unchanged = |change: Change| {
            let mut after = before;
            change(&mut after);
            Task::from(&after).unchanged_since(&Task::from(&before))
        };
        for (name, change) in same {
            assert!(unchanged(change), "{name}");
        }
        for (name, change) in other {
            assert!(!unchanged(change), "{name}");
        }
    }
}
