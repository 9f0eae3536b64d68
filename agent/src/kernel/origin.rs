use std::io;

use aya::maps::{HashMap, MapData, MapError};
use vouch_abi::{ConnectRecord, Origin, origin};
use zerocopy::IntoBytes;

use super::Task;

/// Who called a `connect()`, and whether its executable may be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connect {
    pub task: Task,
    pub executable: Provenance,
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

impl From<&ConnectRecord> for Connect {
    fn from(record: &ConnectRecord) -> Self {
        let (now, then) = (&record.connector, &record.origin);
        let same = (now.exe_inode, now.exe_device, now.exe_generation)
            == (then.exe_inode, then.exe_device, then.exe_generation);
        let executable = match then.kind {
            origin::EXECUTED if same => Provenance::Executed,
            origin::EXECUTED => Provenance::Replaced,
            origin::BEFORE => Provenance::Before,
            _ if now.pid_inode == 0 => Provenance::Before,
            _ => Provenance::Lost,
        };
        Self { task: Task::from(now), executable }
    }
}

/// A value of the map as its writer takes it: words, since it has no type of ours.
type Words = [u64; size_of::<Origin>() / 8];

/// The notes that the hooks keep of each process.
pub(super) struct Origins(pub(super) HashMap<MapData, u64, Words>);

impl Origins {
    /// Notes that `tasks` were there before the hooks, unless the hooks know better. Returns how many were new.
    pub(super) fn note_before(&mut self, tasks: &[Task]) -> io::Result<usize> {
        /// Leave what is there.
        const BPF_NOEXIST: u64 = 1;
        let mut words = Words::default();
        words.as_mut_bytes().copy_from_slice(Origin { kind: origin::BEFORE, ..Origin::default() }.as_bytes());
        let mut new = 0;
        for inode in tasks.iter().filter_map(|task| task.pid_ino) {
            match self.0.insert(inode.get(), words, BPF_NOEXIST) {
                Ok(()) => new += 1,
                Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::EEXIST) => {
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use vouch_abi::Identity;

    use super::*;

    #[test]
    fn only_the_file_of_the_last_exec_is_believed() {
        let now =
            Identity { exe_inode: 7, exe_device: 8, exe_generation: 9, pid_inode: 5, ..Identity::default() };
        let then =
            Origin { exe_inode: 7, exe_device: 8, exe_generation: 9, kind: origin::EXECUTED, padding: 0 };
        let judged = |connector, origin| Connect::from(&ConnectRecord { connector, origin }).executable;
        assert_eq!(judged(now, then), Provenance::Executed);
        for other in [
            Origin { exe_inode: 1, ..then },
            Origin { exe_device: 1, ..then },
            Origin { exe_generation: 1, ..then },
        ] {
            assert_eq!(judged(now, other), Provenance::Replaced);
        }
        assert_eq!(judged(now, Origin { kind: origin::BEFORE, ..Origin::default() }), Provenance::Before);
        assert_eq!(judged(now, Origin::default()), Provenance::Lost);
        let old_kernel = Identity { pid_inode: 0, ..now };
        assert_eq!(judged(old_kernel, Origin::default()), Provenance::Before);
    }
}
