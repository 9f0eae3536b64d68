use std::{fs, io, num::NonZeroU64, os::unix::fs::MetadataExt, time::Duration};

use vouch_abi::{COMM_LEN, Identity};

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
    /// `None` for kernel threads, and for a process that is leaving.
    pub exe: Option<FileId>,
    /// Inode of the cgroup2 directory: see `Capture::cgroup_path`.
    pub cgroup_id: u64,
    pub namespaces: Namespaces,
    comm: [u8; COMM_LEN],
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

impl Task {
    /// The name that the process gave itself, for people to read. Never a selector.
    pub fn comm(&self) -> String {
        let length = self.comm.iter().position(|byte| *byte == 0).unwrap_or(COMM_LEN);
        String::from_utf8_lossy(&self.comm[..length]).into_owned()
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
            exe: FileId::of(identity),
            cgroup_id: identity.cgroup_id,
            namespaces: Namespaces {
                pid: identity.pid_namespace,
                mnt: identity.mnt_namespace,
                net: identity.net_namespace,
                user: identity.user_namespace,
                cgroup: identity.cgroup_namespace,
            },
            comm: identity.comm,
        }
    }
}

impl FileId {
    fn of(identity: &Identity) -> Option<Self> {
        /// The kernel's `MINORBITS`.
        const MINOR_BITS: u32 = 20;
        /// From Linux 6.13 on the top bit says whether somebody has looked at the time since it changed.
        const NANOSECONDS: u32 = 0x7fff_ffff;
        (identity.exe_inode != 0).then_some(Self {
            major: identity.exe_device >> MINOR_BITS,
            minor: identity.exe_device & ((1 << MINOR_BITS) - 1),
            inode: identity.exe_inode,
            generation: identity.exe_generation,
            ctime_sec: identity.exe_ctime_sec,
            ctime_nsec: identity.exe_ctime_nsec & NANOSECONDS,
        })
    }
}

impl Namespaces {
    /// `PROC_USER_INIT_INO`, `PROC_PID_INIT_INO` and `PROC_CGROUP_INIT_INO` of `linux/proc_ns.h`.
    const HOST_USER: u32 = 0xefff_fffd;
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
}
