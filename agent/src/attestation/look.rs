//! One look at a process, and what differs between two of them.

use std::{fs, os::fd::OwnedFd, path::PathBuf, sync::Arc};

use super::{
    container::Containment,
    peer::{Grade, Peer, Proof, containment, pidfd_of, procfs_cgroup},
    proc_status::Status,
    witness::Subject,
};
use crate::kernel::{Capture, Sighting, Task};

/// A process at one instant, as far as its selectors depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Look {
    /// By the kernel's own programs, and the supplementary groups by procfs where there are more than those tell.
    Kernel(Box<Sighting>, Option<Vec<u32>>),
    /// By procfs, where there are none.
    Procfs(Box<Procfs>),
}

/// Nothing in it makes procfs touch the file system that the executable is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Procfs {
    pub(super) status: Status,
    pub(super) executable: Option<PathBuf>,
    pub(super) cgroup: Option<String>,
}

/// A process about which selectors are learned.
#[derive(Debug, Clone)]
pub(super) struct About {
    pub(super) pid: u32,
    /// Effective, in the initial user namespace.
    pub(super) uid: u32,
    /// Effective, in the initial user namespace.
    pub(super) gid: u32,
    pub(super) grade: Grade,
    pub(super) look: Look,
    /// Path from the cgroup2 root, when it is known.
    pub(super) cgroup: Option<String>,
    pub(super) containment: Containment,
}

/// What differs between two looks at one run of one process. Metrics name each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) exec: bool,
    /// The file that the kernel calls its executable, or its name, without an exec.
    pub(super) executable: bool,
    /// Something about that file, perhaps its content.
    pub(super) touched: bool,
    pub(super) credentials: bool,
    pub(super) cgroup: bool,
    /// Namespaces, seccomp.
    pub(super) confinement: bool,
}

impl Look {
    /// What the kernel saw now or a moment ago.
    pub(super) fn by_kernel(seen: Sighting) -> Self {
        let groups = match seen.task.supplementary_groups() {
            Some(_) => None,
            None => Status::read(seen.task.pid).ok().map(|status| status.groups),
        };
        let groups = groups.filter(|groups| seen.task.may_have_groups(groups));
        Self::Kernel(Box::new(seen), groups)
    }

    /// Reads procfs; `None` when the process cannot be seen.
    pub(super) fn by_procfs(pid: u32) -> Option<Self> {
        let status = Status::read(pid).ok()?;
        let executable = fs::read_link(format!("/proc/{pid}/exe")).ok();
        Some(Self::Procfs(Box::new(Procfs { status, executable, cgroup: procfs_cgroup(pid) })))
    }

    /// As the kernel saw it.
    pub(super) fn task(&self) -> Option<&Task> {
        match self {
            Self::Kernel(seen, _) => Some(&seen.task),
            Self::Procfs(_) => None,
        }
    }

    /// What has changed since `before`, a look at the same run of the same process.
    pub(super) fn changes_since(&self, before: &Self) -> Changes {
        match (self, before) {
            (Self::Kernel(now, groups), Self::Kernel(before, groups_before)) => {
                let changes = Changes::of_tasks(&now.task, &before.task);
                Changes { credentials: changes.credentials || groups != groups_before, ..changes }
            }
            (Self::Procfs(now), Self::Procfs(before)) => Changes {
                executable: now.executable != before.executable,
                credentials: now.status != before.status,
                cgroup: now.cgroup != before.cgroup,
                ..Changes::default()
            },
            // Evidence of another grade is no evidence of sameness.
            _ => Changes { exec: true, ..Changes::default() },
        }
    }
}

impl Changes {
    fn of_tasks(now: &Task, before: &Task) -> Self {
        let same_file = match (&now.exe, &before.exe) {
            (Some(now), Some(before)) => now.is_same_file(before),
            (now, before) => now.is_none() && before.is_none(),
        };
        let mut changes = Self {
            exec: now.exec_count != before.exec_count,
            executable: !same_file,
            touched: same_file && now.exe != before.exe,
            credentials: (now.uid, now.gid, now.euid, now.egid)
                != (before.uid, before.gid, before.euid, before.egid)
                || now.supplementary_groups() != before.supplementary_groups()
                || now.capabilities != before.capabilities
                || now.no_new_privs != before.no_new_privs,
            cgroup: now.cgroup_id != before.cgroup_id,
            confinement: now.namespaces != before.namespaces || now.seccomp != before.seccomp,
        };
        // Groups beyond those that a record holds are only counted.
        changes.credentials |= !changes.any() && !now.unchanged_since(before);
        changes
    }

    pub(super) fn any(self) -> bool {
        self != Self::default()
    }

    /// The first of them, for a label.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self { exec: true, .. } => "exec",
            Self { executable: true, .. } | Self { touched: true, .. } => "executable",
            Self { credentials: true, .. } => "credentials",
            Self { cgroup: true, .. } => "cgroup",
            _ => "confinement",
        }
    }
}

impl About {
    /// The peer of a connection, when it connected; below grade kernel as procfs shows it now.
    pub(super) fn peer(peer: &Peer) -> Option<Self> {
        let look = match &peer.proof {
            Proof::Kernel { connect, .. } => Look::by_kernel(**connect),
            Proof::Pidfd { .. } | Proof::StartTime { .. } => Look::by_procfs(peer.pid)?,
        };
        Some(Self {
            pid: peer.pid,
            uid: peer.uid,
            gid: peer.gid,
            grade: peer.grade,
            look,
            cgroup: peer.cgroup.clone(),
            containment: peer.containment.clone(),
        })
    }

    /// Effective ids in the look: below grade kernel it is later than the connection.
    pub(super) fn ids_of_look(&self) -> (u32, u32) {
        match &self.look {
            Look::Kernel(seen, _) => (seen.task.euid, seen.task.egid),
            Look::Procfs(seen) => (seen.status.euid, seen.status.egid),
        }
    }

    /// What a witness is asked about; `pidfd` holds the process's number meanwhile.
    pub(super) fn subject(&self, pidfd: Option<OwnedFd>) -> Subject {
        Subject {
            pid: self.pid,
            uid: self.uid,
            cgroup: self.cgroup.clone(),
            containment: self.containment.clone(),
            pidfd: pidfd.map(Arc::new),
        }
    }

    /// A descriptor of the process, if the kernel's look names it and it is still there.
    pub(super) fn pidfd(&self) -> Option<OwnedFd> {
        match &self.look {
            Look::Kernel(seen, _) => pidfd_of(self.pid, seen.task.pid_ino?),
            Look::Procfs(_) => None,
        }
    }

    /// A process as it is now, with the best evidence there is; `None` when it cannot be seen.
    pub(super) fn of_process(pid: u32, capture: Option<&Capture>) -> Option<Self> {
        let seen = capture.and_then(|capture| capture.inspect(pid).ok().flatten());
        let (grade, look) = match seen {
            Some(seen) => (Grade::Kernel, Look::by_kernel(seen)),
            None => (Grade::Pidfd, Look::by_procfs(pid)?),
        };
        let unknown = Self {
            pid,
            uid: 0,
            gid: 0,
            grade,
            look: look.clone(),
            cgroup: None,
            containment: Containment::Unsure,
        };
        Some(unknown.later(look, capture))
    }

    /// The same process at a later look.
    pub(super) fn later(&self, look: Look, capture: Option<&Capture>) -> Self {
        let (uid, gid, cgroup) = match &look {
            Look::Kernel(seen, _) => {
                let path = capture.and_then(|capture| capture.cgroup_path(seen.task.cgroup_id).ok());
                (seen.task.euid, seen.task.egid, path)
            }
            Look::Procfs(seen) => (seen.status.euid, seen.status.egid, seen.cgroup.clone()),
        };
        let containment = containment(cgroup.as_deref());
        Self { uid, gid, look, cgroup, containment, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use vouch_abi::Identity;

    use super::*;

    fn changed(change: impl FnOnce(&mut Identity)) -> Changes {
        let before = Identity { tgid: 7, exe_inode: 5, group_count: 20, ..Identity::default() };
        let mut now = before;
        change(&mut now);
        Changes::of_tasks(&Task::from(&now), &Task::from(&before))
    }

    #[test]
    fn each_change_has_its_word() {
        assert!(!changed(|now| now.recorded_ns += 1).any());
        for (word, change) in [
            ("exec", changed(|now| now.exec_count += 1)),
            ("executable", changed(|now| now.exe_inode = 9)),
            ("executable", changed(|now| now.exe_ctime_sec = 9)),
            ("credentials", changed(|now| now.euid = 1)),
            ("cgroup", changed(|now| now.cgroup_id = 1)),
            ("confinement", changed(|now| now.net_namespace = 1)),
            // Of more groups than a record holds the first ones and their number.
            ("credentials", changed(|now| now.group_count = 19)),
            ("credentials", changed(|now| now.groups[3] = 5)),
        ] {
            assert!(change.any(), "{word}");
            assert_eq!(change.word(), word);
        }
    }
}
