use std::io;

use aya::maps::{HashMap, MapData, MapError};
use vouch_abi::{ConnectRecord, ExecutedFile, Identity, Origin, origin};
use zerocopy::IntoBytes;

use super::{FileId, Namespaces, Task};

/// A process as the kernel saw it at one instant, and where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    pub task: Task,
    /// Whether its executable may be believed.
    pub executable: Provenance,
    /// The file that its maker was executing when it made this process, in the state of that exec. An exec of this
    /// process and the maker's death change nothing about it. `None` when that was before the hooks.
    pub launcher: Option<FileId>,
}

/// How what the kernel calls a process's executable compares with what the process was seen to execute.
///
/// A process that has a user namespace of its own, or shares its memory with one that has, may replace that file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provenance {
    /// It is the file of the last exec.
    Executed,
    /// It is another file than the one of the last exec.
    Replaced,
    /// Nobody looked: the last exec was before the hooks were attached, or this kernel gives pids no inode.
    Before,
    /// There was no room to note it.
    Lost,
}

impl From<&ConnectRecord> for Sighting {
    fn from(record: &ConnectRecord) -> Self {
        let (now, then) = (&record.connector, &record.origin.executed);
        let same =
            (now.exe_inode, now.exe_device, now.exe_generation) == (then.inode, then.device, then.generation);
        let executable = match then.kind {
            origin::EXECUTED if same => Provenance::Executed,
            origin::BEFORE if same || then.inode == 0 => Provenance::Before,
            origin::EXECUTED | origin::BEFORE => Provenance::Replaced,
            _ if now.pid_inode == 0 => Provenance::Before,
            _ => Provenance::Lost,
        };
        Self { task: Task::from(now), executable, launcher: FileId::of_executed(&record.origin.launcher) }
    }
}

/// A value of the map as its writer takes it: words, since it has no type of ours.
type Words = [u64; size_of::<Origin>() / 8];

/// The notes that the hooks keep of each process.
pub(super) struct Origins(pub(super) HashMap<MapData, u64, Words>);

impl Origins {
    /// Notes that `processes` were there before the hooks, unless the hooks know better. Returns how many were new.
    pub(super) fn note_before(&mut self, processes: &[ConnectRecord]) -> io::Result<usize> {
        /// Leave what is there.
        const BPF_NOEXIST: u64 = 1;
        let mut new = 0;
        for process in processes.iter().map(|process| &process.connector).filter(|task| task.pid_inode != 0) {
            let mut words = Words::default();
            words.as_mut_bytes().copy_from_slice(before(process).as_bytes());
            match self.0.insert(process.pid_inode, words, BPF_NOEXIST) {
                Ok(()) => new += 1,
                Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::EEXIST) => {
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(new)
    }
}

/// What is noted of a process that was there before the hooks. What it executes is believed of root alone, who could
/// as well replace the agent; so that what it makes has a launcher. Whoever else may have replaced the file by now.
fn before(process: &Identity) -> Origin {
    let root = process.user_namespace == Namespaces::HOST_USER && process.uid == 0 && process.euid == 0;
    let file = if root { process } else { &Identity::default() };
    let executed = ExecutedFile {
        inode: file.exe_inode,
        ctime_sec: file.exe_ctime_sec,
        ctime_nsec: file.exe_ctime_nsec,
        generation: file.exe_generation,
        device: file.exe_device,
        kind: origin::BEFORE,
    };
    Origin { executed, launcher: ExecutedFile::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that executes a file and is known to have executed `then`.
    fn judged(now: Identity, then: ExecutedFile) -> Provenance {
        let origin = Origin { executed: then, ..Origin::default() };
        Sighting::from(&ConnectRecord { connector: now, origin }).executable
    }

    fn now() -> Identity {
        Identity { exe_inode: 7, exe_device: 8, exe_generation: 9, pid_inode: 5, ..Identity::default() }
    }

    const THEN: ExecutedFile = ExecutedFile {
        inode: 7,
        ctime_sec: 0,
        ctime_nsec: 0,
        generation: 9,
        device: 8,
        kind: origin::EXECUTED,
    };

    #[test]
    fn only_the_file_of_the_last_exec_is_believed() {
        assert_eq!(judged(now(), THEN), Provenance::Executed);
        for other in [
            ExecutedFile { inode: 1, ..THEN },
            ExecutedFile { device: 1, ..THEN },
            ExecutedFile { generation: 1, ..THEN },
        ] {
            assert_eq!(judged(now(), other), Provenance::Replaced);
        }
        assert_eq!(judged(now(), ExecutedFile::default()), Provenance::Lost);
        let old_kernel = Identity { pid_inode: 0, ..now() };
        assert_eq!(judged(old_kernel, ExecutedFile::default()), Provenance::Before);
    }

    #[test]
    fn a_file_that_was_replaced_after_the_first_look_is_not_believed() {
        let found = ExecutedFile { kind: origin::BEFORE, ..THEN };
        assert_eq!(judged(now(), found), Provenance::Before);
        assert_eq!(judged(now(), ExecutedFile { inode: 1, ..found }), Provenance::Replaced);
        assert_eq!(
            judged(now(), ExecutedFile { kind: origin::BEFORE, ..ExecutedFile::default() }),
            Provenance::Before
        );
    }

    #[test]
    fn of_those_before_the_hooks_only_root_of_the_host_is_asked_what_it_executes() {
        let root = Identity { user_namespace: Namespaces::HOST_USER, ..now() };
        assert_eq!(before(&root).executed, ExecutedFile { kind: origin::BEFORE, ..THEN });
        for other in [
            Identity { uid: 1, ..root },
            Identity { euid: 1, ..root },
            Identity { user_namespace: 1, ..root },
        ] {
            assert_eq!(before(&other).executed.inode, 0);
        }
    }

    #[test]
    fn an_unknown_launcher_is_none() {
        let launched = |launcher| {
            let origin = Origin { executed: THEN, launcher };
            Sighting::from(&ConnectRecord { connector: now(), origin }).launcher
        };
        assert_eq!(launched(ExecutedFile::default()), None);
        assert_eq!(launched(ExecutedFile { inode: 0, ..THEN }), None);
        assert_eq!(launched(ExecutedFile { inode: 3, ..THEN }).map(|file| file.inode), Some(3));
    }
}
